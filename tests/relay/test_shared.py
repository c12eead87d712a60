"""Tests of stompauth.relay.shared."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from stompauth.broker import fanout
from stompauth.errors import Refused
from stompauth.relay.shared import reconnect_delay
from stompauth.settings import Limits
from tests.broker.receiver import Receiver, message_to
from tests.relay.scripted import RelayFixture

KEY = "/exchange/amq.topic/"


class FeedTests(SynchronousTestCase):
    """One subscription at the broker serves all who want the same."""

    def setUp(self) -> None:
        self.fixture = RelayFixture(Limits(destinations=3))
        self.relay = self.fixture.relay
        self.alice = Receiver("s1", "alice")
        self.bob = Receiver("s2", "bob")

    def frames(self) -> list[tuple[str, str]]:
        self.fixture.broker.settle()
        return [(f.command, f.headers.get("destination", "")) for f in self.fixture.consumer.take()]

    def id_of(self, address: str) -> str:
        """The broker's id of the latest subscription of the address."""
        return [
            frame.headers["id"]
            for frame in self.fixture.consumer.frames
            if frame.headers.get("destination") == KEY + address
        ][-1]

    def test_shared(self) -> None:
        """Two clients are one subscription, which ends with the second of them."""
        first, second = self.alice.subscription("/topic/a/b"), self.bob.subscription("/topic/a/b")
        self.fixture.wait(self.relay.subscribe(first))
        self.assertIsNone(self.relay.subscribe(second))
        self.assertEqual(self.frames(), [("SUBSCRIBE", KEY + "a.b")])
        self.fixture.consumer.deliver(self.id_of("a.b"), "/topic/a.b", b"hello")
        self.assertEqual((self.alice.bodies, self.bob.bodies), ([b"hello"], [b"hello"]))
        self.assertIs(self.alice.last, self.bob.last)
        self.relay.unsubscribe(first)
        self.assertEqual(self.frames(), [])
        self.relay.unsubscribe(second)
        self.assertEqual([command for command, _ in self.frames()], ["UNSUBSCRIBE"])

    def test_confirmed(self) -> None:
        """Whoever subscribes while the broker has not confirmed waits for that, all the same."""
        self.fixture.consumer.receipts = False
        waiting = [
            self.relay.subscribe(each.subscription("/topic/a")) for each in (self.alice, self.bob)
        ]
        self.fixture.broker.settle()
        for each in waiting:
            assert each is not None
            self.assertNoResult(each)
        self.fixture.consumer.confirm_all()
        for each in waiting:
            assert each is not None
            self.successResultOf(each)

    def test_given_up(self) -> None:
        """One who leaves meanwhile does not take the others along."""
        self.fixture.consumer.receipts = False
        subscription = self.alice.subscription("/topic/a")
        leaving = self.relay.subscribe(subscription)
        staying = self.relay.subscribe(self.bob.subscription("/topic/a"))
        assert leaving is not None
        assert staying is not None
        leaving.addErrback(lambda _: None)
        leaving.cancel()
        self.relay.session_ended("s1", [subscription])
        self.fixture.broker.settle()
        self.fixture.consumer.confirm_all()
        self.successResultOf(staying)
        self.fixture.consumer.deliver(self.id_of("a"), "/topic/a", b"1")
        self.assertEqual((self.alice.bodies, self.bob.bodies), ([], [b"1"]))

    def test_not_confirmed(self) -> None:
        """RL-5: one that the broker does not confirm is refused, and ended there."""
        self.fixture.consumer.receipts = False
        subscription = self.alice.subscription("/topic/a")
        waiting = self.relay.subscribe(subscription)
        assert waiting is not None
        self.fixture.clock.advance(10)
        self.failureResultOf(waiting, Refused)
        self.assertFalse(subscription.active)
        self.assertEqual([command for command, _ in self.frames()], ["SUBSCRIBE", "UNSUBSCRIBE"])

    def test_ids(self) -> None:
        """RL-4: ids towards the broker are random, and never come again."""
        ids = []
        for _ in range(3):
            subscription = self.alice.subscription("/topic/a")
            self.fixture.wait(self.relay.subscribe(subscription))
            ids.append(self.id_of("a"))
            self.relay.unsubscribe(subscription)
        self.assertEqual(len(set(ids)), 3)
        for each in ids:
            self.assertTrue(re.fullmatch("[0-9a-f]{16}", each))

    def test_too_late(self) -> None:
        """RL-4: a MESSAGE for a subscription that has ended goes to nobody, nor to the next one."""
        first = self.alice.subscription("/topic/a")
        self.fixture.wait(self.relay.subscribe(first))
        old = self.id_of("a")
        self.relay.unsubscribe(first)
        self.fixture.wait(self.relay.subscribe(self.bob.subscription("/topic/a")))
        self.fixture.consumer.deliver(old, "/topic/a")
        self.fixture.consumer.deliver("to /topic/a", "/topic/a")
        body = f"There is no current subscription with tag 'T_{old}'.".encode()
        self.fixture.consumer.error("Subscription not found", body)
        self.assertEqual((self.alice.bodies, self.bob.bodies), ([], []))
        self.fixture.consumer.deliver(self.id_of("a"), "/topic/a", b"1")
        self.assertEqual(self.bob.bodies, [b"1"])

    def test_overlapping(self) -> None:
        """Each subscription gets a message once; the broker sends it once for each address."""
        exact, pattern = self.alice.subscription("/topic/a"), self.alice.subscription("/topic/*")
        self.fixture.wait(self.relay.subscribe(exact))
        self.fixture.wait(self.relay.subscribe(pattern))
        for address in ("a", "*"):
            self.fixture.consumer.deliver(self.id_of(address), "/topic/a", b"1")
        self.assertEqual(
            [subscription for subscription, _ in self.alice.deliveries], [exact, pattern]
        )
        self.assertEqual(
            [delivery.message.shown for _, delivery in self.alice.deliveries],
            ["/topic/a", "/topic/a"],
        )

    def test_foreign_names(self) -> None:
        """A pattern gets nothing under a name that no client could have sent to."""
        self.fixture.wait(self.relay.subscribe(self.alice.subscription("/topic/b/*")))
        self.fixture.consumer.deliver(self.id_of("b.*"), "/topic/a.b")
        self.fixture.wait(self.relay.subscribe(self.alice.subscription("/topic/**")))
        for address in ("/topic/a..b", "/topic/%23", "/exchange/amq.direct/x", "/queue/x"):
            self.fixture.consumer.deliver(self.id_of("*.#"), address)
        self.assertEqual(self.alice.bodies, [])

    def test_limit(self) -> None:
        """RS-2: a node subscribes to a bounded number of addresses."""
        for name in "abc":
            self.fixture.wait(self.relay.subscribe(self.alice.subscription(f"/topic/{name}")))
        refused = self.assertRaises(
            Refused, self.relay.subscribe, self.alice.subscription("/topic/d")
        )
        self.assertEqual(refused.code, "limit")
        self.fixture.wait(self.relay.subscribe(self.bob.subscription("/topic/a")))
        self.relay.replace_limits(Limits(destinations=4))
        self.fixture.wait(self.relay.subscribe(self.alice.subscription("/topic/d")))

    def test_expired(self) -> None:
        """What has expired on its way goes to nobody."""
        self.fixture.wait(self.relay.subscribe(self.alice.subscription("/topic/a")))
        self.fixture.consumer.deliver(self.id_of("a"), "/topic/a", stompauth_expires="5.0")
        self.assertEqual(self.alice.bodies, [])

    def test_unacknowledged(self) -> None:
        """A topic's deliveries are acknowledged here; the broker does not hear of it."""
        subscription = self.alice.subscription("/topic/a", "client-individual")
        self.fixture.wait(self.relay.subscribe(subscription))
        self.frames()
        self.fixture.consumer.deliver(self.id_of("a"), "/topic/a")
        (held,) = subscription.unacked.values()
        self.relay.ack(subscription, [held])
        self.assertEqual(self.frames(), [])
        self.assertEqual(
            self.assertRaises(Refused, self.relay.ack, subscription, [held]).code, "unknown-ack"
        )

    def test_many(self) -> None:
        """RL-6: while a message is on its way to very many, no more of them is read."""
        self.patch(fanout, "SLICE", 256)
        for number in range(300):
            receiver = Receiver(f"m{number}")
            self.fixture.wait(self.relay.subscribe(receiver.subscription("/topic/a")))
        self.fixture.consumer.deliver(self.id_of("a"), "/topic/a")
        self.assertEqual(self.fixture.consumer.transport.producerState, "paused")
        self.fixture.clock.advance(0)
        self.assertEqual(self.fixture.consumer.transport.producerState, "producing")
        self.assertEqual(receiver.bodies, [b"x"])


