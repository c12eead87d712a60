"""The client's WebSocket, on Autobahn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import txaio
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.types import ConnectingRequest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from zope.interface import implementer

from stompauth.client.ticket import USER_AGENT, parse_retry_after
from stompauth.errors import ConnectFailed

if TYPE_CHECKING:
    from autobahn.wamp.types import TransportDetails
    from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
    from twisted.python.failure import Failure
    from twisted.web.client import URI

    from stompauth.client.stomp_client import StompClient

#: A WebSocket message may be longer than a STOMP frame by so much.
MESSAGE_MARGIN: Final = 16384

#: Octets of the answer to the handshake at most.
MAX_ANSWER: Final = 16384


async def open_websocket(
    endpoint: IStreamClientEndpoint,
    uri: URI,
    ticket: str,
    *,
    origin: str | None,
    frame: int,
    clock: IReactorTime,
) -> ClientWebSocket:
    """Open a WebSocket with a ticket.

    How long it may take is for the caller to say, by cancelling.

    :param frame: octets of a STOMP frame at most.
    :raises ConnectFailed: the handshake was denied, or the connection lost.
    :raises Exception: whatever the endpoint raises when there is no connection.
    """
    host = uri.host.decode("ascii")
    request = ConnectingRequest(
        host=f"[{host}]" if ":" in host else host,
        port=uri.port,
        resource=f"{uri.path.decode('ascii')}?ticket={ticket}",
        useragent=USER_AGENT,
        origin=origin,
        protocols=["v12.stomp"],
    )
    websocket: Any = await endpoint.connect(_Factory(request, frame, clock))
    try:
        await websocket.opened
    except BaseException:
        websocket.abort()
        raise
    opened: ClientWebSocket = websocket
    return opened


@implementer(IPushProducer)
class ClientWebSocket(WebSocketClientProtocol):
    """One WebSocket.

    Autobahn's timers are off: they would run on the global reactor. Who uses this has its own.

    :ivar opened: fires when it is open; fails with :exc:`ConnectFailed`.
    :ivar client: what messages are for, once it is open.
    """

    _log = Logger()
    # At its lower levels Autobahn writes the request, and with it the ticket.
    log = txaio.make_logger(level="error")  # type: ignore[attr-defined]

    factory: _Factory
    transport: Any
    client: StompClient | None = None

    def __init__(self) -> None:
        super().__init__()
        self.opened: Deferred[None] = Deferred()

    def onConnecting(self, transport_details: TransportDetails) -> ConnectingRequest:
        """Say what to ask for."""
        return self.factory.request

    def dataReceived(self, data: bytes) -> None:
        """Take octets, of the handshake only so many."""
        super().dataReceived(data)
        if self.state == self.STATE_CONNECTING and len(self.data) > MAX_ANSWER:
            self.abort()

    def onOpen(self) -> None:
        """The handshake is over."""
        self.transport.registerProducer(self, True)
        self.opened.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Give a message to the client."""
        if self.client is None:
            return
        try:
            self.client.data_received(payload)
        except Exception:
            self._log.failure("a client failed")
            self.abort()

    def onCloseFrame(self, code: Any, reason: Any) -> bool | None:
        """The server has closed, and should hang up now."""
        if self.client is not None:
            self.client.closing()
        done: bool | None = super().onCloseFrame(code, reason)
        return done

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The socket is gone."""
        super().connectionLost(reason)
        client, self.client = self.client, None
        if client is not None:
            client.connection_lost(self.remoteCloseCode)
        elif not self.opened.called:
            self.opened.errback(self._denied())

    def _denied(self) -> ConnectFailed:
        _, _, rest = getattr(self, "http_status_line", "").partition(" ")
        if not rest[:3].isdecimal() or rest[:3] == "101":
            return ConnectFailed("no-websocket")
        retry_after = parse_retry_after(self.http_headers.get("retry-after", ""))
        return ConnectFailed("handshake-denied", status=int(rest[:3]), retry_after=retry_after)

    # What the client does.

    def send(self, data: bytes, *, binary: bool) -> None:
        """Send a message, unless the closing handshake has begun."""
        if self.state == self.STATE_OPEN:
            # sendMessage() would hold it to the limit on what comes in.
            self.sendFrame(2 if binary else 1, data)

    def close(self, code: int) -> None:
        """Begin the closing handshake."""
        # sendClose() takes no code below 3000 but 1000.
        self.sendCloseFrame(code)

    def abort(self) -> None:
        """Cut the connection off."""
        self.transport.abortConnection()

    # What the transport tells.

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        if self.client is not None:
            self.client.blocked()

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        if self.client is not None:
            self.client.unblocked()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost() says so too."""


class _Factory(WebSocketClientFactory):
    protocol: Any = ClientWebSocket
    noisy = False

    def __init__(self, request: ConnectingRequest, frame: int, clock: IReactorTime) -> None:
        super().__init__(protocols=request.protocols, reactor=clock)
        self.request = request
        size = frame + MESSAGE_MARGIN
        self.setProtocolOptions(
            version=18,
            maxFramePayloadSize=size,
            maxMessagePayloadSize=size,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            serverConnectionDropTimeout=0,
            autoPingInterval=0,
            failByDrop=True,
            echoCloseCodeReason=False,
        )
