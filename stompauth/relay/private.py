"""A session's own connection to the broker: queues, acknowledgements, transactions."""

from __future__ import annotations

from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.defer import Deferred, FirstError, gatherResults

from stompauth.broker.subscription import Delivery
from stompauth.broker.unavailable import unavailable
from stompauth.errors import Refused
from stompauth.relay.connection import (
    PATIENCE,
    BrokerConnection,
    BrokerFactory,
)
from stompauth.relay.headers import delivery_count, from_broker
from stompauth.stomp.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
    from twisted.python.failure import Failure

    from stompauth.broker.subscription import Subscription
    from stompauth.relay.connection import BrokerLogin

#: What a consumer holds unacknowledged if it has no ``prefetch`` of its own.
_PREFETCH: Final = 100


@dataclass(slots=True, eq=False)
class _Consumer:
    """A subscription of a queue, and by what the broker calls its deliveries.

    :ivar acks: the id that an ACK of each delivery needs.
    """

    subscription: Subscription
    id: str
    acks: dict[Delivery, str] = field(default_factory=dict)


class PrivateConnection:
    """One session's connection, which is opened when it is first needed.

    What the session has not acknowledged goes back when the connection ends, in one piece.

    :param max_deliveries: after how many deliveries, where the broker counts them, a message that
        is given back is not to be delivered again; 0 for never.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        login: BrokerLogin,
        clock: IReactorTime,
        max_deliveries: int,
    ) -> None:
        self._endpoint = endpoint
        self._factory = BrokerFactory(login, clock, self)
        self._clock = clock
        self._max_deliveries = max_deliveries
        self._dialling: Deferred[BrokerConnection] | None = None
        self._waiting: list[Deferred[BrokerConnection]] = []
        self._connection: BrokerConnection | None = None
        self._is_closed = False
        self._consumers: dict[str, _Consumer] = {}
        self._by_subscription: dict[Subscription, _Consumer] = {}
        # Consumers that are being ended: what they hold, and what still comes for them.
        self._parting: dict[str, list[str]] = {}
        self._transactions = 0
        # How many messages the broker has sent, and whether it numbers them likewise.
        self._delivered = 0
        self._counts_alike = True

    # What a session asks for.

    async def subscribe(
        self, subscription: Subscription, address: str, arguments: dict[str, str]
    ) -> None:
        """Consume a queue.

        :param arguments: how the broker makes the queue.
        """
        connection = await self._open()
        consumer = _Consumer(subscription, token_hex(8))
        self._consumers[consumer.id] = self._by_subscription[subscription] = consumer
        subscription.active = True
        headers = {
            "id": consumer.id,
            "destination": address,
            "ack": "client-individual",
            "prefetch-count": str(subscription.prefetch or _PREFETCH),
            **arguments,
        }
        try:
            await connection.request(Frame("SUBSCRIBE", headers))
        except Refused:
            self._forget(consumer)
            raise

    def unsubscribe(self, subscription: Subscription) -> Deferred[None] | None:
        """Consume it no more; what it holds, and what is on its way to it, goes back."""
        consumer = self._by_subscription.get(subscription)
        if consumer is None:
            subscription.active = False
            return None
        held = list(consumer.acks.values())
        self._forget(consumer)
        connection = self._connection
        if connection is None or not connection.is_open:
            return None
        self._parting[consumer.id] = held
        self.flow()
        return Deferred.fromCoroutine(self._part(connection, consumer.id))

    def flow(self) -> None:
        """One of the subscriptions was paused, or resumed."""
        if self._connection is not None:
            if any(subscription.paused for subscription in self._by_subscription):
                self._connection.pause()
            else:
                self._connection.resume()

    async def send(self, headers: dict[str, str], body: bytes) -> None:
        """Send a message, and wait until the broker has it."""
        connection = await self._open()
        await connection.request(Frame("SEND", headers, body))

    def settle(
        self, subscription: Subscription, deliveries: Sequence[Delivery], accepted: bool
    ) -> None:
        """Acknowledge deliveries, or give them back."""
        if self._connection is not None:
            for frame in self._settling(subscription, deliveries, accepted):
                self._connection.send(frame)

    async def commit(
        self,
        messages: Sequence[tuple[dict[str, str], bytes]],
        settles: Sequence[tuple[Subscription, Sequence[Delivery], bool]],
    ) -> None:
        """Send messages and settle deliveries in one transaction of the broker's."""
        connection = await self._open()
        self._transactions += 1
        transaction = {"transaction": str(self._transactions)}
        connection.send(Frame("BEGIN", transaction))
        for settle in settles:
            for frame in self._settling(*settle):
                connection.send(Frame(frame.command, {**frame.headers, **transaction}))
        # The receipt of COMMIT does not wait for the confirms of what it publishes.
        frames = [Frame("SEND", {**headers, **transaction}, body) for headers, body in messages]
        receipts: list[Deferred[None]] = []
        try:
            for frame in (*frames, Frame("COMMIT", transaction)):
                receipts.append(connection.request(frame))
        finally:
            confirmed = gatherResults(receipts, consumeErrors=True)
        try:
            await confirmed
        except FirstError as error:
            raise unavailable() from error

    def close(self) -> Deferred[None] | None:
        """The session is over."""
        self._is_closed = True
        for consumer in list(self._consumers.values()):
            self._forget(consumer)
        if self._dialling is not None:
            self._dialling.cancel()
        return self._connection.close() if self._connection is not None else None

    # What the broker does.

    def message(self, frame: Frame) -> None:
        """A MESSAGE came; one for a subscription that there is not goes back."""
        headers = frame.headers
        ack = headers.get("ack", "")
        consumer_id = headers["subscription"]
        self._delivered += 1
        connection = self._connection
        if connection is None:
            return
        if ack != _ack_id(consumer_id, connection.session, self._delivered):
            self._counts_alike = False
        consumer = self._consumers.get(consumer_id)
        if consumer is None:
            if consumer_id in self._parting:
                self._parting[consumer_id].append(ack)
            else:
                self._give_back(connection, consumer_id, [ack])
            return
        subscription = consumer.subscription
        destination = subscription.destination
        message = from_broker(headers, frame.body, destination, destination.path)
        if message.has_expired(self._clock.seconds):
            self._settle_one(ack, "NACK", requeue=False)
            return
        if message.message_id in subscription.unacked:
            # Another application gives one id to several messages; a client has to tell them apart.
            message = from_broker(
                {**headers, "stompauth-id": token_hex(12)},
                frame.body,
                destination,
                destination.path,
            )
        delivery = Delivery(message, delivery_count(headers))
        if subscription.ack == "auto":
            subscription.subscriber.deliver(subscription, delivery)
            self._settle_one(ack, "ACK")
        else:
            # The broker keeps what may come back; here its id is enough.
            held = Delivery(message.without_content(), delivery.count)
            consumer.acks[held] = ack
            subscription.unacked[message.message_id] = held
            subscription.subscriber.deliver(subscription, delivery)
        message.forget_template()

    def stray(self, subscription_id: str) -> None:
        """A message was on its way to a consumer that has ended.

        RabbitMQ does not say which; but it numbers all that it delivers to a connection, and so do
        we. Where that is not so, only the end of the connection gives it back, and with it the end
        of a session that has other consumers.
        """
        self._delivered += 1
        connection = self._connection
        if connection is None:
            return
        if self._counts_alike:
            ack = _ack_id(subscription_id, connection.session, self._delivered)
            self._give_back(connection, subscription_id, [ack])
            return
        self._connection = None
        connection.close()
        self._end(list(self._consumers.values()), unavailable())

    def lost(self, refused: Refused) -> None:
        """The connection is gone: so is what the session held, and it has to know."""
        self._connection = None
        self._parting.clear()
        self._end(list(self._consumers.values()), refused)

    # Inside.

    def _end(self, consumers: Sequence[_Consumer], refused: Refused) -> None:
        for consumer in consumers:
            self._forget(consumer)
        for consumer in consumers:
            consumer.subscription.subscriber.end(Refused(refused.code, refused.headers))

    async def _open(self) -> BrokerConnection:
        """The connection, once it is there.

        :raises Refused: ``broker-unavailable``.
        """
        if self._connection is not None:
            return self._connection
        if self._is_closed:
            raise unavailable()
        waiting: Deferred[BrokerConnection] = Deferred()
        self._waiting.append(waiting)
        if self._dialling is None:
            self._dialling = Deferred.fromCoroutine(self._dial())
            self._dialling.addBoth(self._dialled)
        return await waiting

    async def _dial(self) -> BrokerConnection:
        dialling = self._endpoint.connect(self._factory)
        dialling.addTimeout(PATIENCE, self._clock)
        # It has a time for CONNECTED of its own.
        return await cast("BrokerConnection", await dialling).ready

    def _dialled(self, result: BrokerConnection | Failure) -> None:
        self._dialling = None
        if isinstance(result, BrokerConnection):
            self._connection = result
            self._delivered = 0
            self._counts_alike = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if self._connection is not None:
                each.callback(self._connection)
            else:
                each.errback(unavailable())

    def _forget(self, consumer: _Consumer) -> None:
        self._consumers.pop(consumer.id, None)
        self._by_subscription.pop(consumer.subscription, None)
        consumer.subscription.active = False
        consumer.subscription.unacked.clear()

    def _settling(
        self, subscription: Subscription, deliveries: Sequence[Delivery], accepted: bool
    ) -> list[Frame]:
        consumer = self._by_subscription[subscription]
        return [
            _settling(
                consumer.acks.pop(delivery),
                "ACK" if accepted else "NACK",
                not self._max_deliveries or delivery.count < self._max_deliveries,
            )
            for delivery in deliveries
        ]

    def _settle_one(self, ack: str, command: str, requeue: bool = True) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.send(_settling(ack, command, requeue))

    async def _part(self, connection: BrokerConnection, consumer_id: str) -> None:
        await connection.request(Frame("UNSUBSCRIBE", {"id": consumer_id}))
        self._give_back(connection, consumer_id, self._parting.pop(consumer_id, []))

    def _give_back(
        self, connection: BrokerConnection, consumer_id: str, acks: Sequence[str]
    ) -> None:
        """Give back what the broker keeps for a consumer that has ended.

        It keeps it for the connection, and takes an answer to it only under the consumer's id: so
        that is given for a moment to another one, which never gets anything.
        """
        if not acks or not connection.is_open:
            return
        nowhere = f"/exchange/amq.direct/nowhere;{token_hex(16)}"
        headers = {"id": consumer_id, "destination": nowhere, "ack": "client-individual"}
        connection.send(Frame("SUBSCRIBE", headers))
        for ack in acks:
            connection.send(_settling(ack, "NACK", True))
        connection.send(Frame("UNSUBSCRIBE", {"id": consumer_id}))


def _ack_id(consumer_id: str, session: str, delivered: int) -> str:
    """What RabbitMQ wants to see in an ACK or NACK of a delivery."""
    return f"T_{consumer_id}@@{session}@@{delivered}"


def _settling(ack: str, command: str, requeue: bool) -> Frame:
    headers = {"id": ack}
    if command == "NACK":
        headers["requeue"] = "true" if requeue else "false"
    return Frame(command, headers)
