"""Several processes that share the listeners: tickets, messages, revocation; and their ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.configured import ORIGIN, ConfiguredServer, configured, free_port
from tests.integration.raw import CLOSE, RawWebSocket, status_of
from tests.integration.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONTROL_TOKEN = "b1bCa8LY1g2vNxhbWnT0cQmqS5kJcYxk"

#: Seconds for what a test waits for; none of it is measured.
PATIENCE = 20.0

USERS = """
[[rules]]
allow = ["subscribe"]
destination = "/user/queue/**"

[[rules]]
allow = ["send"]
destination = "/user/{name}/queue/**"
"""


def wait(condition: Callable[[], Any], what: str) -> Any:
    """Wait until the condition holds, and return what it gave."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return value


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is not only waiting to be seen off."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@dataclass
class Machine:
    """A server of several processes, with a control resource."""

    server: ConfiguredServer
    control: int

    @property
    def log(self) -> str:
        """All that was logged so far."""
        return self.server.log.read_text("utf-8")

    def pids(self) -> dict[int, int]:
        """The process of each worker, by its number; the latest one that was ready."""
        found = re.findall(r"worker (\d+) is ready, as process (\d+)", self.log)
        return {int(number): int(pid) for number, pid in found}

    def parent(self) -> int:
        """The process of the parent."""
        status = Path(f"/proc/{next(iter(self.pids().values()))}/status").read_text("ascii")
        return int(re.findall(r"PPid:\s+(\d+)", status)[0])

    def worker_of(self, user: str) -> int:
        """The number of the worker that has the latest session of a user."""
        line = re.compile(rf"\[worker (\d+), stompauth.audit#info\] session \S+ of {user} ")
        return int(wait(lambda: line.findall(self.log), f"{user} is nowhere")[-1])

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer of a control request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.control, timeout=PATIENCE)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {CONTROL_TOKEN}"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())


@contextlib.contextmanager
def machine(
    directory: Path,
    workers: int = 2,
    *,
    broker: str = "",
    tickets: str = "",
    more: str = "",
    **limits: Any,
) -> Iterator[Machine]:
    """A server of so many workers.

    :param broker: further lines of ``[broker]``.
    :param tickets: further lines of ``[tickets]``.
    :param more: further sections.
    """
    (directory / "control.token").write_text(CONTROL_TOKEN)
    control = free_port()
    more = (
        f'[control]\nlisten = ["tcp:{control}:interface=127.0.0.1"]\n'
        f'token_file = "control.token"\n[broker]\nlocal_queues = true\n{broker}\n{more}\n{USERS}'
    )
    top = f"workers = {workers}"
    with configured(directory, top=top, tickets=tickets, more=more, **limits) as server:
        yield Machine(server, control)


class Client(RawWebSocket):
    """A tab of a user, connected."""

    def __init__(self, machine: Machine, user: str) -> None:
        self.user = user
        token = machine.server.token(user)
        super().__init__(machine.server, token)
        self.connect(token)

    def subscribe(self, destination: str) -> None:
        """Subscribe, and wait until it is done."""
        headers = {"id": "s", "destination": destination, "receipt": "subscribed"}
        self.send_stomp("SUBSCRIBE", headers)
        self.assert_receipt("subscribed")

    def publish(self, destination: str, body: bytes) -> None:
        """Send, and wait until it is accepted."""
        self.send_stomp("SEND", {"destination": destination, "receipt": "sent"}, body)
        self.assert_receipt("sent")

    def assert_receipt(self, receipt: str) -> None:
        """The next that comes is the receipt."""
        frame = self.frame()
        assert frame is not None
        assert frame[1].startswith(f"RECEIPT\nreceipt-id:{receipt}\n".encode()), frame

    def body(self) -> bytes:
        """The body of the next frame, which is a MESSAGE."""
        frame = self.frame()
        assert frame is not None
        assert frame[1].startswith(b"MESSAGE\n"), frame
        return frame[1].partition(b"\n\n")[2].rstrip(b"\0")

    def assert_ends_with(self, code: str, status: int) -> None:
        """The next that comes is an ERROR with that code, and the close."""
        frame = self.frame()
        assert frame is not None
        assert f"\ncode:{code}\n" in frame[1].decode()
        close = self.frame()
        assert close is not None
        assert (close[0], status_of(close[1])) == (CLOSE, status)


