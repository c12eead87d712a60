"""Tests of stompauth.relay.broker."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from stompauth.errors import LocalProtocolError, Refused
from stompauth.interfaces import IBroker
from stompauth.stomp.frame import Frame
from tests.applications import Application, token
from tests.broker.receiver import Receiver, message_to
from tests.relay.scripted import NOW, RelayFixture


class RelayCase(SynchronousTestCase):
    """A relay, two users and the broker."""

    def setUp(self) -> None:
        self.fixture = RelayFixture()
        self.relay = self.fixture.relay
        self.alice = Receiver("s1", "alice")
        self.bob = Receiver("s2", "bob")

    def published(self) -> list[Frame]:
        self.fixture.broker.settle()
        return self.fixture.publisher.take()

    def echo(self) -> None:
        """Let the broker do its work: what was published comes to whoever subscribed to it."""
        for sent in self.published():
            headers = {
                name: value
                for name, value in sent.headers.items()
                if name not in ("destination", "receipt")
            }
            for frame in self.fixture.consumer.frames:
                if frame.headers.get("destination") == sent.headers["destination"]:
                    self.fixture.consumer.deliver(
                        frame.headers["id"], sent.headers["destination"], sent.body, **headers
                    )


class DestinationTests(RelayCase):
    """What may be subscribed to, and sent to."""

    def test_interface(self) -> None:
        """It is a broker."""
        self.assertTrue(verifyObject(IBroker, self.relay))

    def test_unknown(self) -> None:
        """RL-2: what is none of the five kinds is refused, RabbitMQ's own prefixes included."""
        for path in (
            "/exchange/amq.topic/x", "/amq/queue/x", "/reply-queue/x", "/topic", "/other/x",
            "/session/token", "/app/x",
        ):  # fmt: skip
            for call in (
                lambda path=path: self.relay.subscribe(self.alice.subscription(path)),
                lambda path=path: self.relay.send(message_to(path)),
            ):
                self.assertEqual(self.assertRaises(Refused, call).code, "no-such-destination")
        for path in ("/queue/*", "/user/queue/**", "/temp-queue/*", "/user/bob/queue/x"):
            self.assertRaises(Refused, self.relay.subscribe, self.alice.subscription(path))
        for path in ("/temp-queue/x", "/user/queue/x"):
            self.assertRaises(Refused, self.relay.send, message_to(path))

    def test_retain(self) -> None:
        """Nothing can be retained, and a SEND that asks for it is told so."""
        refused = self.assertRaises(Refused, self.relay.send, message_to("/topic/a", retain=True))
        self.assertEqual(refused.code, "bad-header")
        self.assertIn("retains nothing", refused.consequence.explanation)

    def test_active(self) -> None:
        """A subscription is subscribed once."""
        subscription = self.alice.subscription("/topic/a")
        self.fixture.wait(self.relay.subscribe(subscription))
        self.assertRaises(LocalProtocolError, self.relay.subscribe, subscription)

    def test_expired(self) -> None:
        """What has expired already goes to no topic, and to no user."""
        self.assertIsNone(self.relay.send(message_to("/topic/a", expires=NOW - 1)))
        self.assertEqual(self.relay.send_to_user("bob", message_to("/queue/a", expires=NOW - 1)), 0)
        self.assertEqual(self.published(), [])


class TopicTests(RelayCase):
    """From one client to another by way of the broker."""

    def test_there_and_back(self) -> None:
        """Body, headers and id arrive as they were sent."""
        self.fixture.wait(self.relay.subscribe(self.bob.subscription("/topic/rooms/*")))
        message = message_to(
            "/topic/rooms/v1.5",
            b"\0\xff\n",
            headers={"content-type": "x/y", "sender": "alice", "a:b": "1"},
        )
        waiting = self.relay.send(message)
        for frame in self.published():
            feed = self.fixture.consumer.frames[-1].headers["id"]
            headers = {
                name: value
                for name, value in frame.headers.items()
                if name not in ("destination", "receipt")
            }
            self.fixture.consumer.deliver(feed, "/topic/rooms.v1,5", frame.body, **headers)
        assert waiting is not None
        self.successResultOf(waiting)
        got = self.bob.last.message
        self.assertEqual(
            (got.body, got.headers, got.message_id, got.shown),
            (message.body, message.headers, message.message_id, "/topic/rooms/v1.5"),
        )


