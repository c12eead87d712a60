"""Tests of stompauth.broker.distributed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.application.service import IService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from stompauth.broker import distributed
from stompauth.broker.distributed import DistributedBroker
from stompauth.broker.envelope import Answer, Envelope
from stompauth.broker.transaction import Publish, Settle
from stompauth.errors import LocalProtocolError, Refused
from stompauth.interfaces import IBroker, IReadiness
from stompauth.settings import Limits
from tests.broker.memory_bus import Hub
from tests.broker.receiver import Receiver, message_to

if TYPE_CHECKING:
    from stompauth.broker.subscription import Subscription


class NodesTestCase(SynchronousTestCase):
    """Two nodes on one hub, alice at the first and bob at the second."""

    local_queues = False
    limits = Limits(queue_messages=2, subscriptions=2)

    def setUp(self) -> None:
        self.clock = Clock()
        self.hub = Hub()
        self.first, self.second = self.node(), self.node()
        self.bus, self.other_bus = self.hub.buses
        for bus in self.hub.buses:
            bus.connect()
        self.settle()
        self.alice = Receiver("a1", "alice")
        self.bob = Receiver("b1", "bob")

    def node(self) -> DistributedBroker:
        broker = DistributedBroker(
            self.hub.bus(), clock=self.clock, limits=self.limits, local_queues=self.local_queues
        )
        broker.startService()
        return broker

    def settle(self) -> None:
        """Let everything arrive that is under way."""
        for _ in range(10):
            for bus in self.hub.buses:
                for line in bus.lines:
                    while line:
                        line.popleft()()
            self.clock.advance(0)

    def subscribe(
        self, broker: DistributedBroker, receiver: Receiver, path: str, ack: str = "auto"
    ) -> Subscription:
        subscription = receiver.subscription(path, ack)
        waiting = broker.subscribe(subscription)
        self.settle()
        if waiting is not None:
            self.successResultOf(waiting)
        return subscription

    def send(self, broker: DistributedBroker, path: str, *bodies: bytes) -> None:
        for body in bodies:
            waiting = broker.send(message_to(path, body, sender="alice"))
            self.settle()
            if waiting is not None:
                self.successResultOf(waiting)

    def assert_refused(self, code: str, call: object, *arguments: object) -> Refused:
        """The call raises it, or its Deferred fails with it."""
        try:
            waiting = call(*arguments)  # type: ignore[operator]
        except Refused as refused:
            error = refused
        else:
            self.settle()
            error = self.failureResultOf(waiting, Refused).value
        self.assertEqual(error.code, code)
        return error


class TopicTests(NodesTestCase):
    """Topics are of all nodes."""

    def test_interface(self) -> None:
        """It is a broker, and a service that tells whether it can work."""
        for interface in (IBroker, IReadiness, IService):
            self.assertTrue(verifyObject(interface, self.first))

    def test_all_nodes(self) -> None:
        """What is sent at one node reaches the subscribers of every node, once."""
        self.subscribe(self.first, self.alice, "/topic/x")
        self.subscribe(self.second, self.bob, "/topic/x")
        self.send(self.first, "/topic/x", b"1", b"2")
        self.send(self.second, "/topic/x", b"3")
        self.assertEqual(self.alice.bodies, [b"1", b"2", b"3"])
        self.assertEqual(self.bob.bodies, [b"1", b"2", b"3"])

    def test_message(self) -> None:
        """A receiver at another node sees the message as one at the sender's does."""
        self.subscribe(self.first, self.alice, "/topic/x")
        self.subscribe(self.second, self.bob, "/topic/x")
        sent = message_to("/topic/x", b"\0\n\xff", headers={"a": "b\n", "é": "ü"}, sender="carol")
        self.first.send(sent)
        self.settle()
        for receiver in (self.alice, self.bob):
            self.assertEqual(receiver.last.message.frame("7"), sent.frame("7"))

    def test_not_confirmed(self) -> None:
        """A subscription is done when the bus has confirmed it, and not before."""
        subscription = self.alice.subscription("/topic/x")
        waiting = self.first.subscribe(subscription)
        assert waiting is not None
        self.assertNoResult(waiting)
        self.assertFalse(subscription.active)
        self.settle()
        self.successResultOf(waiting)
        self.assertTrue(subscription.active)
        self.assertRaises(LocalProtocolError, self.first.subscribe, subscription)

    def test_second_subscriber(self) -> None:
        """The bus is asked once for what many want, until the last of them has gone."""
        subscriptions = [
            self.subscribe(self.first, receiver, "/topic/x") for receiver in (self.alice, self.bob)
        ]
        self.assertEqual(len(self.bus.interests), 2)
        self.assertIsNone(self.first.subscribe(self.alice.subscription("/topic/x")))
        self.first.unsubscribe(subscriptions[0])
        self.first.session_ended("a1")
        self.settle()
        self.assertIn("topic:/topic/x", self.bus.interests)
        self.first.session_ended("b1", [subscriptions[1]])

    def test_wildcards(self) -> None:
        """All patterns of a node are one interest; an exact one beside it brings nothing twice."""
        self.subscribe(self.first, self.alice, "/topic/**")
        self.subscribe(self.first, self.alice, "/topic/*")
        self.subscribe(self.first, self.bob, "/topic/x")
        self.send(self.second, "/topic/x", b"1")
        self.send(self.second, "/topic/x/y", b"2")
        self.assertEqual(self.alice.bodies, [b"1", b"1", b"2"])
        self.assertEqual(self.bob.bodies, [b"1"])

    def test_accepted(self) -> None:
        """A SEND is accepted when the bus has it, whoever gets it then."""
        waiting = self.first.send(message_to("/topic/x"))
        assert waiting is not None
        self.assertNoResult(waiting)
        self.bus.publishing.popleft()()
        self.assertNoResult(waiting)
        self.bus.accepted.popleft()()
        self.assertIsNone(self.successResultOf(waiting))

    def test_own_node_waits(self) -> None:
        """The sender's own node delivers what comes back, in the order of all others."""
        self.subscribe(self.first, self.alice, "/topic/x")
        self.first.send(message_to("/topic/x", b"1"))
        self.assertEqual(self.alice.bodies, [])
        self.send(self.second, "/topic/x", b"2")
        self.assertEqual(sorted(self.alice.bodies), [b"1", b"2"])

    def test_unsubscribed_while_waiting(self) -> None:
        """A subscription that ends before it is confirmed is over, and leaves nothing."""
        subscription = self.alice.subscription("/topic/x")
        waiting = self.first.subscribe(subscription)
        assert waiting is not None
        self.first.unsubscribe(subscription)
        self.successResultOf(waiting)
        self.settle()
        self.assertFalse(subscription.active)
        self.assertNotIn("topic:/topic/x", self.bus.interests)

    def test_session_ended_while_waiting(self) -> None:
        """So is one whose session ends and does not wait any more."""
        subscription = self.alice.subscription("/topic/x")
        waiting = self.first.subscribe(subscription)
        assert waiting is not None
        waiting.cancel()
        self.first.session_ended("a1", [subscription])
        self.failureResultOf(waiting, CancelledError)
        self.settle()
        self.assertFalse(subscription.active)
        self.assertEqual(len(self.bus.interests), 1)

    def test_destinations(self) -> None:
        """A subscription that is one destination too many is refused, and leaves nothing."""
        broker = DistributedBroker(self.hub.bus(), clock=self.clock, limits=Limits(destinations=1))
        broker.startService()
        bus = self.hub.buses[-1]
        bus.connect()
        self.settle()
        self.subscribe(broker, self.alice, "/topic/x")
        self.assert_refused("limit", broker.subscribe, self.alice.subscription("/topic/y"))
        self.settle()
        self.assertNotIn("topic:/topic/y", bus.interests)

    def test_expiry(self) -> None:
        """A message that has expired on its way is delivered to nobody."""
        self.subscribe(self.second, self.bob, "/topic/x")
        self.first.send(message_to("/topic/x", b"1", expires=5))
        self.first.send(message_to("/topic/x", b"2", expires=15))
        self.clock.advance(10)
        self.settle()
        self.assertEqual(self.bob.bodies, [b"2"])

    def test_retain(self) -> None:
        """Nothing is retained, and who asks for it is told."""
        self.assert_refused(
            "bad-header", self.first.send, message_to("/topic/x", b"1", retain=True)
        )
        self.assertEqual(self.hub.published, [])

    def test_not_served(self) -> None:
        """What nothing here serves is refused, to send as to subscribe."""
        for path in ("/other/x", "/topic", "/app/x", "/user/bob/topic/x", "/queue/x"):
            self.assert_refused("no-such-destination", self.first.send, message_to(path))
            self.assert_refused(
                "no-such-destination", self.first.subscribe, self.alice.subscription(path)
            )
        for path in ("/temp-queue/x", f"/temp-queue/reply.{32 * 'a'}", "/user/queue/x"):
            self.assert_refused("no-such-destination", self.first.send, message_to(path))
        for path in ("/user/bob/queue/x", "/user/queue/*", "/temp-queue/*", "/queue/*", "/**"):
            self.assert_refused(
                "no-such-destination", self.first.subscribe, self.alice.subscription(path)
            )
        self.settle()
        self.assertEqual(len(self.bus.interests), 1)


