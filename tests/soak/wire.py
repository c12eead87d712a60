"""A client's connection, for coroutines: HTTP, WebSocket and STOMP on one TCP socket."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone

from stompauth.stomp.decoder import DecoderLimits, FrameDecoder
from stompauth.stomp.encoder import encode
from stompauth.stomp.frame import Frame
from tests.wire import KEY, client_frame, read_frame, read_response

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from tests.wire import Response

ORIGIN = "https://chat.example.com"


class Wire(Protocol):
    """One connection.

    :ivar lost: whether it is gone.
    :ivar close_code: the status of the server's close frame.
    """

    transport: Any

    def __init__(self) -> None:
        self.lost = False
        self.close_code: int | None = None
        self._upgraded = False
        self._buffer = b""
        self._waiting: Deferred[None] | None = None
        self._decoder = FrameDecoder(DecoderLimits(0, 0, 0))
        self._decoder.version = "1.2"

    def dataReceived(self, data: bytes) -> None:
        """Keep what comes; answer pings, and a close."""
        self._buffer += data
        if self._upgraded:
            self._read()
        self._wake()

    def _read(self) -> None:
        while (read := read_frame(self._buffer)) is not None:
            opcode, payload, self._buffer = read
            if opcode in (1, 2):
                self._decoder.feed(payload)
            elif opcode == 8:
                self.close_code = struct.unpack("!H", payload[:2])[0]
                self.write(client_frame(8, payload[:2]))
            elif opcode == 9:
                self.write(client_frame(10, payload))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell who waits."""
        self.lost = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def _more(self) -> None:
        if self.lost:
            raise ConnectionError("the server has hung up")

        def forget(_: Deferred[None]) -> None:
            self._waiting = None

        self._waiting = Deferred(forget)
        await self._waiting

    def write(self, data: bytes) -> None:
        """Send octets as they are."""
        if not self.lost:
            self.transport.write(data)

    def leave(self, rudely: bool) -> None:
        """Break the connection, by a reset or by a FIN."""
        if rudely:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    async def until_lost(self) -> None:
        """Wait until the server has hung up."""
        while not self.lost:
            await self._more()

    async def response(self) -> Response:
        """The response to a request."""
        while True:
            if b"\r\n\r\n" in self._buffer:
                response, rest = read_response(self._buffer)
                if len(response.body) >= int(response.headers.get("content-length", 0)):
                    self._buffer = rest
                    return response
            await self._more()

    async def upgrade(self, ticket: str, origin: str = ORIGIN) -> int:
        """Send a handshake, and give the status of its answer."""
        self.write(handshake(ticket, origin))
        response = await self.response()
        if response.status == 101:
            self._upgraded = True
            self._read()
        return response.status

    def send(self, command: str, body: bytes = b"", **headers: str) -> None:
        """Send a frame; ``_`` in a header's name stands for ``-``."""
        frame = Frame(command, {n.replace("_", "-"): v for n, v in headers.items()}, body)
        self.write(client_frame(2, encode(frame, "1.2")))

    def connect(self, token: str) -> None:
        """Send CONNECT."""
        self.send(
            "CONNECT", accept_version="1.2", heart_beat="0,0", authorization=f"Bearer {token}"
        )

    async def frame(self) -> Frame | None:
        """The next frame of STOMP; None after the server's close frame."""
        while True:
            frame = self._decoder.next_frame()
            if frame is not None or self.close_code is not None:
                return frame
            await self._more()

    async def end(self) -> str:
        """Wait for the end, and give the code of the ERROR before it, or nothing."""
        code = ""
        while (frame := await self.frame()) is not None:
            if frame.command == "ERROR":
                code = frame.headers["code"]
        await self.until_lost()
        return code

    async def receipt(self) -> None:
        """Wait for a RECEIPT."""
        while True:
            frame = await self.frame()
            if frame is None or frame.command == "ERROR":
                raise ConnectionError(f"no receipt, but {frame and frame.headers['code']}")
            if frame.command == "RECEIPT":
                return


async def connect(loop: Any, port: int) -> Wire:
    """Open a connection."""
    wire: Wire = await connectProtocol(TCP4ClientEndpoint(loop, "127.0.0.1", port), Wire())
    return wire


def handshake(ticket: str, origin: str = ORIGIN) -> bytes:
    """The octets of a handshake."""
    lines = [
        f"GET /stomp?ticket={ticket} HTTP/1.1",
        "Host: chat.example.com",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        f"Origin: {origin}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode("ascii")


def post(path: str, token: str, body: object = None) -> bytes:
    """The octets of a POST, with the body as JSON."""
    data = b"" if body is None else json.dumps(body).encode()
    return _request(f"POST {path}", token, f"Content-Length: {len(data)}") + data


def get(path: str, token: str) -> bytes:
    """The octets of a GET."""
    return _request(f"GET {path}", token)


def _request(line: str, token: str, *more: str) -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: chat.example.com", f"Authorization: Bearer {token}", *more]
    return "\r\n".join([*lines, "", ""]).encode("ascii")