def one_on_each(machine: Machine, stack: contextlib.ExitStack, workers: int) -> list[Client]:
    """A client of every worker, by its number; each of a user of its own."""
    found: dict[int, Client] = {}
    for number in range(200):
        client = stack.enter_context(Client(machine, f"user{number}"))
        found.setdefault(machine.worker_of(client.user), client)
        if len(found) == workers:
            return [found[worker] for worker in range(workers)]
    raise AssertionError("the connections are not spread")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A server of three workers, for tests that leave them as they are."""
    with machine(tmp_path_factory.mktemp("shared"), 3) as here:
        yield here


def test_tickets(shared: Machine) -> None:
    """TK-1: a ticket that one worker has issued opens a socket at any; all of many tries do."""
    with contextlib.ExitStack() as stack:
        for number in range(60):
            stack.enter_context(Client(shared, f"many{number % 7}"))

        def done(what: str) -> Counter[str]:
            line = rf"\[worker (\d), stompauth.audit#info\] {what} many\d at"
            return Counter(re.findall(line, shared.log))

        wait(lambda: done("ticket for").total() == 60, "tickets are missing")
        wait(lambda: done(r"session \S+ of").total() == 60, "sessions are missing")
        # Who takes a connection is the kernel's to choose; none does nothing.
        assert set(done("ticket for")) == set(done(r"session \S+ of")) == {"0", "1", "2"}


def handshake(here: Machine, ticket: str) -> int:
    """The status of a handshake."""
    connection = http.client.HTTPConnection("127.0.0.1", here.server.port, timeout=PATIENCE)
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
        "Sec-WebSocket-Version": "13",
        "Origin": ORIGIN,
    }
    with contextlib.closing(connection):
        connection.request("GET", f"/stomp?ticket={ticket}", headers=headers)
        return connection.getresponse().status


def ask_for_ticket(here: Machine, token: str) -> int:
    """The status of a request for a ticket."""
    connection = http.client.HTTPConnection("127.0.0.1", here.server.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("POST", "/authenticate/token", headers=headers)
        return connection.getresponse().status


def test_used_ticket(shared: Machine) -> None:
    """TK-2: a ticket that was used is refused by every worker."""
    ticket = shared.server.ticket(shared.server.token("once"))
    assert [handshake(shared, ticket) for _ in range(12)] == [101] + [401] * 11


def test_messages(shared: Machine) -> None:
    """What is sent at one worker reaches the subscribers of all, in the sender's order."""
    with contextlib.ExitStack() as stack:
        clients = one_on_each(shared, stack, 3)
        sender = stack.enter_context(Client(shared, "sender"))
        for client in clients:
            client.subscribe("/topic/news")
        bodies = [f"{number}".encode() for number in range(200)]
        for body in bodies:
            sender.send_stomp("SEND", {"destination": "/topic/news"}, body)
        for client in clients:
            assert [client.body() for _ in bodies] == bodies


def test_users(shared: Machine) -> None:
    """A user is reached at whatever worker he is, by other users and by the control resource."""
    here = shared
    with contextlib.ExitStack() as stack:
        clients = one_on_each(here, stack, 3)
        tabs = [stack.enter_context(Client(here, "bob")) for _ in range(5)]
        for tab in tabs:
            tab.subscribe("/user/queue/notes")
        for number, client in enumerate(clients):
            client.publish("/user/bob/queue/notes", f"{number}".encode())
            assert [tab.body() for tab in tabs] == [f"{number}".encode()] * 5
        for number in range(4):
            asked = {"destination": "/queue/notes", "body": f"{number}"}
            assert here.ask("POST", "/users/bob/send", asked) == (200, {"sessions": 5})
            assert [tab.body() for tab in tabs] == [f"{number}".encode()] * 5