class LossTests(SynchronousTestCase):
    """RL-5: the broker goes, and comes back."""

    def setUp(self) -> None:
        self.fixture = RelayFixture()
        self.relay = self.fixture.relay
        self.alice = Receiver("s1", "alice")
        self.subscription = self.alice.subscription("/topic/a")
        self.fixture.wait(self.relay.subscribe(self.subscription))

    def test_sessions_end(self) -> None:
        """Whoever would miss a message is told, and when to come back."""
        idle = Receiver("s2", "bob")
        self.fixture.consumer.lose()
        (reason,) = self.alice.ends
        self.assertEqual(reason.code, "broker-unavailable")
        self.assertIn("retry-after", reason.headers)
        self.assertEqual(idle.ends, [])
        self.assertFalse(self.subscription.active)

    def test_refused_meanwhile(self) -> None:
        """While it is away nothing is taken, and nothing is queued."""
        self.fixture.broker.is_down = True
        self.fixture.consumer.lose()
        self.fixture.publisher.lose()
        for call in (
            lambda: self.relay.subscribe(self.alice.subscription("/topic/b")),
            lambda: self.relay.subscribe(self.alice.subscription("/queue/b")),
            lambda: self.relay.send(message_to("/topic/b")),
            lambda: self.relay.send_to_user("alice", message_to("/queue/b")),
        ):
            self.assertEqual(self.assertRaises(Refused, call).code, "broker-unavailable")
        self.assertFalse(self.relay.is_ready())

    def test_back(self) -> None:
        """It is tried again, and then everything goes on."""
        self.fixture.broker.is_down = True
        self.fixture.consumer.lose()
        self.fixture.publisher.lose()
        self.fixture.clock.advance(60)
        self.fixture.broker.is_down = False
        for _ in range(30):
            self.fixture.clock.advance(1)
            self.fixture.broker.settle()
        self.assertTrue(self.relay.is_ready())
        again = self.alice.subscription("/topic/a")
        self.fixture.wait(self.relay.subscribe(again))
        self.assertTrue(again.active)
        self.assertEqual(len(self.fixture.broker.living), 2)

    def test_turned_down(self) -> None:
        """A broker that does not accept our login is asked ever more rarely."""
        self.fixture.broker.connects = False
        self.fixture.consumer.lose()
        self.fixture.publisher.lose()
        attempts = []
        for _ in range(120):
            self.fixture.clock.advance(1)
            self.fixture.broker.settle()
            for upstream in self.fixture.broker.living:
                upstream.error("Bad CONNECT", b"Access refused")
            attempts.append(len(self.fixture.broker.upstreams))
        later = attempts[-1] - attempts[59]
        self.assertGreater(later, 0)
        self.assertLess(2 * later, attempts[59])

    def test_delays(self) -> None:
        """Attempts come ever later, up to a bound, and no two nodes keep step."""
        for attempt, most in [(0, 0.75), (1, 1.125), (8, 19.222), (1000, 30)]:
            delays = {reconnect_delay(attempt) for _ in range(50)}
            self.assertLessEqual(max(delays), most)
            self.assertGreaterEqual(min(delays), most / 3 - 0.01)
            self.assertGreater(len(delays), 10)

    def test_stop(self) -> None:
        """A stop says goodbye on every connection, and leaves nothing behind."""
        self.fixture.wait(self.relay.subscribe(self.alice.subscription("/queue/x")))
        upstreams = self.fixture.broker.upstreams
        self.fixture.wait(self.relay.stopService())
        self.assertEqual(self.fixture.broker.living, [])
        for upstream in upstreams:
            self.assertEqual(upstream.frames[-1].command, "DISCONNECT")
        self.assertEqual(self.fixture.clock.getDelayedCalls(), [])
        self.assertEqual(self.alice.ends, [])
