"""The demo in a real browser: real page, real stompjs, real server."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import (
        Browser,
        Locator,
        Page,
        Request,
        Route,
        WebSocket,
        WebSocketRoute,
    )

    from tests.integration.conftest import StartDemo
    from tests.integration.processes import Server

PHONE = {"width": 375, "height": 667}

#: What Chromium itself writes on the console about a handshake that failed.
FAILED_HANDSHAKE = re.compile(r"WebSocket connection to '\S+' failed: .*")


class Visitor:
    """Somebody at the demo's page, in a browser context of his own.

    :ivar complaints: errors on the console, and exceptions that nothing caught.
    :ivar hosts: where the page has sent requests to.
    :ivar paths: the paths of these requests.
    :ivar secrets: the tokens and tickets that went over the wire.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.paths: list[str] = []
        self.secrets: set[str] = set()
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._request)
        page.on("websocket", self._websocket)

    def _console(self, kind: str, text: str) -> None:
        if kind == "error":
            self.complaints.append(text)

    def _request(self, request: Request) -> None:
        if request.url.startswith("blob:"):
            return
        url = urlsplit(request.url)
        self.hosts.add(url.netloc)
        self.paths.append(url.path)
        self.secrets.add(request.headers.get("authorization", "").removeprefix("Bearer "))

    def _websocket(self, socket: WebSocket) -> None:
        url = urlsplit(socket.url)
        self.hosts.add(url.netloc)
        self.secrets.add(url.query.removeprefix("ticket="))

    def sign_in(self, user: str) -> None:
        """Go in as that user, and wait for the last step of the handshake."""
        self.page.get_by_role("button", name=user).click()
        expect(self.status).to_have_text(f"Connected as {user}")
        expect(self.step("subscribe")).to_have_attribute("data-state", "ok")

    @property
    def status(self) -> Locator:
        """Whether the page is connected, and as whom."""
        return self.page.get_by_role("status")

    def step(self, name: str) -> Locator:
        """One of the five steps of the handshake."""
        return self.page.locator(f"[data-step={name}]")

    def proxy_sockets(self) -> list[WebSocketRoute]:
        """From now on, let the test close the page's WebSockets; a list of them in their order."""
        sockets: list[WebSocketRoute] = []

        def proxy(socket: WebSocketRoute) -> None:
            socket.connect_to_server()
            sockets.append(socket)

        self.page.route_web_socket(re.compile(r"/stomp\?ticket="), proxy)
        return sockets

    def open(self, conversation: str) -> None:
        """Go to a room, or to a user."""
        self.page.get_by_role("navigation").get_by_role("button", name=conversation).click()

    def join(self, room: str) -> None:
        """Go to a room, and wait until the server has let him in."""
        self.open(room)
        expect(self.page.get_by_placeholder(f"Write to the {room}")).to_be_enabled()

    def say(self, text: str) -> None:
        """Send a message."""
        self.page.get_by_role("textbox", name="Message").fill(text)
        self.page.get_by_role("button", name="Send").click()

    def hears(self, sender: str, text: str) -> None:
        """Wait for a message with that sender, as the server stamped it."""
        message = self.page.locator(".logs li:visible").filter(has_text=text)
        expect(message.locator(".by b")).to_have_text(sender)
        expect(message.locator(".verified")).to_be_visible()

    def attempt(self, button: str) -> Locator:
        """Try something that the server refuses, and get what the page tells of it."""
        self.page.get_by_role("button", name=button).click()
        outcome = self.page.get_by_role("log", name="What the server did").get_by_role("listitem")
        expect(outcome).to_have_count(1)
        return outcome


