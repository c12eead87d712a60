"""How a client behaves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How a client behaves; times in seconds, sizes in octets.

    :ivar ticket_path: where tickets are asked for: a path at the server's URL, or a whole URL.
    :ivar websocket_path: where the WebSocket is opened, likewise.
    :ivar origin: what goes out as ``Origin``; None for no such header, which a server takes only
        with ``websocket.require_origin = false``.
    :ivar connect_timeout: for everything up to CONNECTED, the token included.
    :ivar receipt_timeout: for the server's answer to one frame.
    :ivar close_timeout: for the server's end of the connection.
    :ivar heartbeat: how often we send at least, and how often we want to hear of the server; 0 for
        never.
    :ivar frame: a whole STOMP frame of the server at most.
    :ivar send_buffer: what may wait for a server that does not read.
    :ivar receive_buffer: messages that wait for callbacks which have not finished.
    """

    ticket_path: str = "/authenticate/token"
    websocket_path: str = "/stomp"
    origin: str | None = None
    connect_timeout: float = 30
    receipt_timeout: float = 30
    close_timeout: float = 5
    heartbeat: tuple[float, float] = (10, 10)
    frame: int = 1048576
    send_buffer: int = 1048576
    receive_buffer: int = 4194304
