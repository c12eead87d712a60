"""A session that is made again when it is lost."""

from __future__ import annotations

from random import random as random_share
from typing import TYPE_CHECKING, Any, Final

from twisted.application.internet import ClientService
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from stompauth.client.connector import Connector
from stompauth.client.settings import ClientSettings
from stompauth.errors import ClientError, Disconnected, FrameRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from twisted.internet.interfaces import IProtocol, IProtocolFactory
    from twisted.web.iweb import IAgentEndpointFactory

    from stompauth.client.stomp_client import StompClient
    from stompauth.client.subscription import MessageCallback, Subscription

#: Seconds before the first attempt to come back, and at most before any; give or take a half.
FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 60.0

#: A session that has lasted so many seconds was a good one.
STABLE: Final = 60.0


class StompClientService(Service):
    """Keeps a session with a server, with a fresh ticket each time, and what is subscribed to.

    It comes back after 1, 2, 4 seconds and so on, at most 60, each give or take a half; not before
    the server's ``Retry-After``; and not at all when that would be in vain
    (:attr:`.ClientError.is_final`): closed with 1002, 4403 or 4409, or HTTP status 403.

    What is sent while there is no session waits for none: see :meth:`when_connected`. Messages to
    topics that pass meanwhile are missed.

    :ivar client: the session as it is now, or None.
    :ivar failure: why it has given up, or None.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        url: str,
        token: Callable[[], str | Awaitable[str]],
        *,
        settings: ClientSettings | None = None,
        endpoints: IAgentEndpointFactory | None = None,
        on_notice: Callable[[FrameRefused], object] | None = None,
        on_give_up: Callable[[ClientError], object] | None = None,
        random: Callable[[], float] = random_share,
    ) -> None:
        """
        :param reactor: and all but the last two as for :func:`stompauth.client.connect`.
        :param on_give_up: called with the reason when it will not come back.
        :param random: a number from 0 to 1, different each time.
        :raises ValueError: the URL cannot be used.
        """
        self._clock = reactor
        self._connector = Connector(reactor, url, token, settings or ClientSettings(), endpoints)
        self._on_notice = on_notice
        self._on_give_up = on_give_up
        self._random = random
        self._subscriptions: list[LastingSubscription] = []
        self._failures = 0
        self._connected_at: float | None = None
        self._ready: StompClient | None = None
        self._retry_after = 0.0
        self._keeper = ClientService(
            _Endpoint(self, url), Factory.forProtocol(Protocol), self._delay, reactor
        )
        self.client: StompClient | None = None
        self.failure: ClientError | None = None

    def subscribe(
        self,
        destination: str,
        callback: MessageCallback,
        *,
        ack: str = "auto",
        headers: Mapping[str, str] | None = None,
    ) -> LastingSubscription:
        """Subscribe in this session, if there is one, and in every later one.

        A subscription that the server refuses is dropped, and ``on_notice`` is told. Parameters are
        those of :meth:`.StompClient.subscribe`.
        """
        subscription = LastingSubscription(self, destination, callback, ack, dict(headers or {}))
        self._subscriptions.append(subscription)
        if self.client is not None:
            subscription._begin(self.client).addErrback(self._unsubscribed, destination)
        return subscription

    def _unsubscribed(self, failure: Failure, destination: str) -> None:
        # With the session goes the attempt; the next one has its own.
        if failure.check(Disconnected) is None:
            self._log.failure("not subscribed to {destination}", failure, destination=destination)

    def when_connected(self) -> Deferred[StompClient]:
        """Wait for a session, in which everything is subscribed to.

        :return: fires with it, at once if there is one.
        :raises ClientError: by the Deferred: the service has given up.
        :raises CancelledError: by the Deferred: the service has stopped.
        """
        return Deferred.fromCoroutine(self._when_connected())

    async def _when_connected(self) -> StompClient:
        if self._ready is not None and self._ready.is_connected:
            # ClientService cannot be asked by those whom it is just telling.
            return self._ready
        try:
            session: Any = await self._keeper.whenConnected()
        except CancelledError:
            if self.failure is not None:
                raise self.failure from None
            raise
        client: StompClient = session.transport.client
        return client

    def startService(self) -> None:
        """Begin to connect."""
        super().startService()
        self.failure = None
        self._failures = 0
        self._keeper.startService()

    def stopService(self) -> Deferred[None]:
        """End the session, or the attempts to make one.

        :return: fires when the connection is gone.
        """
        super().stopService()
        return self._keeper.stopService()

    async def _open(self, lost: Callable[[Disconnected], None]) -> StompClient:
        """Make a session and subscribe in it.

        :param lost: called when the session is over, once it was returned.
        """
        self._retry_after = 0.0
        is_made = False

        def disconnected(reason: Disconnected) -> None:
            self.client = self._ready = None
            if is_made:
                self._note(reason)
                lost(reason)

        client = None
        try:
            client = self.client = await self._connector.connect(disconnected, self._noticed)
            self._connected_at = self._clock.seconds()
            begun = [subscription._begin(client) for subscription in self._subscriptions]
            outcomes: Any = await DeferredList(begun, consumeErrors=True)
            for _, outcome in outcomes:
                if isinstance(outcome, Failure):
                    outcome.raiseException()
        except BaseException as error:
            self.client = None
            if client is not None:
                client.drop()
            self._note(error)
            raise
        is_made = True
        self._ready = client
        return client

    def _noticed(self, refused: FrameRefused) -> None:
        self._subscriptions = [each for each in self._subscriptions if not each._is_lost]
        self._tell(refused)

    def _tell(self, refused: FrameRefused) -> None:
        if self._on_notice is not None:
            self._on_notice(refused)
        else:
            where = refused.destination or "a frame"
            self._log.warn("the server refuses {where}: {error}", where=where, error=refused)

    def _note(self, error: BaseException) -> None:
        """Learn from a failure when to come back, and whether."""
        if isinstance(error, CancelledError) or not self.running:
            return
        url = self._connector.url
        if not isinstance(error, ClientError):
            self._log.failure("no session with {url}", Failure(error), url=url)
            return
        why = f" ({error.__cause__})" if error.__cause__ is not None else ""
        self._log.warn("no session with {url}: {error}{why}", url=url, error=error, why=why)
        self._retry_after = error.retry_after or 0.0
        if error.is_final:
            self.failure = error
            # What called this is the attempt that has to be stopped.
            self._clock.callLater(0, self._give_up, error)

    def _give_up(self, error: ClientError) -> None:
        if self.failure is not error or not self.running:
            return
        self._log.error("gave up on {url}: {error}", url=self._connector.url, error=error)
        self._keeper.stopService()
        if self._on_give_up is not None:
            self._on_give_up(error)

    def _delay(self, _attempts: int) -> float:
        """How long to wait; ClientService would take every session for a good one."""
        now = self._clock.seconds()
        if self._connected_at is not None and now - self._connected_at >= STABLE:
            self._failures = 0
        self._connected_at = None
        delay = min(FIRST_DELAY * 2.0 ** min(self._failures, 30), LONGEST_DELAY)
        self._failures += 1
        return max(delay * (0.5 + self._random()), self._retry_after)


class LastingSubscription:
    """What a :class:`StompClientService` subscribes to in each of its sessions.

    :ivar destination: what is subscribed to.
    """

    _log = Logger()

    def __init__(
        self,
        service: StompClientService,
        destination: str,
        callback: MessageCallback,
        ack: str,
        headers: Mapping[str, str],
    ) -> None:
        """Made by :meth:`StompClientService.subscribe`."""
        self.destination = destination
        self._service = service
        self._callback = callback
        self._ack = ack
        self._headers = headers
        self._current: Subscription | None = None

    def unsubscribe(self) -> Deferred[None]:
        """Want no more messages, in this session or a later one.

        :return: fires when the server has noted it; at once if there is no session.
        :raises ClientError: by the Deferred: the session went meanwhile, or nothing was heard.
        """
        if self in self._service._subscriptions:
            self._service._subscriptions.remove(self)
        current, self._current = self._current, None
        return succeed(None) if current is None else current.unsubscribe()

    @property
    def _is_lost(self) -> bool:
        return self._current is not None and not self._current.is_active

    def _begin(self, client: StompClient) -> Deferred[None]:
        """Subscribe in a session; a refusal is told, and does not fail."""
        self._current = None
        return Deferred.fromCoroutine(self._subscribe(client))

    async def _subscribe(self, client: StompClient) -> None:
        service = self._service
        try:
            current = await client.subscribe(
                self.destination, self._callback, ack=self._ack, headers=self._headers
            )
        except FrameRefused as refused:
            if self in service._subscriptions:
                service._subscriptions.remove(self)
                service._tell(FrameRefused(refused.code, self.destination, refused.explanation))
            return
        if self in service._subscriptions:
            self._current = current
        else:
            await current.unsubscribe()


class _Transport:
    """What ClientService takes for a transport.

    :ivar client: the session.
    """

    def __init__(self, client: StompClient) -> None:
        self.client = client

    def loseConnection(self) -> None:
        self.client.disconnect()


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """What ClientService takes for an endpoint: its connections are sessions."""

    def __init__(self, service: StompClientService, url: str) -> None:
        self._service = service
        self._url = url

    def __repr__(self) -> str:
        return self._url

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: Any) -> IProtocol:
        def lost(reason: Disconnected) -> None:
            session.connectionLost(Failure(reason))

        client = await self._service._open(lost)
        transport: Any = _Transport(client)
        session: IProtocol = factory.buildProtocol(None)
        session.makeConnection(transport)
        return session