def test_revoke(shared: Machine) -> None:
    """A revocation ends the sessions at all workers, and voids the tickets; it is refused after."""
    here = shared
    with contextlib.ExitStack() as stack:
        bystanders = one_on_each(here, stack, 3)
        tabs = [stack.enter_context(Client(here, "ada")) for _ in range(8)]
        wait(
            lambda: all(
                len(here.ask("GET", "/sessions?user=ada")[1]["sessions"]) == 8 for _ in range(4)
            ),
            "the workers do not know of each other's sessions",
        )
        token = here.server.token("ada")
        for _ in range(2):
            here.server.ticket(token)
        status, answer = here.ask("POST", "/revoke", {"user": "ada"})
        assert (status, answer) == (200, {"sessions": 8, "tickets": 2})
        for tab in tabs:
            tab.assert_ends_with("revoked", 4403)
        assert [ask_for_ticket(here, token) for _ in range(9)] == [403] * 9
        for bystander in bystanders:
            bystander.publish("/topic/x", b"still here")


def test_sessions_per_user(shared: Machine) -> None:
    """A user has as many sessions as he may, 10, over all workers together."""
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(Client(shared, "greedy"))
        token = shared.server.token("greedy")
        wait(
            lambda: all(ask_for_ticket(shared, token) == 429 for _ in range(9)),
            "too many sessions",
        )


def test_command_line(shared: Machine) -> None:
    """Nobody sees a secret among the processes."""
    config = shared.server.log.parent / "stompauth.toml"
    for pid in shared.pids().values():
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        assert command[1:] == [
            "-m",
            "twisted",
            "--log-level=debug",
            "--reactor=epoll",
            "stompauth",
            "--worker",
            f"--config={config}",
            "",
        ]


def test_killed_worker(tmp_path: Path) -> None:
    """A worker that dies takes its own sessions and nobody else's, and another takes its place."""
    with machine(tmp_path, 3) as here, contextlib.ExitStack() as stack:
        clients = one_on_each(here, stack, 3)
        for client in clients:
            client.subscribe("/topic/news")
        mallory = here.server.token("mallory")
        assert here.ask("POST", "/revoke", {"user": "mallory"})[0] == 200
        before = here.pids()
        os.kill(before[1], signal.SIGKILL)
        assert clients[1].rest() == []
        # Nobody is refused meanwhile.
        for number in range(10):
            with Client(here, f"new{number}"):
                pass
        clients[0].publish("/topic/news", b"on")
        assert [clients[worker].body() for worker in (0, 2)] == [b"on", b"on"]
        wait(lambda: here.pids()[1] != before[1], "no other worker")
        assert "worker 1 has ended: signal 9; another one starts in 0.5 s" in here.log
        # The new one takes part.
        for number in range(100):
            late = stack.enter_context(Client(here, f"late{number}"))
            if here.worker_of(late.user) == 1:
                break
        late.subscribe("/topic/news")
        clients[2].publish("/topic/news", b"all")
        assert late.body() == b"all"
        late.publish("/topic/news", b"back")
        assert [clients[0].body() for _ in range(2)] == [b"all", b"back"]
        # It knows what was revoked before it came.
        assert [ask_for_ticket(here, mallory) for _ in range(12)] == [403] * 12


def test_stopped_worker(tmp_path: Path) -> None:
    """A worker that stands still keeps the others from nothing for long."""
    with machine(tmp_path, 2) as here, contextlib.ExitStack() as stack:
        clients = one_on_each(here, stack, 2)
        clients[0].subscribe("/topic/before")
        pid = here.pids()[1]
        os.kill(pid, signal.SIGSTOP)
        try:
            clients[0].publish("/topic/before", b"1")
            assert clients[0].body() == b"1"
            clients[0].send_stomp("UNSUBSCRIBE", {"id": "s"})
            clients[0].subscribe("/topic/after")
            clients[0].publish("/topic/after", b"2")
            assert clients[0].body() == b"2"
        finally:
            os.kill(pid, signal.SIGCONT)
        wait(lambda: here.ask("GET", "/sessions?user=user0")[0] == 200, "nobody answers")


