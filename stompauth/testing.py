"""A testing kit: clients of an application, in memory, on a clock that the test turns.

Nothing is left out but the sockets: a client trades its token at the ticket resource, opens a
WebSocket, and sends CONNECT, and every frame passes the application's own interceptors and rules.
No reactor runs, and nothing waits::

    class ChatTests(SynchronousTestCase):
        def setUp(self):
            clock = Clock()
            self.verifier = FakeVerifier(clock)
            self.server = MemoryServer(make_chat(self.verifier, clock), clock)
            self.addCleanup(self.server.close)

        def test_room(self):
            alice = self.server.connect(self.verifier.token("alice"))
            alice.subscribe("/topic/rooms/lobby")
            alice.send("/topic/rooms/lobby", "hello")
            self.assertEqual([message.text for message in alice.messages], ["hello"])
"""

from __future__ import annotations

from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final, TypeVar

import txaio
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from stompauth.client.connector import connect
from stompauth.client.settings import ClientSettings
from stompauth.errors import BadToken, TokenExpired
from stompauth.fastio.front import FrontSite
from stompauth.identity.principal import Principal
from stompauth.interfaces import ITokenVerifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twisted.internet.interfaces import IProtocol, IProtocolFactory
    from twisted.internet.task import Clock
    from twisted.web.client import URI

    from stompauth.application import StompAuth
    from stompauth.client.stomp_client import StompClient
    from stompauth.client.subscription import Message, Subscription
    from stompauth.errors import Disconnected, FrameRefused

# Its attributes are there once it is imported, and not to be seen before.
_txaio: Any = txaio

_T = TypeVar("_T")

#: Rounds in which clients and server may answer each other before something is wrong.
_MAX_ROUNDS: Final = 10_000


@implementer(ITokenVerifier)
class FakeVerifier:
    """Takes the tokens that it has made up itself, and no others.

    :param clock: what time it is.
    :ivar issuer: of all its tokens.
    """

    leeway: float = 0
    issuer = "https://issuer.example/"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._principals: dict[str, Principal] = {}

    def token(
        self,
        user: str,
        *,
        authorities: Iterable[str] = (),
        claims: Mapping[str, object] | None = None,
        lifetime: float = 3600,
        token_id: str | None = None,
    ) -> str:
        """Make up a token.

        :param user: the user name.
        :param authorities: what rules with ``authorities`` compare.
        :param claims: what rules with ``claims`` compare.
        :param lifetime: seconds for which it is good.
        :param token_id: its ``jti``.
        """
        now = self._clock.seconds()
        token = token_urlsafe(16)
        self._principals[token] = Principal(
            name=user,
            issuer=self.issuer,
            expires_at=now + lifetime,
            issued_at=now,
            authorities=frozenset(authorities),
            claims={"sub": user, **(claims or {})},
            token_id=token_id,
        )
        return token

    def verify(self, token: str) -> Deferred[Principal]:
        """Verify a token; see :meth:`.ITokenVerifier.verify`."""
        principal = self._principals.get(token)
        if principal is None:
            return fail(BadToken("not made up here"))
        if principal.expires_at <= self._clock.seconds():
            return fail(TokenExpired())
        return succeed(principal)


