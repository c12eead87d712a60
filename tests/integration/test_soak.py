"""A soak of some seconds; ``make soak`` is the long one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.integration.processes import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a soak looks into /proc")


def test_nothing_is_left() -> None:
    """RS-4: sessions that end at every stage leave no session, timer, descriptor or memory."""
    command = [sys.executable, "-m", "tests.soak", "--minutes", "0.1", "--sessions", "60"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stdout + run.stderr
