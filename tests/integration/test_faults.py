"""Nodes over Redis and RabbitMQ together, and a short run of ``make test-faults``."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from stompauth.client import connect
from stompauth.config import load
from tests.faults.clients import SETTINGS
from tests.faults.programs import Programs
from tests.integration.pages import blocks
from tests.integration.processes import ROOT
from tests.integration.proxies import program
from tests.integration.rabbitmq_server import PROGRAMS
from tests.integration.test_client import until

if TYPE_CHECKING:
    from pathlib import Path

    from stompauth.client import Message


@pytest.fixture(autouse=True)
def programs() -> None:
    """All the programs are there, or these tests are left out."""
    for name in ("redis-server", "haproxy"):
        program(name)
    if not (PROGRAMS / "rabbitmq-server").exists():
        pytest.skip(f"there is no RabbitMQ in {PROGRAMS}; RABBITMQ_PROGRAMS names another place")


def test_configuration(tmp_path: Path) -> None:
    """The configuration of docs/howto/several-nodes.md is one."""
    for name in ("redis-password", "rabbitmq-passcode"):
        (tmp_path / name).write_text("x")
    (code,) = blocks(ROOT / "docs" / "howto" / "several-nodes.md")["toml"]
    path = tmp_path / "stompauth.toml"
    path.write_text(code)
    config = load(path)
    assert (config.broker.kind, config.cluster.url) == ("relay", config.tickets.store)


def test_each_part_in_turn() -> None:
    """RL-5, RL-1, TK-7, TK-8, JW-13: Redis, RabbitMQ, nodes and HAProxy are killed in turn.

    What was receipted on a queue comes, every subscriber is live again, who was revoked stays out,
    nothing is left, and no secret is in a log or on the wire to Redis and RabbitMQ.
    """
    command = [sys.executable, "-m", "tests.faults", "--seconds", "0", "--clients", "200"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads(run.stdout)
    assert report["clients"] == 200
    assert report["queues"]["receipted"] > 1000
    assert len(report["back in seconds"]) == 6


@pytest_twisted.ensureDeferred
async def test_count(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the control resource of one node sends to a user, is counted on both."""
    # Sockets have short paths.
    directory: Path = tmp_path_factory.mktemp("n")
    both = Programs(directory)
    try:
        await deferToThread(both.start)

        def token_of_alice() -> str:
            return both.token("alice", 600)

        messages: list[Message] = []
        url = f"http://127.0.0.1:{both.haproxy.port}"
        tabs = [await connect(reactor, url, token_of_alice, settings=SETTINGS) for _ in range(4)]
        for tab in tabs[:3]:
            await tab.subscribe("/user/queue/news", messages.append)
        # HAProxy gives each node as many.
        assert [await deferToThread(node.sessions) for node in both.nodes] == [2, 2]
        body = {"destination": "/queue/news", "body": "hello"}
        for number, node in enumerate(both.nodes, 1):
            answer = await deferToThread(node.control, "POST", "/users/alice/send", body)
            assert answer == (200, {"sessions": 3})
            await until(lambda wanted=3 * number: len(messages) == wanted)  # type: ignore[misc]
        for tab in tabs:
            await tab.disconnect()
    finally:
        await deferToThread(both.stop)
