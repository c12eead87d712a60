"""The chat of docs/howto/spring.md: its server under twistd, its page in a real browser."""

from __future__ import annotations

import re
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import jwt
from playwright.sync_api import expect

from tests.integration.configured import free_port
from tests.integration.pages import blocks
from tests.integration.processes import ROOT, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGE = blocks(ROOT / "docs" / "howto" / "spring.md")
COPIED = (
    "stompauth/demo/static/connection.js",
    "node_modules/@stomp/stompjs/bundles/stomp.umd.min.js",
)


def test_chat(browser: Browser, tmp_path: Path) -> None:
    """Users hear each other, and who comes and goes; a name is what the token says."""
    port = f"{free_port()}"
    secret = secrets.token_hex(32)
    (tmp_path / "jwt.secret").write_text(secret)
    (tmp_path / "chat.py").write_text(PAGE["python"][0].replace("8080", port))
    page = tmp_path / "page"
    page.mkdir()
    (page / "chat.js").write_text(PAGE["js"][0].replace("8080", port))
    (page / "index.html").write_text(PAGE["html"][0])
    for file in COPIED:
        (page / Path(file).name).symlink_to(ROOT / file)

    def enter(user: str) -> Page:
        now = int(time.time())
        claims = {"iss": "https://login.example.com/", "aud": "chat", "sub": user}
        token = jwt.encode({**claims, "iat": now, "exp": now + 600}, secret, "HS256")
        tab = browser.new_context().new_page()
        tab.on("dialog", lambda dialog: dialog.accept(token))
        tab.goto(server.origin)
        expect(tab.get_by_label("Message")).to_be_enabled()
        return tab

    command, *arguments = PAGE["sh"][0].split()
    twistd = Path(sys.executable).with_name(command)
    line = re.compile(r"StrictSite starting on (\d+)")
    with running([twistd, "--pidfile=", *arguments], tmp_path, line=line) as server:
        alice = enter("alice")
        bob = enter("bob")
        expect(alice.get_by_role("listitem")).to_have_text(["bob has joined"])
        bob.get_by_label("Message").fill("Good morning")
        bob.get_by_label("Message").press("Enter")
        expect(bob.get_by_role("listitem")).to_have_text(["bob says: Good morning"])
        bob.context.close()
        expect(alice.get_by_role("listitem")).to_have_text(
            ["bob has joined", "bob says: Good morning", "bob has left"]
        )
    assert "Traceback" not in server.log.read_text("utf-8")
