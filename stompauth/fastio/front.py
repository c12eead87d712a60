"""What listens: it finds out what a connection is for, and makes the protocol for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper

from stompauth.errors import Denied
from stompauth.fastio.heads import read_head
from stompauth.handshake.site import PathRouter, StrictSite
from stompauth.handshake.websocket import WebSocketResource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.resource import IResource

    from stompauth.handshake.head import RequestHead


class Front(Protocol):
    """A connection of which nothing is known yet.

    If the first that comes is a whole request that is right in every point, and its answer is here,
    then it is answered here. Whatever else comes goes to twisted.web, unread and from the first
    octet, and with it the connection.

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
        self._silence: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Wait for something to come, but not for ever."""
        if self._site.timeOut:
            self._silence = self._site.reactor.callLater(self._site.timeOut, self._timed_out)

    def _timed_out(self) -> None:
        self._silence = None
        # It knows how to hang up on somebody who does not speak.
        self._go_on_with_web().timeoutConnection()

    def dataReceived(self, data: bytes) -> None:
        """Find out what it is."""
        self._stop_clock()
        head = read_head(data)
        if head is None or not self._answer(head):
            self._go_on_with_web().dataReceived(data)

    def _answer(self, head: RequestHead) -> bool:
        websocket = self._site.websocket
        return websocket is not None and self._upgrade(head, websocket)

    def _upgrade(self, head: RequestHead, websocket: WebSocketResource) -> bool:
        """Make it a WebSocket; what is to be denied at first sight is twisted.web's to answer."""
        peer = self.transport.getPeer()
        try:
            handshake = websocket.read(head, websocket.address_of(head, peer))
        except Denied:
            return False
        protocol: Any = websocket.factory.buildProtocol(peer)
        protocol.handshake = handshake
        connect(self.transport, protocol)
        protocol.processHandshake()
        self._give_back()
        return True

    def _go_on_with_web(self) -> Any:
        release, self._release = self._release, None
        channel = self._site.make_channel(self._address, release)
        connect(self.transport, channel)
        return channel

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone, and never was anything."""
        self._stop_clock()
        self._give_back()

    def _stop_clock(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

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


class FrontSite(StrictSite):
    """The resources of an application, some of them without twisted.web where that is right.

    :param resources: by their paths; see :meth:`.StompAuth.resources`.
    :param fast_io: whether it may be without.
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
        for resource in resources.values() if fast_io else ():
            if isinstance(resource, WebSocketResource):
                self.websocket = resource

    def make_protocol(self, addr: IAddress | None, release: Callable[[], None]) -> Any:
        """Wait for the first octets, unless they can be but for twisted.web."""
        if self.websocket is None:
            return super().make_protocol(addr, release)
        return Front(self, addr, release)
