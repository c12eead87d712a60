"""The benchmark runs; ``make bench`` is the long one, and no time is asserted anywhere."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from tests.integration.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the load is made with epoll")

#: One row of each scenario, and of each thing that is measured.
ROWS = (
    *("fanout-1-1", "fanout-100-1", "topics-8", "queue-8", "send", "connect", "idle"),
    "turn-5000",
)


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it, for moments and with few subscribers."""
    command = [sys.executable, "-m", "tests.bench", "--runs", "1", "--seconds", "0.05"]
    return subprocess.run(
        [*command, "--scale", "100", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_every_kind_of_row(tmp_path: Path) -> None:
    """Each scenario works against both servers, and comes out as table, plot and figures."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table -->\nold\n<!-- end of the table -->\nafter\n")
    run = bench(*ROWS, "--into", tmp_path, "--page", page)
    assert run.returncode == 0, run.stdout + run.stderr
    table = (tmp_path / "table.md").read_text("utf-8")
    image = "\n![CPU time per delivery](page.svg)\n"
    assert page.read_text("utf-8") == (
        f"before\n<!-- table -->\n{table}{image}<!-- end of the table -->\nafter\n"
    )
    head, _, *rows, _, note = table.splitlines()
    assert note.startswith("Medians of 1 runs of 0.05 s")
    assert head == "| work | unit | stompauth | plain Autobahn | plain Autobahn / stompauth |"
    assert len(rows) == len(ROWS)
    for row in rows:
        *_, ours, others, ratio = row.strip("| ").split(" | ")
        assert float(ours) > 0
        assert float(others) > 0
        assert float(ratio) > 0
    for plot in ("fanout.svg", "page.svg"):
        assert ET.parse(tmp_path / plot).getroot().tag.endswith("svg")


def test_another_server() -> None:
    """A server that is given by command and URL stands beside ours."""
    plain = f"{sys.executable} -m tests.bench.plain --open --port {{port}}"
    url = "ws://127.0.0.1:{port}/stomp"
    run = bench("fanout-100-8", "--no-plain", "--against", plain, url)
    assert run.returncode == 0, run.stdout + run.stderr


def test_failure_of_the_server() -> None:
    """A server that does not do the work fails the run: nothing is measured of it."""
    silent = f"{sys.executable} -m http.server --bind 127.0.0.1 {{port}}"
    run = bench("fanout-100-8", "--no-plain", "--against", silent, "ws://127.0.0.1/stomp")
    assert run.returncode != 0
    assert "no upgrade" in run.stderr
