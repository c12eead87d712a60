"""The values that tune the parts, with their defaults; times in seconds, sizes in bytes.

For every limit 0 means none.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer, and all of them together, can make the server hold (``[limits]``).

    :ivar frame: (bytes) A STOMP frame, from its command to its NUL.
    :ivar frame_before_connect: (bytes) The same, until the client is connected.
    :ivar headers: (headers) In a frame.
    :ivar header_line: (bytes) A line of a header.
    :ivar http_timeout: (s) A whole HTTP request.
    :ivar handshake_timeout: (s) The WebSocket handshake.
    :ivar connect_timeout: (s) From the open socket to CONNECTED; nothing that the client does
        extends it.
    :ivar frame_timeout: (s) From the first to the last byte of a frame, and of a WebSocket message.
    :ivar close_timeout: (s) The closing handshake.
    :ivar send_buffer: (bytes) What waits to be sent to one session.
    :ivar send_timeout: (s) For how long it may wait without any of it leaving.
    :ivar sessions: (sessions) In this process; and as many connections on which HTTP is spoken.
    :ivar sessions_per_address: (sessions) From one address, an IPv6 /64 being one; and as many
        connections on which HTTP is spoken, counted from accept on, but for those of
        ``trusted_proxies`` and ``haproxy:`` listeners.
    :ivar sessions_per_user: (sessions) Of one user.
    :ivar subscriptions: (subscriptions) Of one session.
    :ivar transactions: (transactions) Open in one session.
    :ivar transaction_bytes: (bytes) In the open transactions of one session, with what holding them
        costs. One COMMIT sends at most half of ``send_buffer`` to topics and users, as octets of
        whole frames.
    :ivar unacked: (messages) Delivered to one subscription of a topic and not acknowledged; then
        the session ends.
    :ivar prefetch: (messages) Delivered to one subscription of a queue and not acknowledged, unless
        it asks for less; then it waits.
    :ivar frames_per_second: (frames per s) From one session; twice as many at once, then reading
        pauses.
    :ivar bytes_per_second: (bytes per s) Likewise; each WebSocket frame counts 512 more. After a
        minute of waiting again and again the session ends.
    :ivar inbound_waiting: (frames) Of one session, held while an interceptor waits; then reading
        pauses.
    :ivar destinations: (destinations) In this process; idle ones are forgotten. Queues that came to
        be for one user are never more than are left free.
    :ivar queue_messages: (messages) In one queue.
    :ivar queue_bytes: (bytes) In all queues. What one user has sent is never more than is left
        free: alone half of it.
    :ivar retained: (messages) Retained ones, in all.
    :ivar max_deliveries: (times) That a message is delivered; then it goes to a dead-letter queue.
    :ivar heartbeat: (s) How often we send a heart-beat, and want one: each ``0`` for never, or from
        1 on.
    """

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

    :ivar path: Where tickets are issued.
    :ivar ttl: (s) For how long a ticket can be used, 1 to 60, and never past the token's ``exp``.
    :ivar rate: (tickets per s) Per subject; twice as many at once. ``0``: no limit.
    :ivar failures_per_address: (requests per min) Bad requests of one address; then 429 before any
        signature is checked. ``0``: no limit.
    :ivar bind_address: A ticket opens only from the network that asked for it.
    :ivar on_replay: When a used ticket comes again: ``"warn"`` in the log, or ``"close"`` also the
        session that it had opened.
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

    :ivar path: Where the WebSocket is.
    :ivar require_origin: Turn down a handshake without ``Origin``; ``false`` admits clients that
        are no browsers.
    :ivar bearer: A JWT in the upgrade's ``Authorization`` may stand for the ticket.
    :ivar ping: (s) Between WebSocket pings, from 1 on; no pong for 10 s ends the socket.
    """

    path: str = "/stomp"
    require_origin: bool = True
    bearer: bool = False
    ping: float = 25