class UserTests(RelayCase):
    """A user's own destinations."""

    def setUp(self) -> None:
        super().setUp()
        self.fixture.wait(self.relay.subscribe(self.bob.subscription("/user/queue/news")))

    def test_one_subscription(self) -> None:
        """Tabs of one user share a subscription, which nobody could name."""
        second = Receiver("s3", "bob")
        self.assertIsNone(self.relay.subscribe(second.subscription("/user/queue/news")))
        (frame,) = [f for f in self.fixture.consumer.frames if f.command == "SUBSCRIBE"]
        self.assertRegex(frame.headers["destination"], "^/exchange/amq.direct/user;[0-9a-f]{64}$")
        self.assertEqual(
            self.fixture.wait(self.relay.send_to_user("bob", message_to("/queue/news", b"1"))), 2
        )
        self.assertEqual(self.bob.bodies, [])
        self.fixture.consumer.deliver(frame.headers["id"], frame.headers["destination"], b"1")
        self.assertEqual((self.bob.bodies, second.bodies), ([b"1"], [b"1"]))

    def test_only_his(self) -> None:
        """AZ-5: it goes to that user and that path, and comes under the name subscribed to."""
        self.fixture.wait(self.relay.subscribe(self.alice.subscription("/user/queue/news")))
        self.fixture.wait(self.relay.subscribe(self.bob.subscription("/user/queue/other")))
        for message in (
            message_to("/user/bob/queue/news", b"1", sender="alice"),
            message_to("/user/queue/news", b"2", sender="bob"),
        ):
            self.relay.send(message)
        self.echo()
        self.assertEqual((self.alice.bodies, self.bob.bodies), ([], [b"1", b"2"]))
        self.assertEqual(self.bob.last.message.shown, "/user/queue/news")

    def test_one_session(self) -> None:
        """What is for one session of this node does not leave it."""
        second = Receiver("s3", "bob")
        self.relay.subscribe(second.subscription("/user/queue/news"))
        self.published()
        self.assertEqual(self.relay.send_to_user("bob", message_to("/queue/news"), "s3"), 1)
        self.assertEqual(self.relay.send_to_user("bob", message_to("/queue/news"), "s1"), 0)
        self.assertEqual((self.bob.bodies, second.bodies), ([], [b"x"]))
        self.assertEqual(second.last.message.shown, "/user/queue/news")
        self.assertEqual(self.published(), [])

    def test_elsewhere(self) -> None:
        """Whoever has no session here may have one on another node."""
        self.assertEqual(
            self.fixture.wait(self.relay.send_to_user("carol", message_to("/queue/x"))), 0
        )
        self.assertEqual(len(self.published()), 1)
        self.assertRaises(Refused, self.relay.send_to_user, "carol", message_to("/topic/x"))

    def test_loss(self) -> None:
        """RL-5: they end with the shared connection, as topics do."""
        self.fixture.consumer.lose()
        self.assertEqual([end.code for end in self.bob.ends], ["broker-unavailable"])


class TemporaryTests(RelayCase):
    """Requests and replies."""

    def test_reply(self) -> None:
        """RL-2: a temporary queue is exclusive, of a random name; a reply goes by that name."""
        subscription = self.alice.subscription("/temp-queue/answers", prefetch=3)
        self.fixture.wait(self.relay.subscribe(subscription))
        name = self.relay.reply_name("s1", "/temp-queue/answers")
        self.assertRegex(name, "^/temp-queue/reply\\.[0-9a-f]{32}$")
        asker = self.fixture.private
        (frame,) = asker.take()
        queue = "temp;" + name.rpartition(".")[2]
        self.assertEqual(frame.headers["destination"], f"/queue/{queue}")
        self.assertEqual(frame.headers["exclusive"], "true")
        self.assertEqual(frame.headers["durable"], "false")
        self.fixture.wait(self.relay.send(message_to(name)))
        (sent,) = self.published()
        self.assertEqual(sent.headers["destination"], f"/amq/queue/{queue}")
        asker.deliver(frame.headers["id"], f"/queue/{queue}", b"42")
        self.assertEqual(self.alice.bodies, [b"42"])
        self.assertEqual(self.alice.last.message.shown, "/temp-queue/answers")

    def test_names(self) -> None:
        """A name that came from somewhere can be passed on; anything else is no temporary queue."""
        foreign = "/temp-queue/reply." + "0" * 32
        self.assertEqual(self.relay.reply_name("s1", foreign), foreign)
        self.assertEqual(self.relay.reply_name("s1", "whatever"), "whatever")
        mine = self.relay.reply_name("s1", "/temp-queue/a")
        self.assertEqual(self.relay.reply_name("s1", "/temp-queue/a"), mine)
        self.assertNotEqual(self.relay.reply_name("s2", "/temp-queue/a"), mine)
        self.relay.session_ended("s1")
        self.assertEqual(self.relay.counts()["reply_names"], 1)