def test_end(tmp_path: Path) -> None:
    """At SIGTERM the workers end their sessions in good order, and all processes end."""
    with machine(tmp_path, 3, close_timeout=1) as here, contextlib.ExitStack() as stack:
        clients = one_on_each(here, stack, 3)
        processes = [here.parent(), *here.pids().values()]
        os.kill(processes[0], signal.SIGTERM)
        for client in clients:
            client.assert_ends_with("drain", 1012)
        wait(lambda: not any(map(is_alive, processes)), "a process is left")
        log = here.log
    assert "killed" not in log
    assert "has ended" not in log
    with (
        pytest.raises(ConnectionRefusedError),
        socket.create_connection(("127.0.0.1", here.server.port)),
    ):
        pass


def test_terminal(tmp_path: Path) -> None:
    """A signal to all processes at once, as a terminal sends, ends them all in the same way."""
    with machine(tmp_path, 2) as here:
        processes = [here.parent(), *here.pids().values()]
        for pid in processes:
            os.kill(pid, signal.SIGINT)
        wait(lambda: not any(map(is_alive, processes)), "a process is left")


def test_drain_by_control(tmp_path: Path) -> None:
    """The control resource of any worker ends the whole server."""
    with machine(tmp_path, 2, close_timeout=1) as here, contextlib.ExitStack() as stack:
        clients = one_on_each(here, stack, 2)
        processes = [here.parent(), *here.pids().values()]
        assert here.ask("POST", "/drain")[0] == 200
        for client in clients:
            client.assert_ends_with("drain", 1012)
        wait(lambda: not any(map(is_alive, processes)), "a process is left")


def test_orphans(tmp_path: Path) -> None:
    """Workers whose parent is killed end by themselves, in good order."""
    with machine(tmp_path, 2, close_timeout=1) as here, contextlib.ExitStack() as stack:
        clients = one_on_each(here, stack, 2)
        workers = list(here.pids().values())
        os.kill(here.parent(), signal.SIGKILL)
        for client in clients:
            client.assert_ends_with("drain", 1012)
        wait(lambda: not any(map(is_alive, workers)), "a worker is left")


def test_reload(tmp_path: Path) -> None:
    """SIGHUP at the parent has every worker take over the file as it is now."""
    with machine(tmp_path, 2) as here, contextlib.ExitStack() as stack:
        clients = one_on_each(here, stack, 2)
        for client in clients:
            client.subscribe("/topic/news")
        file = tmp_path / "stompauth.toml"
        toml = file.read_text("utf-8").replace('"/topic/**"', '"/topic/other"')
        file.write_text(toml, "utf-8")
        os.kill(here.parent(), signal.SIGHUP)
        for client in clients:
            frame = client.frame()
            assert frame is not None
            assert b"\ncode:access-denied\n" in frame[1]
        wait(lambda: here.log.count("] reloaded") == 2, "not both have reloaded")
        assert "has ended" not in here.log


def test_redis(tmp_path: Path) -> None:
    """Where there is Redis for tickets, messages and control, workers meet there, as nodes do."""
    with redis_server(tmp_path / "redis") as redis:
        more = f'[cluster]\nurl = "{redis.url}"\n'
        broker = f'bus = "{redis.url.rpartition("/")[0]}"'
        tickets = f'store = "{redis.url}"'
        with (
            machine(tmp_path, 2, broker=broker, tickets=tickets, more=more) as here,
            contextlib.ExitStack() as stack,
        ):
            clients = one_on_each(here, stack, 2)
            for client in clients:
                client.subscribe("/topic/news")
            clients[0].send_stomp("SEND", {"destination": "/topic/news"}, b"on")
            assert [client.body() for client in clients] == [b"on", b"on"]
            users = [client.user for client in clients]
            for user, client in zip(users, clients, strict=True):
                wait(
                    lambda user=user: (
                        here.ask("POST", "/revoke", {"user": user})[1].get("sessions") == 1
                    ),
                    "the session is not ended",
                )
                client.assert_ends_with("revoked", 4403)


