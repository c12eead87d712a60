"""A browser's side of the wire, in memory: HTTP and WebSocket octets, without a socket."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport

from stompauth.fastio.output import Turns

if TYPE_CHECKING:
    from twisted.web.server import Site

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@dataclass
class Response:
    """An HTTP response."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def end_turn(clock: Any) -> None:
    """Let fast I/O send what was written, as it does at the end of a turn; nothing else is run."""
    for call in list(getattr(clock, "calls", ())):
        if isinstance(getattr(call.func, "__self__", None), Turns):
            func = call.func
            call.cancel()
            func()


class LingeringTransport(FakeTransport):
    """TLS to a peer that never says goodbye: only an abort ends it, and it can go on sending."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class Socket:
    """One connection to a site.

    :param lingers: whether it is of a :class:`LingeringTransport`.
    """

    def __init__(self, site: Site, host: str = "192.0.2.1", lingers: bool = False) -> None:
        peer = IPv4Address("TCP", host, 54321)
        protocol = site.buildProtocol(peer)
        self.lingers = lingers
        self.transport = (LingeringTransport if lingers else FakeTransport)(
            protocol, isServer=True, peerAddress=peer
        )
        self.lost = False
        self._clock = site.reactor
        protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Let the server receive octets."""
        self.transport.protocol.dataReceived(data)
        self.settle()

    def settle(self) -> None:
        """End the turn, and carry out a loss of the connection that the server has asked for."""
        end_turn(self._clock)
        gone = self.transport.aborted if self.lingers else self.transport.disconnecting
        if gone and not self.lost:
            self.lose()

    def lose(self) -> None:
        """Break the connection."""
        self.lost = True
        self.transport.protocol.connectionLost(Failure(ConnectionDone()))

    def taken(self) -> bytes:
        """What the server has sent since the last call."""
        end_turn(self._clock)
        data = b"".join(self.transport.stream)
        self.transport.stream.clear()
        return data


def read_response(data: bytes) -> tuple[Response, bytes]:
    """Read a response off its octets, and give the rest."""
    head, _, rest = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    _, status, reason = status_line.split(" ", 2)
    headers = dict(line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in headers.items()}
    length = int(headers.get("content-length", 0))
    return Response(int(status), reason, headers, rest[:length]), rest[length:]


def request(site: Site, head: list[str], body: bytes = b"", host: str = "192.0.2.1") -> Response:
    """Send one request on a connection of its own."""
    socket = Socket(site, host)
    socket.send("\r\n".join([*head, "", ""]).encode("latin-1") + body)
    response, _ = read_response(socket.taken())
    if not socket.lost:
        socket.lose()
    return response


def post_token(
    site: Site,
    token: str | None,
    origin: str | None = "https://chat.example.com",
    path: str = "/authenticate/token",
    extra: tuple[str, ...] = (),
    host: str = "192.0.2.1",
) -> Response:
    """Ask for a ticket as a page does."""
    head = [f"POST {path} HTTP/1.1", "Host: chat.example.com", "Content-Length: 0", *extra]
    if token is not None:
        head.append(f"Authorization: Bearer {token}")
    if origin is not None:
        head.append(f"Origin: {origin}")
    return request(site, head, host=host)


class WebSocket:
    """A client's WebSocket: the handshake at once, then messages.

    :ivar response: the answer to the handshake.
    :ivar messages: what came, in order, ``str`` or ``bytes`` by the opcode.
    :ivar close_code: the status of the server's close frame, or None.
    """

    def __init__(
        self,
        site: Site,
        target: str,
        origin: str | None = "https://chat.example.com",
        subprotocols: str | None = "v12.stomp, v11.stomp, v10.stomp",
        extra: tuple[str, ...] = (),
        host: str = "192.0.2.1",
        version: str = "13",
        ahead: bytes = b"",
        lingers: bool = False,
    ) -> None:
        self.socket = Socket(site, host, lingers)
        head = [
            f"GET {target} HTTP/1.1",
            "Host: chat.example.com",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {KEY}",
            f"Sec-WebSocket-Version: {version}",
        ]
        if origin is not None:
            head.append(f"Origin: {origin}")
        if subprotocols is not None:
            head.append(f"Sec-WebSocket-Protocol: {subprotocols}")
        self.messages: list[str | bytes] = []
        self.pongs: list[bytes] = []
        self.pings: list[bytes] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self._buffer = b""
        self.response: Response | None = None
        self.socket.send("\r\n".join([*head, *extra, "", ""]).encode("latin-1") + ahead)
        self.read()

    @property
    def status(self) -> int | None:
        """The status of the handshake; None when there was no answer."""
        return self.response.status if self.response else None

    def send(self, payload: str | bytes) -> None:
        """Send a message."""
        text = isinstance(payload, str)
        data = payload.encode() if isinstance(payload, str) else payload
        self.socket.send(client_frame(1 if text else 2, data))
        self.read()

    def close(self, code: int = 1000) -> None:
        """Begin, or answer, the closing handshake."""
        self.socket.send(client_frame(8, struct.pack("!H", code)))
        self.read()

    def read(self) -> None:
        """Take what the server has sent."""
        self.socket.settle()
        self._buffer += self.socket.taken()
        if self.response is None:
            if b"\r\n\r\n" not in self._buffer:
                return
            self.response, self._buffer = read_response(self._buffer)
        while (frame := read_frame(self._buffer)) is not None:
            opcode, payload, self._buffer = frame
            if opcode == 1:
                self.messages.append(payload.decode())
            elif opcode == 2:
                self.messages.append(payload)
            elif opcode == 8:
                self.close_code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                self.close_reason = payload[2:].decode()
            elif opcode == 9:
                self.pings.append(payload)
            elif opcode == 10:
                self.pongs.append(payload)

    def take(self) -> list[str | bytes]:
        """The messages since the last call."""
        self.read()
        messages, self.messages = self.messages, []
        return messages


def client_frame(opcode: int, payload: bytes, fin: bool = True) -> bytes:
    """A masked frame (RFC 6455 section 5.2)."""
    mask = b"\x01\x02\x03\x04"
    length = len(payload)
    key = (mask * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(length)
    if length < 126:
        head = struct.pack("!BB", opcode | (0x80 if fin else 0), 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", opcode | (0x80 if fin else 0), 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", opcode | (0x80 if fin else 0), 0x80 | 127, length)
    return head + mask + masked


def read_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Read an unmasked frame: opcode, payload, rest; None when it is not complete."""
    if len(data) < 2:
        return None
    length, start = data[1] & 0x7F, 2
    if length == 126:
        if len(data) < 4:
            return None
        length, start = struct.unpack("!H", data[2:4])[0], 4
    elif length == 127:
        if len(data) < 10:
            return None
        length, start = struct.unpack("!Q", data[2:10])[0], 10
    if len(data) < start + length:
        return None
    return data[0] & 0x0F, data[start : start + length], data[start + length :]
