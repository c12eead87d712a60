"""Several distributed brokers against a model of what each subscription may and must get.

Everything that is under way moves when hypothesis says so. The hub's order of messages is the
measure: a subscription gets messages in that order, none twice, none of another destination; all
that the hub took between its confirmation and its end, and none from before or after. Connections
break; then all who listen at that node are told, which is their end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.destination import Destination
from stompauth.broker.distributed import DistributedBroker
from stompauth.broker.envelope import Envelope, decode
from stompauth.errors import Refused
from tests.broker.memory_bus import Hub
from tests.broker.receiver import Receiver, message_to

if TYPE_CHECKING:
    from stompauth.broker.subscription import Subscription

NODES = 3
SENT_TO = st.sampled_from(["/topic/a", "/topic/b/c", "/user/u0/queue/x"])
SUBSCRIBED_TO = st.sampled_from(
    ["/topic/a", "/topic/b/c", "/topic/*", "/topic/**", "/topic/b/*", "/user/queue/x"]
)


@dataclass(eq=False)
class Listening:
    """One subscription, and the stretch of the hub's messages that is its.

    :ivar node: the index of its node.
    :ivar first: it gets nothing from before that message.
    :ivar confirmed: it gets everything from that message on; None until it is confirmed.
    :ivar certain: it gets everything before that message; None while it has not ended.
    :ivar last: it gets nothing from that message on; likewise.
    """

    node: int
    subscription: Subscription
    receiver: Receiver
    first: int
    confirmed: int | None = None
    certain: int | None = None
    last: int | None = None


class DistributedMachine(RuleBasedStateMachine):
    """Sessions at several nodes, and what is under way between them."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.hub = Hub()
        self.brokers: list[DistributedBroker] = []
        #: How many of the hub's messages the node is certain to have delivered.
        self.taken = [0] * NODES
        self.listening: list[Listening] = []
        self.sent = 0
        for _ in range(NODES):
            bus = self.hub.bus()
            broker = DistributedBroker(bus, clock=self.clock)
            broker.startService()
            bus.connect()
            self.brokers.append(broker)
        self.settle()

    def published(self) -> int:
        return len(self.hub.published)

    def note_taken(self, node: int) -> None:
        if not self.hub.buses[node].arriving and not self.brokers[node].counts()["bus_waiting"]:
            self.taken[node] = self.published()

    def settle(self) -> None:
        """Let everything arrive."""
        while any(line for bus in self.hub.buses for line in bus.lines):
            for bus in self.hub.buses:
                for line in bus.lines:
                    while line:
                        line.popleft()()
            self.clock.advance(0)
        while any(broker.counts()["bus_waiting"] for broker in self.brokers):
            self.clock.advance(0)
        for node in range(NODES):
            self.note_taken(node)

    @rule(node=st.integers(0, NODES - 1), path=SUBSCRIBED_TO, user=st.sampled_from(["u0", "u1"]))
    def subscribe(self, node: int, path: str, user: str) -> None:
        receiver = Receiver(f"s{len(self.listening)}", user)
        subscription = receiver.subscription(path)
        self.note_taken(node)
        listening = Listening(node, subscription, receiver, self.taken[node])
        self.listening.append(listening)
        try:
            waiting = self.brokers[node].subscribe(subscription)
        except Refused:
            assert not self.brokers[node].is_ready()
            self.listening.remove(listening)
            return

        def confirmed(_: None) -> None:
            if listening.last is None:
                listening.confirmed = self.published()

        if waiting is None:
            confirmed(None)
        else:
            waiting.addCallbacks(confirmed, lambda failure: failure.trap(Refused))

    @precondition(lambda self: any(each.last is None for each in self.listening))
    @rule(data=st.data(), ends=st.booleans())
    def unsubscribe(self, data: st.DataObject, ends: bool) -> None:
        open_ones = [each for each in self.listening if each.last is None]
        listening = data.draw(st.sampled_from(open_ones))
        self.note_taken(listening.node)
        listening.certain = self.taken[listening.node]
        listening.last = self.published()
        broker = self.brokers[listening.node]
        if ends:
            broker.session_ended(listening.receiver.session_id, [listening.subscription])
        else:
            broker.unsubscribe(listening.subscription)

    @rule(node=st.integers(0, NODES - 1), path=SENT_TO)
    def send(self, node: int, path: str) -> None:
        self.sent += 1
        message = message_to(path, b"%d" % self.sent, sender="u1")
        sending = self.brokers[node].send(message)
        assert sending is not None
        sending.addErrback(lambda failure: failure.trap(Refused))

    @rule(node=st.integers(0, NODES - 1))
    def lose(self, node: int) -> None:
        """The node's connections break: what is under way is gone, and who listens is told."""
        bus, broker = self.hub.buses[node], self.brokers[node]
        if not bus.is_connected:
            return
        self.note_taken(node)
        taken = self.taken[node]
        bus.lose()
        self.clock.advance(0)
        for listening in self.listening:
            if listening.node == node and listening.last is None:
                assert listening.receiver.ends or listening.confirmed is None, "not told"
                listening.certain = taken
                listening.last = self.published()
                broker.session_ended(listening.receiver.session_id, [listening.subscription])

    @rule(node=st.integers(0, NODES - 1))
    def come_back(self, node: int) -> None:
        if not self.hub.buses[node].is_connected:
            self.hub.buses[node].connect()

    @precondition(lambda self: any(line for bus in self.hub.buses for line in bus.lines))
    @rule(data=st.data(), steps=st.integers(1, 3))
    def move(self, data: st.DataObject, steps: int) -> None:
        lines = [line for bus in self.hub.buses for line in bus.lines if line]
        line = data.draw(st.sampled_from(range(len(lines))))
        for _ in range(min(steps, len(lines[line]))):
            lines[line].popleft()()

    @rule()
    def turn(self) -> None:
        self.clock.advance(0)

    @rule()
    def everything_arrives(self) -> None:
        self.settle()

    def teardown(self) -> None:
        for node in range(NODES):
            self.come_back(node)
        self.settle()
        messages = []
        for _, payload in self.hub.published:
            envelope = decode(payload)
            assert isinstance(envelope, Envelope)
            messages.append((envelope.message.destination, envelope.user, envelope.message.body))
        for listening in self.listening:
            self.check(listening, messages)
        # Nothing is left of what has ended, here or at the hub.
        for listening in self.listening:
            if listening.last is None:
                broker = self.brokers[listening.node]
                broker.session_ended(listening.receiver.session_id, [listening.subscription])
        self.settle()
        for bus, broker in zip(self.hub.buses, self.brokers, strict=True):
            assert len(bus.interests) == 1, bus.interests
            counts = broker.counts()
            assert counts.pop("bus_channels") == 1
            assert not any(counts.values()), counts

    def check(
        self, listening: Listening, messages: list[tuple[Destination, str | None, bytes]]
    ) -> None:
        destination = listening.subscription.destination
        numbers = {body: number for number, (_, _, body) in enumerate(messages)}
        fitting = [
            number
            for number, (sent_to, user, _) in enumerate(messages)
            if (
                user == listening.receiver.user and destination.path == f"/user{sent_to.path}"
                if user is not None
                else destination.matches(sent_to)
            )
        ]
        got = [numbers[body] for body in listening.receiver.bodies]
        assert got == sorted(set(got)), "out of order, or twice"
        assert set(got) <= set(fitting), "of another destination"
        last = len(messages) if listening.last is None else listening.last
        assert all(listening.first <= number < last for number in got), "not its time"
        if listening.confirmed is not None:
            certain = len(messages) if listening.certain is None else listening.certain
            missed = {n for n in fitting if listening.confirmed <= n < certain} - set(got)
            assert not missed, "missed"
        elif listening.last is None:
            raise AssertionError("never confirmed")


class ModelTests(SynchronousTestCase):
    """Several brokers keep to the model."""

    def test_model(self) -> None:
        """However things interleave, each subscription gets its messages once and in order."""
        run_state_machine_as_test(
            DistributedMachine,
            settings=settings(deadline=None, max_examples=100, stateful_step_count=40),
        )
