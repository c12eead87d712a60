"""The load: ``python -m tests.bench.load SCENARIO --port N ...``, one process, one thread.

It is as light as Python allows: the frames that it sends are made beforehand, and of what comes it
only counts how often a mark is in it. At its end it writes a line of JSON with what it has counted.

With ``--sync`` it writes ``PHASE begin``, ``PHASE connected``, ``PHASE start`` and ``PHASE end``
as it gets there, and after each waits for a line: then the server can be looked at.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import re
import resource
import select
import socket
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

from tests.wire import client_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: How a body ends. No other octets of a server's look like this: a WebSocket header would have to
#: tell of 32,000 octets.
MESSAGE: Final = b"}\0"

#: How a frame without a body ends.
RECEIPT: Final = b"\n\n\0"

#: Seconds without anything from the server after which it counts as stuck.
STALL: Final = 15

READ: Final = 65536

_ACK = re.compile(rb"\nack:([^\n]*)\n")
_PUBLISHER = re.compile(rb"(\d)}\0")
_LENGTH = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)
_TICKET = re.compile(rb'"ticket": *"([^"]+)"')

#: What each scenario counts.
COUNTED: Final = {
    "fanout": "deliveries",
    "manytopics": "deliveries",
    "queue": "deliveries",
    "inbound": "sends",
    "connect": "connections",
    "idle": "connections",
}

Item = TypeVar("Item")
Done: TypeAlias = Callable[[bytes], bool]
Take: TypeAlias = Callable[[bytes], None]
Receivers: TypeAlias = dict[int, tuple[socket.socket, Take]]


class Failed(Exception):
    """The server has not done what it should."""


class Ask(NamedTuple):
    """What a script wants sent.

    :ivar done: whether the answer is complete; None to wait for the end of the connection.
    """

    connection: socket.socket
    data: bytes
    done: Done | None


Script: TypeAlias = Generator[Ask, bytes, None]


def http_is_done(data: bytes) -> bool:
    """Whether a response is complete."""
    head, end, body = data.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


def stomp_is_done(data: bytes) -> bool:
    """Whether a frame is complete; there are servers that write a line end after it."""
    return data.endswith((b"\0", b"\0\n"))


class Flow:
    """What one publisher has in flight, at most a window of it.

    :param frames: what it sends, in turn.
    :param operations: how many SENDs each of them is.
    """

    def __init__(
        self, connection: socket.socket, frames: list[bytes], window: int, operations: int = 1
    ) -> None:
        self._send = connection.send
        self._frames = itertools.cycle(frames)
        self._alone = frames[0] if len(frames) == 1 else None
        self._window = window
        self._operations = operations
        self.sent = 0
        self.completed = 0

    def pump(self) -> None:
        """Fill the window."""
        free = self._window - self.sent + self.completed
        if free <= 0:
            return
        if self._alone:
            data = self._alone * free
        else:
            data = b"".join(itertools.islice(self._frames, free))
        if self._send(data) != len(data):
            raise Failed("the server does not read")
        self.started(free)
        self.sent += free

    def started(self, number: int) -> None:
        """So many were sent just now."""

    def arrived(self, receiver: int, number: int) -> None:
        """So many have come back to the receiver."""
        self.completed += number

    @property
    def operations(self) -> int:
        """How many SENDs are done."""
        return self.completed * self._operations


class FanOut(Flow):
    """A flow of which everything goes to everybody.

    :param receivers: how many there are.
    """

    def __init__(self, connection: socket.socket, frame: bytes, window: int, receivers: int):
        super().__init__(connection, [frame], window)
        self._receivers = receivers
        self._got = [0] * receivers
        self._missing: list[int] = []

    def started(self, number: int) -> None:
        """Note who has to get them."""
        self._missing += [self._receivers] * number

    def arrived(self, receiver: int, number: int) -> None:
        """A publish is done when the last receiver has it."""
        first = self._got[receiver]
        self._got[receiver] = last = first + number
        missing = self._missing
        for index in range(first, last):
            missing[index] -= 1
            if not missing[index]:
                self.completed += 1


class Load:
    """A run of one scenario.

    :param options: the command line's.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._epoll = select.epoll()
        self._tokens: Iterator[str] | None = None
        if options.jwt_file:
            self._tokens = itertools.cycle(Path(options.jwt_file).read_text().split())
        self._open: list[socket.socket] = []
        self._numbers = itertools.count()
        self._cpu = 0.0
        self._elapsed = 0.0

    # Sessions

    def dial(self) -> socket.socket:
        """Open a connection."""
        options = self._options
        connection = socket.create_connection((options.host, options.port), 30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        return connection

    def _head(self, line: str, *headers: str) -> bytes:
        options = self._options
        lines = [f"{line} HTTP/1.1", f"Host: {options.host}:{options.port}", *headers, "", ""]
        return "\r\n".join(lines).encode()

    def _login(self) -> Generator[Ask, bytes, socket.socket]:
        """The way to CONNECTED."""
        options = self._options
        token = next(self._tokens) if self._tokens else ""
        ticket = ""
        if options.ticket_path:
            connection = self.dial()
            request = self._head(
                *(f"POST {options.ticket_path}", f"Authorization: Bearer {token}"),
                *("Content-Length: 0", "Connection: close"),
            )
            answer = yield Ask(connection, request, http_is_done)
            connection.close()
            found = _TICKET.search(answer)
            if not found:
                raise Failed(f"no ticket: {answer[:300]!r}")
            ticket = found[1].decode()
        connection = self.dial()
        query = f"?{options.query.replace('%t', ticket)}" if options.query else ""
        upgrade = self._head(
            *(f"GET {options.path}{query}", "Upgrade: websocket", "Connection: Upgrade"),
            *("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"),
            *("Sec-WebSocket-Protocol: v12.stomp", *options.http_header),
        )
        answer = yield Ask(connection, upgrade, http_is_done)
        if not answer.startswith(b"HTTP/1.1 101"):
            raise Failed(f"no upgrade: {answer[:300]!r}")
        headers = [header.replace("%j", token) for header in options.connect_header]
        lines = ["CONNECT", "accept-version:1.2", f"host:{options.vhost}", "heart-beat:0,0"]
        connect = stomp(*lines, *headers)
        answer = yield Ask(connection, connect, stomp_is_done)
        if b"CONNECTED" not in answer:
            raise Failed(f"no session: {answer[:300]!r}")
        return connection

    def session(self, into: list[socket.socket], *subscriptions: tuple[str, str, str]) -> Script:
        """Open a session, and subscribe: each to a destination, with an id and an ack mode."""
        connection = yield from self._login()
        for start in range(0, len(subscriptions), 50):
            some = subscriptions[start : start + 50]
            frames = [
                stomp("SUBSCRIBE", f"id:{key}", f"destination:{name}", f"ack:{ack}")
                for name, key, ack in some[:-1]
            ]
            name, key, ack = some[-1]
            lines = ("SUBSCRIBE", f"id:{key}", f"destination:{name}", f"ack:{ack}", "receipt:s")
            answer = yield Ask(connection, b"".join(frames) + stomp(*lines), stomp_is_done)
            if b"RECEIPT" not in answer:
                raise Failed(f"not subscribed: {answer[:300]!r}")
        into.append(connection)

    def visit(self) -> Script:
        """Open a session, and leave."""
        connection = yield from self._login()
        goodbye = stomp("DISCONNECT") + client_frame(8, b"\x03\xe8")
        yield Ask(connection, goodbye, None)
        connection.close()

    def run_scripts(self, scripts: Iterable[Script]) -> int:
        """Run them, some at the same time; give how many there were."""
        waiting: dict[int, tuple[Script, Ask, bytes]] = {}
        number = 0

        def go_on(script: Script, answer: bytes | None) -> bool:
            try:
                ask = next(script) if answer is None else script.send(answer)
            except StopIteration:
                return False
            waiting[ask.connection.fileno()] = (script, ask, b"")
            if ask.connection.send(ask.data) != len(ask.data):
                raise Failed("the server does not read")
            return True

        rest = iter(scripts)
        for script in itertools.islice(rest, self._options.parallel):
            number += go_on(script, None)
        while waiting:
            for descriptor, _ in self._poll():
                script, ask, before = waiting.pop(descriptor)
                try:
                    data = ask.connection.recv(READ)
                except ConnectionResetError:
                    data = b""
                answer = before + data
                if ask.done and not data:
                    raise Failed(f"hung up after {answer[-300:]!r}")
                if ask.done(answer) if ask.done else not data:
                    if not go_on(script, answer):
                        for another in itertools.islice(rest, 1):
                            number += go_on(another, None)
                else:
                    waiting[descriptor] = (script, ask, answer)
        return number

    def _poll(self) -> list[tuple[int, int]]:
        events = self._epoll.poll(STALL)
        if not events:
            raise Failed(f"nothing has come for {STALL} s")
        return events

    def _sessions(
        self, subscriptions: Sequence[Sequence[tuple[str, str, str]]]
    ) -> list[socket.socket]:
        """Open sessions with these subscriptions, and give them in this order."""
        opened: list[list[socket.socket]] = [[] for _ in subscriptions]
        self.run_scripts(
            self.session(into, *some) for into, some in zip(opened, subscriptions, strict=True)
        )
        return [connection for (connection,) in opened]

    # Phases

    def phase(self, name: str) -> None:
        """Say how far we are, and wait until we may go on."""
        if self._options.sync:
            sys.stdout.write(f"PHASE {name}\n")
            sys.stdout.flush()
            if not sys.stdin.readline():
                raise Failed("nobody is there any more")

    def measured(self, work: Callable[[float], int]) -> int:
        """Do some of the work to warm up, and then the work; give what it gives.

        :param work: works for about so many seconds.
        """
        work(self._options.warmup_time)
        self.phase("start")
        cpu, began = time.process_time(), time.perf_counter()
        done = work(self._options.max_time)
        self._cpu = time.process_time() - cpu
        self._elapsed = time.perf_counter() - began
        self.phase("end")
        return done

    def drive(self, flows: list[Flow], receivers: Receivers, seconds: float) -> int:
        """Keep the flows full for some seconds, and wait for the rest; give how many operations."""
        before = sum(flow.operations for flow in flows)
        end = time.monotonic() + seconds
        poll = self._epoll.poll
        while True:
            if time.monotonic() < end:
                for flow in flows:
                    flow.pump()
            elif all(flow.completed == flow.sent for flow in flows):
                return sum(flow.operations for flow in flows) - before
            events = poll(STALL)
            if not events:
                raise Failed(f"nothing has come for {STALL} s")
            for descriptor, _ in events:
                connection, take = receivers[descriptor]
                data = connection.recv(READ)
                if not data:
                    raise Failed("the server has hung up")
                take(data)

    def flow(self, flows: list[Flow], receivers: Receivers) -> int:
        """Measure the flows; give how many operations. Nothing may come after the end."""
        done = self.measured(lambda seconds: self.drive(flows, receivers, seconds))
        if self._epoll.poll(0.2):
            raise Failed("more has come than there should")
        return done

    # Scenarios

    def body(self, number: int = 0) -> bytes:
        """The body of every message of a publisher."""
        size: int = self._options.size
        return b"%d}" % number * (size // 2)

    def publish(self, destination: str, *headers: str, publisher: int = 0) -> bytes:
        """A SEND."""
        body = self.body(publisher)
        lines = [f"destination:{destination}", "content-type:text/plain"]
        return stomp("SEND", *lines, f"content-length:{len(body)}", *headers, body=body)

    def fanout(self) -> int:
        """One publisher, one topic, and all subscribers; further subscriptions to other topics."""
        options = self._options
        others = [
            (f"/topic/other.{number}", f"o{number}", "auto") for number in range(options.others)
        ]
        self._sessions(list(batched(others, 1000)))
        subscribers = self._sessions([[("/topic/b.0", "0", "auto")]] * options.subs)
        (publisher,) = self._sessions([[]])
        flow = FanOut(publisher, self.publish("/topic/b.0"), options.window, options.subs)
        receivers = {
            connection.fileno(): (connection, counting(MESSAGE, flow, index))
            for index, connection in enumerate(subscribers)
        }
        self.phase("connected")
        subscribed: int = options.subs
        return self.flow([flow], receivers) * subscribed

    def manytopics(self) -> int:
        """A topic for each subscriber; the publishers share them out among them."""
        options = self._options
        names = [f"/topic/b.{number}" for number in range(options.subs)]
        subscribers = self._sessions([[(name, "0", "auto")] for name in names])
        publishers = self._sessions([[]] * options.pubs)
        flows = [
            Flow(connection, list(map(self.publish, names[number :: options.pubs])), options.window)
            for number, connection in enumerate(publishers)
        ]
        receivers = {
            connection.fileno(): (connection, counting(MESSAGE, flows[number % options.pubs], 0))
            for number, connection in enumerate(subscribers)
        }
        self.phase("connected")
        return self.flow(flows, receivers)

    def queue(self) -> int:
        """Publishers that ask for receipts, one queue, and subscribers that acknowledge each."""
        options = self._options
        subscribers = self._sessions([[("/queue/b.0", "0", "client-individual")]] * options.subs)
        publishers = self._sessions([[]] * options.pubs)
        flows = [
            Queued(
                connection,
                self.publish("/queue/b.0", "receipt:r", publisher=number),
                options.window,
            )
            for number, connection in enumerate(publishers)
        ]
        receivers = {
            connection.fileno(): (connection, counting(RECEIPT, flow, 0))
            for connection, flow in zip(publishers, flows, strict=True)
        }
        for connection in subscribers:
            receivers[connection.fileno()] = (connection, acknowledging(connection, flows))
        self.phase("connected")
        return self.flow(list(flows), receivers)

    def inbound(self) -> int:
        """Publishers to a topic without subscribers; a receipt for the last SEND of each burst."""
        options = self._options
        publishers = self._sessions([[]] * options.pubs)
        burst = self.publish("/topic/b.0") * (options.burst - 1)
        burst += self.publish("/topic/b.0", "receipt:r")
        flows = [Flow(connection, [burst], 1, options.burst) for connection in publishers]
        receivers = {
            connection.fileno(): (connection, counting(RECEIPT, flow, 0))
            for connection, flow in zip(publishers, flows, strict=True)
        }
        self.phase("connected")
        return self.flow(flows, receivers)

    def connect(self) -> int:
        """Sessions that open and leave again."""
        self.phase("connected")

        def visits(seconds: float) -> int:
            end = time.monotonic() + seconds
            forever = itertools.repeat(None)
            in_time = itertools.takewhile(lambda _: time.monotonic() < end, forever)
            return self.run_scripts(self.visit() for _ in in_time)

        return self.measured(visits)

    def idle(self) -> int:
        """Sessions with one subscription each, to topics of their own, that do nothing."""
        options = self._options
        topics = [[(f"/topic/b.{number}", "0", "auto")] for number in range(options.subs)]
        sessions = self._sessions(topics)
        self.phase("connected")
        self.phase("start")
        time.sleep(options.hold)
        self.phase("end")
        if self._epoll.poll(0):
            raise Failed("the server is not quiet")
        return len(sessions)

    def run(self) -> dict[str, Any]:
        """Run the scenario; give what it counted."""
        self.phase("begin")
        done = getattr(self, self._options.scenario)()
        return {
            "scenario": self._options.scenario,
            "ok": True,
            COUNTED[self._options.scenario]: done,
            "elapsed_s": round(self._elapsed, 4),
            "loadgen_cpu_s": round(self._cpu, 4),
        }


class Queued(Flow):
    """A flow to a queue: a message is done when its receipt and the message itself have come."""

    def __init__(self, connection: socket.socket, frame: bytes, window: int) -> None:
        super().__init__(connection, [frame], window)
        self._arrived = [0, 0]

    def arrived(self, receiver: int, number: int) -> None:
        """Take receipts (0) or messages (1)."""
        self._arrived[receiver] += number
        self.completed = min(self._arrived)


def stomp(*lines: str, body: bytes = b"") -> bytes:
    """A frame of STOMP in one of WebSocket's."""
    return client_frame(1, "".join(f"{line}\n" for line in lines).encode() + b"\n" + body + b"\0")


def batched(items: list[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of that size."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def counting(mark: bytes, flow: Flow, receiver: int) -> Take:
    """What counts the marks of what it is given; one may be cut in two."""
    tail = b""
    arrived = flow.arrived

    def take(data: bytes) -> None:
        nonlocal tail
        if tail:
            data = tail + data
            tail = b""
        if data[-1]:
            tail = data[-2:]
        if number := data.count(mark):
            arrived(receiver, number)

    return take


def acknowledging(connection: socket.socket, flows: Sequence[Flow]) -> Take:
    """What acknowledges the messages in what it is given."""
    rest = b""

    def take(data: bytes) -> None:
        nonlocal rest
        data = rest + data
        if not stomp_is_done(data):
            rest = data
            return
        rest = b""
        acks = b"".join(client_frame(1, b"ACK\nid:%b\n\n\0" % key) for key in _ACK.findall(data))
        if acks and connection.send(acks) != len(acks):
            raise Failed("the server does not read")
        for publisher in _PUBLISHER.findall(data):
            flows[int(publisher)].arrived(1, 1)

    return take


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load")
    parser.add_argument("scenario", choices=COUNTED)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/stomp")
    parser.add_argument("--query", default="", help="of the upgrade; %%t is the ticket")
    parser.add_argument("--ticket-path", default="", help="ask for a ticket there first")
    parser.add_argument("--jwt-file", default="", help="tokens, one a line, used in turn")
    parser.add_argument("--http-header", action="append", default=[], help="of the upgrade")
    parser.add_argument("--connect-header", action="append", default=[], help="%%j is the token")
    parser.add_argument("--vhost", default="/", help="the header host of CONNECT")
    parser.add_argument("--subs", type=int, default=100)
    parser.add_argument("--pubs", type=int, default=1)
    parser.add_argument("--others", type=int, default=0, help="further subscriptions")
    parser.add_argument("--burst", type=int, default=1, help="SENDs for one receipt")
    parser.add_argument("--size", type=int, default=64, help="of a body")
    parser.add_argument("--window", type=int, default=1, help="in flight, each publisher")
    parser.add_argument("--parallel", type=int, default=32, help="sessions that open at once")
    parser.add_argument("--messages", type=int, default=0, help="not needed: time ends the run")
    parser.add_argument("--warmup", type=int, default=0, help="likewise")
    parser.add_argument("--warmup-time", type=float, default=0.5)
    parser.add_argument("--max-time", type=float, default=2)
    parser.add_argument("--hold", type=float, default=1, help="seconds of being idle")
    parser.add_argument("--idle-sub", action="store_true", help="as always")
    parser.add_argument("--sync", action="store_true")
    return parser.parse_args(arguments)


def main() -> None:
    """Do what the command line says."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    load = Load(options())
    gc.disable()
    sys.stdout.write(json.dumps(load.run()) + "\n")


if __name__ == "__main__":
    main()
