"""Two nodes behind HAProxy, restarted one after the other under hundreds of clients."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt

from stompauth.session.drain import MIN_RATE
from stompauth.stomp.encoder import encode
from stompauth.stomp.frame import Frame
from tests.integration.configured import AUDIENCE, ISSUER, ORIGIN, free_port
from tests.integration.processes import wait_until_ready
from tests.integration.proxies import UPGRADE, Proxy, haproxy
from tests.integration.redis_server import redis_server
from tests.wire import client_frame, read_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CLIENTS = 500

#: Seconds between a receipt and the next message of a client.
EVERY = 2.0

#: Seconds that a client waits before it comes back, as stompjs does.
BACK_IN = 0.5

#: Clients are counted over so many seconds, of which there may be more by this factor than the
#: server paces. On a busy machine, those who were told one after the other come back together after
#: a pause; two seconds of it are allowed for. If all were told at once, 500 would come.
WINDOW, SLACK = 4.0, 1.5

#: Seconds for anything. To drain 500 sessions takes ten.
PATIENCE = 60.0

BINARY, CLOSE, PING, PONG = 2, 8, 9, 10

_TOML = """\
listen = ["haproxy:tcp:{port}:interface=127.0.0.1"]

[jwt]
algorithms = ["HS256"]
secret_file = "secret"
issuer = "{issuer}"
audience = "{audience}"

[tickets]
store = "{redis}"

[websocket]
origins = ["{origin}"]

[ops]
listen = ["tcp:{ops}:interface=127.0.0.1"]
log_format = "json"

[[rules]]
allow = ["subscribe", "send"]
destination = "/topic/of/{{user}}"
"""


@dataclass
class Node:
    """A node that can be started again; its log goes on."""

    directory: Path
    _process: subprocess.Popen[bytes] | None = None
    _runs: int = 0

    @property
    def _log(self) -> Path:
        return self.directory / f"{self._runs}.log"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._runs += 1
        log = self._log
        twistd = Path(sys.executable).parent / "twistd"
        with log.open("wb") as output:
            process = self._process = subprocess.Popen(
                [twistd, "-n", "--pidfile=", "stompauth", "--config", "stompauth.toml"],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until_ready(
            log, lambda: process.poll() is not None, re.compile(r"connected to redis.*?(\d+)")
        )

    def stop(self) -> None:
        """End it as an operator does, and wait until it has drained."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def restart(self) -> None:
        """Stop it, and start it."""
        self.stop()
        self.start()

    def is_reached(self, port: int) -> bool:
        """Send a request by the proxy, and see whether one has come here since the start.

        HAProxy gives it to the node with the fewest connections: to this one, once it knows of it.
        """
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/authenticate/token")
            connection.getresponse().read()
        return "ticket-refused" in self._log.read_text("utf-8")

    def audit(self) -> list[dict[str, Any]]:
        """The audit events of all its runs."""
        lines = [
            json.loads(line)
            for log in self.directory.glob("*.log")
            for line in log.read_text("utf-8").splitlines()
        ]
        assert not [line for line in lines if "traceback" in line or line["level"] == "critical"]
        return [line for line in lines if line["namespace"] == "stompauth.audit"]


@dataclass
class Client:
    """Comes back whenever it is told to go, and sends each message until it has the receipt.

    Its messages go to a topic that it has subscribed to: so it sees what the broker has accepted.

    :ivar receipts: for how many messages it has one.
    :ivar ends: how its sessions have ended, by ERROR code and close status.
    :ivar turned_away: the statuses other than 200 and 101 that it got.
    """

    port: int
    name: str
    token: str
    receipts: int = 0
    is_connected: bool = False
    ends: Counter[tuple[str, int]] = field(default_factory=Counter)
    turned_away: list[int] = field(default_factory=list)

    async def run(self) -> None:
        """Go on until it is cancelled."""
        while True:
            delay = await self._session()
            self.is_connected = False
            await asyncio.sleep(delay or BACK_IN)

    async def _session(self) -> float:
        """One session from its ticket to its end.

        :return: in how many seconds the server wants to be asked again.
        """
        headers = {"Authorization": f"Bearer {self.token}", "Origin": ORIGIN}
        async with self._ask("POST /authenticate/token", headers) as (status, head, reader, _):
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
            body = await reader.readexactly(length)
        if status != 200:
            self.turned_away.append(status)
            retry_after = re.search(rb"(?i)retry-after: (\d+)", head)
            return float(retry_after[1]) if retry_after else 0
        path = f"/stomp?ticket={json.loads(body)['ticket']}"
        async with self._ask(f"GET {path}", UPGRADE) as (status, _, reader, writer):
            if status != 101:
                self.turned_away.append(status)
                return 0
            self.ends[await self._talk(reader, writer)] += 1
            return 0

    @contextlib.asynccontextmanager
    async def _ask(self, line: str, headers: dict[str, str]) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            lines = [f"{line} HTTP/1.1", "Host: chat.example.com"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            head = await reader.readuntil(b"\r\n\r\n")
            yield int(head.split(b" ", 2)[1]), head, reader, writer
        finally:
            writer.close()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int]:
        """Send one message after the other.

        :return: how the session has ended.
        """

        def send(command: str, headers: dict[str, str], body: bytes = b"") -> None:
            writer.write(client_frame(BINARY, encode(Frame(command, headers, body), "1.2")))

        def send_next() -> None:
            receipt = str(self.receipts)
            send("SEND", {"destination": topic, "receipt": receipt}, receipt.encode())

        topic = f"/topic/of/{self.name}"
        headers = {"accept-version": "1.2", "host": "chat.example.com", "heart-beat": "0,0"}
        send("CONNECT", headers | {"Authorization": f"Bearer {self.token}"})
        send("SUBSCRIBE", {"id": "0", "destination": topic, "receipt": "subscribed"})
        delivered: set[bytes] = set()
        code, data = "", b""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None
        try:
            while True:
                while (frame := read_frame(data)) is None:
                    more = await reader.read(65536)
                    if not more:
                        return code, 0
                    data += more
                opcode, payload, data = frame
                if opcode == CLOSE:
                    writer.write(client_frame(CLOSE, payload[:2]))
                    return code, int.from_bytes(payload[:2], "big")
                if opcode == PING:
                    writer.write(client_frame(PONG, payload))
                    continue
                for stomp in payload.split(b"\0")[:-1]:
                    command, _, rest = stomp.lstrip(b"\n").partition(b"\n")
                    if command == b"MESSAGE":
                        delivered.add(rest.rpartition(b"\n\n")[2])
                    elif command == b"ERROR":
                        code = re.search(rb"(?m)^code:(.*)$", rest)[1].decode()
                    elif command == b"RECEIPT" and b"subscribed" in rest:
                        self.is_connected = True
                        send_next()
                    elif command == b"RECEIPT":
                        number = str(self.receipts).encode()
                        assert b"receipt-id:" + number + b"\n" in rest + b"\n", rest
                        assert number in delivered, "a receipt for what was not accepted"
                        self.receipts += 1
                        timer = loop.call_later(EVERY, send_next)
        finally:
            if timer is not None:
                timer.cancel()