class Visitors:
    """Everybody who visits one server in one test."""

    def __init__(self, browser: Browser, server: Server) -> None:
        self._browser = browser
        self._server = server
        self._all: list[Visitor] = []

    def visit(self, **options: Any) -> Visitor:
        """Go to the page, signed out."""
        visitor = Visitor(self._browser.new_context(**options).new_page())
        self._all.append(visitor)
        visitor.page.goto(f"{self._server.origin}/")
        return visitor

    def sign_in(self, user: str, **options: Any) -> Visitor:
        """Go to the page, and in."""
        visitor = self.visit(**options)
        visitor.sign_in(user)
        return visitor

    def check(self) -> None:
        """Nobody's page complained, went elsewhere, or showed a secret; nor did the server."""
        log = self._server.log.read_text("utf-8")
        assert "Traceback" not in log
        for visitor in self._all:
            assert visitor.complaints == []
            assert visitor.hosts == {urlsplit(self._server.origin).netloc}
            content = visitor.page.content()
            for secret in visitor.secrets - {""}:
                assert secret not in content
                assert secret not in log

    def leave(self) -> None:
        """Close everybody's browser."""
        for visitor in self._all:
            visitor.page.context.close()


@pytest.fixture
def visitors(browser: Browser, demo: Server) -> Iterator[Visitors]:
    """Visitors of a demo; whatever they do, they leave no complaints that a test did not take."""
    visitors = Visitors(browser, demo)
    yield visitors
    try:
        visitors.check()
    finally:
        visitors.leave()


def test_chat_in_a_room(visitors: Visitors) -> None:
    """Two users read each other in the lobby, and later in the library."""
    alice, bob = visitors.sign_in("alice"), visitors.sign_in("bob")
    alice.say("Good morning")
    bob.hears("alice", "Good morning")
    alice.hears("alice", "Good morning")
    bob.say("<b>Morning</b>, alice")
    alice.hears("bob", "<b>Morning</b>, alice")
    for visitor in (alice, bob):
        visitor.join("library")
    bob.say("Quiet here")
    alice.hears("bob", "Quiet here")


def test_private_messages(visitors: Visitors) -> None:
    """A private message reaches the one it is for, and nobody else."""
    alice, bob, carol = (visitors.sign_in(user) for user in ("alice", "bob", "carol"))
    alice.open("bob")
    alice.say("Only for you")
    expect(alice.page.locator(".logs .receipt")).to_have_text("accepted")
    expect(bob.page.get_by_label("1 unread")).to_be_visible()
    bob.open("alice")
    bob.hears("alice", "Only for you")
    bob.say("Thanks")
    alice.hears("bob", "Thanks")
    carol.open("alice")
    expect(carol.page.get_by_text("Only for you")).to_have_count(0)


def test_steps(visitors: Visitors) -> None:
    """The strip has each step of the handshake, with the beginning of each secret."""
    alice = visitors.visit()
    for step in ("token", "ticket", "handshake", "connect", "subscribe"):
        expect(alice.step(step)).to_have_attribute("data-state", "waiting")
    alice.sign_in("alice")
    for step, told in {
        "token": "JWT eyJhbG… for alice; rooms: lobby, library",
        "ticket": r"200, ticket \S{6}…, good for 30 s",
        "handshake": r"101 for ticket \S{6}…",
        "connect": "CONNECTED, user-name alice, session-expires ",
        "subscribe": "RECEIPT for /user/queue/private and /topic/rooms/lobby",
    }.items():
        expect(alice.step(step)).to_have_attribute("data-state", "ok")
        expect(alice.step(step).locator(".detail")).to_have_text(re.compile(told))


def test_denial(visitors: Visitors) -> None:
    """Carol is refused in the library, is told why, stays out, and comes back when she asks."""
    carol = visitors.sign_in("carol")
    carol.open("library")
    alert = carol.page.get_by_role("alert")
    expect(alert).to_contain_text("carol is not a member of the library")
    expect(alert).to_contain_text("ERROR access-denied and closed with 4403")
    expect(carol.step("subscribe")).to_have_attribute("data-state", "refused")
    carol.page.wait_for_timeout(1500)
    expect(carol.status).to_have_text("Refused by the server")
    carol.page.get_by_role("button", name="Connect again").click()
    expect(carol.status).to_have_text("Connected as carol")
    carol.say("Back in the lobby")
    carol.hears("carol", "Back in the lobby")


