"""What has happened since the start, in numbers that cost next to nothing to keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Counts that only rise; what is on a frame's way raises them by plain additions.

    :ivar sockets: WebSockets that have opened.
    :ivar tickets_redeemed: tickets that were taken.
    :ivar frames_received: STOMP frames of clients, heart-beats not among them.
    :ivar bytes_received: octets of WebSocket messages of clients.
    :ivar messages_received: SEND frames that were accepted.
    :ivar messages_delivered: MESSAGE frames to clients.
    :ivar bytes_sent: octets that were sent on WebSockets, but for what a client that is behind is
        left with at the end.
    :ivar verifications: tokens that were looked at.
    :ivar verification_seconds: what that took in all, waiting for keys included.
    """

    sockets: int = 0
    tickets_redeemed: int = 0
    frames_received: int = 0
    bytes_received: int = 0
    messages_received: int = 0
    messages_delivered: int = 0
    bytes_sent: int = 0
    verifications: int = 0
    verification_seconds: float = 0
