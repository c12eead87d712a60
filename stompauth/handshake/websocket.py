"""The WebSocket, on Autobahn: from the upgrade request to the session.

Autobahn keeps the opening handshake, the framing and the closing handshake of RFC 6455. What it
would parse differently from the HTTP server in front of it never reaches it: the request that it
sees is made anew of the few headers that it needs, and holds neither query nor Origin. So nothing
that Autobahn keeps or logs can hold a ticket either.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from autobahn.twisted.resource import WebSocketResource as AutobahnResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from zope.interface import implementer

from stompauth.audit import audit
from stompauth.coroutines import start
from stompauth.errors import Denied
from stompauth.handshake.head import RequestHead
from stompauth.handshake.responses import NotFound
from stompauth.handshake.site import StrictHTTPChannel
from stompauth.handshake.upgrade import read_upgrade
from stompauth.session.outbound import OutboundBuffer
from stompauth.settings import Limits, WebSocketSettings
from stompauth.version import __version__

if TYPE_CHECKING:
    from autobahn.websocket.types import ConnectionRequest
    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
    from twisted.web.server import Request

    from stompauth.handshake.address import ClientAddress
    from stompauth.handshake.admission import Admission, AdmissionPolicy, HandshakeRequest
    from stompauth.handshake.connections import Slot
    from stompauth.session.outbound import Bounded, Outbound
    from stompauth.session.session import Session, SessionFactory

#: A WebSocket message may be longer than a STOMP frame by so much.
MESSAGE_MARGIN: Final = 16384

#: Seconds that a pong may take.
PONG_TIMEOUT: Final = 10

#: Octets that each frame of a WebSocket counts for, beside those of its message: fragments, pings
#: and empty messages cost the server work, however little they hold.
FRAME_COST: Final = 512

#: The longest payload of a control frame (RFC 6455 section 5.5).
CONTROL_PAYLOAD: Final = 125

#: Constants, because Autobahn writes a reason phrase as it is.
_REASONS: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    426: "Upgrade Required",
    429: "Too Many Requests",
    503: "Service Unavailable",
}

_FORWARDED_HEADERS: Final = (
    b"Host",
    b"Upgrade",
    b"Connection",
    b"Sec-WebSocket-Key",
    b"Sec-WebSocket-Version",
    b"Sec-WebSocket-Protocol",
)


@implementer(IPushProducer)
class StompWebSocketProtocol(WebSocketServerProtocol):
    """One WebSocket: admits it, then hands messages to its session.

    :ivar handshake: the request, as :class:`WebSocketResource` has read it.
    """

    _log = Logger()

    factory: StompWebSocketFactory
    transport: Any
    handshake: HandshakeRequest
    _admission: Admission | None = None
    _slot: Slot | None = None
    _session: Session | None = None
    _admitting: Deferred[Admission] | None = None
    _hanging_up: IDelayedCall | None = None
    _frames = 0
    _messages = 0

    # The opening handshake.

    async def onConnect(  # type: ignore[override]  # Autobahn awaits it
        self, request: ConnectionRequest | None
    ) -> str | None:
        """Accept or deny the handshake; what Autobahn has read of it is not asked."""
        try:
            admission = start(self.factory.admission.admit(self.handshake))
            if isinstance(admission, Deferred):
                self._admitting = admission
                admission = await admission
            self._admission = admission
            self._slot = admission.slot
        except Exception:
            status = self._denied(Failure())
            # Autobahn would put the text of any other exception into the status line.
            raise ConnectionDeny(status, _REASONS.get(status, "Denied")) from None
        finally:
            self._admitting = None
        if self.state == self.STATE_CLOSED:
            # The peer left meanwhile; onOpen would follow onClose.
            self._release()
            raise ConnectionDeny(503, _REASONS[503])
        return self.handshake.subprotocol()

    def _denied(self, failure: Failure) -> int:
        """Tell the log why nobody was admitted, and give the status to answer."""
        denied = failure.value
        if isinstance(denied, Denied):
            audit(
                "handshake-denied",
                address=self.handshake.address,
                status=denied.status,
                reason=denied.slug,
            )
            return denied.status
        # The peer may have left meanwhile.
        if not isinstance(denied, CancelledError):
            self._log.failure("a handshake failed", failure)
        return 503

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Deny in constant words; Autobahn's own quote the request."""
        super().failHandshake(_REASONS.get(code, "Denied"), code, responseHeaders)

    def dataReceived(self, data: bytes) -> None:
        """Pass on what comes, but nothing before the handshake is answered."""
        if self._admitting is not None:
            # Autobahn would take it for a second handshake of the same socket.
            self.transport.abortConnection()
            return
        if self.state == self.STATE_CLOSED:
            # Over TLS a peer that we have hung up on can go on sending; Autobahn would keep it.
            return
        self._read(data)
        self._tell_received()

    def _read(self, data: bytes) -> None:
        """Let Autobahn have what comes."""
        super().dataReceived(data)

    def _tell_received(self) -> None:
        frames, self._frames = self._frames, 0
        if self._session is not None:
            message = self._messages if self.inside_message else 0
            self._session.received(frames * FRAME_COST, message)

    def onFrameBegin(self) -> None:
        """Count the frame."""
        self._frames += 1
        super().onFrameBegin()

    def onFrameData(self, payload: bytes) -> bool | None:
        """Take part of a frame, unless it is none of RFC 6455.

        After a violation Autobahn reads on, for the peer's close frame.
        """
        frame = self.current_frame
        if frame.opcode > 7 and frame.length > CONTROL_PAYLOAD:
            return None
        return super().onFrameData(payload)

    def processControlFrame(self) -> bool:
        """Take a control frame, unless it is a pong to no ping: Autobahn logs each of those."""
        is_pong = self.current_frame.opcode == 10
        if is_pong and b"".join(self.control_frame_data) != self.autoPingPending:
            return True
        return bool(super().processControlFrame())

    def onMessageBegin(self, isBinary: bool) -> None:
        """Count the message."""
        self._messages += 1
        super().onMessageBegin(isBinary)

    def onOpen(self) -> None:
        """Begin the session."""
        admission, self._admission = self._admission, None
        if admission is None:
            self.abort()
            return
        # The HTTP channel is still the transport's producer.
        self.transport.unregisterProducer()
        self._open_output()
        try:
            self._session = self.factory.sessions.open(
                admission.grant, self.handshake.address, self, admission.attributes
            )
        except Exception:
            self._log.failure("a session could not be made")
            self.close(1011, "internal")

    def _open_output(self) -> None:
        self.transport.registerProducer(self, True)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Give a message to the session."""
        # What its frames count for is told when all that came has been read.
        self._give(payload, 0)

    def _give(self, payload: bytes, overhead: int) -> None:
        session = self._session
        if session is None:
            return
        try:
            session.data_received(payload, overhead)
        except Exception:
            self._log.failure("a session failed")
            session.end("internal")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The socket is gone: so are the session and its place in the counts."""
        self._lose(reason)
        if self._admitting is not None:
            self._admitting.cancel()
        if self._hanging_up is not None and self._hanging_up.active():
            self._hanging_up.cancel()
        session, self._session = self._session, None
        if session is not None:
            session.connection_lost()
        self._release()

    def _lose(self, reason: Failure) -> None:
        """Let Autobahn know of it."""
        super().connectionLost(reason)

    def dropConnection(self, abort: bool = False) -> None:
        """Hang up, in bounded time: over TLS, or with output unread, a peer could put it off.

        Autobahn would abort as soon as both close frames are there; but ours, and an ERROR before
        it, may not have left yet.
        """
        abort = abort and not self.wasClean
        was_closed = self.state == self.STATE_CLOSED
        super().dropConnection(abort)
        timeout = self.factory.limits.close_timeout
        if timeout and not abort and not was_closed:
            self._hanging_up = self.factory.clock.callLater(timeout, self.abort)

    def _release(self) -> None:
        if self._slot is not None:
            self._slot.release()

    # What the session does: stompauth.session.outbound.WebSocketTransport.

    def outbound(self, limit: int, owner: Bounded) -> Outbound:
        """Make the session's way out."""
        return OutboundBuffer(self._send_frame, limit, owner, self.factory.clock)

    def _send_frame(self, frame: bytes) -> None:
        # Nothing may stand behind a close frame.
        if self.state == self.STATE_OPEN:
            self.factory.sessions.counters.bytes_sent += len(frame)
            self.sendData(frame)

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        # sendClose() takes no code below 3000 but 1000.
        self.sendCloseFrame(code, reason.encode("ascii"))

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Close, whoever wanted it; nothing is delivered to the session from here on."""
        if self._session is not None:
            self._session.closing()
        super().sendCloseFrame(code, reasonUtf8, isReply)

    def abort(self) -> None:
        """Cut the connection off."""
        self.transport.abortConnection()

    def pause_reading(self) -> None:
        """Stop reading."""
        self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Read on."""
        self.transport.resumeProducing()

    # What the transport tells.

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        if self._session is not None:
            self._session.blocked()

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        if self._session is not None:
            self._session.unblocked()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost() says so too."""


class StompWebSocketFactory(WebSocketServerFactory):
    """Makes the protocols, with every limit of Autobahn's set.

    :param admission: decides about handshakes.
    :param sessions: makes the sessions.
    """

    protocol: Any = StompWebSocketProtocol

    def __init__(
        self,
        *,
        admission: AdmissionPolicy,
        sessions: SessionFactory,
        clock: IReactorTime,
        limits: Limits,
        settings: WebSocketSettings,
    ) -> None:
        super().__init__(server=f"stompauth/{__version__}", reactor=clock)
        self.admission = admission
        self.sessions = sessions
        self.clock = clock
        self._ping = settings.ping
        self.replace_limits(limits)

    def replace_limits(self, limits: Limits) -> None:
        """Have other limits for the sockets that open from now on."""
        self.limits = limits
        size = limits.frame + MESSAGE_MARGIN if limits.frame else 0
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            allowNullOrigin=False,
            trustXForwardedFor=0,
            maxFramePayloadSize=size,
            maxMessagePayloadSize=size,
            openHandshakeTimeout=limits.handshake_timeout,
            closeHandshakeTimeout=limits.close_timeout,
            autoPingInterval=self._ping,
            autoPingTimeout=PONG_TIMEOUT,
            autoPingRestartOnAnyTraffic=False,
            failByDrop=False,
            echoCloseCodeReason=False,
            tcpNoDelay=True,
        )


class _ForOneRequest:
    """What Autobahn's resource takes for a factory: the protocol knows its request."""

    def __init__(self, factory: StompWebSocketFactory, handshake: HandshakeRequest) -> None:
        self._factory = factory
        self._handshake = handshake

    def buildProtocol(self, addr: IAddress) -> Any:
        protocol: Any = self._factory.buildProtocol(addr)
        protocol.handshake = self._handshake
        return protocol


