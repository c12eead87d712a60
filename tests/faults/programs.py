"""The programs of a cluster, which can be killed and started again."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt

from tests.integration.configured import AUDIENCE, ISSUER, ORIGIN, free_port
from tests.integration.processes import ROOT, wait_until_ready
from tests.integration.proxies import DEPLOY, fill, program
from tests.integration.rabbitmq_server import RabbitMQ
from tests.integration.recording import RecordingProxy
from tests.integration.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds that a program has to end, or a node to have all that it needs.
PATIENCE = 60.0

#: Seconds that a node takes to send its clients away.
DRAIN = 3

_TOML = """\
listen = ["haproxy:tcp:{port}:interface=127.0.0.1"]

[jwt]
algorithms = ["HS256"]
secret_file = "secret"
issuer = "{issuer}"
audience = "{audience}"

[tickets]
store = "redis://127.0.0.1:{redis}/0"
rate = 0
failures_per_address = 0

[cluster]
url = "redis://127.0.0.1:{redis}/0"

[broker]
kind = "relay"
endpoint = "tcp:127.0.0.1:{rabbitmq}"
login = "chat"
passcode_file = "passcode"
host = "chat"

[websocket]
origins = ["{origin}"]
ping = 5

[limits]
sessions_per_address = 0

[ops]
listen = ["tcp:{ops}:interface=127.0.0.1"]
drain_timeout = {drain}

[control]
listen = ["tcp:{control}:interface=127.0.0.1"]
token_file = "control.token"

[[rules]]
allow = ["subscribe", "send"]
destination = "/topic/*"

[[rules]]
allow = ["subscribe", "send"]
destination = "/queue/*"

