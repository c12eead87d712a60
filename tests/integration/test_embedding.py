"""docs/examples/embedded.py under twistd."""

from __future__ import annotations

import json
import re
import secrets
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import jwt

from tests.integration.configured import ORIGIN
from tests.integration.processes import ROOT, Server, running
from tests.integration.raw import RawWebSocket


@dataclass(frozen=True)
class EmbeddedServer(Server):
    """The example, whose ticket endpoint has a path of its own."""

    tls = False

    def ticket(self, token: str) -> str:
        """A ticket for a token."""
        request = urllib.request.Request(
            f"{self.origin}/ticket",
            method="POST",
            headers={"Authorization": f"Bearer {token}", "Origin": ORIGIN},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            ticket: str = json.load(response)["ticket"]
        return ticket


def test_embedded_under_twistd(tmp_path: Path) -> None:
    """Ticket, handshake, CONNECT and a handler's answer, at the paths of the example."""
    secret = secrets.token_hex(32)
    (tmp_path / "jwt.secret").write_text(secret)
    now = int(time.time())
    claims = {"iss": "https://id.example.com/", "aud": "chat", "sub": "alice"}
    token = jwt.encode({**claims, "iat": now, "exp": now + 60}, secret, "HS256")
    twistd = Path(sys.executable).with_name("twistd")
    with running(
        [twistd, "--pidfile=", "-noy", ROOT / "docs" / "examples" / "embedded.py"],
        tmp_path,
        line=re.compile(r"StrictSite starting on (\d+)"),
        environment={"LISTEN": "tcp:0:interface=127.0.0.1"},
    ) as ready:
        server = EmbeddedServer(ready.port, ready.log)
        with RawWebSocket(server, token) as websocket:
            websocket.connect(token)
            websocket.send_stomp("SUBSCRIBE", {"id": "1", "destination": "/app/time"})
            message = websocket.frame()
    assert message is not None
    assert b'{"seconds": ' in message[1]