class SessionTests(SynchronousTestCase):
    """A client of an application with a relay."""

    def setUp(self) -> None:
        self.fixture = RelayFixture()
        self.application = Application(broker=self.fixture.relay)
        self.service = self.application.stompauth.service()
        self.client = self.application.connect()

    def answers(self) -> list[tuple[str, str | None]]:
        self.fixture.broker.settle()
        return [(f.command, f.headers.get("receipt-id")) for f in self.client.frames()]

    def test_receipts(self) -> None:
        """A RECEIPT says that the broker has done it: not before, and then at once."""
        upstream = self.fixture.consumer
        upstream.receipts = False
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby", receipt="a")
        self.client.send("SEND", destination="/topic/rooms/lobby", receipt="b")
        self.assertEqual(self.answers(), [])
        self.assertEqual(self.fixture.publisher.take(), [])
        upstream.confirm_all()
        self.assertEqual(self.answers(), [("RECEIPT", "a"), ("RECEIPT", "b")])
        self.client.send("SEND", destination="/queue/work/x", receipt="c")
        self.assertEqual(self.answers(), [("RECEIPT", "c")])

    def test_secrets(self) -> None:
        """RL-1: a token, on CONNECT or on SEND, does not go on to the broker."""
        bearer = f"Bearer {token()}"
        self.client.send("SEND", destination="/queue/work/x", Authorization=bearer, login="alice")
        self.client.send("SUBSCRIBE", id="1", destination="/queue/work/x", passcode="p")
        self.answers()
        for upstream in self.fixture.broker.upstreams:
            octets = upstream.octets.lower()
            self.assertNotIn(b"authorization", octets)
            self.assertNotIn(b"bearer", octets)
            self.assertNotIn(b"alice", octets)

    def test_loss(self) -> None:
        """RL-5: a client whose subscription is cut is told so, and when to come back."""
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby", receipt="a")
        self.answers()
        self.fixture.consumer.lose()
        error = self.client.frame()
        self.assertEqual((error.command, error.headers["code"]), ("ERROR", "broker-unavailable"))
        self.assertGreater(int(error.headers["retry-after"]), 0)
        self.assertEqual(self.client.close_code, 1013)
        self.assertEqual(self.fixture.relay.counts()["shared_subscriptions"], 0)

    def test_end(self) -> None:
        """RS-4: with the client everything that it had at the broker ends."""
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        self.answers()
        self.client.send("SUBSCRIBE", id="2", destination="/queue/work/x", ack="client")
        self.answers()
        self.assertEqual(len(self.fixture.broker.living), 3)
        self.client.websocket.socket.lose()
        self.fixture.broker.settle()
        self.assertEqual(len(self.fixture.broker.living), 2)
        self.assertEqual(self.fixture.consumer.take()[-1].command, "UNSUBSCRIBE")
        self.assertEqual(set(self.fixture.relay.counts().values()), {0})

    def test_service(self) -> None:
        """OP-4: the application starts and stops it; sessions end first."""
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        self.answers()
        self.service.startService()
        stopped = self.service.stopService()
        self.assertEqual(self.client.frame().headers["code"], "shutdown")
        self.assertTrue(self.fixture.relay.running)
        self.client.websocket.close(1001)
        self.client.websocket.socket.lose()
        self.application.clock.advance(10)
        self.fixture.broker.settle()
        self.successResultOf(stopped)
        self.assertFalse(self.fixture.relay.running)
        commands = [frame.command for frame in self.fixture.consumer.take()]
        self.assertEqual(commands[-2:], ["UNSUBSCRIBE", "DISCONNECT"])

    def test_ready(self) -> None:
        """Whether the application is ready depends on the broker."""
        self.assertTrue(self.application.stompauth.readiness()["broker"])
        self.fixture.publisher.lose()
        self.assertFalse(self.application.stompauth.readiness()["broker"])
