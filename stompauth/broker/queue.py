"""One queue: what waits in it, and who takes from it in turn."""

from __future__ import annotations

from collections import OrderedDict, deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, TypeAlias

from stompauth.broker.subscription import Delivery

if TYPE_CHECKING:
    from stompauth.broker.message import Message
    from stompauth.broker.subscription import Subscription

#: What names a queue: the path of a public one; session id and path of a temporary one, which is
#: therefore nothing that a client could name.
QueueKey: TypeAlias = str | tuple[str, str]


class Queue:
    """A queue's state; it delivers nothing by itself.

    :ivar key: its name.
    :ivar held: how many messages it is answerable for: those that wait, and those that were
        delivered and are not acknowledged yet.
    :ivar opened_by: the user that it came to be for, or None for the application.
    :ivar ready: the consumers that have credit, the next one first.
    :ivar has_lost: whether the log says already that messages of it were lost.
    """

    __slots__ = (
        "_automatic",
        "_consumers",
        "_fresh",
        "_places",
        "_returned",
        "has_lost",
        "held",
        "key",
        "opened_by",
        "ready",
    )

    def __init__(self, key: QueueKey, opened_by: str | None) -> None:
        self.key = key
        self.opened_by = opened_by
        self.held = 0
        self.has_lost = False
        self.ready: OrderedDict[Subscription, None] = OrderedDict()
        self._consumers: dict[Subscription, None] = {}
        self._automatic = 0
        # What came back was taken from the front once: it all belongs before what is fresh.
        self._returned: list[tuple[int, Delivery]] = []
        self._fresh: deque[Delivery] = deque()
        self._places = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost if it were forgotten."""
        return not self.held and not self._consumers

    @property
    def consumers(self) -> int:
        """How many subscriptions take from it."""
        return len(self._consumers)

    @property
    def keeps_nothing(self) -> bool:
        """Whether each message is gone at once: there are consumers, and none that acknowledges."""
        return 0 < len(self._consumers) == self._automatic

    def add_consumer(self, subscription: Subscription) -> None:
        """Let the subscription take from the queue, after all others."""
        self._consumers[subscription] = None
        self._automatic += subscription.ack == "auto"
        self.update(subscription)

    def remove_consumer(self, subscription: Subscription) -> None:
        """Let the subscription take no more; what it holds is not touched."""
        del self._consumers[subscription]
        self._automatic -= subscription.ack == "auto"
        self.ready.pop(subscription, None)

    def update(self, subscription: Subscription) -> None:
        """The consumer's credit may have changed."""
        if not subscription.has_credit:
            self.ready.pop(subscription, None)
        elif subscription not in self.ready:
            self.ready[subscription] = None

    def put(self, message: Message) -> None:
        """Add a message at the end."""
        self._places += 1
        self._fresh.append(Delivery(message, 1, self._places))
        self.held += 1

    def put_back(self, delivery: Delivery) -> None:
        """Give a message its old place again; its next delivery is one more."""
        again = Delivery(delivery.message, delivery.count + 1, delivery.place)
        heappush(self._returned, (again.place, again))

    def first(self) -> Delivery | None:
        """What would be taken, or None when nothing waits."""
        if self._returned:
            return self._returned[0][1]
        return self._fresh[0] if self._fresh else None

    def take(self) -> Delivery:
        """Take out the first that waits; it is held until :attr:`held` says otherwise."""
        if self._returned:
            return heappop(self._returned)[1]
        return self._fresh.popleft()
