"""What the tests in this directory share."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.integration.processes import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from playwright.sync_api import Browser

    from tests.integration.processes import Server

    StartDemo = Callable[..., AbstractContextManager[Server]]

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")

#: Chromium asks for nothing of its own accord, and runs where there is neither a GPU nor a sandbox.
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}; the variable CHROMIUM names another")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS)
        )
        yield browser
        browser.close()


@pytest.fixture
def start_demo(tmp_path: Path) -> StartDemo:
    """Start the demo on a port, 0 for a free one, for as long as a block lasts; several times."""
    numbers = itertools.count()

    def start(port: int = 0) -> AbstractContextManager[Server]:
        directory = tmp_path / f"demo-{next(numbers)}"
        directory.mkdir()
        twistd = Path(sys.executable).parent / "twistd"
        listen = f"tcp:{port}:interface=127.0.0.1"
        return running(
            [twistd, "-n", "--pidfile=", "stompauth", "--demo", "--listen", listen], directory
        )

    return start


@pytest.fixture
def demo(start_demo: StartDemo) -> Iterator[Server]:
    """The demo, on a free port of its own."""
    with start_demo() as server:
        yield server
