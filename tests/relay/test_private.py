"""Tests of stompauth.relay.private."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from stompauth.broker.message import Message
from stompauth.broker.subscription import Subscription
from stompauth.broker.transaction import Publish, Settle
from stompauth.errors import Refused
from stompauth.settings import Limits
from stompauth.stomp.frame import Frame
from tests.broker.receiver import Receiver, message_to
from tests.relay.scripted import NOW, RelayFixture, Upstream


def from_session(path: str, body: bytes = b"x", session: str = "s1", **arguments: Any) -> Message:
    message = message_to(path, body, **arguments)
    message.sender_session = session
    return message


class PrivateCase(SynchronousTestCase):
    """A session, alice's, and the broker."""

    def setUp(self) -> None:
        self.fixture = RelayFixture(Limits(max_deliveries=3))
        self.relay = self.fixture.relay
        self.alice = Receiver("s1", "alice")

    @property
    def upstream(self) -> Upstream:
        return self.fixture.private

    def frames(self) -> list[Frame]:
        self.fixture.broker.settle()
        return self.upstream.take()

    def subscribe(
        self, path: str = "/queue/x", ack: str = "auto", prefetch: int = 5
    ) -> tuple[Subscription, str]:
        """A subscription, and the broker's id of it."""
        subscription = self.alice.subscription(path, ack, prefetch)
        self.fixture.wait(self.relay.subscribe(subscription))
        return subscription, self.upstream.take()[-1].headers["id"]


class OpeningTests(PrivateCase):
    """When a session has a connection."""

    def test_lazy(self) -> None:
        """Topics and user destinations need none; the first queue does, and others share it."""
        for path in ("/topic/a", "/user/queue/a"):
            self.fixture.wait(self.relay.subscribe(self.alice.subscription(path)))
        self.fixture.wait(self.relay.send(from_session("/topic/a")))
        self.assertEqual(len(self.fixture.broker.upstreams), 2)
        self.subscribe()
        self.fixture.wait(self.relay.send(from_session("/queue/y")))
        self.assertEqual(len(self.fixture.broker.upstreams), 3)
        self.assertEqual(self.relay.counts()["connections"], 1)

    def test_configuration_alone(self) -> None:
        """RL-1: its CONNECT is the same as the node's own."""
        self.subscribe()
        connects = {
            tuple(upstream.frames[0].headers.items()) for upstream in self.fixture.broker.upstreams
        }
        self.assertEqual(len(connects), 1)
        self.assertEqual(self.upstream.frames[0].headers["login"], "chat")

    def test_several_at_once(self) -> None:
        """What a session asks for while it connects waits for the one connection."""
        self.fixture.broker.connects = False
        waiting = [self.relay.send(from_session("/queue/x", body)) for body in (b"1", b"2")]
        self.fixture.broker.settle()
        self.upstream.accept()
        self.fixture.broker.settle()
        self.assertEqual([frame.body for frame in self.frames()], [b"1", b"2"])
        for each in waiting:
            assert each is not None
            self.successResultOf(each)

    def test_ends_meanwhile(self) -> None:
        """A session that ends while it connects leaves no connection, and no timer."""
        timers = len(self.fixture.clock.getDelayedCalls())
        self.fixture.broker.connects = False
        waiting = self.relay.send(from_session("/queue/x"))
        assert waiting is not None
        self.fixture.broker.settle()
        self.relay.session_ended("s1")
        self.assertEqual(self.failureResultOf(waiting, Refused).value.code, "broker-unavailable")
        self.assertEqual(len(self.fixture.broker.living), 2)
        self.assertEqual(len(self.fixture.clock.getDelayedCalls()), timers)

    def test_not_to_be_had(self) -> None:
        """RL-5: a connection that does not come about refuses what needed it; the next may."""
        self.fixture.broker.is_down = True
        waiting = self.relay.send(from_session("/queue/x"))
        assert waiting is not None
        self.assertEqual(self.failureResultOf(waiting, Refused).value.code, "broker-unavailable")
        self.fixture.broker.is_down = False
        self.fixture.wait(self.relay.send(from_session("/queue/x")))

    def test_end(self) -> None:
        """With the session the connection ends, and what it had not acknowledged goes back."""
        subscription, feed = self.subscribe(ack="client")
        self.upstream.deliver(feed, "/queue/x")
        upstream = self.upstream
        self.relay.session_ended("s1", [subscription])
        self.fixture.broker.settle()
        self.assertEqual([frame.command for frame in upstream.take()], ["DISCONNECT"])
        self.assertEqual(self.relay.counts()["connections"], 0)
        self.assertFalse(subscription.active)
        self.assertEqual(self.alice.ends, [])


