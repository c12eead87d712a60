"""What the sessions of a node have in common: a connection, and what is subscribed to for many."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from secrets import randbelow, token_hex
from typing import TYPE_CHECKING, Final

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stompauth.broker.unavailable import unavailable
from stompauth.errors import Refused
from stompauth.relay.connection import BrokerConnection, BrokerFactory
from stompauth.stomp.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
    from twisted.python.failure import Failure

    from stompauth.broker.subscription import Subscription
    from stompauth.relay.connection import BrokerLogin, Receiver

#: Seconds before the second attempt to connect, how much more before each further one, and the
#: most. What is really waited is between a half and three halves of that.
_FIRST_DELAY: Final = 0.5
_FACTOR: Final = 1.5
_LONGEST_DELAY: Final = 20.0


def reconnect_delay(attempt: int) -> float:
    """Seconds to wait before an attempt to connect, after so many that failed."""
    delay = min(_FIRST_DELAY * _FACTOR ** min(attempt, 20), _LONGEST_DELAY)
    return delay * (0.5 + randbelow(1024) / 1024)


class SharedConnection:
    """A connection that is made again whenever it is lost, until it is stopped.

    :param name: what the log calls it.
    :param on_message: called with each MESSAGE.
    :param on_lost: called when a connection is gone that had been there.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        endpoint: IStreamClientEndpoint,
        login: BrokerLogin,
        clock: IReactorTime,
        on_message: Callable[[Frame], None],
        on_lost: Callable[[Refused], None],
    ) -> None:
        self._name = name
        self._on_message = on_message
        self._on_lost = on_lost
        self._connection: BrokerConnection | None = None
        # Attempts in a row that came as far as a connection, and not to CONNECTED. The service
        # could wait for that by prepareConnection, but not for a connection that breaks meanwhile.
        self._turned_down = 0
        self._service = ClientService(
            endpoint,
            _Factory(login, clock, self, self._came),
            retryPolicy=lambda attempt: reconnect_delay(max(attempt, self._turned_down)),
            clock=clock,
        )

    @property
    def is_open(self) -> bool:
        """Whether the broker is there."""
        return self._connection is not None and self._connection.is_open

    @property
    def connection(self) -> BrokerConnection:
        """The connection.

        :raises Refused: ``broker-unavailable`` while there is none.
        """
        if self._connection is None or not self._connection.is_open:
            raise unavailable()
        return self._connection

    def start(self) -> None:
        """Begin to connect."""
        self._service.startService()

    async def stop(self) -> None:
        """Say goodbye, and stay away."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        await self._service.stopService()

    def message(self, frame: Frame) -> None:
        """A MESSAGE came."""
        self._on_message(frame)

    def stray(self, subscription_id: str) -> None:
        """A message was for a subscription that has ended: nobody misses it."""

    def lost(self, refused: Refused) -> None:
        """The connection is gone."""
        self._connection = None
        self._on_lost(refused)

    def _came(self, result: BrokerConnection | Failure) -> None:
        if isinstance(result, BrokerConnection):
            self._turned_down = 0
            self._connection = result
            self._log.info("the broker is there: {name}", name=self._name)
        else:
            self._turned_down += 1


class _Factory(BrokerFactory):
    """Tells of each connection whether the broker has accepted CONNECT."""

    def __init__(
        self,
        login: BrokerLogin,
        clock: IReactorTime,
        receiver: Receiver,
        came: Callable[[BrokerConnection | Failure], None],
    ) -> None:
        super().__init__(login, clock, receiver)
        self._came = came

    def buildProtocol(self, addr: IAddress | None) -> BrokerConnection:
        """Make the protocol of a connection that is open."""
        connection = super().buildProtocol(addr)
        connection.ready.addBoth(self._came)
        return connection


@dataclass(slots=True, eq=False)
class Feed:
    """One subscription at the broker, and whose subscriptions here it serves.

    :ivar address: what it is of.
    :ivar id: by which the broker knows it.
    """

    address: str
    id: str
    targets: dict[Subscription, None] = field(default_factory=dict)
    is_confirmed: bool = False
    _waiting: list[Deferred[None]] = field(default_factory=list)

    def wait(self) -> Deferred[None]:
        """Wait until the broker has confirmed it; one who gives up is not the others' loss."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def settle(self, refused: Refused | None) -> None:
        """The broker has confirmed it, or will not."""
        self.is_confirmed = refused is None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if refused is None:
                each.callback(None)
            else:
                each.errback(Refused(refused.code, refused.headers))


class Feeds:
    """What this node subscribes to: one subscription for each address, however many want it.

    The broker's ids are random and never used again: what still comes for a feed that has ended is
    dropped, whoever subscribes to the same address next.

    :param consumer: the connection that they live on, and end with.
    :param limit: how many there are at most; 0 for any number.
    :ivar limit: likewise; may be replaced at any time.
    """

    def __init__(self, consumer: SharedConnection, limit: int) -> None:
        self._consumer = consumer
        self.limit = limit
        self._by_address: dict[str, Feed] = {}
        self._by_id: dict[str, Feed] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def by_id(self, feed_id: str) -> Feed | None:
        """The feed that the broker calls so."""
        return self._by_id.get(feed_id)

    def targets(self, address: str) -> list[Subscription]:
        """The subscriptions here of that address."""
        feed = self._by_address.get(address)
        return list(feed.targets) if feed is not None else []

    def add(self, address: str, subscription: Subscription) -> Deferred[None] | None:
        """Let the subscription have what comes to the address, from now on.

        :return: None if the broker has confirmed it, else fires when it does.
        :raises Refused: ``limit``, or ``broker-unavailable``.
        """
        feed = self._by_address.get(address)
        if feed is None:
            if self.limit and len(self._by_id) >= self.limit:
                raise Refused("limit")
            feed = self._open(address)
        feed.targets[subscription] = None
        subscription.active = True
        return None if feed.is_confirmed else feed.wait()

    def remove(self, address: str, subscription: Subscription) -> None:
        """Let it have no more; the last one's leaving ends the feed."""
        subscription.active = False
        subscription.unacked.clear()
        feed = self._by_address.get(address)
        if feed is None or subscription not in feed.targets:
            return
        del feed.targets[subscription]
        if not feed.targets:
            self._end(feed)

    def clear(self) -> list[Subscription]:
        """Forget all of them, as the connection is gone; whose subscriptions are cut."""
        cut = [target for feed in self._by_id.values() for target in feed.targets]
        self._by_address.clear()
        self._by_id.clear()
        return cut

    def _open(self, address: str) -> Feed:
        feed = Feed(address, token_hex(8))
        confirmed = self._consumer.connection.request(
            Frame("SUBSCRIBE", {"id": feed.id, "destination": address, "ack": "auto"})
        )
        self._by_address[address] = self._by_id[feed.id] = feed
        confirmed.addCallbacks(
            lambda _: feed.settle(None), lambda failure: self._fail(feed, failure.value)
        )
        return feed

    def _fail(self, feed: Feed, error: Exception) -> None:
        """The broker has not confirmed it in time; whoever waits deactivates its own."""
        if self._by_id.get(feed.id) is feed:
            self._end(feed)
        feed.settle(error if isinstance(error, Refused) else unavailable())

    def _end(self, feed: Feed) -> None:
        del self._by_address[feed.address]
        del self._by_id[feed.id]
        # Without a connection there is nothing to end, and one that is stuck will be lost.
        with suppress(Refused):
            self._consumer.connection.send(Frame("UNSUBSCRIBE", {"id": feed.id}))
