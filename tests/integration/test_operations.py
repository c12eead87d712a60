"""The operations page in a real browser, beside a running server with clients."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.integration.configured import ConfiguredServer, configured, free_port
from tests.integration.pages import blocks
from tests.integration.processes import ROOT
from tests.integration.raw import CLOSE, RawWebSocket, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page, WebSocketRoute

TOKEN = "b1bCa8LY1g2vNxhbWnT0cQmqS5kJcYxk"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 375, "height": 667}

HOWTO = ROOT / "docs" / "howto" / "operations-page.md"

#: The port that the page has as an example.
PORT = "8081"


class Client(RawWebSocket):
    """A tab of a user, connected."""

    def __init__(self, server: ConfiguredServer, user: str) -> None:
        self.token = server.token(user)
        super().__init__(server, self.token)
        self.connect(self.token)

    def subscribe(self, destination: str) -> None:
        """Subscribe, and wait until it is done."""
        self.send_stomp("SUBSCRIBE", {"id": "s", "destination": destination, "receipt": "s"})
        assert self.text().startswith("RECEIPT\n")

    def text(self) -> str:
        """The next STOMP frame."""
        frame = self.frame()
        assert frame is not None
        return frame[1].decode()

    def close_status(self) -> int | None:
        """The status that the server closes with."""
        (last,) = (frame for frame in self.rest() if frame[0] == CLOSE)
        return status_of(last[1])

    def rest(self) -> list[tuple[int, bytes]]:
        """All frames up to the server's close frame."""
        frames = []
        while (frame := self.frame()) is not None:
            frames.append(frame)
            if frame[0] == CLOSE:
                break
        return frames


class Operations:
    """A server, and operators at its page.

    :ivar server: the server.
    :ivar url: where the page is.
    """

    def __init__(self, browser: Browser, server: ConfiguredServer, port: int) -> None:
        self.server = server
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"
        self._browser = browser
        self._pages: list[Page] = []
        self.complaints: list[str] = []
        self.hosts: set[str] = set()

    def visit(self, **options: Any) -> Page:
        """Go to the page, signed out."""
        context = self._browser.new_context(**{"viewport": DESKTOP, **options})
        page = context.new_page()
        self._pages.append(page)
        # A violation of the content security policy is an error on the console, too.
        page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("websocket", lambda socket: self.hosts.add(urlsplit(socket.url).netloc))
        page.goto(self.url)
        return page

    def sign_in(self, **options: Any) -> Page:
        """Go to the page, and in."""
        page = self.visit(**options)
        page.get_by_label("Control token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#status")).to_have_text("Connected")
        return page

    def check(self) -> None:
        """The page did not complain, went nowhere else, and kept no secret."""
        assert self.complaints == []
        assert self.hosts == {f"127.0.0.1:{self.port}"}
        for page in self._pages:
            assert TOKEN not in page.content()
            stored = "[localStorage.length, sessionStorage.length, document.cookie]"
            assert page.evaluate(stored) == [0, 0, ""]
        log = self.server.log.read_text("utf-8")
        assert TOKEN not in log

    def leave(self) -> None:
        """Close the browser."""
        for page in self._pages:
            page.context.close()


@pytest.fixture
def operations(browser: Browser, tmp_path: Path) -> Iterator[Operations]:
    """A server with the page, which has no complaint at the end that a test did not take."""
    (tmp_path / "control.token").write_text(TOKEN)
    port = free_port()
    (toml,) = blocks(HOWTO)["toml"]
    with configured(tmp_path, more=toml.replace(PORT, str(port))) as server:
        operations = Operations(browser, server, port)
        try:
            yield operations
            operations.check()
        finally:
            operations.leave()


def row(page: Page, user: str) -> Locator:
    """The session of a user in the list."""
    return page.locator("#sessions tr[data-session]").filter(has=page.get_by_text(user, exact=True))


def test_sign_in(operations: Operations) -> None:
    """OP-1: another token is turned down; the right one gets in, until one signs out or reloads."""
    page = operations.visit()
    page.get_by_label("Control token").fill("x" * 32)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("This is not the control token.")
    # What Chromium itself says of the 401.
    assert "401" in operations.complaints.pop()
    page.get_by_label("Control token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#status")).to_have_text("Connected")
    expect(page.get_by_role("list", name="Parts")).to_contain_text("serving: ready")
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#status")).to_have_text("Signed out")
    expect(page.locator("#desk")).to_be_hidden()
    expect(page.get_by_label("Control token")).to_have_value("")
    page.get_by_label("Control token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#status")).to_have_text("Connected")
    page.reload()
    expect(page.locator("#status")).to_have_text("Signed out")