def test_used_ticket(visitors: Visitors) -> None:
    """The ticket that opened the chat opens nothing more, and the chat goes on."""
    alice = visitors.sign_in("alice")
    outcome = alice.attempt("Use the same ticket again")
    expect(outcome).to_contain_text("refused")
    expect(outcome).to_contain_text("closed with 1006")
    assert FAILED_HANDSHAKE.fullmatch(alice.complaints.pop())
    alice.say("Still here")
    alice.hears("alice", "Still here")


def test_no_ticket(visitors: Visitors) -> None:
    """Without a ticket there is no socket."""
    alice = visitors.sign_in("alice")
    expect(alice.attempt("Connect without a ticket")).to_contain_text("refused")
    assert FAILED_HANDSHAKE.fullmatch(alice.complaints.pop())


def test_foreign_token(visitors: Visitors) -> None:
    """Another user's token on one's own ticket gets a socket, and then 4409."""
    alice = visitors.sign_in("alice")
    outcome = alice.attempt("CONNECT with another user")
    expect(outcome).to_contain_text("refused: ERROR subject-mismatch, closed with 4409")
    expect(alice.status).to_have_text("Connected as alice")


def test_restart(browser: Browser, start_demo: StartDemo) -> None:
    """A restart is survived: the new server has a new key, so the page signs in again by itself."""
    with start_demo() as server:
        visitors = Visitors(browser, server)
        alice, bob = visitors.sign_in("alice"), visitors.sign_in("bob")
        alice.join("library")
    for visitor in (alice, bob):
        expect(visitor.status).to_have_text("Disconnected, trying again")
        expect(visitor.page.get_by_role("textbox", name="Message")).to_be_disabled()
    with start_demo(server.port):
        for visitor, user in ((alice, "alice"), (bob, "bob")):
            expect(visitor.status).to_have_text(f"Connected as {user}", timeout=30_000)
        bob.join("library")
        bob.say("And we are back")
        alice.hears("bob", "And we are back")
    visitors.leave()


def test_renewal(visitors: Visitors) -> None:
    """Before its token expires the page renews the session in band, and stays in it."""
    alice = visitors.visit()
    sockets = alice.proxy_sockets()
    # To this browser the five minutes are nearly over.
    alice.page.clock.set_fixed_time(time.time() + 295)
    alice.sign_in("alice")
    detail = alice.step("connect").locator(".detail")
    expect(detail).to_contain_text("Renewed in band", timeout=10_000)
    alice.say("The same session")
    alice.hears("alice", "The same session")
    assert len(sockets) == 1


@pytest.mark.parametrize(("close", "sign_ins"), [(4401, 2), (4429, 1), (1012, 1)])
def test_coming_back(visitors: Visitors, close: int, sign_ins: int) -> None:
    """After most close codes the page comes back, after 4401 with a new token."""
    alice = visitors.visit()
    sockets = alice.proxy_sockets()
    alice.sign_in("alice")
    sockets[0].close(code=close)
    expect(alice.status).not_to_have_text("Connected as alice")
    expect(alice.status).to_have_text("Connected as alice")
    assert len(sockets) == 2
    assert alice.paths.count("/demo/sign-in") == sign_ins
    assert alice.paths.count("/authenticate/token") == 2


@pytest.mark.parametrize("close", [1002, 4403, 4409])
def test_staying_away(visitors: Visitors, close: int) -> None:
    """After a close code that says so the page does not come back by itself."""
    alice = visitors.visit()
    sockets = alice.proxy_sockets()
    alice.sign_in("alice")
    sockets[0].close(code=close)
    expect(alice.page.get_by_role("alert")).to_contain_text(f"closed with {close}")
    alice.page.wait_for_timeout(1500)
    assert len(sockets) == 1
    assert alice.paths.count("/authenticate/token") == 1


