"""A server that runs from a configuration file, and tokens and tickets for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import secrets
import socket
import ssl
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.integration.processes import LISTENING, Server, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ISSUER = "https://id.example.com/"
AUDIENCE = "chat"
ORIGIN = "https://chat.example.com"

_TOML = """\
listen = ["{listen}"]
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


#: For clients of a server with TLS: what is tested is not the certificate.
UNVERIFIED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE

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
    :ivar tls: whether it listens with TLS, with a certificate of its own making.
    :ivar handed_out: the tokens and tickets so far.
    """

    secret: bytes = field(default=b"", repr=False)
    tls: bool = False
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
        connection = (
            http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=UNVERIFIED)
            if self.tls
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        )
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
    tls: bool = False,
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
    :param tls: whether it listens with TLS.
    :param limits: what is not the default of ``[limits]``.
    """
    secret = secret or secrets.token_hex(32).encode("ascii")
    (directory / "secret").write_bytes(secret)
    listen = f"tcp:{port}"
    if tls:
        _make_certificate(directory)
        listen = f"ssl:{port}:privateKey=key.pem:certKey=cert.pem"
    toml = _TOML.format(
        listen=f"{listen}:interface=127.0.0.1",
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
        server = ConfiguredServer(ready.port, ready.log, ready.pid, secret, tls)
        yield server
    log = server.log.read_text("utf-8")
    assert "Traceback" not in log
    assert not [handed_out for handed_out in server.handed_out if handed_out in log]


def _make_certificate(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, for a server that has to know it before."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