class QueueTests(PrivateCase):
    """Consuming."""

    def test_subscribe(self) -> None:
        """RL-2, RL-4: the broker acknowledges one by one, in our number, under an id of ours."""
        subscription = self.alice.subscription("/queue/a/b", "client", 7)
        self.fixture.wait(self.relay.subscribe(subscription))
        (frame,) = self.upstream.take()
        headers = dict(frame.headers)
        self.assertNotIn(headers.pop("id"), (subscription.id, ""))
        headers.pop("receipt")
        self.assertEqual(
            headers,
            {
                "destination": "/queue/a%2Fb",
                "ack": "client-individual",
                "prefetch-count": "7",
            },
        )

    def test_unlimited(self) -> None:
        """Nobody has the broker send all at once."""
        self.fixture.wait(self.relay.subscribe(self.alice.subscription("/queue/a")))
        self.assertEqual(self.upstream.take()[0].headers["prefetch-count"], "100")

    def test_auto(self) -> None:
        """Without acknowledgements by the client, we acknowledge what it has been given."""
        _, feed = self.subscribe()
        ack = self.upstream.deliver(feed, "/queue/x", b"\0 1")
        self.assertEqual(self.alice.bodies, [b"\0 1"])
        self.assertEqual([(f.command, f.headers) for f in self.frames()], [("ACK", {"id": ack})])

    def test_settling(self) -> None:
        """ACK and NACK go on, each for its delivery."""
        subscription, feed = self.subscribe(ack="client-individual")
        acks = [self.upstream.deliver(feed, "/queue/x", stompauth_id=name) for name in "abc"]
        self.assertEqual(self.frames(), [])
        a, b, _ = subscription.unacked.values()
        self.relay.ack(subscription, [a])
        self.relay.nack(subscription, [b])
        self.assertEqual(
            [(f.command, f.headers) for f in self.frames()],
            [("ACK", {"id": acks[0]}), ("NACK", {"id": acks[1], "requeue": "true"})],
        )
        self.assertEqual(list(subscription.unacked), ["c"])
        self.assertEqual(
            self.assertRaises(Refused, self.relay.ack, subscription, [a]).code, "unknown-ack"
        )

    def test_redelivery(self) -> None:
        """What comes again has its old id, and says so."""
        _, feed = self.subscribe(ack="client")
        self.upstream.deliver(feed, "/queue/x", stompauth_id="m", redelivered="true")
        self.assertEqual((self.alice.last.message.message_id, self.alice.last.count), ("m", 2))

    def test_max_deliveries(self) -> None:
        """A message that has come as often as it may goes to the broker's dead letters."""
        subscription, feed = self.subscribe(ack="client")
        self.upstream.deliver(feed, "/queue/x", redelivered="true", x_delivery_count="2")
        self.relay.nack(subscription, list(subscription.unacked.values()))
        self.assertEqual(self.frames()[0].headers["requeue"], "false")

    def test_expired(self) -> None:
        """So does one that expired on its way; the client does not see it."""
        _, feed = self.subscribe()
        self.upstream.deliver(feed, "/queue/x", stompauth_expires=str(NOW - 1))
        self.assertEqual(self.alice.bodies, [])
        (frame,) = self.frames()
        self.assertEqual((frame.command, frame.headers["requeue"]), ("NACK", "false"))

    def test_same_id_twice(self) -> None:
        """Another application's messages with one id can still be acknowledged one by one."""
        subscription, feed = self.subscribe(ack="client-individual")
        for _ in range(2):
            self.upstream.deliver(feed, "/queue/x", amqp_message_id="m")
        self.assertEqual(len(subscription.unacked), 2)
        self.relay.ack(subscription, list(subscription.unacked.values()))
        self.assertEqual(len({frame.headers["id"] for frame in self.frames()}), 2)

    def test_unknown_subscription(self) -> None:
        """RL-4: a message for a subscription that the session does not have goes back."""
        self.subscribe()
        ack = self.upstream.deliver("0123456789abcdef", "/queue/x")
        self.assertEqual(self.alice.bodies, [])
        self.assertEqual(
            [(f.command, f.headers["id"]) for f in self.frames()],
            [("SUBSCRIBE", "0123456789abcdef"), ("NACK", ack), ("UNSUBSCRIBE", "0123456789abcdef")],
        )

    def test_reserved(self) -> None:
        """RL-2: the broker's own queues are no destinations."""
        for call in (
            lambda: self.relay.subscribe(self.alice.subscription("/queue/amq.gen-1")),
            lambda: self.relay.send(from_session("/queue/stomp-subscription-1")),
        ):
            self.assertEqual(self.assertRaises(Refused, call).code, "no-such-destination")


