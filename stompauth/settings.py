"""The values that tune the parts, with their defaults; times in seconds, sizes in bytes.

For every limit 0 means none.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer, and all of them together, can make the server hold (``[limits]``)."""

    frame: int = 65536
    frame_before_connect: int = 16384
    headers: int = 64
    header_line: int = 8192
    http_timeout: float = 10
    handshake_timeout: float = 5
    connect_timeout: float = 10
    frame_timeout: float = 30
    close_timeout: float = 5
    send_buffer: int = 524288
    send_timeout: float = 10
    sessions: int = 50000
    sessions_per_address: int = 1000
    sessions_per_user: int = 10
    subscriptions: int = 128
    transactions: int = 8
    transaction_bytes: int = 1048576
    unacked: int = 1000
    prefetch: int = 100
    frames_per_second: float = 100
    bytes_per_second: float = 1048576
    inbound_waiting: int = 64
    destinations: int = 100000
    queue_messages: int = 10000
    queue_bytes: int = 268435456
    retained: int = 10000
    max_deliveries: int = 5
    heartbeat: tuple[float, float] = (10, 10)


@dataclass(frozen=True, slots=True)
class TicketSettings:
    """How the ticket endpoint behaves (``[tickets]``, without the store's own keys).

    :ivar rate: tickets per second and subject; twice as many at once.
    :ivar failures_per_address: bad requests per minute, then 429 before a signature is checked.
    :ivar bind_address: whether a ticket opens only from the network that asked for it.
    :ivar on_replay: ``"warn"``, or ``"close"`` to end the session that the ticket had opened too.
    """

    path: str = "/authenticate/token"
    ttl: float = 30
    rate: float = 5.0
    failures_per_address: float = 20.0
    bind_address: bool = False
    on_replay: str = "warn"


@dataclass(frozen=True, slots=True)
class WebSocketSettings:
    """How the handshake behaves (``[websocket]``, without the origins).

    :ivar require_origin: whether a handshake without an Origin is turned down.
    :ivar bearer: whether a JWT in the upgrade's ``Authorization`` may stand for the ticket.
    :ivar ping: seconds between WebSocket pings.
    """

    path: str = "/stomp"
    require_origin: bool = True
    bearer: bool = False
    ping: float = 25
