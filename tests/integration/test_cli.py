"""The console script, against a server in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.configured import AUDIENCE, ISSUER, configured
from tests.integration.pages import blocks
from tests.integration.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(sys.executable).parent / "stompauth"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Where the server is, and a token for it that the script itself has signed."""
    with configured(tmp_path) as server:
        signed = run(
            *("token", "--secret-file", tmp_path / "secret", "--user", "alice"),
            *("--issuer", ISSUER, "--audience", AUDIENCE),
            environment={},
        )
        yield {"STOMPAUTH_URL": server.origin, "STOMPAUTH_TOKEN": signed.stdout}


def run(
    *arguments: str | Path, environment: dict[str, str], status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command, which has to end with this status."""
    done = subprocess.run(
        [SCRIPT, *arguments],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_ticket(environment: dict[str, str]) -> None:
    """A token buys a ticket; another one does not."""
    assert len(run("ticket", environment=environment).stdout.strip()) == 43
    refused = run("ticket", environment=environment | {"STOMPAUTH_TOKEN": "abc"}, status=1)
    assert refused.stdout == ""
    assert refused.stderr == "stompauth: unauthorized, HTTP status 401\n"


def test_tail_and_send(environment: dict[str, str]) -> None:
    """What is sent is printed, and both commands end."""
    command = [SCRIPT, "tail", "--count", "2", "/topic/lobby"]
    with subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    ) as tail:
        try:
            assert tail.stdout is not None
            # It may take a while to subscribe, and says nothing when it has.
            for _ in range(30):
                run("send", "/topic/lobby", "hello", environment=environment)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    if tail.wait(0.1) == 0:
                        break
            assert tail.wait(10) == 0
            lines = tail.stdout.read().splitlines()
        finally:
            tail.kill()
    assert [json.loads(line)["body"] for line in lines] == ["hello", "hello"]


def test_interrupted(environment: dict[str, str]) -> None:
    """Ctrl-C ends a command without a word."""
    with subprocess.Popen(
        [SCRIPT, "tail", "/topic/lobby"],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as tail:
        # What it does on the first frame it does on the way there, too.
        with contextlib.suppress(subprocess.TimeoutExpired):
            tail.wait(3)
        tail.send_signal(signal.SIGINT)
        output, _ = tail.communicate(timeout=10)
    assert (output, tail.returncode) == ("", 130)


def test_refused(environment: dict[str, str]) -> None:
    """A refusal is a line, and the exit status."""
    refused = run("tail", "/topic/../x", environment=environment, status=1)
    assert refused.stderr.startswith("stompauth: bad-destination, closed with 1002")


def test_page(environment: dict[str, str], tmp_path: Path) -> None:
    """The commands of docs/howto/client.md work, one after another."""
    (tmp_path / "stompauth.toml").rename(tmp_path / "chat.toml")
    (tmp_path / "jwt.secret").write_bytes((tmp_path / "secret").read_bytes())
    (code,) = blocks(ROOT / "docs" / "howto" / "client.md")["sh"]
    url = "http://127.0.0.1:8080"
    assert url in code
    done = subprocess.run(
        ["sh", "-eu"],
        input=code.replace(url, environment["STOMPAUTH_URL"]),
        env=os.environ | {"PATH": f"{SCRIPT.parent}:{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("allowed: ")


def test_unreachable() -> None:
    """So is a server that is not there."""
    nowhere = {"STOMPAUTH_URL": "http://127.0.0.1:1", "STOMPAUTH_TOKEN": "abc"}
    refused = run("ticket", environment=nowhere, status=1)
    assert refused.stderr.startswith("stompauth: unreachable: ")