class UnsubscribingTests(PrivateCase):
    """What a consumer holds goes back, although RabbitMQ keeps it for the connection."""

    def test_held(self) -> None:
        """It is given back under the old id, which belongs to nothing by then."""
        subscription, feed = self.subscribe(ack="client")
        held = self.upstream.deliver(feed, "/queue/x", stompauth_id="m")
        self.upstream.receipts = False
        waiting = self.relay.unsubscribe(subscription)
        assert waiting is not None
        self.assertFalse(subscription.active)
        self.assertEqual(subscription.unacked, {})
        on_its_way = self.upstream.deliver(feed, "/queue/x")
        self.fixture.broker.settle()
        self.upstream.confirm_all()
        self.successResultOf(waiting)
        self.assertEqual(len(self.alice.bodies), 1)
        first, park, *nacks, last = self.frames()
        self.assertEqual(
            [f.command for f in (first, park, last)], ["UNSUBSCRIBE", "SUBSCRIBE", "UNSUBSCRIBE"]
        )
        self.assertEqual({f.headers["id"] for f in (first, park, last)}, {feed})
        self.assertTrue(park.headers["destination"].startswith("/exchange/amq.direct/nowhere;"))
        self.assertEqual(
            [(f.command, f.headers["id"]) for f in nacks], [("NACK", held), ("NACK", on_its_way)]
        )

    def test_nothing_held(self) -> None:
        """Where nothing is held there is nothing to do."""
        subscription, _ = self.subscribe()
        self.fixture.wait(self.relay.unsubscribe(subscription))
        self.assertEqual([frame.command for frame in self.frames()], ["UNSUBSCRIBE"])
        self.assertIsNone(self.relay.unsubscribe(subscription))

    def test_stray(self) -> None:
        """What RabbitMQ could not deliver any more is given back by its number."""
        subscription, feed = self.subscribe()
        self.upstream.deliver(feed, "/queue/x")
        self.fixture.wait(self.relay.unsubscribe(subscription))
        self.frames()
        self.stray(feed)
        nack = self.frames()[1]
        self.assertEqual(
            nack.headers,
            {
                "id": f"T_{feed}@@{self.upstream.session}@@2",
                "requeue": "true",
            },
        )
        self.assertEqual(self.alice.ends, [])

    def test_stray_elsewhere(self) -> None:
        """Where a broker numbers otherwise, the end of the connection gives it back."""
        subscription, feed = self.subscribe()
        kept, _ = self.subscribe("/queue/y")
        self.upstream.delivered = 7
        self.upstream.deliver(feed, "/queue/x")
        self.fixture.wait(self.relay.unsubscribe(subscription))
        self.stray(feed)
        self.fixture.broker.settle()
        self.assertEqual(len(self.fixture.broker.living), 2)
        self.assertEqual([end.code for end in self.alice.ends], ["broker-unavailable"])
        self.assertFalse(kept.active)

    def stray(self, feed: str) -> None:
        self.upstream.delivered += 1
        body = f"There is no current subscription with tag 'T_{feed}'."
        self.upstream.error("Subscription not found", body.encode())


class FlowTests(PrivateCase):
    """RL-6: a client that does not read has the broker wait."""

    def test_pause(self) -> None:
        """While it cannot take anything nothing is read for it, nor acknowledged."""
        subscription, feed = self.subscribe()
        self.relay.pause([subscription])
        self.assertEqual(self.upstream.transport.producerState, "paused")
        self.upstream.deliver(feed, "/queue/x")
        self.assertEqual((self.alice.bodies, self.frames()), ([], []))
        self.relay.resume([subscription])
        self.assertEqual(self.alice.bodies, [b"x"])
        self.assertEqual([frame.command for frame in self.frames()], ["ACK"])

    def test_pause_within(self) -> None:
        """It takes effect between two messages that came together."""
        subscription, feed = self.subscribe()
        self.alice.on_delivery = lambda *_: self.relay.pause([subscription])
        give = self.upstream.give
        pieces: list[bytes] = []
        self.upstream.give = pieces.append  # type: ignore[method-assign]
        self.upstream.deliver(feed, "/queue/x", b"1")
        self.upstream.deliver(feed, "/queue/x", b"2")
        give(b"".join(pieces))
        self.assertEqual(self.alice.bodies, [b"1"])

    def test_last_unsubscribed(self) -> None:
        """The end of what was paused lets the rest go on."""
        subscription, _ = self.subscribe()
        self.relay.pause([subscription])
        self.relay.unsubscribe(subscription)
        self.assertEqual(self.upstream.transport.producerState, "producing")

    def test_others(self) -> None:
        """RS-1: other sessions, and topics, have nothing to do with it."""
        topic = self.alice.subscription("/topic/a")
        self.fixture.wait(self.relay.subscribe(topic))
        self.relay.pause([topic])
        self.assertEqual(self.fixture.consumer.transport.producerState, "producing")


class SendingTests(PrivateCase):
    """What goes to queues."""

    def test_confirmed(self) -> None:
        """A SEND is accepted when the broker has confirmed it, and it is persistent."""
        self.subscribe()
        self.upstream.receipts = False
        waiting = self.relay.send(from_session("/queue/a/b", b"1"))
        self.fixture.broker.settle()
        assert waiting is not None
        self.assertNoResult(waiting)
        (frame,) = self.frames()
        self.assertEqual(frame.headers["destination"], "/queue/a%2Fb")
        self.assertEqual(frame.headers["persistent"], "true")
        self.upstream.confirm_all()
        self.successResultOf(waiting)

    def test_application(self) -> None:
        """The application has no session: it publishes by the node's connection."""
        self.fixture.wait(self.relay.send(message_to("/queue/x")))
        self.assertEqual(len(self.fixture.broker.upstreams), 2)
        self.assertEqual(self.fixture.publisher.take()[-1].headers["destination"], "/queue/x")

    def test_loss(self) -> None:
        """RL-5: a session whose connection breaks ends; a SEND that waits is refused."""
        subscription, _ = self.subscribe()
        self.upstream.receipts = False
        waiting = self.relay.send(from_session("/queue/x"))
        assert waiting is not None
        self.upstream.lose()
        self.failureResultOf(waiting, Refused)
        self.assertEqual([end.code for end in self.alice.ends], ["broker-unavailable"])
        self.assertFalse(subscription.active)

    def test_complaint(self) -> None:
        """RL-5: what the broker complains of ends the session, without a word of it."""
        self.subscribe()
        self.upstream.error("access_refused", b"ACCESS_REFUSED - secret")
        (end,) = self.alice.ends
        self.assertEqual((end.code, end.headers), ("internal", {}))


class TransactionTests(PrivateCase):
    """COMMIT."""

    def test_commit(self) -> None:
        """A transaction is one of the broker's, on the session's connection."""
        subscription, feed = self.subscribe(ack="client")
        ack = self.upstream.deliver(feed, "/queue/x")
        self.upstream.receipts = False
        waiting = self.relay.commit(
            [
                Publish(from_session("/queue/y", b"1")),
                Settle(subscription, list(subscription.unacked.values()), True),
                Publish(from_session("/topic/t", b"2")),
            ]
        )
        frames = self.frames()
        self.assertEqual(
            [(f.command, f.headers.get("destination") or f.headers.get("id")) for f in frames],
            [
                ("BEGIN", None),
                ("ACK", ack),
                ("SEND", "/queue/y"),
                ("SEND", "/exchange/amq.topic/t"),
                ("COMMIT", None),
            ],
        )
        self.assertEqual(len({frame.headers["transaction"] for frame in frames}), 1)
        assert waiting is not None
        self.upstream.confirm(frames[-1])
        self.assertNoResult(waiting)
        self.upstream.confirm_all()
        self.successResultOf(waiting)

    def test_refused(self) -> None:
        """If one part cannot be, nothing is done."""
        subscription, feed = self.subscribe(ack="client")
        self.upstream.deliver(feed, "/queue/x")
        (held,) = subscription.unacked.values()
        for bad in (from_session("/queue/amq.x"), from_session("/topic/x", retain=True)):
            self.assertRaises(
                Refused, self.relay.commit, [Settle(subscription, [held], True), Publish(bad)]
            )
        self.assertEqual(list(subscription.unacked.values()), [held])
        self.assertEqual(self.frames(), [])

    def test_twice(self) -> None:
        """Two cumulative ACKs may name one delivery; it is acknowledged once."""
        subscription, feed = self.subscribe(ack="client")
        self.upstream.deliver(feed, "/queue/x")
        held = list(subscription.unacked.values())
        self.fixture.wait(
            self.relay.commit([Settle(subscription, held, True), Settle(subscription, held, True)])
        )
        self.assertEqual([f.command for f in self.frames()], ["BEGIN", "ACK", "COMMIT"])

    def test_topics_alone(self) -> None:
        """Acknowledging what topics sent is no business of the broker's."""
        topic = self.alice.subscription("/topic/a", "client")
        self.fixture.wait(self.relay.subscribe(topic))
        feed = self.fixture.consumer.frames[-1].headers["id"]
        self.fixture.consumer.deliver(feed, "/topic/a")
        self.assertIsNone(self.relay.commit([Settle(topic, list(topic.unacked.values()), True)]))
        self.assertEqual(topic.unacked, {})

    def test_loss(self) -> None:
        """RL-5: a COMMIT that is not confirmed is refused."""
        self.subscribe()
        self.upstream.receipts = False
        waiting = self.relay.commit([Publish(from_session("/queue/y"))])
        self.fixture.broker.settle()
        self.upstream.lose()
        assert isinstance(waiting, Deferred)
        self.assertEqual(self.failureResultOf(waiting, Refused).value.code, "broker-unavailable")
