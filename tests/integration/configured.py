"""A server that runs from a configuration file, and tokens and tickets for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt

from tests.integration.processes import Server, running

if TYPE_CHECKING:
    from collections.abc import Iterator

ISSUER = "https://id.example.com/"
AUDIENCE = "chat"
ORIGIN = "https://chat.example.com"

_TOML = """\
listen = ["tcp:{port}:interface=127.0.0.1"]
fast_io = {fast_io}

[jwt]
algorithms = ["HS256"]
secret_file = ["secret"]
issuer = "{issuer}"
audience = "{audience}"
leeway = 0

[tickets]
rate = 0

[websocket]
origins = {origins}
require_origin = false
ping = {ping}

[limits]
{limits}

[[rules]]
allow = ["subscribe", "send"]
destination = "/topic/**"

[[rules]]
allow = ["subscribe", "send"]
destination = "/queue/**"
"""


@dataclass(frozen=True)
class ConfiguredServer(Server):
    """A server whose tokens the tests sign.

    :ivar secret: what it verifies signatures with.
    """

    secret: bytes

    def token(self, user: str, lifetime: float = 600) -> str:
        """A token that is good for so many seconds."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user,
            "iat": now,
            "exp": now + lifetime,
        }
        return jwt.encode(claims, self.secret, algorithm="HS256")

    def ticket(self, token: str) -> str:
        """Trade a token for a ticket."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {token}"}
            connection.request("POST", "/authenticate/token", headers=headers)
            response = connection.getresponse()
            body = response.read()
        assert response.status == 200, body
        ticket: str = json.loads(body)["ticket"]
        return ticket


@contextlib.contextmanager
def configured(
    directory: Path, *, port: int = 0, fast_io: bool = True, ping: float = 25, **limits: Any
) -> Iterator[ConfiguredServer]:
    """Run a server in the directory for as long as the block lasts.

    :param port: where it listens, 0 for a free port; its own origin is allowed if it is known.
    :param ping: seconds between WebSocket pings.
    :param limits: what is not the default of ``[limits]``.
    """
    secret = secrets.token_hex(32).encode("ascii")
    (directory / "secret").write_bytes(secret)
    toml = _TOML.format(
        port=port,
        fast_io=json.dumps(fast_io),
        ping=ping,
        issuer=ISSUER,
        audience=AUDIENCE,
        origins=json.dumps([ORIGIN, *([f"http://127.0.0.1:{port}"] if port else [])]),
        limits="\n".join(f"{name} = {json.dumps(value)}" for name, value in limits.items()),
    )
    (directory / "stompauth.toml").write_text(toml, "utf-8")
    twistd = Path(sys.executable).parent / "twistd"
    command = [twistd, "-n", "--pidfile=", "stompauth", "--config", "stompauth.toml"]
    with running(command, directory) as server:
        yield ConfiguredServer(server.port, server.log, secret)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, for a server that has to know it before."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
