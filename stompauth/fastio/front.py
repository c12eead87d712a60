"""What listens: it finds out what a connection is for, and makes the protocol for that."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.http import RESPONSES, datetimeToString

from stompauth.coroutines import start
from stompauth.errors import Denied
from stompauth.fastio.heads import read_head
from stompauth.fastio.output import is_drained, socket_of
from stompauth.handshake.site import PathRouter, StrictHTTPChannel, StrictSite
from stompauth.handshake.ticket_resource import TicketResource
from stompauth.handshake.websocket import WebSocketResource
from stompauth.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.resource import IResource

    from stompauth.handshake.head import RequestHead
    from stompauth.handshake.responses import Answer


#: What Connection may say, in lower case; twisted.web takes other words, too.
_CONNECTIONS: Final[tuple[list[bytes], ...]] = ([], [b"close"], [b"keep-alive"])

_SERVER: Final = f"Server: stompauth/{__version__}".encode("ascii")


class Front(Protocol):
    """A connection of which nothing is known yet.

    If the first that comes is a whole request that is right in every point, for a ticket or for
    the WebSocket, it is answered here. Anything else goes to twisted.web, unread and from its first
    octet, and so does all that follows an answer.

    :param site: whose it is.
    :param address: the other end, as it was at accept.
    :param release: gives the connection's place among those of HTTP back.
    """

    transport: Any

    def __init__(
        self, site: FrontSite, address: IAddress | None, release: Callable[[], None]
    ) -> None:
        self._site = site
        self._address = address
        self._release: Callable[[], None] | None = release
        self._timeout: IDelayedCall | None = None
        self._answering: Deferred[Answer] | None = None
        self._has_ended = False
        self._early = b""

    def connectionMade(self) -> None:
        """Wait for something to come, but not for ever."""
        if self._site.timeOut:
            self._timeout = self._site.reactor.callLater(self._site.timeOut, self._timed_out)

    def _timed_out(self) -> None:
        self._timeout = None
        # It knows how to hang up on somebody who does not speak.
        self._go_on_with_web().timeoutConnection()

    def _cancel_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def dataReceived(self, data: bytes) -> None:
        """Find out what it is."""
        if self._has_ended:
            # Over TLS a peer that we have hung up on can go on sending.
            return
        if self._answering is not None:
            # Reading is paused; this was on its way already.
            self._early += data
            return
        self._cancel_timeout()
        head = read_head(data)
        if head is None or not (self._upgrade(head) or self._issue(head)):
            self._go_on_with_web().dataReceived(data)

    def _upgrade(self, head: RequestHead) -> bool:
        """Make it a WebSocket; what is to be denied at first sight is twisted.web's to answer."""
        websocket = self._site.websocket
        if websocket is None or head.method != b"GET":
            return False
        peer = self.transport.getPeer()
        try:
            handshake = websocket.read(head, websocket.address_of(head, peer))
        except Denied:
            return False
        protocol: Any = websocket.factory.buildProtocol(peer)
        protocol.handshake = handshake
        connect(self.transport, protocol)
        self._give_back()
        protocol.processHandshake()
        return True

    def _issue(self, head: RequestHead) -> bool:
        """Answer a request for a ticket."""
        tickets = self._site.tickets.get(head.target)
        connection = [value.lower() for value in head.values(b"connection")]
        if tickets is None or head.method != b"POST" or connection not in _CONNECTIONS:
            return False
        closes = connection == [b"close"]
        transport = self.transport
        is_secure = ISSLTransport.providedBy(transport)
        answer = start(tickets.answer(head, transport.getPeer(), is_secure=is_secure))
        if not isinstance(answer, Deferred):
            self._write(answer, closes)
            return True
        self._answering = answer
        transport.pauseProducing()
        # Of a client that has left, it is cancelled.
        answer.addCallbacks(
            self._write, lambda failure: failure.trap(CancelledError), callbackArgs=(closes,)
        )
        return True

    def _write(self, answer: Answer, closes: bool) -> None:
        was_waiting, self._answering = self._answering is not None, None
        clock = self._site.reactor
        all_sent = send(self.transport, _response(answer, clock.seconds(), closes=closes))
        self._has_ended = closes
        if was_waiting:
            # Over TLS it has to be read that the peer closes, too.
            self.transport.resumeProducing()
        if closes:
            self.transport.loseConnection()
            if not all_sent:
                # In bounded time, as the channel of twisted.web does it.
                self._timeout = clock.callLater(StrictHTTPChannel.abortTimeout, self._cut_off)
            return
        channel = self._go_on_with_web()
        if self._early:
            channel.dataReceived(self._early)

    def _cut_off(self) -> None:
        self._timeout = None
        self.transport.abortConnection()

    def _go_on_with_web(self) -> Any:
        release, self._release = self._release, None
        channel = self._site.make_channel(self._address, release)
        connect(self.transport, channel)
        return channel

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone; who has asked for a ticket gets none."""
        self._cancel_timeout()
        if self._answering is not None:
            self._answering.cancel()
        self._give_back()

    def _give_back(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()


def connect(transport: Any, protocol: Any) -> None:
    """Give a transport another protocol."""
    if isinstance(transport, ProtocolWrapper):
        # TLS, or the PROXY protocol.
        transport.wrappedProtocol = protocol
    elif isinstance(transport.protocol, ProtocolWrapper):
        # TLS that began on a transport of TCP.
        transport.protocol.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)


def send(transport: Any, data: bytes) -> bool:
    """Write to a transport; at once, if it can be.

    :return: whether the kernel has all of it, so that nothing is left that a close would wait for.
    """
    socket = socket_of(transport)
    if socket is not None and is_drained(transport):
        # The kernel may take nothing now; or the connection is broken, as Twisted will see.
        with suppress(OSError):
            data = data[socket.send(data) :]
    if data:
        transport.write(data)
    return not data and socket is not None


def _response(answer: Answer, now: float, *, closes: bool) -> bytes:
    lines = [
        b"HTTP/1.1 %d %s" % (answer.status, RESPONSES.get(answer.status, b"Unknown Status")),
        _SERVER,
        b"Date: " + datetimeToString(now),
        b"Content-Length: %d" % len(answer.body),
    ]
    if closes:
        lines.append(b"Connection: close")
    lines += [f"{name}: {value}".encode("ascii") for name, value in answer.headers.items()]
    return b"\r\n".join([*lines, b"", answer.body])


class FrontSite(StrictSite):
    """The resources of an application, some of them without twisted.web where that is right.

    :param resources: by their paths; see :meth:`.StompAuth.resources`.
    :param clock: for the time-outs.
    :param http_timeout: seconds that a whole request may take, and that a connection may be silent.
    :param fast_io: whether it may be without.
    :param trusted_proxies: see :class:`.StrictSite`.
    :ivar websocket: the WebSocket's resource, if it is among them.
    :ivar tickets: the ticket endpoints, by their paths.
    """

    def __init__(
        self,
        resources: Mapping[bytes, IResource],
        clock: IReactorTime,
        http_timeout: float = 10,
        *,
        fast_io: bool,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        super().__init__(
            PathRouter(resources), clock, http_timeout, trusted_proxies=trusted_proxies
        )
        self.websocket: WebSocketResource | None = None
        self.tickets: dict[bytes, TicketResource] = {}
        for path, resource in resources.items() if fast_io else ():
            if isinstance(resource, WebSocketResource):
                self.websocket = resource
            elif isinstance(resource, TicketResource):
                self.tickets[path] = resource

    def make_protocol(self, addr: IAddress | None, release: Callable[[], None]) -> Any:
        """Wait for the first octets, unless all of them are for twisted.web."""
        if self.websocket is None and not self.tickets:
            return super().make_protocol(addr, release)
        return Front(self, addr, release)