def test_sessions(operations: Operations) -> None:
    """Sessions come and go, with what there is to know of them; a name finds them."""
    page = operations.sign_in()
    expect(page.get_by_text("Nobody.")).to_be_visible()
    with (
        Client(operations.server, "alice") as alice,
        Client(operations.server, "<img src=x onerror=bob>"),
    ):
        alice.subscribe("/topic/rooms/lobby")
        expect(row(page, "alice")).to_contain_text("127.0.0.1")
        expect(row(page, "alice").locator("[data-label=Age]")).to_contain_text(" s")
        expect(row(page, "alice").locator("[data-label=Buffer]")).to_have_text("0 B")
        expect(row(page, "alice").locator("[data-label=Subscriptions]")).to_have_text("1")
        # A name is text, whatever it looks like.
        expect(row(page, "<img src=x onerror=bob>")).to_have_count(1)
        row(page, "alice").get_by_role("button", name="Details").click()
        expect(page.get_by_text("/topic/rooms/lobby")).to_be_visible()
        page.get_by_label("Search by user").fill("bob")
        expect(row(page, "alice")).to_have_count(0)
        expect(row(page, "<img src=x onerror=bob>")).to_have_count(1)
        page.get_by_label("Search by user").fill("")
        expect(row(page, "alice")).to_have_count(1)
    expect(row(page, "alice")).to_have_count(0)
    expect(page.get_by_role("list", name="Other events")).to_contain_text("of alice at")


def test_denials(operations: Operations) -> None:
    """Who is denied something is seen as it happens, with the reason."""
    page = operations.sign_in()
    denials = page.get_by_role("list", name="Denials")
    with Client(operations.server, "mallory") as mallory:
        mallory.send_stomp("SUBSCRIBE", {"id": "1", "destination": "/app/<img/src=x"})
        expect(denials).to_contain_text("mallory may not subscribe /app/<img/src=x")
    with Client(operations.server, "mallory") as mallory:
        mallory.send_stomp("SUBSCRIBE", {"id": "1", "destination": "/app/secret"})
        expect(denials).to_contain_text("mallory may not subscribe /app/secret: no rule matches")
    expect(page.locator("#denials img")).to_have_count(0)


def test_queues(operations: Operations) -> None:
    """Queues are listed by depth; a name finds them."""
    page = operations.sign_in()
    with Client(operations.server, "alice") as alice:
        for queue in ("small", "large", "large"):
            alice.send_stomp("SEND", {"destination": f"/queue/{queue}"}, b"x")
        queues = page.locator("#queues tr")
        expect(queues).to_have_count(2)
        expect(queues.first).to_contain_text("/queue/large")
        expect(queues.first.locator("[data-label=Messages]")).to_have_text("2")
        page.get_by_label("Search by queue").fill("small")
        expect(queues).to_have_count(1)
        expect(queues.first).to_contain_text("/queue/small")


def test_trace(operations: Operations) -> None:
    """The frames of one session are shown on demand, without tokens and bodies."""
    page = operations.sign_in()
    with Client(operations.server, "alice") as alice, Client(operations.server, "bob") as bob:
        alice.subscribe("/topic/rooms/lobby")
        row(page, "alice").get_by_role("button", name="Trace").click()
        frames = page.get_by_role("list", name="Frames")
        expect(page.get_by_role("heading", name="Frames of alice")).to_be_visible()
        page.wait_for_timeout(300)
        headers = {
            "destination": "/topic/rooms/lobby",
            "note": "<b>shown</b>",
            "Authorization": f"Bearer {alice.token}",
            "x-api-key": "concealed-key",
        }
        alice.send_stomp("SEND", headers, b"concealed!!")
        bob.send_stomp(
            "SEND", {"destination": "/topic/rooms/lobby", "note": "from bob"}, b"concealed"
        )
        expect(frames).to_contain_text("from bob")
        sent = frames.get_by_role("listitem").filter(has_text="SEND")
        expect(sent).to_have_count(1)
        expect(sent).to_contain_text("done")
        expect(sent).to_contain_text("<b>shown</b>")
        expect(sent).to_contain_text("11 B, not shown")
        expect(frames.get_by_role("listitem").filter(has_text="MESSAGE")).to_have_count(2)
        content = page.content()
        for hidden in ("concealed", alice.token, "uthorization", "x-api-key"):
            assert hidden not in content
        page.get_by_role("button", name="Stop").click()
        expect(frames).to_be_hidden()
        # The session has gone on as if nothing were.
        assert "note:<b>shown</b>" in alice.text()
        assert "note:from bob" in alice.text()
        row(page, "bob").get_by_role("button", name="Trace").click()
        expect(page.get_by_role("heading", name="Frames of bob")).to_be_visible()
        page.wait_for_timeout(300)
        bob.send_stomp("SEND", {"destination": "/app/secret"})
        expect(frames).to_contain_text("access-denied")
        expect(page.locator("#trace-state")).to_have_text("The session has ended.")


