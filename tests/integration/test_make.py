"""How `make test` comes by the programs that these tests use."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

HERE = f"PROGRAMS={sys.executable}"
MISSING = "PROGRAMS=no-such-program"
AS_ROOT = "ON_DEBIAN_AS_ROOT=true"
NOT_ROOT = "ON_DEBIAN_AS_ROOT=false"


class Make:
    """Runs `make programs` with an apt-get that writes down what it was asked for."""

    def __init__(self, directory: Path) -> None:
        self._bin = directory / "bin"
        self._calls = directory / "calls"
        self._bin.mkdir()
        apt_get = self._bin / "apt-get"
        apt_get.write_text(f'#!/bin/sh\necho "$*" >> "{self._calls}"\n')
        apt_get.chmod(0o755)

    def __call__(self, *settings: str, ci: str = "") -> subprocess.CompletedProcess[str]:
        path = f"{self._bin}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "CI": ci, "MAKEFLAGS": "", "MAKELEVEL": ""}
        return subprocess.run(
            ["make", "-C", ROOT, "programs", *settings],
            env=environment,
            capture_output=True,
            text=True,
        )

    @property
    def installed(self) -> bool:
        """Whether apt-get was asked to install the missing program."""
        if not self._calls.exists():
            return False
        update, install = self._calls.read_text().splitlines()
        return "update" in update and install.endswith(" no-such-program")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """`make programs`, with an apt-get that does nothing."""
    return Make(tmp_path)


def test_there(make: Make) -> None:
    """What is installed already costs no call of apt-get, and no word."""
    run = make(HERE, AS_ROOT, ci="true")
    assert run.returncode == 0
    assert not make.installed
    assert "program" not in run.stdout


def test_root_on_debian(make: Make) -> None:
    """What is missing is installed, and make says so first."""
    run = make(MISSING, AS_ROOT)
    assert run.returncode == 0
    assert make.installed
    assert "Installing with apt-get, for tests/integration: no-such-program" in run.stdout


def test_elsewhere(make: Make) -> None:
    """Where it cannot be installed, make says what is left out and why, and goes on."""
    run = make(MISSING, NOT_ROOT)
    assert run.returncode == 0
    assert not make.installed
    assert "Left out: the tests in tests/integration that need no-such-program" in run.stdout
    assert "Only root on Debian" in run.stdout


def test_elsewhere_in_ci(make: Make) -> None:
    """In CI nothing may be left out: make fails."""
    run = make(MISSING, NOT_ROOT, ci="true")
    assert run.returncode != 0
    assert "CI=true leaves no test out: no-such-program" in run.stderr
