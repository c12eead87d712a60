"""The plugin, listed and running, from the checkout and from a wheel.

The wheel is installed into an empty virtual environment that sees, beside it, exactly the
distributions that the wheel asks for and those that they ask for: nothing of the checkout, and
nothing of the tests'. These are linked from the running environment rather than fetched again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from importlib.metadata import PathDistribution, distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.integration.processes import DEMO, ROOT, running, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterable

IGNORED = shutil.ignore_patterns(
    ".*", "node_modules", "build", "dist", "*.egg-info", "__pycache__", "_trial_temp*", "*.pyc"
)

pytestmark = pytest.mark.parametrize("scripts", ["checkout", "wheel"], indirect=True)


def needed(requirements: Iterable[str], extras: Iterable[str] = ("",)) -> dict[str, Requirement]:
    """Which of the lines apply here, given the extras."""
    found = map(Requirement, requirements)
    return {
        canonicalize_name(requirement.name): requirement
        for requirement in found
        if not requirement.marker
        or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
    }


def link_dependencies(wheel: Path, directory: Path) -> None:
    """Link into the directory what the wheel needs of the running environment."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = {path for path in zipfile.Path(archive).iterdir() if "dist-info" in path.name}
        waiting = list(needed(PathDistribution(metadata).requires or []).values())
    done = set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in done:
            continue
        done.add(key)
        found = distribution(requirement.name)
        waiting += needed(found.requires or [], ("", *requirement.extras)).values()
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] != ".."}:
            link = directory / top
            if top != "__pycache__" and not link.exists():
                link.symlink_to(found.locate_file(top))


def pip(*arguments: str | Path) -> None:
    """Run pip, without any index."""
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--no-deps", "--no-index"]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    shutil.copytree(ROOT, source, ignore=IGNORED)
    pip("wheel", "--no-build-isolation", "--wheel-dir", directory, source)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where twistd and twist are: in the running environment, or in a new one with the wheel."""
    if request.param == "checkout":
        return Path(sys.executable).parent
    wheel = request.getfixturevalue("wheel")
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin/python"
    pip("--python", python, "install", wheel)
    dependencies = environment / "dependencies"
    dependencies.mkdir()
    link_dependencies(wheel, dependencies)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    for entry in distribution("twisted").entry_points.select(group="console_scripts"):
        script = environment / "bin" / entry.name
        script.write_text(
            f"#!{python}\nimport sys\nimport {entry.module}\n"
            f"sys.exit({entry.module}.{entry.attr}())\n"
        )
        script.chmod(0o755)
    return environment / "bin"


def test_source(scripts: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The package that runs is the checkout's, or the wheel's own."""
    found = subprocess.run(
        [scripts / "python", "-c", "import stompauth; print(stompauth.__file__)"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    home = ROOT if "checkout" in request.node.name else scripts.parent
    assert Path(found.stdout.strip()).is_relative_to(home)


@pytest.mark.parametrize("command", ["twistd", "twist"])
def test_listed(scripts: Path, command: str, tmp_path: Path) -> None:
    """Both commands list stompauth with what it is for."""
    listed = subprocess.run(
        [scripts / command, "--help"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    (line,) = [line for line in listed.stdout.splitlines() if line.split()[:1] == ["stompauth"]]
    assert "STOMP over WebSocket" in line


@pytest.mark.parametrize("command", [("twistd", "-n", "--pidfile="), ("twist",)], ids=" ".join)
def test_demo(scripts: Path, command: tuple[str, ...], tmp_path: Path) -> None:
    """The demo starts in the foreground, and serves its page and the files that belong to it."""
    with running([scripts / command[0], *command[1:], *DEMO], tmp_path) as server:
        status, page = server.get("/")
        assert status == 200
        assert b"<html" in page
        static = ROOT / "stompauth/demo/static"
        for file in static.iterdir():
            assert server.get(f"/{file.name}") == (200, file.read_bytes())
    log = server.log.read_text("utf-8")
    assert "Traceback" not in log


def test_daemon(scripts: Path, tmp_path: Path) -> None:
    """A daemon writes its pid and its log where it is told to, and SIGTERM ends it cleanly."""
    pidfile, log = tmp_path / "stompauth.pid", tmp_path / "stompauth.log"
    subprocess.run(
        [scripts / "twistd", f"--pidfile={pidfile}", f"--logfile={log}", *DEMO],
        cwd=tmp_path,
        check=True,
        timeout=30,
    )
    pid = int(pidfile.read_text())
    try:
        server = wait_until_ready(log, lambda: not pidfile.exists())
        assert server.get("/")[0] == 200
    finally:
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 15
        while pidfile.exists() and time.monotonic() < end:
            time.sleep(0.05)
    assert not pidfile.exists()
    text = log.read_text("utf-8")
    assert "Server Shut Down" in text
    assert "Traceback" not in text
