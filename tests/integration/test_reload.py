"""SIGHUP to a server that runs; and docs/howto/reload.md."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import jwt
import pytest

from tests.integration.configured import AUDIENCE, ISSUER, ORIGIN, ConfiguredServer, configured
from tests.integration.pages import blocks
from tests.integration.processes import ROOT
from tests.integration.raw import RawWebSocket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = blocks(ROOT / "docs" / "howto" / "reload.md")

RULE = '\n[[rules]]\nallow = ["subscribe"]\ndestination = "/user/queue/extra"\n'


class Reloaded:
    """A server with a configuration to change."""

    def __init__(self, server: ConfiguredServer, directory: Path) -> None:
        self.server = server
        self.file = directory / "stompauth.toml"
        self.directory = directory

    def reload(self, text: str, expected: str) -> str:
        """Write the file, send SIGHUP as the page does, and wait for a line; returns the log."""
        self.file.write_text(text, "utf-8")
        begin = len(self.server.log.read_text("utf-8"))
        subprocess.run(["sh", "-euc", PAGE["sh"][0]], cwd=self.directory, check=True)
        end = time.monotonic() + 10
        while expected not in (log := self.server.log.read_text("utf-8")[begin:]):
            assert time.monotonic() < end, log
            time.sleep(0.05)
        return log

    def status(self, token: str, origin: str = ORIGIN) -> int:
        """The status of a request for a ticket."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        headers = {"Authorization": f"Bearer {token}", "Origin": origin}
        connection.request("POST", "/authenticate/token", headers=headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status


@pytest.fixture(params=[("twistd", "-n"), ("twist",)], ids=" ".join)
def reloaded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reloaded]:
    """A server under each of the programs."""
    runner = request.param
    if runner[0] == "twistd":
        runner = (*runner, "--pidfile=twistd.pid")
    else:
        # A shell writes down its id, and becomes twist.
        script = tmp_path / "run"
        script.write_text(f'#!/bin/sh\necho $$ > twistd.pid\nexec {ROOT}/.venv/bin/twist "$@"\n')
        script.chmod(0o755)
        runner = (str(script), "--log-format=text")
    with configured(tmp_path, runner=runner, more=RULE) as server:
        yield Reloaded(server, tmp_path)


def test_rules(reloaded: Reloaded) -> None:
    """AZ-10: a rule that is taken away drops what it allowed, with a notice, and nothing else."""
    token = reloaded.server.token("alice")
    with RawWebSocket(reloaded.server, token) as websocket:
        websocket.connect(token)
        for number, destination in (("1", "/user/queue/extra"), ("2", "/topic/a")):
            headers = {"id": number, "destination": destination, "receipt": number}
            websocket.send_stomp("SUBSCRIBE", headers)
            assert b"RECEIPT" in websocket.frame()[1]  # type: ignore[index]
        text = reloaded.file.read_text("utf-8")
        reloaded.reload(text.replace(RULE, ""), "1 sessions rechecked")
        notice = websocket.frame()[1]  # type: ignore[index]
        assert b"code:access-denied\n" in notice
        assert b"subscription:1\n" in notice
        websocket.send_stomp("SEND", {"destination": "/topic/a"}, b"still here")
        assert b"still here" in websocket.frame()[1]  # type: ignore[index]


def test_mistakes(reloaded: Reloaded) -> None:
    """A file with mistakes changes nothing, and every mistake is told; a good one counts again."""
    text = reloaded.file.read_text("utf-8")
    token = reloaded.server.token("alice")
    broken = text.replace(ORIGIN, "https://other.example.com").replace("issuer", "isuer")
    log = reloaded.reload(broken, "jwt.isuer: is no key")
    assert "not reloaded, nothing is changed" in log
    assert "jwt.issuer: is required" in log
    assert reloaded.status(token) == 200
    reloaded.reload("[" + text, "this is not TOML")
    assert reloaded.status(token) == 200
    restart = text.replace(ORIGIN, "https://other.example.com").replace("leeway = 0", "leeway = 1")
    reloaded.reload(restart, "these need a restart: jwt.leeway")
    assert reloaded.status(token) == 200
    reloaded.reload(text.replace(ORIGIN, "https://other.example.com"), "rechecked")
    assert reloaded.status(token) == 403
    assert reloaded.status(token, "https://other.example.com") == 200


def test_rotation(reloaded: Reloaded) -> None:
    """JW-2: the page's rotation: the new secret beside the old one, then alone."""
    text = reloaded.file.read_text("utf-8")
    old = reloaded.server.token("alice")
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600}
    (both, alone) = re.findall(r"^secret_file = .*$", "\n".join(PAGE["toml"]), re.M)
    subprocess.run(["sh", "-euc", PAGE["sh"][1]], cwd=reloaded.directory, check=True)
    secret = (reloaded.directory / "secret.new").read_bytes().strip()
    new = jwt.encode(claims, secret, algorithm="HS256")
    assert [reloaded.status(token) for token in (old, new)] == [200, 401]
    reloaded.reload(text.replace('secret_file = ["secret"]', both), "rechecked")
    assert [reloaded.status(token) for token in (old, new)] == [200, 200]
    reloaded.reload(text.replace('secret_file = ["secret"]', alone), "rechecked")
    assert [reloaded.status(token) for token in (old, new)] == [401, 200]


def test_limits(reloaded: Reloaded) -> None:
    """Limits change; a burst of signals does no harm."""
    text = reloaded.file.read_text("utf-8")
    token = reloaded.server.token("alice")
    with RawWebSocket(reloaded.server, token) as websocket:
        websocket.connect(token)
        pid = int((reloaded.directory / "twistd.pid").read_text("ascii"))
        for _ in range(5):
            os.kill(pid, signal.SIGHUP)
        changed = text.replace("[limits]", "[limits]\nsessions_per_user = 1")
        reloaded.reload(changed, "rechecked")
        assert reloaded.status(token) == 429
