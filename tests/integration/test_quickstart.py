"""docs/quickstart.md, followed from its top to its end; its page in a real browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.integration.pages import blocks
from tests.integration.processes import ROOT, Server, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

QUICKSTART = blocks(ROOT / "docs/quickstart.md")
SERVER_PORT = ":8090"
PAGE_PORT = ":8000"
SERVING = re.compile(r"Serving HTTP on 127.0.0.1 port (\d+)")


def shell(code: str, directory: Path) -> str:
    """Run the code as a reader would, and return what it prints."""
    return subprocess.run(
        ["sh", "-eu"],
        input=code,
        cwd=directory,
        check=True,
        env=os.environ | {"no_proxy": "*"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    ).stdout


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """my-chat as section 2 makes it, in what looks like the checkout."""
    checkout = tmp_path_factory.mktemp("checkout")
    (checkout / ".venv").symlink_to(sys.prefix)
    for name in ("stompauth", "node_modules"):
        (checkout / name).symlink_to(ROOT / name)
    shell(QUICKSTART["sh"][1], checkout)
    return checkout / "my-chat"


@pytest.fixture(scope="module")
def page(directory: Path) -> Iterator[Server]:
    """The server of the page, as section 4 runs it; the page itself comes later."""
    command = QUICKSTART["sh"][5].replace(f" {PAGE_PORT[1:]} ", " 0 ")
    (directory / "page").mkdir()
    activate = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with running(
        ["sh", "-c", f"exec {command}"],
        directory,
        log="page.log",
        line=SERVING,
        environment={**activate, "PYTHONUNBUFFERED": "1"},
    ) as ready:
        yield ready


@pytest.fixture(scope="module")
def server(directory: Path, page: Server) -> Iterator[Server]:
    """The server of section 2, which knows the origin of the page."""
    configuration = QUICKSTART["toml"][0].replace(f"tcp{SERVER_PORT}", "tcp:0")
    configuration = configuration.replace(PAGE_PORT, f":{page.port}")
    (directory / "chat.toml").write_text(configuration, "utf-8")
    check, run = (line.split("#")[0] for line in QUICKSTART["sh"][2].splitlines())
    assert "--check" in check
    shell(f". ../.venv/bin/activate\n{check}", directory)
    with running(["sh", "-c", f". ../.venv/bin/activate\nexec {run}"], directory) as ready:
        yield ready


@pytest.fixture(scope="module")
def token(directory: Path, server: Server) -> str:
    """The token of section 3, which is good for a ticket."""
    code = QUICKSTART["sh"][3].replace(SERVER_PORT, f":{server.port}")
    ticket, token = shell(f'{code}\necho; echo "$TOKEN"', directory).splitlines()
    answer = json.loads(ticket)
    assert answer.keys() == {"ticket", "expires_in"}
    assert answer["expires_in"] == 30
    return token


def test_demo() -> None:
    """Section 1 is the README's command."""
    assert QUICKSTART["sh"][0] == "make demo\n"


def test_page(directory: Path, page: Server, server: Server, token: str, browser: Browser) -> None:
    """Section 4: what is typed on the page comes back to it by the room."""
    shell(QUICKSTART["sh"][4], directory)
    script = QUICKSTART["js"][0].replace(SERVER_PORT, f":{server.port}")
    (directory / "page/chat.js").write_text(script, "utf-8")
    (directory / "page/index.html").write_text(QUICKSTART["html"][0], "utf-8")
    tab = browser.new_page()
    tab.on("dialog", lambda dialog: dialog.accept(token))
    tab.goto(page.origin)
    tab.get_by_label("Message").fill("hello")
    tab.get_by_label("Message").press("Enter")
    expect(tab.get_by_role("listitem")).to_have_text(["hello"])