def test_end(operations: Operations) -> None:
    """A session that is ended by the button is closed with 4403; the user's other one stays."""
    page = operations.sign_in()
    with Client(operations.server, "alice") as alice, Client(operations.server, "alice") as other:
        expect(row(page, "alice")).to_have_count(2)
        # The newest is the first.
        ours = row(page, "alice").last
        ours.get_by_role("button", name="End").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        ours.get_by_role("button", name="End").click()
        page.get_by_role("dialog").get_by_role("button", name="End it").click()
        expect(page.get_by_text("alice: 1 session ended.")).to_be_visible()
        assert alice.close_status() == 4403
        expect(row(page, "alice")).to_have_count(1)
        other.subscribe("/topic/rooms/lobby")


def test_revoke(operations: Operations) -> None:
    """A user who is revoked is out with all sessions, and gets no ticket for the old token."""
    page = operations.sign_in()
    with contextlib.ExitStack() as stack:
        tabs = [stack.enter_context(Client(operations.server, "alice")) for _ in range(2)]
        expect(row(page, "alice")).to_have_count(2)
        row(page, "alice").first.get_by_role("button", name="Revoke").click()
        expect(page.get_by_role("dialog")).to_contain_text("Revoke alice?")
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(page.get_by_text("alice: 2 sessions ended, 0 tickets void.")).to_be_visible()
        for tab in tabs:
            assert tab.close_status() == 4403
        expect(row(page, "alice")).to_have_count(0)
        with pytest.raises(AssertionError, match="revoked"):
            operations.server.ticket(tabs[0].token)


def test_recheck(operations: Operations) -> None:
    """A recheck says how many sessions it was about, and leaves them."""
    page = operations.sign_in()
    with Client(operations.server, "alice") as alice:
        row(page, "alice").get_by_role("button", name="Recheck").click()
        expect(page.get_by_text("alice: 1 session rechecked.")).to_be_visible()
        alice.subscribe("/topic/rooms/lobby")


def test_back(operations: Operations) -> None:
    """The page comes back by itself when the server does, and is told so in between."""
    page = operations.sign_in()
    page.evaluate("window.marked = true")
    sockets: list[WebSocketRoute] = []

    def proxy(socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    page.route_web_socket(re.compile("/operations/stomp"), proxy)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Control token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#status")).to_have_text("Connected")
    sockets[0].close(code=1012)
    expect(page.locator("#status")).to_have_text("Disconnected, trying again")
    expect(page.locator("#status")).to_have_text("Connected")
    with Client(operations.server, "alice"):
        expect(row(page, "alice")).to_have_count(1)
    assert page.evaluate("window.marked")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(operations: Operations, scheme: str) -> None:
    """On a phone nothing scrolls sideways, and all buttons are large enough for a thumb."""
    options = {"viewport": PHONE, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    page = operations.visit(**options)
    assert_fits(page)
    page.get_by_label("Control token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    with Client(operations.server, "alice-" + "w" * 80) as alice:
        alice.subscribe("/topic/" + "x" * 200)
        alice.send_stomp("SEND", {"destination": "/queue/" + "q" * 200}, b"x")
        line = row(page, "alice-" + "w" * 80)
        line.get_by_role("button", name="Details").click()
        line.get_by_role("button", name="Trace").click()
        page.wait_for_timeout(300)
        alice.send_stomp("SEND", {"destination": "/topic/y", "note": "n" * 500}, b"x")
        expect(page.get_by_role("list", name="Frames")).to_contain_text("nnn")
        expect(page.locator("#queues tr")).to_have_count(1)
        assert_fits(page)
        for button in page.get_by_role("button").all():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 44
        line.get_by_role("button", name="Revoke").click()
        assert_fits(page)
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()


def assert_fits(page: Page) -> None:
    """The page is as wide as the screen."""
    width = page.evaluate("Math.max(document.documentElement.scrollWidth, innerWidth)")
    assert width == PHONE["width"]
