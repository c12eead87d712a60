"""How sessions are opened and left, many at the same time."""

from __future__ import annotations

import itertools
import re
import select
import socket
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from tests.wire import client_frame

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

#: Seconds without anything from the server after which it counts as stuck.
STALL: Final = 15

READ: Final = 65536

_LENGTH = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)
_TICKET = re.compile(rb'"ticket": *"([^"]+)"')

Done: TypeAlias = Callable[[bytes], bool]

#: A destination, an id and an ack mode.
Subscription: TypeAlias = tuple[str, str, str]


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


def stomp(*lines: str, body: bytes = b"") -> bytes:
    """A frame of STOMP in one of WebSocket's."""
    return client_frame(1, "".join(f"{line}\n" for line in lines).encode() + b"\n" + body + b"\0")


class Sessions:
    """Opens them.

    :param options: the command line's.
    :ivar epoll: what their sockets are registered with.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.epoll = select.epoll()
        self._tokens: Iterator[str] | None = None
        if options.jwt_file:
            self._tokens = itertools.cycle(Path(options.jwt_file).read_text().split())

    def open(self, subscriptions: Sequence[Sequence[Subscription]]) -> list[socket.socket]:
        """Open sessions with these subscriptions, and give their sockets in this order."""
        opened: list[list[socket.socket]] = [[] for _ in subscriptions]
        self._run(
            self._session(into, some) for into, some in zip(opened, subscriptions, strict=True)
        )
        return [connection for (connection,) in opened]

    def visits(self, numbers: Iterable[int]) -> int:
        """Open a session for each of them, and leave at once; give how many there were."""
        return self._run(self._visit() for _ in numbers)

    def _run(self, scripts: Iterable[Script]) -> int:
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
            events = self.epoll.poll(STALL)
            if not events:
                raise Failed(f"nothing has come for {STALL} s")
            for descriptor, _ in events:
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

    def _dial(self) -> socket.socket:
        """Open a connection."""
        options = self._options
        connection = socket.create_connection((options.host, options.port), 30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        self.epoll.register(connection.fileno(), select.EPOLLIN)
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
            connection = self._dial()
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
        connection = self._dial()
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

    def _session(self, into: list[socket.socket], subscriptions: Sequence[Subscription]) -> Script:
        """Open a session, and subscribe."""
        connection = yield from self._login()
        last = len(subscriptions) - 1
        frames = b""
        for number, (destination, key, ack) in enumerate(subscriptions):
            ask_now = number == last or number % 50 == 49
            frames += stomp(
                *("SUBSCRIBE", f"id:{key}", f"destination:{destination}", f"ack:{ack}"),
                *(["receipt:s"] if ask_now else []),
            )
            if ask_now:
                answer = yield Ask(connection, frames, stomp_is_done)
                if b"RECEIPT" not in answer:
                    raise Failed(f"not subscribed: {answer[:300]!r}")
                frames = b""
        into.append(connection)

    def _visit(self) -> Script:
        """Open a session, and leave."""
        connection = yield from self._login()
        goodbye = stomp("DISCONNECT") + client_frame(8, b"\x03\xe8")
        yield Ask(connection, goodbye, None)
        connection.close()