[[rules]]
allow = ["subscribe"]
destination = "/user/queue/*"
"""


class Process:
    """A program that keeps its ports when it is started again; its output is kept of all runs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._runs = 0

    def _run(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        assert self._process is None
        self._runs += 1
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return self._process

    @property
    def _log(self) -> Path:
        return self.directory / f"{self._runs}.log"

    def kill(self) -> None:
        """End it as kill -9 does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order; nothing if it is not there."""
        self._end(signal.SIGTERM)

    def _end(self, by: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(by)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


class Node(Process):
    """A node of the cluster.

    :ivar port: where it takes connections from HAProxy.
    :ivar ops: where it says that it is ready.
    """

    def __init__(
        self, directory: Path, redis: int, rabbitmq: int, secrets_of_all: dict[str, str]
    ) -> None:
        super().__init__(directory)
        self.port, self.ops, self._control = free_port(), free_port(), free_port()
        self._token = secrets_of_all["control.token"]
        for name, secret in secrets_of_all.items():
            (directory / name).write_text(secret)
        toml = _TOML.format(
            port=self.port,
            ops=self.ops,
            control=self._control,
            redis=redis,
            rabbitmq=rabbitmq,
            issuer=ISSUER,
            audience=AUDIENCE,
            origin=ORIGIN,
            drain=DRAIN,
        )
        (directory / "stompauth.toml").write_text(toml)

    def start(self) -> None:
        """Start it, and wait until it has Redis and RabbitMQ."""
        twistd = Path(sys.executable).parent / "twistd"
        process = self._run([twistd, "-n", "--pidfile=", "stompauth", "--config", "stompauth.toml"])
        line = re.compile(rf"listening on \S+:({self.port})\b")
        wait_until_ready(self._log, lambda: process.poll() is not None, line)
        end = time.monotonic() + PATIENCE
        while not self.is_ready():
            assert time.monotonic() < end, self._log.read_text("utf-8")
            time.sleep(0.1)

    def is_ready(self) -> bool:
        """Whether ``/ready`` says so."""
        with contextlib.suppress(OSError):
            return self._ask(self.ops, "GET", "/ready")[0] == 200
        return False

    def sessions(self) -> int:
        """How many sessions it has."""
        text = self._ask(self.ops, "GET", "/metrics")[1].decode()
        found = re.search(r"^stompauth_sessions (\S+)$", text, re.M)
        assert found is not None, text
        return int(float(found[1]))

    def control(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer of a request to the control resource."""
        status, answer = self._ask(self._control, method, path, body)
        return status, json.loads(answer)

    def _ask(self, port: int, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with contextlib.closing(connection):
            sent = None if body is None else json.dumps(body)
            headers = {"Authorization": f"Bearer {self._token}"}
            connection.request(method, path, sent, headers)
            response = connection.getresponse()
            return response.status, response.read()

    def ticket(self, token: str) -> tuple[int, bytes]:
        """Status and answer of a request for a ticket, past HAProxy."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.connect()
            connection.sock.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n")
            headers = {"Authorization": f"Bearer {token}", "Origin": ORIGIN}
            connection.request("POST", "/authenticate/token", headers=headers)
            response = connection.getresponse()
            return response.status, response.read()


class HAProxy(Process):
    """HAProxy with docs/deploy/haproxy.cfg, without TLS.

    :ivar port: where it listens.
    """

    def __init__(self, directory: Path, nodes: Sequence[Node]) -> None:
        super().__init__(directory)
        self.port = free_port()
        bind = "bind :443 ssl crt /etc/haproxy/chat.example.com.pem alpn http/1.1"
        places = {
            "/dev/log local0": "stdout format raw local0",
            bind: f"bind 127.0.0.1:{self.port}",
            "127.0.0.1:8081 port 9091": f"127.0.0.1:{nodes[0].port} port {nodes[0].ops}",
            "127.0.0.1:8082 port 9092": f"127.0.0.1:{nodes[1].port} port {nodes[1].ops}",
        }
        configuration = fill((DEPLOY / "haproxy.cfg").read_text(), places)
        (directory / "haproxy.cfg").write_text(configuration)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        process = self._run([program("haproxy"), "-db", "-f", "haproxy.cfg"])
        end = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None, self._log.read_text("utf-8")
            assert time.monotonic() < end
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            time.sleep(0.05)


class Programs:
    """All of it. The second node reaches Redis and RabbitMQ by way of proxies that write down.

    :param directory: where all of it lives; its path must be short, for the sake of sockets.
    :ivar nodes: the two nodes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.passcode = secrets.token_urlsafe(16)
        self._secret = secrets.token_hex(32)
        self.control_token = secrets.token_urlsafe(32)
        (directory / "rabbitmq").mkdir()
        self.redis = RedisServer(directory / "redis")
        self.rabbitmq = RabbitMQ(directory / "rabbitmq")
        self.recordings = [RecordingProxy(self.redis.port), RecordingProxy(self.rabbitmq.port)]
        files = {
            "secret": self._secret,
            "passcode": self.passcode,
            "control.token": self.control_token,
        }
        ports = (self.redis.port, self.rabbitmq.port)
        of_proxies = (self.recordings[0].port, self.recordings[1].port)
        self.nodes = [
            Node(directory / name, *found, files)
            for name, found in (("node-a", ports), ("node-b", of_proxies))
        ]
        self.haproxy = HAProxy(directory / "haproxy", self.nodes)

    def start(self) -> None:
        """Start everything."""
        self.redis.start()
        self.rabbitmq.start()
        page = (ROOT / "docs" / "howto" / "rabbitmq.md").read_text("utf-8")
        for command in re.findall(r"^\$ rabbitmqctl (.*)$", page, re.MULTILINE):
            self.rabbitmq.ctl(*shlex.split(command.replace("PASSCODE", self.passcode)))
        for node in self.nodes:
            node.start()
        self.haproxy.start()

    def stop(self) -> None:
        """End everything, even if it was not started."""
        with contextlib.ExitStack() as stack:
            for recording in self.recordings:
                stack.callback(recording.close)
            stack.callback(self.rabbitmq.close)
            stack.callback(self.redis.stop)
            for node in self.nodes:
                stack.callback(node.stop)
            stack.callback(self.haproxy.stop)

    def token(self, user: str, lifetime: float) -> str:
        """A token of a user."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now, "exp": now + lifetime}
        return jwt.encode(claims, self._secret, algorithm="HS256")

    def logs(self) -> dict[str, str]:
        """What all programs have logged, by file."""
        return {
            str(path.relative_to(self._directory)): path.read_text("utf-8", "replace")
            for path in sorted(self._directory.rglob("*.log"))
        }

    def listed(self, what: str, *columns: str) -> list[list[str]]:
        """What ``rabbitmqctl list_...`` has, without its line of titles."""
        of_host = () if what == "list_stomp_connections" else ("-p", "chat")
        lines = self.rabbitmq.ctl(what, *of_host, *columns).splitlines()
        return [line.split("\t") for line in lines[1:] if line]

    def queues(self) -> dict[str, int]:
        """How many messages each queue has, with those that consumers have."""
        return {name: int(count) for name, count in self.listed("list_queues", "name", "messages")}

    def held(self) -> dict[str, int]:
        """What the nodes and RabbitMQ hold on behalf of clients."""
        return {
            "sessions of a": self.nodes[0].sessions(),
            "sessions of b": self.nodes[1].sessions(),
            "connections": len(self.listed("list_stomp_connections", "conn_name")),
            "consumers": len(self.listed("list_consumers", "queue_name")),
            "temporary queues": sum(not name.startswith("work-") for name in self.queues()),
            "messages": sum(self.queues().values()),
        }