def most_in_a_window(events: Iterable[dict[str, Any]]) -> int:
    """The most events in any time of that length."""
    times = sorted(datetime.fromisoformat(event["time"]).timestamp() for event in events)
    first = most = 0
    for last, at in enumerate(times):
        while times[first] <= at - WINDOW:
            first += 1
        most = max(most, last - first + 1)
    return most


async def until(condition: Callable[[], bool], tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait until it holds; what a client fails with is raised."""
    end = time.monotonic() + PATIENCE
    while not condition():
        for task in tasks:
            if task.done():
                task.result()
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def restart_under(proxy: Proxy, nodes: Sequence[Node], clients: Sequence[Client]) -> None:
    """Let the clients in, restart the nodes in turn, and see all of them back, and at work."""
    tasks: list[asyncio.Task[None]] = []
    try:
        for client in clients:
            tasks.append(asyncio.create_task(client.run()))
            await asyncio.sleep(0.5 / MIN_RATE)
        for node in nodes:
            await until(lambda: all(client.is_connected for client in clients), tasks)
            await asyncio.to_thread(node.restart)
            await until(lambda node=node: node.is_reached(proxy.port), tasks)
        before = {client.name: client.receipts for client in clients}
        await until(lambda: all(client.receipts > before[client.name] for client in clients), tasks)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [result for result in results if not isinstance(result, asyncio.CancelledError)]


def test_rolling_restart(tmp_path: Path) -> None:
    """No receipted message is lost, and clients come back at the paced rate."""
    ports = [free_port() for _ in range(5)]
    secret = secrets.token_hex(32)
    now = int(time.time())
    clients = []
    for number in range(CLIENTS):
        name = f"client-{number}"
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": name, "iat": now, "exp": now + 600}
        clients.append(Client(ports[4], name, jwt.encode(claims, secret, "HS256")))
    nodes = []
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path / "redis"))
        for number in (0, 1):
            directory = tmp_path / f"node-{number}"
            directory.mkdir()
            (directory / "secret").write_text(secret)
            toml = _TOML.format(
                port=ports[number],
                ops=ports[2 + number],
                redis=redis.url,
                issuer=ISSUER,
                audience=AUDIENCE,
                origin=ORIGIN,
            )
            (directory / "stompauth.toml").write_text(toml)
            node = Node(directory)
            stack.callback(node.stop)
            node.start()
            nodes.append(node)
        proxy = stack.enter_context(haproxy(tmp_path, ports[4], ports[:2], ports[2:4], tls=False))
        asyncio.run(restart_under(proxy, nodes, clients))
        events = [event for node in nodes for event in node.audit()]
    ends = sum((client.ends for client in clients), Counter[tuple[str, int]]())
    # Nobody was thrown out, and each was told to go by one node or by both.
    assert set(ends) == {("drain", 1012)}
    assert CLIENTS <= ends.total() <= 2 * CLIENTS
    assert sum(client.receipts for client in clients) > 3 * CLIENTS
    drained = [
        event for event in events if event["event"] == "ended" and event["reason"] == "drain"
    ]
    connected = [event for event in events if event["event"] == "connected"]
    assert len(drained) == ends.total()
    assert len(connected) == CLIENTS + ends.total()
    back = sorted(connected, key=lambda event: event["time"])[CLIENTS:]
    assert most_in_a_window(drained) <= SLACK * WINDOW * MIN_RATE
    assert most_in_a_window(back) <= SLACK * WINDOW * MIN_RATE
    assert sum(len(client.turned_away) for client in clients) == 0
