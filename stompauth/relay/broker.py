"""The broker relay."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from zope.interface import implementer

from stompauth.authorization.destination import Destination, Kind
from stompauth.broker.fanout import FanOuts, fan_out
from stompauth.broker.temporary import ReplyNames, is_reply_name
from stompauth.broker.transaction import Publish, Settle
from stompauth.broker.unavailable import unavailable
from stompauth.errors import LocalProtocolError, Refused
from stompauth.interfaces import IBroker, IReadiness
from stompauth.relay.connection import BrokerLogin
from stompauth.relay.headers import from_broker, to_broker
from stompauth.relay.names import (
    queue_address,
    reply_address,
    topic_address,
    topic_of,
    user_address,
)
from stompauth.relay.private import PrivateConnection
from stompauth.relay.shared import Feeds, SharedConnection
from stompauth.settings import Limits
from stompauth.stomp.decoder import DecoderLimits
from stompauth.stomp.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
    from twisted.python.failure import Failure

    from stompauth.broker.message import Message
    from stompauth.broker.subscription import Delivery, Subscription
    from stompauth.broker.transaction import Operation

#: Bytes that wait, at most, for a broker that does not read.
_UNSENT: Final = 8 << 20

#: What a frame of the broker's may have at least: bytes, headers, and bytes of a header.
_FRAME: Final = 16 << 20
_HEADERS: Final = 256
_HEADER_LINE: Final = 64 << 10

#: How a session's temporary queue is made: it ends with the session's connection.
_TEMPORARY: Final = {"durable": "false", "auto-delete": "false", "exclusive": "true"}


@implementer(IBroker, IReadiness)
class BrokerRelay(Service):
    """Hands messages on to RabbitMQ, over STOMP, so that all nodes at one broker are one.

    Topics and user destinations come over one connection of this node's, each subscribed to once
    however many clients want it, and what is sent to them goes over a second one: a broker that is
    short of memory stops to read from whom it takes messages. For queues, temporary queues and
    transactions a session gets a connection of its own when it first needs one.

    While the broker is away, what needs it is refused with ``broker-unavailable``; so end the
    sessions that had subscriptions of it. Nothing is queued here.

    It is a service, which the application starts and stops.

    :param endpoint: where the broker is; :func:`twisted.internet.endpoints.clientFromString` makes
        one that checks the host's name of ``tls:host:port``.
    :param login: our login.
    :param passcode: our passcode. The names of user destinations at the broker are made of it, so
        it has to be the same on all nodes.
    :param host: the virtual host.
    :param receipt_timeout: seconds that the broker has to confirm a frame.
    :param limits: of destinations, frames, and of what a session may hold; the defaults if None.
    :param clock: the reactor.
    """

    counts_here_only = True

    _log = Logger()

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        *,
        login: str,
        passcode: str,
        clock: IReactorTime,
        host: str = "/",
        receipt_timeout: float = 10,
        limits: Limits | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._limits = limits = limits or Limits()
        self._login = BrokerLogin(
            login, passcode, host, receipt_timeout, _decoder_limits(limits), _UNSENT
        )
        self._secret = hmac.digest(passcode.encode(), b"stompauth user destinations", "sha256")
        self._consumer = SharedConnection(
            "topics", endpoint, self._login, clock, self._message, self._consumer_lost
        )
        self._publisher = SharedConnection(
            "publishing", endpoint, self._login, clock, _ignore, _ignore
        )
        self._feeds = Feeds(self._consumer, limits.destinations)
        self._fan_outs = FanOuts(lambda: clock, limits.unacked)
        self._private: dict[str, PrivateConnection] = {}
        self._reply_names = ReplyNames(limits.subscriptions)

    def replace_limits(self, limits: Limits) -> None:
        """Have other limits from now on; what is there already stays, also where it is too much."""
        self._limits = limits
        self._feeds.limit = limits.destinations
        self._fan_outs.limit = limits.unacked
        self._reply_names.limit = limits.subscriptions

    def is_ready(self) -> bool:
        """See :meth:`.IReadiness.is_ready`."""
        return self._consumer.is_open and self._publisher.is_open

    def counts(self) -> dict[str, int]:
        """What the relay holds, by name."""
        return {
            "shared_subscriptions": len(self._feeds),
            "connections": len(self._private),
            "reply_names": len(self._reply_names),
        }

    def startService(self) -> None:
        """Begin to connect, and go on until the stop."""
        super().startService()
        self._consumer.start()
        self._publisher.start()

    def stopService(self) -> Deferred[None]:
        """Say goodbye to the broker.

        :return: fires when no connection is left.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        private, self._private = self._private, {}
        closing = [connection.close() for connection in private.values()]
        closing += [
            Deferred.fromCoroutine(shared.stop()) for shared in (self._publisher, self._consumer)
        ]
        await gatherResults(closed for closed in closing if closed is not None)

    def subscribe(self, subscription: Subscription) -> Deferred[None] | None:
        """See :meth:`.IBroker.subscribe`."""
        if subscription.active:
            raise LocalProtocolError("the subscription is active already")
        destination = subscription.destination
        kind = destination.kind
        if destination.is_pattern and kind is not Kind.TOPIC:
            raise Refused("no-such-destination")
        address = self._feed_address(subscription)
        if address is not None:
            confirmed = self._feeds.add(address, subscription)
            if confirmed is not None:
                confirmed.addErrback(self._not_fed, address, subscription)
            return confirmed
        session_id = subscription.subscriber.session_id
        arguments: dict[str, str] = {}
        if kind is Kind.QUEUE:
            address = queue_address(destination)
        elif kind is Kind.TEMP_QUEUE:
            name = self._reply_names.name(session_id, destination.path)
            address = reply_address(name, subscribe=True)
            arguments = _TEMPORARY
        else:
            raise Refused("no-such-destination")
        connection = self._own(session_id)
        return Deferred.fromCoroutine(connection.subscribe(subscription, address, arguments))

    def unsubscribe(self, subscription: Subscription) -> Deferred[None] | None:
        """See :meth:`.IBroker.unsubscribe`."""
        if not subscription.active:
            return None
        address = self._feed_address(subscription)
        if address is not None:
            self._feeds.remove(address, subscription)
            return None
        connection = self._private.get(subscription.subscriber.session_id)
        return connection.unsubscribe(subscription) if connection is not None else None

    def pause(self, subscriptions: Iterable[Subscription]) -> None:
        """See :meth:`.IBroker.pause`."""
        self._set_paused(subscriptions, True)

    def resume(self, subscriptions: Iterable[Subscription]) -> None:
        """See :meth:`.IBroker.resume`."""
        self._set_paused(subscriptions, False)

    def send(self, message: Message) -> Deferred[None] | None:
        """See :meth:`.IBroker.send`.

        It is accepted when the broker has confirmed it.
        """
        headers = self._checked(message)
        if message.destination.kind in (Kind.TOPIC, Kind.USER) or message.sender_session is None:
            if message.destination.kind is not Kind.QUEUE and self._has_expired(message):
                return None
            return self._publisher.connection.request(Frame("SEND", headers, message.body))
        connection = self._own(message.sender_session)
        return Deferred.fromCoroutine(connection.send(headers, message.body))

    def send_to_user(
        self, user: str, message: Message, session_id: str | None = None
    ) -> Deferred[int] | int:
        """See :meth:`.IBroker.send_to_user`.

        Sessions of other nodes get it, too, and are not counted.
        """
        destination = message.destination
        if destination.kind is not Kind.QUEUE:
            raise Refused("no-such-destination")
        self._check_retain(message)
        address = user_address(self._secret, user, destination.path)
        targets = self._feeds.targets(address)
        if session_id is not None:
            targets = [each for each in targets if each.subscriber.session_id == session_id]
            if not targets or self._has_expired(message):
                return 0
            message.shown = f"/user{destination.path}"
            fan_out(message, targets, self._limits.unacked)
            return int(any(target.active for target in targets))
        if self._has_expired(message):
            return 0
        headers = to_broker(message, address, self._clock.seconds())
        sessions = len({target.subscriber.session_id for target in targets})
        sent = self._publisher.connection.request(Frame("SEND", headers, message.body))
        return sent.addCallback(lambda _: sessions)

    def ack(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> None:
        """See :meth:`.IBroker.ack`."""
        self._settle(subscription, deliveries, True)

    def nack(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> None:
        """See :meth:`.IBroker.nack`."""
        self._settle(subscription, deliveries, False)

    def commit(self, operations: Sequence[Operation]) -> Deferred[None] | None:
        """See :meth:`.IBroker.commit`.

        RabbitMQ carries out what a transaction holds at COMMIT, one after another: a crash of it
        in the middle may leave a part.
        """
        session_id = None
        messages = []
        settles = []
        for operation in operations:
            match operation:
                case Publish(message):
                    session_id = message.sender_session or session_id
                    messages.append((self._checked(message), message.body))
                case Settle(subscription, deliveries, _):
                    session_id = subscription.subscriber.session_id
                    _check_held(subscription, deliveries)
                    settles.append(operation)
        connection = self._own(session_id) if session_id is not None else None
        upstream = []
        for settle in settles:
            taken = _take(settle.subscription, settle.deliveries)
            if taken and self._feed_address(settle.subscription) is None:
                upstream.append((settle.subscription, taken, settle.accepted))
        if connection is None or not (messages or upstream):
            return None
        return Deferred.fromCoroutine(connection.commit(messages, upstream))

    def reply_name(self, session_id: str, reply_to: str) -> str:
        """See :meth:`.IBroker.reply_name`."""
        if not reply_to.startswith("/temp-queue/"):
            return reply_to
        path = Destination.parse(reply_to).path
        # It may be another node's, which this one cannot know.
        return path if is_reply_name(path) else self._reply_names.name(session_id, path)

    def session_ended(self, session_id: str, subscriptions: Collection[Subscription] = ()) -> None:
        """See :meth:`.IBroker.session_ended`."""
        for subscription in subscriptions:
            address = self._feed_address(subscription)
            if address is not None:
                self._feeds.remove(address, subscription)
        self._reply_names.forget(session_id)
        connection = self._private.pop(session_id, None)
        if connection is not None:
            connection.close()

    # Inside.

    def _own(self, session_id: str) -> PrivateConnection:
        """The session's own connection.

        :raises Refused: ``broker-unavailable`` while the node has none either.
        """
        connection = self._private.get(session_id)
        if connection is None:
            if not self.is_ready():
                raise unavailable()
            connection = PrivateConnection(
                self._endpoint, self._login, self._clock, self._limits.max_deliveries
            )
            self._private[session_id] = connection
        return connection

    def _feed_address(self, subscription: Subscription) -> str | None:
        """What the node subscribes to for this one and others; None for what is its own."""
        destination = subscription.destination
        match destination.kind:
            case Kind.TOPIC:
                return topic_address(destination)
            case Kind.USER if destination.user_path and destination.user_name is None:
                return user_address(
                    self._secret, subscription.subscriber.user, destination.user_path
                )
        return None

    def _checked(self, message: Message) -> dict[str, str]:
        """The headers with which a message goes on.

        :raises Refused: it cannot.
        """
        self._check_retain(message)
        destination = message.destination
        address = None
        match destination.kind:
            case Kind.TOPIC:
                address = topic_address(destination)
            case Kind.QUEUE:
                address = queue_address(destination)
            case Kind.TEMP_QUEUE if is_reply_name(destination.path):
                address = reply_address(destination.path)
            case Kind.USER:
                user = destination.user_name or message.sender_user
                if user is not None and destination.user_path is not None:
                    address = user_address(self._secret, user, destination.user_path)
        if address is None:
            raise Refused("no-such-destination")
        return to_broker(message, address, self._clock.seconds())

    def _check_retain(self, message: Message) -> None:
        if message.retain:
            raise Refused("bad-header", explanation="The message broker retains nothing.")

    def _has_expired(self, message: Message) -> bool:
        return message.has_expired(self._clock.seconds)

    def _settle(
        self, subscription: Subscription, deliveries: Sequence[Delivery], accepted: bool
    ) -> None:
        _check_held(subscription, deliveries)
        taken = _take(subscription, deliveries)
        if self._feed_address(subscription) is None:
            connection = self._private.get(subscription.subscriber.session_id)
            if connection is not None:
                connection.settle(subscription, taken, accepted)

    def _set_paused(self, subscriptions: Iterable[Subscription], paused: bool) -> None:
        sessions = set()
        for subscription in subscriptions:
            subscription.paused = paused
            sessions.add(subscription.subscriber.session_id)
        for session_id in sessions:
            connection = self._private.get(session_id)
            if connection is not None:
                connection.flow()

    def _message(self, frame: Frame) -> None:
        """A MESSAGE came for one of the feeds; for another id it is dropped."""
        headers = frame.headers
        feed = self._feeds.by_id(headers["subscription"])
        if feed is None or not feed.targets:
            return
        wanted = next(iter(feed.targets)).destination
        destination = wanted
        if wanted.is_pattern:
            sent_to = topic_of(headers["destination"])
            if sent_to is None or not wanted.matches(sent_to):
                return
            destination = sent_to
        message = from_broker(headers, frame.body, destination, destination.path)
        if self._has_expired(message):
            return
        under_way = self._fan_outs.start(message, list(feed.targets))
        if under_way is not None:
            # What comes in waits there until what has come is with its receivers.
            connection = self._consumer.connection
            connection.pause()
            under_way.addCallback(lambda _: connection.resume())

    def _consumer_lost(self, refused: Refused) -> None:
        """What is sent from now on is lost to those who were subscribed, so they have to know."""
        for subscription in self._feeds.clear():
            subscription.active = False
            subscription.subscriber.end(Refused(refused.code, unavailable().headers))

    def _not_fed(self, failure: Failure, address: str, subscription: Subscription) -> Failure:
        self._feeds.remove(address, subscription)
        return failure


def _decoder_limits(limits: Limits) -> DecoderLimits:
    """The limits of a MESSAGE.

    A client's SEND grows by other escapes and more headers; and what another application has sent
    to some subscribers should not cost all of them the connection.
    """
    return DecoderLimits(
        limits.frame and max(_FRAME, 2 * limits.frame + _HEADER_LINE),
        limits.headers and max(_HEADERS, 2 * limits.headers),
        limits.header_line and max(_HEADER_LINE, 3 * limits.header_line),
    )


def _check_held(subscription: Subscription, deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        if subscription.unacked.get(delivery.message.message_id) is not delivery:
            raise Refused("unknown-ack")


def _take(subscription: Subscription, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Take deliveries off what the subscription holds, each once."""
    unacked = subscription.unacked
    return [
        delivery
        for delivery in deliveries
        if unacked.pop(delivery.message.message_id, None) is not None
    ]


def _ignore(_: object) -> None:
    """What comes to a connection that only publishes."""
