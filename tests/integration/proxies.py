"""nginx and HAProxy as docs/deploy/ configures them, and what a browser does through them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.integration.configured import ORIGIN
from tests.integration.processes import ROOT
from tests.integration.raw import PATIENCE, RawWebSocket
from tests.integration.test_jwks import Authority
from tests.wire import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.integration.configured import ConfiguredServer

DEPLOY = ROOT / "docs" / "deploy"

HOST = "chat.example.com"

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
    "Origin": ORIGIN,
}

#: What nginx.conf needs around it. Of the paths none is the system's.
_NGINX = """\
user root;
worker_processes 1;
pid nginx.pid;
error_log main.log;
events {}
http {
    access_log main-access.log;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include stompauth.conf;
}
"""


def program(name: str) -> str:
    """Where a program is; the test is skipped if it is nowhere."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"there is no {name}")
    return found


def fill(text: str, places: Mapping[str, object]) -> str:
    """Put other ports and paths into a text; each has to be there."""
    for old, new in places.items():
        assert old in text, old
        text = text.replace(old, str(new))
    return text


@dataclass(frozen=True)
class Proxy:
    """A proxy that is ready.

    :ivar port: where it listens on 127.0.0.1, with TLS, as :data:`HOST`.
    :ivar directory: where its logs are.
    """

    port: int
    directory: Path
    context: ssl.SSLContext

    @property
    def logs(self) -> str:
        """All that it has logged."""
        return "".join(path.read_text("utf-8") for path in sorted(self.directory.glob("*.log")))

    def connection(self, address: str = "127.0.0.1") -> socket.socket:
        """A connection from an address of this machine."""
        plain = socket.create_connection(("127.0.0.1", self.port), PATIENCE, (address, 0))
        return self.context.wrap_socket(plain, server_hostname=HOST)

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], address: str = "127.0.0.1"
    ) -> tuple[int, Mapping[str, str], bytes]:
        """The answer to a request on a connection of its own."""
        asking = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)
        asking.sock = self.connection(address)
        with contextlib.closing(asking):
            asking.request(method, path, headers=dict(headers))
            answer = asking.getresponse()
            body = b"" if answer.status == 101 else answer.read()
            return answer.status, answer.headers, body

    def ticket(self, token: str, address: str = "127.0.0.1") -> str:
        """Trade a token for a ticket."""
        headers = {"Authorization": f"Bearer {token}", "Origin": ORIGIN}
        status, _, body = self.ask("POST", "/authenticate/token", headers, address)
        assert status == 200, body
        ticket: str = json.loads(body)["ticket"]
        return ticket

    def open(
        self, server: ConfiguredServer, token: str, address: str = "127.0.0.1"
    ) -> RawWebSocket:
        """Open a session.

        :param server: one of those behind the proxy.
        """
        ticket = self.ticket(token, address)
        server.handed_out.append(ticket)
        connection = self.connection(address)
        websocket = RawWebSocket(server, token, ticket=ticket, connection=connection)
        websocket.connect(token)
        return websocket


@contextlib.contextmanager
def nginx(directory: Path, port: int, nodes: Sequence[int]) -> Iterator[Proxy]:
    """Run nginx with docs/deploy/nginx.conf.

    :param port: where it listens.
    :param nodes: the ports of the two nodes.
    """
    command = [program("nginx"), "-e", "main.log", "-p", directory, "-c", "main.conf"]
    authority = Authority("the test's CA")
    certificate, key, ca_file = authority.write(directory, HOST)
    places = {
        "127.0.0.1:8081": f"127.0.0.1:{nodes[0]}",
        "127.0.0.1:8082": f"127.0.0.1:{nodes[1]}",
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "/etc/nginx/chat.example.com.crt": certificate,
        "/etc/nginx/chat.example.com.key": key,
        "/var/log/nginx/stompauth.log": directory / "access.log",
        "/var/log/nginx/stompauth-error.log": directory / "error.log",
    }
    (directory / "main.conf").write_text(_NGINX)
    (directory / "stompauth.conf").write_text(fill((DEPLOY / "nginx.conf").read_text(), places))
    with _running([*command, "-g", "daemon off;"], directory, port):
        yield Proxy(port, directory, ssl.create_default_context(cafile=ca_file))


@contextlib.contextmanager
def haproxy(
    directory: Path, port: int, nodes: Sequence[int], ready: Sequence[int], *, tls: bool = True
) -> Iterator[Proxy]:
    """Run HAProxy with docs/deploy/haproxy.cfg.

    :param port: where it listens.
    :param nodes: the ports of the two nodes.
    :param ready: where they say that they are ready.
    :param tls: False to spare clients by the hundred the work.
    """
    certificate, key, ca_file = Authority("the test's CA").write(directory, HOST)
    bundle = directory / "bundle.pem"
    bundle.write_bytes(certificate.read_bytes() + key.read_bytes())
    places = {
        "/dev/log local0": "stdout format raw local0",
        "127.0.0.1:8081 port 9091": f"127.0.0.1:{nodes[0]} port {ready[0]}",
        "127.0.0.1:8082 port 9092": f"127.0.0.1:{nodes[1]} port {ready[1]}",
    }
    bind = "bind :443 ssl crt /etc/haproxy/chat.example.com.pem alpn http/1.1"
    places[bind] = f"bind 127.0.0.1:{port}"
    if tls:
        places[bind] += f" ssl crt {bundle} alpn http/1.1"
    configuration = directory / "haproxy.cfg"
    configuration.write_text(fill((DEPLOY / "haproxy.cfg").read_text(), places))
    with _running([program("haproxy"), "-db", "-f", configuration], directory, port):
        yield Proxy(port, directory, ssl.create_default_context(cafile=ca_file))


@contextlib.contextmanager
def _running(command: Sequence[str | Path], directory: Path, port: int) -> Iterator[None]:
    log = directory / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), PATIENCE).close()
                break
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < end, log.read_text("utf-8")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