def test_busy_server(visitors: Visitors) -> None:
    """A page that is told to wait for a ticket waits as long, and then gets it."""
    alice = visitors.visit()
    asked: list[float] = []

    def answer(route: Route) -> None:
        asked.append(time.monotonic())
        if len(asked) == 1:
            headers = {"Retry-After": "2"}
            route.fulfill(status=429, headers=headers, json={"error": "rate"})
        else:
            route.continue_()

    alice.page.route("**/authenticate/token", answer)
    alice.page.get_by_role("button", name="alice").click()
    expect(alice.step("ticket").locator(".detail")).to_have_text("429 rate")
    expect(alice.status).to_have_text("Connected as alice")
    assert 2 <= asked[1] - asked[0] < 5
    assert "429" in alice.complaints.pop()


def test_no_longer_let_in(visitors: Visitors) -> None:
    """A page whose user gets no ticket any more asks for a sign-in, and says why."""
    alice = visitors.visit()
    refusal = {"status": 403, "json": {"error": "revoked"}}
    alice.page.route("**/authenticate/token", lambda route: route.fulfill(**refusal))
    alice.page.get_by_role("button", name="alice").click()
    expect(alice.page.get_by_role("alert")).to_contain_text("403 revoked")
    expect(alice.status).to_have_text("Signed out")
    alice.page.wait_for_timeout(1500)
    assert alice.paths.count("/authenticate/token") == 1
    assert "403" in alice.complaints.pop()


def test_sign_out(visitors: Visitors) -> None:
    """Who signs out may come in as somebody else, and finds nothing of the one before."""
    visitor = visitors.sign_in("carol")
    visitor.say("Mine")
    visitor.hears("carol", "Mine")
    visitor.open("library")
    expect(visitor.page.get_by_role("alert")).to_be_visible()
    visitor.page.get_by_role("button", name="Sign out").click()
    expect(visitor.status).to_have_text("Signed out")
    visitor.sign_in("bob")
    expect(visitor.page.get_by_text("Mine")).to_have_count(0)
    expect(visitor.page.get_by_role("alert")).to_have_count(0)
    visitor.join("library")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(visitors: Visitors, scheme: str) -> None:
    """On a phone everything is as wide as the screen, and at hand."""
    carol = visitors.visit(viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    assert_fits(carol.page)
    carol.sign_in("carol")
    carol.say("word " * 40 + "w" * 200)
    carol.hears("carol", "www")
    assert_fits(carol.page)
    composer = carol.page.get_by_role("textbox", name="Message")
    composer.scroll_into_view_if_needed()
    for button in carol.page.get_by_role("button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44
    carol.open("library")
    expect(carol.page.get_by_role("alert")).to_be_visible()
    assert_fits(carol.page)


def assert_fits(page: Page) -> None:
    """Nothing stands out of the screen, and nothing scrolls sideways."""
    outside = """() => [...document.querySelectorAll("body, body *")]
        .filter((e) => {
            const { left, right } = e.getBoundingClientRect();
            const scrolls = getComputedStyle(e).overflowX !== "visible" && e.clientWidth > 1
                && e.scrollWidth > e.clientWidth;
            return left < 0 || right > innerWidth || scrolls;
        })
        .map((e) => e.outerHTML.slice(0, 80))"""
    assert page.evaluate(outside) == []
    assert page.evaluate("innerWidth") == PHONE["width"]


def test_without_stompjs(visitors: Visitors) -> None:
    """Where stompjs is missing the page says what to type, and lets nobody in."""
    visitor = visitors.visit()
    advice = "stompjs is missing: run `npm install @stomp/stompjs` in /somewhere"
    visitor.page.route("**/stomp.js", lambda route: route.fulfill(status=404, body=advice))
    visitor.page.reload()
    expect(visitor.page.get_by_role("alert")).to_have_text(advice)
    expect(visitor.page.get_by_role("button", name="alice")).to_be_disabled()
    visitor.complaints.clear()