class UserTests(NodesTestCase):
    """User destinations are of all nodes."""

    def test_two_nodes(self) -> None:
        """A user with sessions at two nodes gets a message at both, and the count says so."""
        other = Receiver("a2", "alice")
        third = Receiver("a3", "alice")
        self.subscribe(self.first, self.alice, "/user/queue/x")
        self.subscribe(self.second, other, "/user/queue/x")
        self.subscribe(self.second, third, "/user/queue/x")
        self.subscribe(self.second, self.bob, "/user/queue/x")
        waiting = self.first.send_to_user("alice", message_to("/queue/x", b"1"))
        assert isinstance(waiting, Deferred)
        self.settle()
        self.assertEqual(self.successResultOf(waiting), 3)
        self.assertEqual((self.alice.bodies, other.bodies), ([b"1"], [b"1"]))
        self.assertEqual(self.bob.bodies, [])
        self.assertEqual(other.last.message.frame("7").headers["destination"], "/user/queue/x")

    def test_nobody(self) -> None:
        """For a user who is nowhere nobody has to be waited for."""
        waiting = self.first.send_to_user("carol", message_to("/queue/x"))
        assert isinstance(waiting, Deferred)
        self.settle()
        self.assertEqual(self.successResultOf(waiting), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_other_queue(self) -> None:
        """A node where the user listens to something else counts nobody."""
        self.subscribe(self.second, self.bob, "/user/queue/y")
        waiting = self.first.send_to_user("bob", message_to("/queue/x"))
        assert isinstance(waiting, Deferred)
        self.settle()
        self.assertEqual(self.successResultOf(waiting), 0)

    def test_silent_node(self) -> None:
        """A node that does not answer within a second is not counted, nor waited for."""
        self.subscribe(self.first, self.bob, "/user/queue/x")
        self.subscribe(self.second, self.bob, "/user/queue/x")
        waiting = self.first.send_to_user("bob", message_to("/queue/x"))
        assert isinstance(waiting, Deferred)
        for line in self.bus.lines:
            while line:
                line.popleft()()
        self.clock.advance(0.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.2)
        self.assertEqual(self.successResultOf(waiting), 1)
        self.settle()
        self.assertEqual(len(self.bob.bodies), 2)

    def test_answer_first(self) -> None:
        """An answer may come before the bus says how many to expect."""
        self.subscribe(self.second, self.bob, "/user/queue/x")
        waiting = self.first.send_to_user("bob", message_to("/queue/x"))
        assert isinstance(waiting, Deferred)
        self.bus.publishing.popleft()()
        held = self.bus.accepted.popleft()
        self.settle()
        self.assertNoResult(waiting)
        held()
        self.assertEqual(self.successResultOf(waiting), 1)

    def test_one_session(self) -> None:
        """One session is in this node, and its answer needs no bus."""
        other = Receiver("a2", "alice")
        self.subscribe(self.first, self.alice, "/user/queue/x")
        self.subscribe(self.first, other, "/user/queue/x")
        sent = self.first.send_to_user("alice", message_to("/queue/x", b"1"), "a2")
        self.assertEqual(sent, 1)
        self.assertEqual((self.alice.bodies, other.bodies), ([], [b"1"]))

    def test_from_a_client(self) -> None:
        """AZ-7: a client's SEND to a user reaches all nodes, and shows nobody's name."""
        self.subscribe(self.second, self.bob, "/user/queue/x")
        self.send(self.first, "/user/bob/queue/x", b"1")
        self.assertEqual(self.bob.bodies, [b"1"])
        headers = self.bob.last.message.frame("7").headers
        self.assertNotIn("bob", " ".join(headers.values()))
        own = Receiver("a2", "alice")
        self.subscribe(self.second, own, "/user/queue/x")
        self.send(self.first, "/user/queue/x", b"2")
        self.assertEqual((own.bodies, self.bob.bodies), ([b"2"], [b"1"]))

    def test_channels(self) -> None:
        """AZ-5: no name that a client can give leads to a user's channel."""
        self.subscribe(self.second, self.bob, "/user/queue/x")
        (channel,) = (name for name in self.other_bus.interests if name.startswith("user:"))
        self.assertNotIn("bob", channel)
        for path in (
            f"/topic/{channel}",
            f"/{channel}",
            "/topic/user:bob",
            f"/user/{channel}/queue/x",
        ):
            try:
                self.first.send(message_to(path, sender="mallory"))
            except Refused:
                continue
        self.settle()
        self.assertNotIn(channel, [name for name, _ in self.hub.published])
        self.assertEqual(self.bob.bodies, [])

    def test_refused(self) -> None:
        """What is no queue of a user is refused."""
        self.assert_refused(
            "no-such-destination", self.first.send_to_user, "bob", message_to("/topic/x")
        )


class ReplyTests(NodesTestCase):
    """Temporary queues, and the names to reply to."""

    def request(self) -> str:
        """Alice listens to a temporary queue; bob, at the other node, gets its name."""
        self.subscribe(self.first, self.alice, "/temp-queue/t")
        return self.first.reply_name("a1", "/temp-queue/t")

    def test_across_nodes(self) -> None:
        """A reply from another node arrives, under the requester's own name of the queue."""
        name = self.request()
        self.send(self.second, name, b"1")
        self.assertEqual(self.alice.bodies, [b"1"])
        headers = self.alice.last.message.frame("7").headers
        self.assertEqual(headers["destination"], "/temp-queue/t")

    def test_own_node(self) -> None:
        """A reply from the same node needs no bus."""
        name = self.request()
        self.bus.lose()
        self.assertIsNone(self.first.send(message_to(name, b"1")))
        self.assertEqual(self.alice.bodies, [b"1"])

    def test_passed_on(self) -> None:
        """A name stays as it is when whoever got it passes it on, at whichever node."""
        name = self.request()
        self.assertEqual(self.second.reply_name("b1", name), name)
        self.assertEqual(self.first.reply_name("c1", name), name)
        self.assertEqual(self.first.reply_name("a1", "/temp-queue/t"), name)
        self.assertEqual(self.first.reply_name("a1", "/topic/x"), "/topic/x")

    def test_unknown(self) -> None:
        """AZ-6: to know a name is the right to send to it; a guessed one goes nowhere."""
        name = self.request()
        guessed = f"{name[:-32]}{32 * 'a'}"
        self.send(self.second, guessed, b"1")
        self.send(self.first, guessed, b"1")
        self.send(self.second, f"/temp-queue/reply.{16 * 'a'}.{32 * 'a'}", b"1")
        self.assertEqual(self.alice.bodies, [])

    def test_session_gone(self) -> None:
        """A name ends with its session; what is sent to it goes nowhere."""
        name = self.request()
        self.first.session_ended("a1", [self.alice.deliveries[0][0]] if self.alice.bodies else [])
        self.send(self.second, name, b"1")
        self.assertEqual(self.first.counts()["queue_messages"], 0)

    def test_full(self) -> None:
        """A reply that finds the queue full is dropped, counted, and told to nobody."""
        name = self.first.reply_name("a1", "/temp-queue/t")
        self.send(self.second, name, b"1", b"2", b"3")
        self.assertEqual(self.first.counts()["bus_dropped"], 1)
        self.subscribe(self.first, self.alice, "/temp-queue/t")
        self.assertEqual(self.alice.bodies, [b"1", b"2"])


class LossTests(NodesTestCase):
    """The bus goes, and comes back."""

    def test_away(self) -> None:
        """Without the bus everything that needs it is refused, and says when to come back."""
        self.bus.lose()
        message = message_to("/topic/x")
        for call, arguments in (
            (self.first.send, (message,)),
            (self.first.send_to_user, ("bob", message_to("/queue/x"))),
            (self.first.commit, ([Publish(message)],)),
            (self.first.subscribe, (self.alice.subscription("/topic/x"),)),
            (self.first.subscribe, (self.alice.subscription("/user/queue/x"),)),
        ):
            refused = self.assert_refused("broker-unavailable", call, *arguments)
            self.assertIn(int(refused.headers["retry-after"]), range(2, 11))
        self.assertFalse(self.first.is_ready())

    def test_sessions_are_told(self) -> None:
        """Every session that may have missed something is ended, and no other."""
        quiet = Receiver("c1", "carol")
        for path in ("/topic/x", "/topic/*", "/user/queue/x", "/temp-queue/t"):
            self.subscribe(self.first, self.alice, path)
        self.subscribe(self.second, self.bob, "/topic/x")
        self.bus.lose()
        self.assertEqual(len(self.alice.ends), 4)
        self.assertEqual(quiet.ends + self.bob.ends, [])

    def test_under_way(self) -> None:
        """What was on its way to the bus is refused."""
        sending = self.first.send(message_to("/topic/x"))
        subscribing = self.first.subscribe(self.alice.subscription("/topic/x"))
        assert sending is not None
        assert subscribing is not None
        self.bus.lose()
        for waiting in (sending, subscribing):
            error = self.failureResultOf(waiting, Refused).value
            self.assertEqual(error.code, "broker-unavailable")
        self.assertEqual(self.first.counts()["bus_publishes"], 0)

    def test_back(self) -> None:
        """When the bus is back, new subscriptions get what is sent."""
        old = self.subscribe(self.first, self.alice, "/topic/x")
        self.bus.lose()
        self.first.session_ended("a1", [old])
        self.bus.connect()
        self.assertFalse(self.first.is_ready())
        self.settle()
        self.assertTrue(self.first.is_ready())
        new = Receiver("a2", "alice")
        self.subscribe(self.first, new, "/topic/x")
        self.send(self.second, "/topic/x", b"1")
        self.assertEqual((self.alice.bodies, new.bodies), ([], [b"1"]))

    def test_many(self) -> None:
        """Very many sessions are ended in turns, and nobody comes in before the last is."""
        count = distributed.ENDED_PER_TURN + 1
        receivers = [Receiver(f"s{n}") for n in range(count)]
        for receiver in receivers:
            self.subscribe(self.first, receiver, "/topic/x")
        self.bus.lose()
        self.assertEqual(sum(len(receiver.ends) for receiver in receivers), count - 1)
        self.bus.connect()
        for line in self.bus.lines:
            while line:
                line.popleft()()
        self.assertFalse(self.first.is_ready())
        self.settle()
        self.assertEqual([len(receiver.ends) for receiver in receivers], [1] * count)
        self.assertTrue(self.first.is_ready())

    def test_waiting_is_dropped(self) -> None:
        """What came before the loss and was not delivered is not delivered after it."""
        self.subscribe(self.first, self.alice, "/topic/x")
        self.first.bus_received("topic:/topic/x", Envelope(message_to("/topic/x")).encode())
        self.bus.lose()
        self.clock.advance(1)
        self.assertEqual(self.alice.bodies, [])

    def test_stop(self) -> None:
        """A stop refuses what is on its way, and ends no session: that has been done."""
        subscription = self.subscribe(self.first, self.alice, "/topic/x")
        sending = self.first.send(message_to("/topic/x"))
        assert sending is not None
        self.successResultOf(self.first.stopService())
        self.failureResultOf(sending, Refused)
        self.assertEqual(self.alice.ends, [])
        self.first.session_ended("a1", [subscription])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_many(self) -> None:
        """What waits for the bus is bounded, in number and in octets."""
        self.patch(distributed, "MAX_IN_FLIGHT", 2)
        self.first.send(message_to("/topic/x"))
        self.first.send(message_to("/topic/x"))
        self.assert_refused("broker-unavailable", self.first.send, message_to("/topic/x"))
        self.settle()
        self.patch(distributed, "MAX_IN_FLIGHT_BYTES", 1000)
        self.first.send(message_to("/topic/x", 2000 * b"x"))
        self.assert_refused("broker-unavailable", self.first.send, message_to("/topic/x"))
        self.settle()
        for _ in range(2):
            self.assertIsNotNone(self.first.send(message_to("/topic/x", 200 * b"x")))
        self.settle()

    def test_share_of_one_user(self) -> None:
        """RS-2: what one user has on its way leaves room for others, and for the application."""
        self.patch(distributed, "MAX_IN_FLIGHT_BYTES", 10_000)
        path, body = "/topic/x", 2000 * b"x"
        self.first.send(message_to(path, body, sender="mallory"))
        self.first.send(message_to(path, body, sender="mallory"))
        another = message_to(path, body, sender="mallory")
        self.assert_refused("broker-unavailable", self.first.send, another)
        commit = [Publish(another)]
        self.assert_refused("broker-unavailable", self.first.commit, commit)
        self.first.send(message_to(path, body, sender="alice"))
        self.first.send(message_to(path, body))
        self.settle()
        self.assertIsNotNone(self.first.send(another))
        self.settle()
        self.assertEqual(len(self.first._shares), 0)

    def test_cancelled(self) -> None:
        """A sender that does not wait any more takes nothing back."""
        self.subscribe(self.second, self.bob, "/topic/x")
        sending = self.first.send(message_to("/topic/x", b"1"))
        assert sending is not None
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.settle()
        self.assertEqual(self.bob.bodies, [b"1"])
        self.assertEqual(self.first.counts()["bus_publishes"], 0)


class StrangePayloadTests(NodesTestCase):
    """What comes by the bus is looked at."""

    def test_dropped(self) -> None:
        """What cannot be read, or is not the channel's, is dropped, counted, and logged once."""
        self.subscribe(self.first, self.bob, "/topic/x")
        self.subscribe(self.first, self.bob, "/user/queue/x")
        (channel,) = (name for name in self.bus.interests if name.startswith("user:"))
        (node,) = (name for name in self.bus.interests if name.startswith("node:"))
        good = Envelope(message_to("/topic/x")).encode()
        strange = [
            ("topic:/topic/x", b"nonsense"),
            ("topic:/topic/x", Envelope(message_to("/topic/y")).encode()),
            ("topic:/topic/x", Answer(0, 1).encode()),
            (channel, Envelope(message_to("/queue/x"), "alice").encode()),
            (channel, good),
            (node, good),
            (node, Envelope(message_to(f"/temp-queue/reply.{32 * 'a'}")).encode()),
        ]
        for name, payload in strange:
            self.hub.publish(name, payload)
        self.settle()
        self.assertEqual(self.bob.bodies, [])
        self.assertEqual(self.first.counts()["bus_dropped"], len(strange))
        self.hub.publish("topic:/topic/x", good)
        self.settle()
        self.assertEqual(self.bob.bodies, [b"x"])

    def test_unread(self) -> None:
        """What nobody here subscribes to is not even looked into."""
        self.subscribe(self.first, self.bob, "/topic/a/*")
        self.hub.publish("topic:/topic/x", b"nonsense")
        self.hub.publish("topic:nonsense", b"nonsense")
        self.settle()
        self.assertEqual(self.first.counts()["bus_dropped"], 1)


class LocalQueueTests(NodesTestCase):
    """Queues of each node's own, and transactions over both."""

    local_queues = True

    def test_local(self) -> None:
        """A queue of that name at another node is another queue, and needs no bus."""
        self.bus.lose()
        self.subscribe(self.first, self.alice, "/queue/x")
        self.send(self.second, "/queue/x", b"2")
        self.send(self.first, "/queue/x", b"1")
        self.assertEqual(self.alice.bodies, [b"1"])
        self.assertEqual(self.alice.ends, [])

    def test_deepest(self) -> None:
        """A node tells of its own queues."""
        self.send(self.first, "/queue/x", b"1")
        (depth,) = self.first.deepest_queues(9)
        self.assertEqual((depth.name, depth.messages), ("/queue/x", 1))
        self.assertEqual(self.second.deepest_queues(9), [])

    def test_acknowledgements(self) -> None:
        """ACK and NACK do what they do in one process."""
        work = self.subscribe(self.first, self.alice, "/queue/x", "client")
        self.send(self.first, "/queue/x", b"1")
        self.first.nack(work, list(work.unacked.values()))
        self.assertEqual(self.alice.last.count, 2)
        self.first.ack(work, list(work.unacked.values()))
        self.assertEqual(self.first.counts()["queue_messages"], 0)

    def test_paused(self) -> None:
        """A consumer whose connection is full gets nothing more, until it can."""
        work = self.subscribe(self.first, self.alice, "/queue/x")
        self.first.pause([work])
        self.send(self.first, "/queue/x", b"1")
        self.assertEqual(self.alice.bodies, [])
        self.first.resume([work])
        self.assertEqual(self.alice.bodies, [b"1"])

    def test_commit(self) -> None:
        """A transaction's messages go to other nodes first, and then the rest is done."""
        work = self.subscribe(self.first, self.alice, "/queue/x", "client")
        self.subscribe(self.second, self.bob, "/topic/x")
        self.send(self.first, "/queue/x", b"1")
        (delivery,) = work.unacked.values()
        waiting = self.first.commit(
            [
                Settle(work, [delivery], True),
                Publish(message_to("/topic/x", b"2")),
                Publish(message_to("/topic/x", b"3")),
                Publish(message_to("/queue/y", b"4")),
            ]
        )
        assert waiting is not None
        self.assertEqual(len(work.unacked), 1)
        self.settle()
        self.successResultOf(waiting)
        self.assertEqual(self.bob.bodies, [b"2", b"3"])
        self.assertEqual(len(work.unacked), 0)
        self.assertEqual(self.first.counts()["queue_messages"], 1)

    def test_commit_refused(self) -> None:
        """One that cannot succeed as things are sends nothing anywhere."""
        work = self.subscribe(self.first, self.alice, "/queue/x", "client")
        self.send(self.first, "/queue/x", b"1")
        (delivery,) = work.unacked.values()
        self.first.ack(work, [delivery])
        topic = Publish(message_to("/topic/x"))
        self.assert_refused(
            "unknown-ack", self.first.commit, [topic, Settle(work, [delivery], True)]
        )
        full = [Publish(message_to("/queue/y"))] * 3
        self.assert_refused("queue-full", self.first.commit, [topic, *full])
        self.assertEqual(self.hub.published, [])

    def test_commit_lost(self) -> None:
        """When the bus goes in the middle, nothing of it is done at the queues."""
        work = self.subscribe(self.first, self.alice, "/queue/x", "client")
        self.send(self.first, "/queue/x", b"1")
        (delivery,) = work.unacked.values()
        waiting = self.first.commit(
            [Settle(work, [delivery], True), *[Publish(message_to("/topic/x"))] * 2]
        )
        assert waiting is not None
        self.bus.lose()
        self.assertEqual(self.failureResultOf(waiting, Refused).value.code, "broker-unavailable")
        self.assertEqual(len(work.unacked), 1)

    def test_commit_local(self) -> None:
        """A transaction on queues alone needs no bus."""
        self.bus.lose()
        self.assertIsNone(self.first.commit([Publish(message_to("/queue/x"))]))
        self.assertEqual(self.first.counts()["queue_messages"], 1)