@implementer(IResource)
class WebSocketResource:
    """``GET /stomp``: checks what HTTP has to be right about, and lets Autobahn upgrade.

    :param addresses: finds the client's address.
    :ivar factory: makes the protocols.
    """

    isLeaf = True

    def __init__(
        self,
        factory: StompWebSocketFactory,
        addresses: ClientAddress,
        settings: WebSocketSettings,
    ) -> None:
        self.factory = factory
        self._addresses = addresses
        self._path = settings.path

    def getChildWithDefault(self, name: bytes, request: Request) -> IResource:
        """There is nothing below."""
        return NotFound()

    def putChild(self, path: bytes, child: IResource) -> None:
        """There can be nothing below."""
        raise RuntimeError("a WebSocket has no children")

    def render(self, request: Request) -> Any:
        """Read the handshake, and go on with it on Autobahn."""
        head = RequestHead.of(request)
        address = self.address_of(head, request.getClientAddress())
        has_body = getattr(request, "body_too_large", False) or (
            request.content is not None and bool(request.content.read(1))
        )
        try:
            handshake = self.read(head, address, has_body=has_body)
        except Denied as denied:
            return self._deny(request, denied, address)
        request.uri = self._path.encode("ascii")
        forwarded = Headers()
        for name in _FORWARDED_HEADERS:
            values = request.requestHeaders.getRawHeaders(name)
            if values:
                forwarded.setRawHeaders(name, values)
        request.requestHeaders = forwarded
        request.content = BytesIO()
        channel = request.channel
        response = AutobahnResource(_ForOneRequest(self.factory, handshake)).render(request)
        if isinstance(channel, StrictHTTPChannel):
            channel.handed_over()
        return response

    def address_of(self, head: RequestHead, peer: IAddress | None) -> str:
        """Where a request comes from."""
        return self._addresses.of(peer, head.values(b"x-forwarded-for"))

    def read(self, head: RequestHead, address: str, *, has_body: bool = False) -> HandshakeRequest:
        """Read a handshake.

        :raises Denied: with the status to answer.
        """
        return read_upgrade(head, self._path, address, has_body=has_body)

    def _deny(self, request: Request, denied: Denied, address: str) -> bytes:
        audit("handshake-denied", address=address, status=denied.status, reason=denied.slug)
        request.setResponseCode(denied.status, _REASONS[denied.status].encode("ascii"))
        headers = request.responseHeaders
        headers.removeHeader("Content-Type")
        headers.setRawHeaders("Cache-Control", ["no-store"])
        if denied.status == 426:
            headers.setRawHeaders("Sec-WebSocket-Version", ["13"])
            headers.setRawHeaders("Upgrade", ["websocket"])
        if denied.status == 405:
            headers.setRawHeaders("Allow", ["GET"])
        return b""
