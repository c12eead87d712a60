"""docs/examples/chat.py under twistd, and its page in a real browser."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.integration.configured import free_port
from tests.integration.processes import ROOT, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Locator

    Enter = Callable[[str], "Visitor"]

EXAMPLE = ROOT / "docs" / "examples" / "chat.py"


class Visitor:
    """Somebody at the page, in a browser context of his own.

    :ivar complaints: errors on the console, and exceptions that nothing caught.
    """

    def __init__(self, browser: Browser, origin: str, user: str) -> None:
        self.complaints: list[str] = []
        self.page = browser.new_context().new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda message: message.type == "error" and self.complaints.append(message.text),
        )
        self.page.goto(origin)
        self.page.get_by_role("button", name=user).click()
        expect(self.page.get_by_role("status")).to_have_text(f"You are {user}.")

    def say(self, text: str, to: str = "to the room") -> None:
        """Send a message."""
        self.page.get_by_label("To", exact=True).select_option(to)
        self.page.get_by_label("Message").fill(text)
        self.page.get_by_label("Message").press("Enter")

    def go(self, room: str) -> None:
        """Go to another room."""
        self.page.get_by_role("combobox", name="Room").select_option(room)

    @property
    def room(self) -> Locator:
        """What was said in the room."""
        return self.page.get_by_label("Said in the room").get_by_role("listitem")

    @property
    def private(self) -> Locator:
        """What was said to this user, and to whom he said something."""
        return self.page.get_by_label("Said to you").get_by_role("listitem")


@pytest.fixture
def enter(browser: Browser, tmp_path: Path) -> Iterator[Enter]:
    """Let a user into the chat; in the end, no page and no log has a complaint."""
    twistd = Path(sys.executable).with_name("twistd")
    visitors = []
    with running(
        [twistd, "--pidfile=", "-noy", EXAMPLE],
        tmp_path,
        line=re.compile(r"StrictSite starting on (\d+)"),
        environment={"PORT": str(free_port())},
    ) as server:

        def enter(user: str) -> Visitor:
            visitors.append(Visitor(browser, server.origin, user))
            return visitors[-1]

        yield enter
        for visitor in visitors:
            visitor.page.context.close()
    assert [visitor.complaints for visitor in visitors if visitor.complaints] == []
    assert "Traceback" not in server.log.read_text("utf-8")


def test_chat(enter: Enter) -> None:
    """Who comes later gets what was said before, once, and a private message is for one alone."""
    alice = enter("alice")
    alice.say("Is anybody here?")
    expect(alice.room).to_have_text(["alice: Is anybody here?"])
    bob = enter("bob")
    expect(bob.room).to_have_text(["alice: Is anybody here?"])
    bob.say("I am.")
    for visitor in (alice, bob):
        expect(visitor.room).to_have_text(["alice: Is anybody here?", "bob: I am."])

    carol = enter("carol")
    alice.say("Not for carol", to="bob")
    expect(bob.private).to_have_text(["alice: Not for carol"])
    expect(alice.private).to_have_text(["to bob: Not for carol"])
    bob.say("Certainly not", to="alice")
    expect(alice.private).to_have_text(["to bob: Not for carol", "bob: Certainly not"])
    bob.say("Hello, carol")
    expect(carol.room).to_have_count(3)
    expect(carol.private).to_have_count(0)


def test_rooms(enter: Enter) -> None:
    """Each room has its own messages and its own history, and lets only its members in."""
    alice, bob, carol = (enter(user) for user in ("alice", "bob", "carol"))
    alice.go("library")
    alice.say("Quiet here")
    expect(alice.room).to_have_text(["alice: Quiet here"])
    bob.say("In the lobby")
    expect(carol.room).to_have_text(["bob: In the lobby"])
    bob.go("library")
    expect(bob.room).to_have_text(["alice: Quiet here"])
    bob.go("lobby")
    expect(bob.room).to_have_text(["bob: In the lobby"])
    carol.go("library")
    expect(carol.page.get_by_role("status")).to_contain_text("It is over: access-denied.")
    expect(carol.room).to_have_text(["bob: In the lobby"])


def test_short() -> None:
    """It has 40 lines at most, its imports aside."""
    lines = EXAMPLE.read_text("utf-8").splitlines()
    assert sum(not re.match(r'$|"""|import |from ', line) for line in lines) <= 40
