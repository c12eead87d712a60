"""What README.md tells its reader to type, typed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from twisted.application.service import MultiService
from twisted.web.resource import Resource

from tests.integration.pages import blocks
from tests.integration.processes import ROOT, running

if TYPE_CHECKING:
    from tests.integration.processes import Server

README = blocks(ROOT / "README.md")
PAGES = [
    *(ROOT / "README.md", ROOT / "SECURITY.md"),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
TWISTD = Path(sys.executable).parent / "twistd"


def check(configuration: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run --check on the configuration."""
    file = directory / "chat.toml"
    file.write_text(configuration, "utf-8")
    return subprocess.run(
        [TWISTD, "-n", "stompauth", "--config", file, "--check"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_make_demo(tmp_path: Path) -> None:
    """`make demo` sets up and serves the demo's page."""
    assert README["sh"][0].splitlines()[0].startswith("make demo ")
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("these tests do not run in the .venv that make demo uses")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Nothing of a make that runs these tests must reach this one.
    unset = {"MAKEFLAGS": "", "MAKELEVEL": "", "MFLAGS": ""}
    command = ["make", "-C", ROOT, "demo", f"PORT={port}"]
    with running(command, tmp_path, environment=unset) as server:
        assert server.port == port
        assert server.get("/")[0] == 200
    assert f"http://127.0.0.1:{port}/" in server.log.read_text("utf-8")


def test_make_test() -> None:
    """`make test` runs the linters, mypy and both kinds of tests."""
    command = README["sh"][0].splitlines()[1].split("#")[0].split()
    assert command == ["make", "test"]
    plan = subprocess.run(
        [*command, "-n"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for step in ("ruff check", "ruff format --check", "mypy", "trial tests", "tests/integration"):
        assert step in plan


def test_handshake_by_hand(demo: Server) -> None:
    """Each handshake of the walk has the status that the comment beside it says."""
    code = README["sh"][1]
    promised = re.findall(r"^handshake .*# (\d{3}): ", code, re.M)
    assert promised == ["101", "401", "401", "403", "101"]
    walk = subprocess.run(
        ["sh"],
        input=code.replace("http://127.0.0.1:8080", demo.origin),
        env=os.environ | {"no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert walk.stdout.split() == promised, walk.stderr


def test_configuration(tmp_path: Path) -> None:
    """The TOML example passes --check."""
    checked = check(README["toml"][0], tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_nothing_unsafe_by_default(tmp_path: Path) -> None:
    """Without algorithms, issuer, audience, origins or rules: each is named, and all at once."""
    code = README["toml"][0].partition("[[rules]]")[0]
    for key in ("algorithms", "issuer", "audience", "origins"):
        code = re.sub(rf"^{key} = .*\n", "", code, flags=re.M)
    assert tomllib.loads(code)["jwt"].keys() == {"jwks_url"}
    checked = check(code, tmp_path)
    assert checked.returncode == 1
    report = checked.stdout + checked.stderr
    for path in ("jwt.algorithms", "jwt.issuer", "jwt.audience", "websocket.origins", "rules"):
        assert path in report


def test_workers(tmp_path: Path) -> None:
    """What workers do not share is refused when it is asked for, not ignored."""
    rule = '[[rules]]\nallow = ["send"]\ndestination = "/queue/work"\n'
    checked = check("workers = 2\n" + README["toml"][0] + rule, tmp_path)
    assert checked.returncode == 1
    assert "queues" in checked.stderr


def test_embedding() -> None:
    """The Python example builds an application below the resources and services of its host."""
    root, service = Resource(), MultiService()
    names: dict[str, object] = {"root": root, "existing_service": service}
    exec(README["python"][0], names)
    assert set(root.children) == {b"ticket", b"stomp"}
    assert len(service.services) == 1
    sent = names["app"].send_to_user("alice", "/queue/notices", b"hello")
    assert sent.result == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links(page: Path) -> None:
    """Every link to a file of the repository leads to one."""
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text("utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []
