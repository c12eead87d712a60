"""The documentation builds, its reference is whole, and its examples are typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from zope.interface.interface import InterfaceClass

import stompauth
from stompauth import client, interfaces
from tests.integration.pages import blocks
from tests.integration.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as `make docs` makes it, where a warning is an error."""
    # Nothing of a make that runs these tests must reach this one.
    unset = {"MAKEFLAGS": "", "MAKELEVEL": "", "MFLAGS": ""}
    plan = subprocess.run(
        ["make", "--dry-run", "docs"],
        cwd=ROOT,
        env=os.environ | unset,
        check=True,
        capture_output=True,
        text=True,
    )
    *_, command = plan.stdout.splitlines()
    arguments = command.split()[1:-1]
    assert "-W" in arguments
    directory = tmp_path_factory.mktemp("docs")
    run = subprocess.run(
        [sys.executable, *arguments, directory], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return directory


def test_pages(built: Path) -> None:
    """Every page is there, and in the table of contents of the first."""
    index = (built / "index.html").read_text("utf-8")
    pages = [
        path.relative_to(DOCS).with_suffix(".html").as_posix()
        for path in DOCS.rglob("*.md")
        if "_build" not in path.parts and path.stem != "index"
    ]
    contents = re.findall(r'class="toctree-l1"><a class="reference internal" href="(.*?)"', index)
    assert set(contents) == {*pages, "api.html"}


def test_reference(built: Path) -> None:
    """Every public name is in the reference, with what its docstring says."""
    page = (built / "api.html").read_text("utf-8")
    found = set(re.findall(r'<dt class="sig sig-object py" id="([\w.]+)"', page))
    public = {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in (stompauth, client)
        for name in module.__all__
        if name != "__version__"
    }
    public |= {
        f"stompauth.interfaces.{name}": value
        for name, value in vars(interfaces).items()
        if isinstance(value, InterfaceClass) and value.__module__ == interfaces.__name__
    }
    missing = [
        name
        for name, value in public.items()
        if not {name, f"{value.__module__}.{value.__name__}"} & found
    ]
    assert missing == []
    assert "stompauth.interfaces.ITicketStore.redeem" in found
    assert "of any number of calls for one ticket, at any time, one succeeds" in page


def test_examples_are_typed(tmp_path: Path) -> None:
    """mypy, as strict as for the package itself, has no complaint about the examples."""
    chat = tmp_path / "spring_chat.py"
    chat.write_text(blocks(DOCS / "howto" / "spring.md")["python"][0], "utf-8")
    examples = [chat, *(DOCS / "examples").glob("*.py")]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *examples],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    assert run.stdout == f"Success: no issues found in {len(examples)} source files\n"
