"""A client's WebSocket, octet for octet, on a blocking socket; every wait has a deadline."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Self

from stompauth.stomp.encoder import encode
from stompauth.stomp.frame import Frame
from tests.integration.configured import ORIGIN, UNVERIFIED
from tests.wire import KEY, client_frame, read_frame

if TYPE_CHECKING:
    from tests.integration.configured import ConfiguredServer

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

#: Seconds that the server has for anything.
PATIENCE = 10.0


class RawWebSocket:
    """An open WebSocket.

    :param server: where it goes, with a ticket for the token.
    :param ticket: a ticket that there is already.
    :param connection: a connection that there is already, such as one to a proxy.
    :param deaf: whether the kernel takes next to nothing that is not read.
    """

    def __init__(
        self,
        server: ConfiguredServer,
        token: str,
        *,
        deaf: bool = False,
        ticket: str | None = None,
        connection: socket.socket | None = None,
    ) -> None:
        ticket = ticket or server.ticket(token)
        self._socket = connection or socket.socket()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if deaf:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(PATIENCE)
        if connection is None:
            self._socket.connect(("127.0.0.1", server.port))
            if server.tls:
                self._socket = UNVERIFIED.wrap_socket(self._socket)
        self._buffer = b""
        head = [
            f"GET /stomp?ticket={ticket} HTTP/1.1",
            f"Host: 127.0.0.1:{server.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {KEY}",
            "Sec-WebSocket-Version: 13",
            f"Origin: {ORIGIN}",
        ]
        self.send("\r\n".join([*head, "", ""]).encode("ascii"))
        while b"\r\n\r\n" not in self._buffer:
            assert self._receive(), "the server hung up on the handshake"
        answer, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self._socket.sendall(octets)

    def send_stomp(self, command: str, headers: dict[str, str], body: bytes = b"") -> None:
        """Send a STOMP 1.2 frame as a binary message."""
        self.send(client_frame(BINARY, encode(Frame(command, headers, body), "1.2")))

    def connect(self, token: str, heartbeat: str = "0,0") -> None:
        """Begin the STOMP session."""
        headers = {
            "accept-version": "1.2",
            "host": "chat.example.com",
            "heart-beat": heartbeat,
            "Authorization": f"Bearer {token}",
        }
        self.send_stomp("CONNECT", headers)
        frame = self.frame()
        assert frame is not None
        assert frame[1].startswith(b"CONNECTED\n"), frame

    def _receive(self, patience: float = PATIENCE) -> bool:
        """Take what comes next; False when the server has hung up."""
        self._socket.settimeout(patience)
        try:
            octets = self._socket.recv(65536)
        except ConnectionResetError:
            return False
        self._buffer += octets
        return bool(octets)

    def frame(self) -> tuple[int, bytes] | None:
        """The next frame: opcode and payload; None when the server has hung up.

        The server's pings are passed over, and not answered.
        """
        end = time.monotonic() + PATIENCE
        while (frame := self._peek()) is None:
            left = end - time.monotonic()
            assert left > 0, f"no frame within {PATIENCE} s"
            if not self._receive(left):
                return None
        opcode, payload, self._buffer = frame
        return opcode, payload

    def is_answered(self) -> bool:
        """Whether the next frame is here already."""
        if select.select([self._socket], [], [], 0)[0]:
            self._receive()
        return self._peek() is not None

    def _peek(self) -> tuple[int, bytes, bytes] | None:
        """The next frame and what is behind it, past the server's pings."""
        while (frame := read_frame(self._buffer)) is not None and frame[0] == PING:
            self._buffer = frame[2]
        return frame

    def rest(self) -> list[tuple[int, bytes]]:
        """All frames until the server hangs up."""
        frames = []
        while (frame := self.frame()) is not None:
            frames.append(frame)
        return frames

    def is_dropped(self) -> bool:
        """Whether the server breaks the connection, although what it has sent is not read.

        A reset may be lost on a connection whose window is shut; what is sent on one that is gone
        brings another.
        """
        poll = select.poll()
        poll.register(self._socket, select.POLLHUP)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if poll.poll(200):
                return True
            with contextlib.suppress(OSError):
                self.send(b"\0")
        return False


def status_of(payload: bytes) -> int | None:
    """The status in a close frame's payload; None without one."""
    return struct.unpack("!H", payload[:2])[0] if payload else None
