"""A stricter twisted.web: what a request may look like, and how long it may take."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import connectionDone
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from stompauth.handshake.address import ClientAddress
from stompauth.handshake.connections import HTTPConnections
from stompauth.handshake.responses import NotFound
from stompauth.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.http_headers import Headers

#: Octets of a body at most, where a site says nothing else. A longer one is not read.
MAX_BODY = 8192


class StrictRequest(Request):
    """A request that knows whether its body was refused.

    :ivar body_too_large: the body is longer than the site lets it be, or of unknown length. It
        was not read, and the connection ends with the answer.
    """

    body_too_large = False

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory: twisted.web makes a file for one that it takes for large."""
        self.content = BytesIO()


class StrictHTTPChannel(HTTPChannel):
    """HTTP/1.1 with bounds.

    - A request has to be complete within ``head_timeout`` seconds of its first octet, also when
      it keeps dribbling; twisted.web's own time-out starts anew with every segment.
    - A body is never buffered beyond ``max_body``.
    - Line folding and a repeated or missing Host are refused (RFC 9112, sections 5.2 and 3.2).
    """

    maxHeaders = 100
    totalHeadersSize = 16384
    head_timeout: float = 10
    max_body = MAX_BODY
    transport: Any
    _head_call: IDelayedCall | None = None
    release_place: Callable[[], None] | None = None

    def dataReceived(self, data: bytes) -> None:
        """Start the clock of a request with its first octet; take nothing behind the last one."""
        if self.transport.disconnecting:
            # Over TLS a peer that we have hung up on can go on sending.
            return
        if self._head_call is None and not self._handlingRequest and self.head_timeout:
            self._head_call = self.callLater(self.head_timeout, self._head_timed_out)
        super().dataReceived(data)

    def _head_timed_out(self) -> None:
        self._head_call = None
        self.transport.abortConnection()

    def _stop_head_clock(self) -> None:
        if self._head_call is not None:
            self._head_call.cancel()
            self._head_call = None

    def lineReceived(self, line: bytes) -> None:
        """Refuse a folded header line."""
        if line[:1] in (b" ", b"\t"):
            self._refuse()
            return
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is too long."""
        self._refuse()

    def allHeadersReceived(self) -> None:
        """Refuse what is not one request for one host; leave a large body unread."""
        request = self.requests[-1]
        hosts = request.requestHeaders.getRawHeaders(b"Host", [])
        if len(hosts) != 1 and self._version == b"HTTP/1.1":
            self._refuse()
            # Nothing of this request may reach a resource.
            self.length = None
            return
        super().allHeadersReceived()
        if self.length is None or self.length > self.max_body:
            request.body_too_large = True
            self.persistent = False
            # As if there were no body: the resource answers now, and then the connection ends.
            self.length = 0

    def allContentReceived(self) -> None:
        """Stop the clock: the request is complete."""
        self._stop_head_clock()
        super().allContentReceived()

    def timeoutConnection(self) -> None:
        """Hang up on an idle connection, which is nothing to log."""
        self.loseConnection()

    def loseConnection(self) -> None:
        """Hang up, in bounded time: over TLS, or with output unread, a peer could put it off.

        twisted.web bounds it only for a connection that has timed out.
        """
        self.setTimeout(None)
        if self._abortingCall is None and self.abortTimeout:
            self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)
        super().loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Stop the clock."""
        self._stop_head_clock()
        self.handed_over()
        super().connectionLost(reason)

    def handed_over(self) -> None:
        """The socket speaks HTTP no more: it is gone, or has become a WebSocket."""
        release, self.release_place = self.release_place, None
        if release is not None:
            release()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Name ourselves in ``Server``, and nothing of what we are made of."""
        headers.setRawHeaders("Server", [f"stompauth/{__version__}"])
        super().writeHeaders(version, code, reason, headers)

    def _refuse(self) -> None:
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        self.loseConnection()


class StrictSite(Site):
    """A Site of :class:`StrictHTTPChannel`, without tracebacks, HTTP/2 or an access log.

    twisted.web's access log writes the query and the Referer of a request, and with them tickets.
    Nor does it parse forms: a resource that wants one has its octets.

    :param resource: the root.
    :param clock: for the time-outs.
    :param http_timeout: seconds that a whole request may take.
    :param max_body: octets of a body at most.
    :param connections: sockets that may speak HTTP at a time; 0 for any number. A further one is
        closed as it is accepted. A WebSocket has an end of its own, and does not count here.
    :param connections_per_address: likewise of one IPv4 address or IPv6 /64. Unix sockets and
        trusted proxies are not counted so.
    :param trusted_proxies: networks such as ``10.0.0.0/8``, with many clients behind an address.
    """

    displayTracebacks = False

    def __init__(
        self,
        resource: IResource,
        clock: IReactorTime,
        http_timeout: float = 10,
        max_body: int = MAX_BODY,
        *,
        connections: int = 0,
        connections_per_address: int = 0,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        class Channel(StrictHTTPChannel):
            """A channel of this site."""

        Channel.max_body = max_body
        super().__init__(
            resource,
            requestFactory=StrictRequest,
            reactor=clock,
            parsePOSTFormSubmission=False,
        )
        self._channel = Channel
        self._connections = HTTPConnections(
            connections, connections_per_address, ClientAddress(trusted_proxies)
        )
        self.replace_limits(http_timeout, connections, connections_per_address)
        # HTTPFactory types it as what may also speak HTTP/2.
        self.protocol = Channel  # type: ignore[assignment, method-assign]

    def replace_limits(
        self, http_timeout: float, connections: int, connections_per_address: int
    ) -> None:
        """Have other limits from now on, which are those of the class; open sockets stay."""
        self._channel.head_timeout = http_timeout
        self.timeOut = http_timeout or None
        self._connections.limit = connections
        self._connections.limit_per_address = connections_per_address

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make the channel of a socket that was accepted; None, and it is closed."""
        release = self._connections.claim(addr)
        return None if release is None else self.make_protocol(addr, release)

    def make_protocol(self, addr: IAddress | None, release: Callable[[], None]) -> Any:
        """Make the protocol of a socket that was accepted, and has its place among all."""
        return self.make_channel(addr, release)

    def make_channel(self, addr: IAddress | None, release: Callable[[], None] | None) -> Any:
        """Make a channel of twisted.web.

        :param release: gives the socket's place back, to be called once.
        """
        channel: Any = super().buildProtocol(addr)
        channel.release_place = release
        return channel

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 alone; twisted.web would agree on HTTP/2 over TLS wherever h2 is installed."""
        return [b"http/1.1"]

    def log(self, request: Any) -> None:
        """Write nothing."""


class PathRouter(Resource):
    """Resources at exact paths: the octets of the request, neither decoded nor normalised.

    :param routes: path, such as ``b"/stomp"``, to resource.
    :param fallback: takes what is at none of them; by default 404.
    """

    isLeaf = False

    def __init__(
        self, routes: Mapping[bytes, IResource], fallback: IResource | None = None
    ) -> None:
        super().__init__()
        self._routes = routes
        self._fallback = fallback

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        """Choose by the whole path, whatever the segment."""
        resource = self._routes.get(request.path)
        if resource is not None:
            request.postpath = []
            return resource
        if self._fallback is None:
            return NotFound()
        if self._fallback.isLeaf:
            return self._fallback
        child: IResource = self._fallback.getChildWithDefault(path, request)
        return child
