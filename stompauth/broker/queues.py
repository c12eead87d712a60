"""All queues: their bounds, whose turn it is, and what becomes of messages that nobody takes."""

from __future__ import annotations

from collections import Counter, OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import nlargest
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

from stompauth.authorization.destination import DEAD_LETTER_PREFIX, MAX_BYTES, Destination
from stompauth.broker.queue import Queue
from stompauth.broker.shares import Shares
from stompauth.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from stompauth.broker.message import Message
    from stompauth.broker.queue import QueueKey
    from stompauth.broker.subscription import Delivery, Subscription
    from stompauth.settings import Limits

_PREFIX: Final = "/queue/"
_DEAD_LETTERS: Final = _PREFIX + DEAD_LETTER_PREFIX
_LONGEST_PATH: Final = MAX_BYTES - len(DEAD_LETTER_PREFIX)


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How deep a queue is.

    :ivar name: its path.
    :ivar messages: how many it holds, those included that wait for an acknowledgement.
    :ivar consumers: how many subscriptions take from it.
    :ivar session: the id of the session that it belongs to, if it is a temporary one.
    """

    name: str
    messages: int
    consumers: int
    session: str | None = None


class Queues:
    """The queues, public and temporary, that somebody consumes or that hold a message.

    A message that was given back ``limits.max_deliveries`` times, or has expired, goes from
    ``/queue/x/y`` to its dead-letter queue ``/queue/dlq.x/y``; one that expires does so when it is
    the first of its queue, and something happens there. What is in a dead-letter queue or in
    a temporary one goes nowhere else: it stays until it is acknowledged, and is dropped when it
    expires. A dead-letter queue that is full loses its oldest message, or the new one when the
    others are all delivered; so does one for which there is no room. Both are logged and counted.

    :param limits: ``queue_messages``, ``queue_bytes`` and ``max_deliveries``. Messages that were
        delivered and are not acknowledged yet count: they may come back.
        One user's messages, and the queues that came to be for him, take no more than
        :class:`.Shares` says.
    :param room: how many more destinations fit.
    :param now: tells the seconds since the epoch.
    :ivar size: bytes that all queues hold, as :attr:`.Message.size` counts them.
    :ivar lost: how many dead letters were lost because there was no room for them.
    """

    _log = Logger()

    def __init__(self, limits: Limits, room: Callable[[], float], now: Callable[[], float]) -> None:
        self.limits = limits
        self._room = room
        self._now = now
        self._table: dict[QueueKey, Queue] = {}
        # Delivering calls sessions, and they call back. What that makes deliverable waits here
        # for the outermost call, so that no depth of calls follows from what clients do.
        self._due: OrderedDict[Queue, None] = OrderedDict()
        self._serving = False
        self._bytes = Shares()
        self._opened = Shares()
        self.size = 0
        self.lost = 0

    def __len__(self) -> int:
        return len(self._table)

    @property
    def messages(self) -> int:
        """How many messages all queues hold."""
        return sum(queue.held for queue in self._table.values())

    def deepest(self, limit: int, containing: str = "") -> list[QueueDepth]:
        """So many queues that hold most, the deepest first, of those with that in their path."""
        found = (queue for queue in self._table.values() if containing in _path(queue.key))
        return [
            QueueDepth(
                _path(queue.key),
                queue.held,
                queue.consumers,
                None if isinstance(queue.key, str) else queue.key[0],
            )
            for queue in nlargest(limit, found, key=lambda queue: queue.held)
        ]

    def subscribe(self, key: QueueKey, subscription: Subscription) -> None:
        """Add a consumer.

        :raises Refused: ``limit`` when it would be one destination too many; ``bad-destination``
            when the name leaves no room for that of the dead-letter queue.
        """
        self._check_new({key: subscription.subscriber.user})
        queue = self._open(key, subscription.subscriber.user)
        subscription.active = True
        queue.add_consumer(subscription)
        self._serve(queue)

    def unsubscribe(self, key: QueueKey, subscription: Subscription) -> None:
        """Remove a consumer; what it holds goes back."""
        queue = self._table[key]
        subscription.active = False
        queue.remove_consumer(subscription)
        deliveries = list(subscription.unacked.values())
        subscription.unacked.clear()
        for delivery in deliveries:
            self._give_back(queue, delivery)
        self._serve(queue)

    def check(
        self,
        messages: Iterable[tuple[QueueKey, Message]],
        accepted: Iterable[tuple[QueueKey, Delivery]] = (),
    ) -> None:
        """Make sure that the queues can take all these messages.

        :param accepted: what will have been acknowledged before, each once.
        :raises Refused: ``queue-full``, or as for :meth:`subscribe`.
        """
        counts: Counter[QueueKey] = Counter()
        sizes: Counter[str | None] = Counter()
        openers: dict[QueueKey, str | None] = {}
        for key, delivery in accepted:
            counts[key] -= 1
            sizes[delivery.message.sender_user] -= delivery.message.size
        for key, message in messages:
            queue = self._table.get(key)
            if queue is None:
                openers.setdefault(key, message.sender_user)
            if queue is None or not queue.keeps_nothing:
                counts[key] += 1
                sizes[message.sender_user] += message.size
        self._check_new(openers)
        limit = self.limits.queue_bytes
        size = sum(sizes.values())
        if limit and size > 0 and not self._bytes.leaves_room(sizes, limit - self.size - size):
            raise Refused("queue-full")
        if self.limits.queue_messages:
            for key, count in counts.items():
                self._check_length(key, count)

    def check_one(self, key: QueueKey, message: Message) -> None:
        """Do as :meth:`check` would for this message alone, which is what nearly all come for."""
        queue = self._table.get(key)
        if queue is None:
            self.check(((key, message),))
            return
        if queue.keeps_nothing:
            return
        limit, size = self.limits.queue_bytes, message.size
        if limit and not self._bytes.leaves_room_for(
            message.sender_user, size, limit - self.size - size
        ):
            raise Refused("queue-full")
        limit = self.limits.queue_messages
        if limit and queue.held >= limit:
            self._check_length(key, 1)

    def put(self, key: QueueKey, message: Message) -> None:
        """Add a message that was checked."""
        queue = self._open(key, message.sender_user)
        queue.put(message)
        self._hold(message)
        self._serve(queue)

    def settle(
        self,
        key: QueueKey,
        subscription: Subscription,
        deliveries: Sequence[Delivery],
        accepted: bool,
    ) -> None:
        """Forget deliveries that were taken out of ``unacked``, or give them back."""
        queue = self._table[key]
        for delivery in deliveries:
            if accepted:
                self._release(queue, delivery)
            else:
                self._give_back(queue, delivery)
        queue.update(subscription)
        self._serve(queue)

    def update(self, key: QueueKey, subscription: Subscription) -> None:
        """The consumer was paused or resumed."""
        queue = self._table[key]
        queue.update(subscription)
        self._serve(queue)

    def drop(self, key: QueueKey) -> None:
        """Throw a queue away that has no consumers, with all that waits in it."""
        queue = self._table.get(key)
        if queue is not None:
            while queue.first() is not None:
                self._release(queue, queue.take())
            self._serve(queue)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Deliver nothing within the block, and everything that is due after it."""
        outermost = not self._serving
        self._serving = True
        try:
            yield
        finally:
            if outermost:
                self._serving = False
                self._serve_all()

    def _check_new(self, openers: Mapping[QueueKey, str | None]) -> None:
        new = {key: opener for key, opener in openers.items() if key not in self._table}
        for key in new:
            if (
                isinstance(key, str)
                and not key.startswith(_DEAD_LETTERS)
                and len(key.encode()) > _LONGEST_PATH
            ):
                raise Refused("bad-destination")
        if new and not self._opened.leaves_room(Counter(new.values()), self._room() - len(new)):
            raise Refused("limit")

    def _check_length(self, key: QueueKey, more: int) -> None:
        if more <= 0:
            return
        queue = self._table.get(key)
        room = self.limits.queue_messages - more
        if queue is not None and queue.held > room:
            self._shed_expired(queue)
        if (queue.held if queue is not None else 0) > room:
            raise Refused("queue-full")

    def _open(self, key: QueueKey, opened_by: str | None) -> Queue:
        queue = self._table.get(key)
        if queue is None:
            queue = self._table[key] = Queue(key, opened_by)
            self._opened.add(opened_by, 1)
        return queue

    def _hold(self, message: Message) -> None:
        self.size += message.size
        self._bytes.add(message.sender_user, message.size)

    def _serve(self, queue: Queue) -> None:
        if self._serving:
            self._due[queue] = None
        else:
            self._serve_all(queue)

    def _serve_all(self, first: Queue | None = None) -> None:
        if self._serving:
            return
        self._serving = True
        try:
            if first is not None:
                self._deliver(first)
            while self._due:
                queue, _ = self._due.popitem(last=False)
                self._deliver(queue)
        finally:
            self._serving = False

    def _deliver(self, queue: Queue) -> None:
        ready = queue.ready
        while (delivery := queue.first()) is not None:
            message = delivery.message
            if message.has_expired(self._now):
                self._bury(queue, queue.take(), "expired")
                continue
            if not ready:
                break
            queue.take()
            subscription = next(iter(ready))
            if subscription.ack == "auto":
                self._release(queue, delivery)
            else:
                subscription.unacked[message.message_id] = delivery
            if subscription.has_credit:
                ready.move_to_end(subscription)
            else:
                del ready[subscription]
            subscription.subscriber.deliver(subscription, delivery)
            message.forget_template()
        if queue.is_idle and self._table.get(queue.key) is queue:
            del self._table[queue.key]
            self._opened.add(queue.opened_by, -1)

    def _shed_expired(self, queue: Queue) -> None:
        while (delivery := queue.first()) is not None and delivery.message.has_expired(self._now):
            self._bury(queue, queue.take(), "expired")

    def _release(self, queue: Queue, delivery: Delivery) -> None:
        message = delivery.message
        queue.held -= 1
        self.size -= message.size
        self._bytes.add(message.sender_user, -message.size)

    def _give_back(self, queue: Queue, delivery: Delivery) -> None:
        limit = self.limits.max_deliveries
        if limit and delivery.count >= limit and _dead_letter_path(queue.key) is not None:
            self._bury(queue, delivery, "max-deliveries")
        else:
            queue.put_back(delivery)

    def _bury(self, queue: Queue, delivery: Delivery, reason: str) -> None:
        self._release(queue, delivery)
        path = _dead_letter_path(queue.key)
        if path is None:
            return
        letters = self._table.get(path)
        if letters is None:
            sender = delivery.message.sender_user
            if not self._opened.leaves_room({sender: 1}, self._room() - 1):
                self._lose(queue)
                return
            letters = self._open(path, sender)
        elif self.limits.queue_messages and letters.held >= self.limits.queue_messages:
            self._lose(letters)
            if letters.first() is None:
                return
            self._release(letters, letters.take())
        letter = delivery.message.derived(
            {"dlq-reason": reason, "dlq-origin": str(queue.key)},
            destination=Destination.parse(path),
        )
        letters.put(letter)
        self._hold(letter)
        self._due[letters] = None

    def _lose(self, queue: Queue) -> None:
        self.lost += 1
        if not queue.has_lost:
            queue.has_lost = True
            self._log.warn("no room for dead letters of, or in, {queue}", queue=queue.key)


def _path(key: QueueKey) -> str:
    return key if isinstance(key, str) else key[1]


def _dead_letter_path(key: QueueKey) -> str | None:
    if not isinstance(key, str) or key.startswith(_DEAD_LETTERS):
        return None
    return _DEAD_LETTERS + key.removeprefix(_PREFIX)
