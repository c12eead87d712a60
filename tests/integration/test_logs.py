"""Logs as twistd and twist write them; and docs/howto/logging.md."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.configured import ConfiguredServer, configured
from tests.integration.pages import blocks
from tests.integration.processes import ROOT
from tests.integration.raw import RawWebSocket

if TYPE_CHECKING:
    from pathlib import Path

PAGE = blocks(ROOT / "docs" / "howto" / "logging.md")

#: What the page has the configuration say.
JSON = "\n" + PAGE["toml"][0]


def use(server: ConfiguredServer) -> None:
    """Connect, and be turned away; show tokens and tickets where they do not belong, too."""
    token = server.token("alice")
    with RawWebSocket(server, token) as websocket:
        websocket.connect(token)
        websocket.send_stomp("SEND", {"destination": "/user/bob/queue/news", "token": token}, b"x")
        assert b"access-denied" in websocket.frame()[1]  # type: ignore[index]
    ticket = server.ticket(token)
    assert server.get(f"/nowhere?ticket={ticket}")[0] == 404
    assert server.get(f"/stomp?ticket={ticket}")[0] in (400, 426)
    with RawWebSocket(server, token) as websocket:
        headers = {"accept-version": "1.2", "host": "x", "Authorization": f"Bearer {token}x"}
        websocket.send_stomp("CONNECT", headers)
        assert b"bad-token" in websocket.frame()[1]  # type: ignore[index]


def lines(log: Path) -> list[dict[str, Any]]:
    """The objects of a log; every line has to be one."""
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("runner", [("twistd", "-n", "--pidfile="), ("twist",)], ids=" ".join)
def test_json(runner: tuple[str, ...], tmp_path: Path) -> None:
    """LG-1: every line is an object that has what it should, and no secret is in it."""
    with configured(tmp_path, more=JSON, runner=runner) as server:
        use(server)
    events = lines(server.log)
    for event in events:
        assert list(event)[:3] == ["time", "level", "namespace"]
        assert event["time"].endswith("Z")
        assert event["message"]
    audit = [event for event in events if event["namespace"] == "stompauth.audit"]
    names = [event["event"] for event in audit]
    assert names[:3] == ["ticket-issued", "connected", "denied"]
    assert audit[2]["user"] == "alice"
    assert set(json.loads(PAGE["json"][0])) == set(audit[2])
    found = subprocess.run(
        ["sh", "-c", PAGE["sh"][0]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert [json.loads(line) for line in found.stdout.splitlines()] == audit


def test_twist_by_itself(tmp_path: Path) -> None:
    """LG-1: what twist makes of our events without our format holds no secret either."""
    with configured(tmp_path, runner=("twist", "--log-format=json")) as server:
        use(server)
    first = server.log.read_text("utf-8").split("\n")[0]
    assert first.startswith("\x1e")
    assert "log_format" in json.loads(first[1:])


def test_log_file(tmp_path: Path) -> None:
    """JSON goes to the file that twistd was given."""
    runner = ("twistd", "-n", "--pidfile=", "--logfile=/dev/fd/1")
    with configured(tmp_path, more=JSON, runner=runner) as server:
        use(server)
    assert lines(server.log)


def test_apart(tmp_path: Path) -> None:
    """The page's observer writes audit events to their own file, and nothing else."""
    (tmp_path / "apart.py").write_text(PAGE["python"][0], "utf-8")
    assert PAGE["sh"][1].startswith("PYTHONPATH=. twistd -n --logger apart.observer stompauth ")
    runner = ("twistd", "-n", "--logger", "apart.observer", "--pidfile=")
    path = {"PYTHONPATH": f".:{ROOT}"}
    with configured(tmp_path, runner=runner, environment=path) as server:
        use(server)
    assert lines(tmp_path / "audit.log")
    for event in lines(tmp_path / "audit.log"):
        assert event["namespace"] == "stompauth.audit"
    assert "stompauth.audit" not in server.log.read_text("utf-8")
