"""A server that runs from a configuration file, and tokens and tickets for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import secrets
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt

from tests.integration.processes import LISTENING, Server, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ISSUER = "https://id.example.com/"
AUDIENCE = "chat"
ORIGIN = "https://chat.example.com"

_TOML = """\
listen = ["tcp:{port}:interface=127.0.0.1"]
fast_io = {fast_io}
{top}

[jwt]
algorithms = ["HS256"]
secret_file = ["secret"]
issuer = "{issuer}"
audience = "{audience}"
leeway = 0

[tickets]
rate = 0
{tickets}

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


#: Limits under which clients are put to the test: long frames, short heart-beats, no throttle.
FOR_CLIENTS = {
    "frame": 4 << 20,
    "heartbeat": [1, 1],
    "frames_per_second": 0,
    "bytes_per_second": 0,
}


@dataclass(frozen=True)
class ConfiguredServer(Server):
    """A server whose tokens the tests sign.

    :ivar secret: what it verifies signatures with.
    :ivar handed_out: the tokens and tickets so far.
    """

    secret: bytes = field(default=b"", repr=False)
    handed_out: list[str] = field(default_factory=list, repr=False)

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
        token = jwt.encode(claims, self.secret, algorithm="HS256")
        self.handed_out.append(token)
        return token

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
        self.handed_out.append(ticket)
        return ticket


@contextlib.contextmanager
def configured(
    directory: Path,
    *,
    port: int = 0,
    fast_io: bool = True,
    ping: float = 25,
    top: str = "",
    tickets: str = "",
    more: str = "",
    runner: Sequence[str] = ("twistd", "-n", "--pidfile="),
    environment: Mapping[str, str] | None = None,
    secret: bytes | None = None,
    **limits: Any,
) -> Iterator[ConfiguredServer]:
    """Run a server in the directory for as long as the block lasts.

    At its end the log must tell of no exception of the server's own, and of no secret.

    :param port: where it listens, 0 for a free port; its own origin is allowed if it is known.
    :param ping: seconds between WebSocket pings.
    :param top: further lines of the configuration before its sections.
    :param tickets: further lines of ``[tickets]``.
    :param more: further sections of the configuration.
    :param runner: the program that runs it, with options of its own.
    :param environment: variables for it, beside our own.
    :param secret: what it verifies signatures with; another one by itself.
    :param limits: what is not the default of ``[limits]``.
    """
    secret = secret or secrets.token_hex(32).encode("ascii")
    (directory / "secret").write_bytes(secret)
    toml = _TOML.format(
        port=port,
        fast_io=json.dumps(fast_io),
        top=top,
        tickets=tickets,
        ping=ping,
        issuer=ISSUER,
        audience=AUDIENCE,
        origins=json.dumps([ORIGIN, *([f"http://127.0.0.1:{port}"] if port else [])]),
        limits="\n".join(f"{name} = {json.dumps(value)}" for name, value in limits.items()),
    )
    (directory / "stompauth.toml").write_text(toml + more, "utf-8")
    program = Path(sys.executable).parent / runner[0]
    command = [program, *runner[1:], "stompauth", "--config", "stompauth.toml"]
    # Other listeners may be there first.
    line = re.compile(rf"listening on \S+:({port})$", re.M) if port else LISTENING
    with running(command, directory, line=line, environment=environment) as ready:
        server = ConfiguredServer(ready.port, ready.log, ready.pid, secret)
        yield server
    log = server.log.read_text("utf-8")
    assert "Traceback" not in log
    assert not [handed_out for handed_out in server.handed_out if handed_out in log]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, for a server that has to know it before."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