def certificate(directory: Path) -> Path:
    """A key and a certificate in one file."""
    pem = directory / "server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    subprocess.run(
        [*command.split(), "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=directory,
        check=True,
        capture_output=True,
        timeout=60,
    )
    pem.write_bytes((directory / "key.pem").read_bytes() + (directory / "cert.pem").read_bytes())
    return pem


def get(connected: socket.socket, preface: bytes = b"") -> bytes:
    """The head of the answer to a request for nothing, on a connection."""
    with connected:
        connected.settimeout(PATIENCE)
        connected.sendall(
            preface + b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        answer = b""
        while octets := connected.recv(4096):
            answer += octets
        return answer.partition(b"\r\n")[0]


def test_listeners(tmp_path: Path) -> None:
    """Every kind of listener is shared: TLS and the PROXY line by the worker, paths by the parent.

    A worker that comes later has them all, and leaves the path's mode as it was.
    """
    pem = certificate(tmp_path)
    path = tmp_path / "http.sock"
    proxied = tmp_path / "proxied.sock"
    (tmp_path / "secret").write_bytes(b"5" * 64)
    listeners = [
        "tcp:0:interface=127.0.0.1",
        f"ssl:0:interface=127.0.0.1:privateKey={pem}",
        "haproxy:tcp:0:interface=127.0.0.1",
        f"unix:{path}:mode=600",
        f"haproxy:unix:{proxied}:mode=660",
    ]
    with machine(tmp_path) as plain:
        toml = (tmp_path / "stompauth.toml").read_text("utf-8")
        del plain
    toml = re.sub("^listen = .*$", f"listen = {json.dumps(listeners)}", toml, count=1, flags=re.M)
    (tmp_path / "stompauth.toml").write_text(toml, "utf-8")
    twistd = Path(sys.executable).parent / "twistd"
    command = [twistd, "-n", "--pidfile=", "stompauth", "--config", "stompauth.toml"]
    from tests.integration.processes import running

    with running(command, tmp_path, log="listeners.log") as ready:
        here = Machine(ConfiguredServer(ready.port, ready.log, ready.pid, b""), 0)
        wait(lambda: here.log.count("listening on") >= 6, "too few lines")
        ports = [int(port) for port in re.findall(r"listening on 127.0.0.1:(\d+)", here.log)]
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

        def at(place: int | Path) -> socket.socket:
            if isinstance(place, int):
                return socket.create_connection(("127.0.0.1", place), timeout=PATIENCE)
            connected = socket.socket(socket.AF_UNIX)
            connected.settimeout(PATIENCE)
            connected.connect(str(place))
            return connected

        def check() -> None:
            proxy = b"PROXY TCP4 203.0.113.9 127.0.0.1 5555 80\r\n"
            wanted = b"HTTP/1.1 404 Not Found"
            for _ in range(6):
                assert get(at(ports[0])) == wanted
                assert get(context.wrap_socket(at(ports[1]))) == wanted
                assert get(at(ports[2]), proxy) == wanted
                assert get(at(path)) == wanted
                assert get(at(proxied), proxy) == wanted
            assert [place.stat().st_mode & 0o777 for place in (path, proxied)] == [0o600, 0o660]

        check()
        before = here.pids()
        for signalled, number in ((signal.SIGKILL, 0), (signal.SIGTERM, 1)):
            os.kill(before[number], signalled)
            wait(lambda number=number: here.pids()[number] != before[number], "no other worker")
            check()
    assert not path.exists()
    assert not proxied.exists()
    assert "Traceback" not in here.log
