"""Handing one message to many subscriptions, for destinations that keep none waiting."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred

from stompauth.broker.subscription import BEGUN, SHORT, Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IReactorTime

    from stompauth.broker.message import Message
    from stompauth.broker.subscription import Subscription


#: Deliveries that one turn of the reactor makes at most, before others have theirs.
SLICE: Final = 4096

#: Seconds after which a turn makes no more of them, and after how many it looks at the clock.
TURN: Final = 0.0025
STEP: Final = 256


def fan_out(message: Message, subscriptions: Sequence[Subscription], limit: int) -> None:
    """Deliver the message to each of the subscriptions that is still active in its turn.

    The encoded message is let go of at the end. Deliveries by outlets are counted with the first
    session.

    :param limit: how many unacknowledged messages a subscription may hold; 0 for any number. One
        that would hold more overflows instead.
    """
    _deliver(message, subscriptions, limit)
    message.forget_template()


def _deliver(message: Message, subscriptions: Sequence[Subscription], limit: int) -> None:
    delivery = Delivery(message)
    held: Delivery | None = None
    framed, framed_for = message.framed, message.framed_for
    most = BEGUN if len(framed) <= SHORT else 0
    others = 0
    for subscription in subscriptions:
        # A receiver before it may have ended a session.
        if not subscription.active:
            others += 1
            continue
        if subscription.audience == framed_for:
            # The octets are at hand: nothing is left to do but to hand them on.
            outlet = subscription.outlet
            begun = outlet.begun
            if begun and len(begun) < most:
                begun.append(framed)
            else:
                outlet.write(framed)
            continue
        others += 1
        if subscription.ack != "auto":
            unacked = subscription.unacked
            if limit and len(unacked) >= limit:
                subscription.subscriber.overflow(subscription)
                continue
            if held is None:
                # It never comes again, so that its id is all that has to be known of it.
                held = Delivery(message.without_content())
            unacked[message.message_id] = held
        subscription.subscriber.deliver(subscription, delivery)
        framed, framed_for = message.framed, message.framed_for
        most = BEGUN if len(framed) <= SHORT else 0
    handed_on = len(subscriptions) - others
    if handed_on:
        subscriptions[0].subscriber.handed_on(handed_on)


@dataclass(slots=True)
class _FanOut:
    message: Message
    targets: Sequence[Subscription]
    position: int = 0
    done: Deferred[None] = field(default_factory=Deferred)


class FanOuts:
    """Fans out one message after another, a slice in each turn of the reactor.

    A message to few is delivered at once, unless an earlier one is still under way: so the order
    stays that of the senders.

    :param clock: gives the reactor, or None where there is none; then nothing is sliced.
    :param limit: as for :func:`fan_out`.
    """

    def __init__(self, clock: Callable[[], IReactorTime | None], limit: int) -> None:
        self._clock = clock
        self.limit = limit
        self._waiting: deque[_FanOut] = deque()
        self._is_running = False

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self, message: Message, targets: Sequence[Subscription]) -> Deferred[None] | None:
        """Deliver the message to those of the targets that are still active in their turn.

        :return: None when that is done, else a Deferred that fires when it is.
        """
        if not self._waiting and len(targets) <= STEP:
            fan_out(message, targets, self.limit)
            return None
        clock = self._clock()
        if clock is None:
            fan_out(message, targets, self.limit)
            return None
        fan = _FanOut(message, targets)
        self._waiting.append(fan)
        if len(self._waiting) == 1 and not self._is_running:
            self._run(clock)
        return None if fan.done.called else fan.done

    def _run(self, clock: IReactorTime) -> None:
        rest = SLICE
        begun = clock.seconds()
        self._is_running = True
        finished = []
        # The clock is the wall's, and may be set back: there is a bound without it.
        while self._waiting and rest > 0 and clock.seconds() - begun < TURN:
            fan = self._waiting[0]
            piece = fan.targets[fan.position : fan.position + min(STEP, rest)]
            fan.position += len(piece)
            rest -= len(piece)
            _deliver(fan.message, piece, self.limit)
            if fan.position >= len(fan.targets):
                fan.message.forget_template()
                self._waiting.popleft()
                finished.append(fan.done)
        self._is_running = False
        if self._waiting:
            clock.callLater(0, self._run, clock)
        # Whoever waited may go on to send, behind those that still wait.
        for done in finished:
            done.callback(None)