@implementer(IAgentEndpointFactory)
class MemoryServer:
    """A server in memory: an application behind a site, and clients of it.

    It may also be given as ``endpoints`` to what uses :mod:`stompauth.client` by itself, with
    ``url`` and the clock; then :meth:`flush` and :meth:`advance` let that go on.

    :param app: the application.
    :param clock: the same that the application was made with.
    :ivar url: for clients that are made elsewhere; any other will do as well.
    :ivar settings: for them; their origin is one that the application accepts from here on.
    :ivar site: the site, with the resources of the application.
    """

    url = "https://server.example"

    def __init__(self, app: StompAuth, clock: Clock) -> None:
        self.settings = ClientSettings(origin="https://client.example")
        app.origins.add("https://client.example")
        self.site = FrontSite(app.resources(), clock, app.limits.http_timeout, fast_io=app.fast_io)
        self._clock = clock
        self._pumps: list[IOPump] = []
        # Autobahn's timers run on txaio's loop, whatever reactor its factory was given.
        self._loop = _txaio.config.loop
        _txaio.config.loop = clock

    def connect(self, token: str) -> MemoryClient:
        """Make a session.

        :raises ConnectFailed: the server does not want it.
        :raises AssertionError: the application has not decided yet; to test that, use
            :func:`stompauth.client.connect`.
        """
        client = MemoryClient(self)
        connecting = connect(
            self._clock,
            self.url,
            lambda: token,
            settings=self.settings,
            endpoints=self,
            on_disconnect=client._disconnected,
            on_notice=client._notices.append,
        )
        client.client = self.result_of(connecting)
        return client

    def result_of(self, waiting: Deferred[_T]) -> _T:
        """Let clients and server go on, and have what a Deferred fires with.

        :raises Exception: what it fails with.
        :raises AssertionError: it has not fired.
        """
        results: list[_T | Failure] = []
        waiting.addBoth(results.append)
        self.flush()
        if not results:
            raise AssertionError("that is still waiting for something")
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def flush(self) -> None:
        """Let everybody take what was sent to them, and answer, until nothing is on its way."""
        for _ in range(_MAX_ROUNDS):
            self._clock.advance(0)
            if not any(pump.pump(advanceClock=False) for pump in self._pumps):
                self._pumps = [pump for pump in self._pumps if not pump.clientIO.disconnected]
                return
        raise AssertionError("clients and server do not come to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass, with all that becomes due meanwhile, each at its time."""
        end = self._clock.seconds() + seconds
        self.flush()
        while (now := self._clock.seconds()) < end:
            due = min((call.getTime() for call in self._clock.getDelayedCalls()), default=end)
            self._clock.advance(min(max(due, now), end) - now)
            self.flush()

    def close(self) -> None:
        """Break all connections; for a test's end."""
        for pump in self._pumps:
            pump.clientIO.loseConnection()
        self.flush()
        _txaio.config.loop = self._loop

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Make an endpoint that leads here, whatever the URI."""
        return _MemoryEndpoint(self)

    def _accept(self, factory: IProtocolFactory) -> IProtocol:
        address = IPv4Address("TCP", "192.0.2.1", 54321)
        server: Any = self.site.buildProtocol(address)
        client: Any = factory.buildProtocol(address)
        server_io = FakeTransport(server, isServer=True, peerAddress=address)
        client_io = FakeTransport(client, isServer=False, peerAddress=address)
        server.makeConnection(server_io)
        client.makeConnection(client_io)
        self._pumps.append(IOPump(client, server, client_io, server_io, False, self._clock))
        connected: IProtocol = client
        return connected


class MemoryClient:
    """A client of a :class:`MemoryServer`, all of whose methods are done when they return.

    :ivar client: the client itself, whose methods return Deferreds: for what has to wait.
    """

    client: StompClient

    def __init__(self, server: MemoryServer) -> None:
        """Made by :meth:`MemoryServer.connect`."""
        self._server = server
        self._messages: list[Message] = []
        self._notices: list[FrameRefused] = []
        self._closed: Disconnected | None = None

    def subscribe(
        self, destination: str, *, ack: str = "auto", headers: Mapping[str, str] | None = None
    ) -> Subscription:
        """Subscribe; messages go to :attr:`messages`. See :meth:`.StompClient.subscribe`.

        :raises ClientError: the server refuses.
        """
        subscribing = self.client.subscribe(
            destination, self._messages.append, ack=ack, headers=headers
        )
        return self._server.result_of(subscribing)

    def send(
        self, destination: str, body: bytes | str = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a message. See :meth:`.StompClient.send`.

        :raises ClientError: the server refuses.
        """
        self._server.result_of(self.client.send(destination, body, headers))

    def disconnect(self) -> None:
        """End the session."""
        self._server.result_of(self.client.disconnect())

    @property
    def messages(self) -> list[Message]:
        """The messages so far, in order; the list may be cleared."""
        self._server.flush()
        return self._messages

    @property
    def notices(self) -> list[FrameRefused]:
        """What the server has refused or taken away without having been asked just then."""
        self._server.flush()
        return self._notices

    @property
    def closed(self) -> Disconnected | None:
        """Why the session is over; None while it is not."""
        self._server.flush()
        return self._closed

    def _disconnected(self, reason: Disconnected) -> None:
        self._closed = reason


@implementer(IStreamClientEndpoint)
class _MemoryEndpoint:
    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def connect(self, factory: Any) -> Deferred[IProtocol]:
        return succeed(self._server._accept(factory))
