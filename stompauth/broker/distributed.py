"""The simple broker on several nodes, with a bus between them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Final, TypeAlias

from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList, FirstError
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from stompauth.authorization.destination import Destination, Kind
from stompauth.broker.envelope import Answer, Envelope, decode
from stompauth.broker.inbox import Inbox
from stompauth.broker.interests import Interests
from stompauth.broker.shares import Shares
from stompauth.broker.simple import SimpleBroker
from stompauth.broker.transaction import Publish
from stompauth.broker.unavailable import unavailable
from stompauth.errors import LocalProtocolError, Refused, Unavailable
from stompauth.interfaces import IBroker, IReadiness

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from twisted.internet.interfaces import IReactorTime

    from stompauth.broker.bus import MessageBus
    from stompauth.broker.message import Message
    from stompauth.broker.queues import QueueDepth
    from stompauth.broker.subscription import Delivery, Subscription
    from stompauth.broker.transaction import Operation
    from stompauth.settings import Limits

#: Messages, and bytes of them, that are on their way to the bus at most; of the bytes, one user's
#: are never more than are left free.
MAX_IN_FLIGHT: Final = 5_000
MAX_IN_FLIGHT_BYTES: Final = 8 << 20

#: Seconds that other nodes have to say to how many sessions a message went.
ANSWER_TIMEOUT: Final = 1.0

#: Subscriptions whose sessions one turn of the reactor ends at most.
ENDED_PER_TURN: Final = 256

_TOPICS: Final = "topic:"
_USERS: Final = "user:"
_NODES: Final = "node:"

# Beside the simple broker's own, the name says which node has it.
_LOCAL_REPLY: Final = "/temp-queue/reply."
_REPLY: Final = re.compile(re.escape(_LOCAL_REPLY) + "([0-9a-f]{16})[.]([0-9a-f]{32})")


@dataclass(slots=True, eq=False)
class _Question:
    """How many sessions of a user have got a message, as far as is known."""

    answers: int = 0
    sessions: int = 0
    expected: int | None = None
    answered: Deferred[None] = field(default_factory=Deferred)

    def check(self) -> None:
        if self.expected is not None and self.answers >= self.expected and not self.answered.called:
            self.answered.callback(None)


@dataclass(frozen=True, slots=True)
class _Remote:
    """What goes out, where to, and of which user; None for the application."""

    channel: str
    payload: bytes
    user: str | None = None


_Holder: TypeAlias = "Subscription | DistributedBroker"


@implementer(IBroker, IReadiness)
class DistributedBroker(Service):
    """A simple broker in each of several nodes, and a bus that takes messages from one to all.

    Topics and user destinations are everybody's: what is sent to them goes to the bus, and to a
    node's subscriptions as it comes back, also at the node that sent it. So the messages of one
    sender to one destination are everywhere in their order. They are delivered at most once.
    A SEND is accepted when the bus has it; where it cannot be had, it is refused
    (``broker-unavailable``), and it may have gone out all the same.

    Where a connection to the bus is lost, messages may have been missed: every session that has
    subscribed to one of these, or to a temporary queue, is ended with ``broker-unavailable``.

    Queues do not cross nodes. Temporary queues are in the node of their session, and the names that
    others reply to lead there from every node, at most once. Nothing is retained.

    It is a service, which :meth:`.StompAuth.service` starts and stops.

    :param bus: takes messages between nodes; it is this broker's alone.
    :param clock: tells when messages expire, and gives the turns in which they are delivered.
    :param limits: as for :class:`.SimpleBroker`, for this node.
    :param local_queues: whether there are queues, each node's own.
    :ivar clock: likewise.
    """

    counts_here_only = False

    _log = Logger()

    def __init__(
        self,
        bus: MessageBus,
        *,
        clock: IReactorTime,
        limits: Limits | None = None,
        local_queues: bool = False,
    ) -> None:
        self.clock = clock
        self._bus = bus
        self._local = SimpleBroker(limits=limits, clock=clock)
        self._local_queues = local_queues
        self._node = ""
        self._interests: Interests[_Holder] = Interests(bus.subscribe, bus.unsubscribe)
        self._inbox = Inbox(clock, self._take, bus.pause, bus.resume)
        self._is_connected = False
        self._is_available = False
        self._ending: list[Subscription] = []
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._shares = Shares()
        self._numbers = count()
        self._questions: dict[int, _Question] = {}
        self._dropped = 0
        self._has_logged = False

    def is_ready(self) -> bool:
        """Whether topics and users can be subscribed to. See :meth:`.IReadiness.is_ready`."""
        return self._is_available

    def replace_limits(self, limits: Limits) -> None:
        """Have other limits from now on. See :meth:`.SimpleBroker.replace_limits`."""
        self._local.replace_limits(limits)

    def counts(self) -> dict[str, int]:
        """What the broker holds in this node, by name.

        Beside those of :class:`.SimpleBroker`: ``bus_channels`` that the bus was asked for,
        ``bus_publishes`` on their way to it, ``bus_waiting`` that came and were not delivered yet,
        and how many were ``bus_dropped`` because they could not be read, or found a queue full.
        """
        return {
            **self._local.counts(),
            "bus_channels": len(self._interests),
            "bus_publishes": self._in_flight,
            "bus_waiting": len(self._inbox),
            "bus_dropped": self._dropped,
        }

    def deepest_queues(self, limit: int, containing: str = "") -> list[QueueDepth]:
        """The deepest queues of this node. See :meth:`.SimpleBroker.deepest_queues`."""
        return self._local.deepest_queues(limit, containing)

    # The service.

    def startService(self) -> None:
        """Connect to the bus, now and whenever it is lost."""
        super().startService()
        # New with each start: what is under way to an earlier one, or in a process that has forked
        # from it, is not ours.
        self._node = token_hex(8)
        self._bus.start(self)

    def stopService(self) -> Deferred[None]:
        """Leave the bus; what is on its way there is refused.

        :return: fires when that is done.
        """
        super().stopService()
        self._is_connected = self._is_available = False
        self._interests.clear()
        self._inbox.clear()
        self._ending.clear()
        return self._bus.stop()

    # The bus.

    def bus_received(self, channel: str, payload: bytes) -> None:
        """See :meth:`.BusListener.bus_received`."""
        self._inbox.put(channel, payload)

    def bus_connected(self) -> None:
        """See :meth:`.BusListener.bus_connected`."""
        self._is_connected = True
        self._has_logged = False
        if not self._ending:
            self._join()

    def bus_lost(self) -> None:
        """See :meth:`.BusListener.bus_lost`."""
        self._is_connected = self._is_available = False
        self._inbox.clear()
        is_ending = bool(self._ending)
        self._ending += [
            holder
            for holder in self._interests.clear()
            if not isinstance(holder, DistributedBroker)
        ]
        self._log.warn("the bus is lost, and {count} subscriptions", count=len(self._ending))
        if not is_ending:
            self._end_some()

    def _join(self) -> None:
        """Ask for this node's own channel, and be available when that is there."""

        def joined(_: None) -> None:
            self._is_available = self._is_connected and self in self._interests

        def failed(failure: Failure) -> None:
            failure.trap(Unavailable)
            self._log.error("the bus does not take this node: {reason}", reason=failure.value)

        joining = self._interests.add(_NODES + self._node, self)
        if joining is not None:
            joining.addCallbacks(joined, failed)

    def _end_some(self) -> None:
        # Nobody subscribes anew until all of them are ended: none of these sees anything of what
        # comes after the gap.
        some, self._ending[:ENDED_PER_TURN] = self._ending[:ENDED_PER_TURN], []
        for subscription in some:
            if subscription.active:
                subscription.subscriber.end(unavailable())
        if self._ending:
            self.clock.callLater(0, self._end_some)
        elif self._is_connected:
            self._join()

    # Subscriptions.

    def subscribe(self, subscription: Subscription) -> Deferred[None] | None:
        """See :meth:`.IBroker.subscribe`."""
        if subscription.active:
            raise LocalProtocolError("the subscription is active already")
        interest = self._interest(subscription)
        if interest is None:
            self._local.subscribe(subscription)
            return None
        if not self._is_available:
            raise unavailable()
        waiting = self._interests.add(interest, subscription)
        if waiting is None:
            self._begin(subscription)
            return None
        return waiting.addCallbacks(lambda _: self._begin(subscription), _refuse)

    def _interest(self, subscription: Subscription) -> str | None:
        destination = subscription.destination
        match destination.kind:
            case Kind.TOPIC:
                return f"{_TOPICS}*" if destination.is_pattern else _TOPICS + destination.path
            case Kind.TEMP_QUEUE if not destination.is_pattern:
                return _NODES + self._node
            case Kind.USER if _is_own(destination):
                return _user_channel(subscription.subscriber.user)
            case Kind.QUEUE:
                self._check_queues()
        return None

    def _begin(self, subscription: Subscription) -> None:
        if subscription not in self._interests:
            # It was unsubscribed while it waited.
            return
        try:
            self._local.subscribe(subscription)
        except Refused:
            self._interests.remove(subscription)
            raise

    def unsubscribe(self, subscription: Subscription) -> None:
        """See :meth:`.IBroker.unsubscribe`."""
        self._local.unsubscribe(subscription)
        self._interests.remove(subscription)

    def pause(self, subscriptions: Iterable[Subscription]) -> None:
        """See :meth:`.IBroker.pause`."""
        self._local.pause(subscriptions)

    def resume(self, subscriptions: Iterable[Subscription]) -> None:
        """See :meth:`.IBroker.resume`."""
        self._local.resume(subscriptions)

    def session_ended(self, session_id: str, subscriptions: Collection[Subscription] = ()) -> None:
        """See :meth:`.IBroker.session_ended`."""
        self._local.session_ended(session_id, subscriptions)
        for subscription in subscriptions:
            self._interests.remove(subscription)

    # Messages of this node's own sessions.

    def send(self, message: Message) -> Deferred[None] | None:
        """See :meth:`.IBroker.send`.

        Further, ``bad-header`` for one with ``retain``, and ``too-large``.
        """
        routed = self._route(message)
        if isinstance(routed, _Remote):
            self._check_room([routed])
            return self._publish(routed).addCallback(lambda _: None)
        return self._local.send(routed)

    def ack(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> None:
        """See :meth:`.IBroker.ack`."""
        self._local.ack(subscription, deliveries)

    def nack(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> None:
        """See :meth:`.IBroker.nack`."""
        self._local.nack(subscription, deliveries)

    def commit(self, operations: Sequence[Operation]) -> Deferred[None] | None:
        """See :meth:`.IBroker.commit`.

        What is to be refused is refused before anything is done. Then the messages for other nodes
        go out, and when the bus has taken all of them, the rest is done. If the bus does not take
        one, others may have gone out; the rest is not done.
        """
        remote: list[_Remote] = []
        local: list[Operation] = []
        for operation in operations:
            if isinstance(operation, Publish):
                routed = self._route(operation.message)
                if isinstance(routed, _Remote):
                    remote.append(routed)
                else:
                    local.append(Publish(routed))
            else:
                local.append(operation)
        if not remote:
            return self._local.commit(local)
        self._local.check(local)
        self._check_room(remote)
        return Deferred.fromCoroutine(self._commit_later(remote, local))

    async def _commit_later(self, remote: list[_Remote], local: list[Operation]) -> None:
        publishes = [self._publish(each) for each in remote]
        try:
            await DeferredList(publishes, fireOnOneErrback=True, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        if local:
            done = self._local.commit(local)
            if done is not None:
                await done

    def reply_name(self, session_id: str, reply_to: str) -> str:
        """See :meth:`.IBroker.reply_name`."""
        name = _REPLY.fullmatch(reply_to)
        if name is not None:
            if name[1] != self._node:
                # Somebody gave it to the session; whether it is good is the other node's to know.
                return reply_to
            reply_to = _LOCAL_REPLY + name[2]
        ours = self._local.reply_name(session_id, reply_to)
        if not ours.startswith(_LOCAL_REPLY):
            return ours
        return f"{_LOCAL_REPLY}{self._node}.{ours.removeprefix(_LOCAL_REPLY)}"

    def send_to_user(
        self, user: str, message: Message, session_id: str | None = None
    ) -> Deferred[int] | int:
        """See :meth:`.IBroker.send_to_user`.

        Nodes that do not answer within a second are not counted.

        :raises Refused: further, ``broker-unavailable``, also by the Deferred.
        """
        if session_id is not None:
            return self._local.send_to_user(user, message, session_id)
        if message.destination.kind is not Kind.QUEUE:
            raise Refused("no-such-destination")
        if not self._is_available:
            raise unavailable()
        number = next(self._numbers)
        envelope = Envelope(message, user, (self._node, number))
        remote = _remote(_user_channel(user), envelope)
        self._check_room([remote])
        return Deferred.fromCoroutine(self._ask(number, remote))

    async def _ask(self, number: int, remote: _Remote) -> int:
        # An answer may come before the bus says how many to expect.
        question = self._questions[number] = _Question()
        try:
            question.expected = await self._publish(remote)
            question.answered.addTimeout(ANSWER_TIMEOUT, self.clock)
            question.check()
            await question.answered
        except defer.TimeoutError:
            pass
        finally:
            del self._questions[number]
        return question.sessions

    def _route(self, message: Message) -> _Remote | Message:
        """Where a message goes: to other nodes, or, perhaps by another name, to our own broker."""
        destination = message.destination
        match destination.kind:
            case Kind.TOPIC:
                if message.retain:
                    raise Refused(
                        "bad-header", explanation="Several nodes retain nothing: leave retain out."
                    )
                return _remote(_TOPICS + destination.path, Envelope(message))
            case Kind.QUEUE:
                self._check_queues()
            case Kind.TEMP_QUEUE:
                name = _REPLY.fullmatch(destination.path)
                if name is None:
                    raise Refused("no-such-destination")
                if name[1] != self._node:
                    return _remote(_NODES + name[1], Envelope(message))
                return _under_local_name(message, name[2])
            case Kind.USER:
                user = destination.user_name or message.sender_user
                path = destination.user_path
                if user is not None and path is not None:
                    # Receivers are not told how the sender called it.
                    own = message.derived(
                        {}, destination=Destination.parse(path), expires=message.expires
                    )
                    return _remote(_user_channel(user), Envelope(own, user))
        return message

    def _check_queues(self) -> None:
        if not self._local_queues:
            raise Refused(
                "no-such-destination",
                explanation="There are no queues here: topics and users are served by all nodes.",
            )

    def _check_room(self, remote: Sequence[_Remote]) -> None:
        if self._in_flight + len(remote) > MAX_IN_FLIGHT:
            raise unavailable()
        sizes: Counter[str | None] = Counter()
        for each in remote:
            sizes[each.user] += len(each.payload)
        free = MAX_IN_FLIGHT_BYTES - self._in_flight_bytes - sizes.total()
        # One that is larger than that goes alone.
        if self._in_flight and not self._shares.leaves_room(sizes, free):
            raise unavailable()

    def _publish(self, remote: _Remote) -> Deferred[int]:
        accepted: Deferred[int] = Deferred()
        size = len(remote.payload)
        self._in_flight += 1
        self._in_flight_bytes += size
        self._shares.add(remote.user, size)

        def done(result: int | Failure) -> None:
            self._in_flight -= 1
            self._in_flight_bytes -= size
            self._shares.add(remote.user, -size)
            # Whoever does not wait any more has cancelled what is ours, not what is the bus's.
            accepted.callback(result)

        self._bus.publish(remote.channel, remote.payload).addBoth(done)
        accepted.addErrback(_refuse)
        return accepted

    # Messages that the bus brings.

    def _take(self, channel: str, payload: bytes) -> Deferred[None] | None:
        try:
            if channel.startswith(_TOPICS):
                return self._take_for_topic(channel.removeprefix(_TOPICS), payload)
            received = decode(payload)
            if channel.startswith(_USERS) and isinstance(received, Envelope):
                self._take_for_user(channel, received)
            elif channel == _NODES + self._node:
                if isinstance(received, Answer):
                    self._answered(received)
                else:
                    self._take_reply(received.message)
        except ValueError as error:
            self._drop(str(error))
        except Refused as refused:
            self._drop(refused.code)
        return None

    def _take_for_topic(self, path: str, payload: bytes) -> Deferred[None] | None:
        destination = Destination.parse(path)
        if not self._local.has_subscribers(destination):
            return None
        received = decode(payload)
        if isinstance(received, Answer) or received.message.destination != destination:
            raise ValueError("another destination than the channel's")
        return self._local.send(received.message)

    def _take_for_user(self, channel: str, envelope: Envelope) -> None:
        user = envelope.user
        if user is None or _user_channel(user) != channel:
            raise ValueError("another user than the channel's")
        sessions = self._local.send_to_user(user, envelope.message)
        if envelope.answer_to is None:
            return
        node, number = envelope.answer_to
        answer = Answer(number, sessions)
        if node == self._node:
            self._answered(answer)
            return
        self._bus.publish(_NODES + node, answer.encode()).addErrback(
            lambda failure: failure.trap(Unavailable)
        )

    def _take_reply(self, message: Message) -> None:
        name = _REPLY.fullmatch(message.destination.path)
        if name is None or name[1] != self._node:
            raise ValueError("another node's")
        self._local.send(_under_local_name(message, name[2]))

    def _answered(self, answer: Answer) -> None:
        question = self._questions.get(answer.question)
        if question is not None:
            question.answers += 1
            question.sessions += answer.sessions
            question.check()

    def _drop(self, reason: str) -> None:
        self._dropped += 1
        if not self._has_logged:
            self._has_logged = True
            self._log.warn("a message of the bus was dropped: {reason}", reason=reason)


def _is_own(destination: Destination) -> bool:
    return (
        destination.user_path is not None
        and destination.user_name is None
        and not destination.is_pattern
    )


def _user_channel(user: str) -> str:
    return _USERS + sha256(user.encode("utf-8", "surrogatepass")).hexdigest()


def _remote(channel: str, envelope: Envelope) -> _Remote:
    return _Remote(channel, envelope.encode(), envelope.message.sender_user)


def _under_local_name(message: Message, name: str) -> Message:
    destination = Destination.parse(_LOCAL_REPLY + name)
    return message.derived({}, destination=destination, expires=message.expires)


def _refuse(failure: Failure) -> Failure:
    error = failure.value
    return Failure(unavailable()) if isinstance(error, Unavailable) else failure
