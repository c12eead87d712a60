"""Tests of stompauth.session.commands."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.rules import Rules, allow
from stompauth.interceptors.interceptor import Interceptor
from stompauth.settings import Limits
from stompauth.stomp.frame import Frame
from tests.applications import NOW, Application, StompClient, token

if TYPE_CHECKING:
    from stompauth.session.session import Session

ROOM = "/topic/rooms/lobby"
QUEUE = "/queue/work/x"


class CommandsTestCase(SynchronousTestCase):
    """What the tests here have in common."""

    def setUp(self) -> None:
        self.start()

    def start(self, version: str = "1.2", **settings: Any) -> None:
        self.application = Application(**settings)
        self.client = self.application.connect(version=version)
        self._receipts = 0

    def do(self, command: str, body: bytes = b"", **headers: str) -> list[Frame]:
        """Send a frame with a receipt, see it come, and give what came before it."""
        self._receipts += 1
        receipt = str(self._receipts)
        self.client.send(command, body, receipt=receipt, **headers)
        *frames, last = self.client.frames()
        self.assertEqual((last.command, last.headers), ("RECEIPT", {"receipt-id": receipt}))
        return frames

    def assert_refused(self, code: str, close: int, client: StompClient | None = None) -> None:
        client = client or self.client
        frame = client.frames()[-1]
        self.assertEqual((frame.command, frame.headers.get("code")), ("ERROR", code))
        self.assertEqual(client.close_code, close)

    def publish(self, *bodies: str, to: str = QUEUE) -> None:
        for body in bodies:
            self.successResultOf(self.application.stompauth.publish(to, body))

    def bodies(self, client: StompClient | None = None) -> list[str]:
        return [frame.body.decode() for frame in (client or self.client).frames()]


class SubscriptionTests(CommandsTestCase):
    """SUBSCRIBE and UNSUBSCRIBE (STOMP 1.2, "SUBSCRIBE" and "UNSUBSCRIBE")."""

    def test_receipts(self) -> None:
        """Every frame may ask for a receipt, and gets it when the work is done."""
        self.do("SUBSCRIBE", id="1", destination=ROOM)
        self.publish("a", to=ROOM)
        self.assertEqual(self.bodies(), ["a"])
        self.do("UNSUBSCRIBE", id="1")
        self.publish("b", to=ROOM)
        self.assertEqual(self.bodies(), [])

    def test_own_message_before_own_receipt(self) -> None:
        """RECEIPT means done: the sender's own copy is out before it."""
        self.do("SUBSCRIBE", id="1", destination=ROOM)
        (message,) = self.do("SEND", b"x", destination=ROOM)
        self.assertEqual(message.body, b"x")

    def test_long_id(self) -> None:
        """RS-2: an id that each message would repeat is no longer than a destination may be."""
        self.do("SUBSCRIBE", id="x" * 256, destination=ROOM)
        self.client.send("SUBSCRIBE", id="y" * 257, destination=ROOM)
        self.assert_refused("bad-header", 1002)

    def test_duplicate_id(self) -> None:
        """An id is in use until it is unsubscribed."""
        self.do("SUBSCRIBE", id="1", destination=ROOM)
        self.do("UNSUBSCRIBE", id="1")
        self.do("SUBSCRIBE", id="1", destination=QUEUE)
        self.client.send("SUBSCRIBE", id="1", destination=ROOM)
        self.assert_refused("duplicate-id", 1002)

    def test_unknown_id(self) -> None:
        """An id that is not in use cannot be unsubscribed."""
        self.client.send("UNSUBSCRIBE", id="1")
        self.assert_refused("unknown-subscription", 1002)

    def test_ids_are_the_sessions_own(self) -> None:
        """AZ-9: one session's ids mean nothing in another."""
        other = self.application.connect("bob")
        other.send("SUBSCRIBE", id="1", destination=ROOM)
        self.client.send("UNSUBSCRIBE", id="1")
        self.assert_refused("unknown-subscription", 1002)
        self.publish("a", to=ROOM)
        self.assertEqual(self.bodies(other), ["a"])

    def test_several(self) -> None:
        """Each subscription gets its copy, under its own id; ids are escaped like all headers."""
        for subscription_id in ("a:b", "c\nd"):
            self.do("SUBSCRIBE", id=subscription_id, destination=ROOM)
        self.publish("x", to=ROOM)
        ids = [frame.headers["subscription"] for frame in self.client.frames()]
        self.assertEqual(ids, ["a:b", "c\nd"])

    def test_limit(self) -> None:
        """RS-2: a session has no more subscriptions than it may."""
        self.start(limits=Limits(subscriptions=2))
        self.do("SUBSCRIBE", id="1", destination=ROOM)
        self.do("SUBSCRIBE", id="2", destination=ROOM)
        self.client.send("SUBSCRIBE", id="3", destination=ROOM)
        self.assert_refused("limit", 4429)

    def test_bad_headers(self) -> None:
        """What ack and prefetch-count cannot be is refused."""
        for name, value in (
            ("ack", "never"),
            ("ack", "Auto"),
            ("ack", ""),
            ("prefetch-count", "0"),
            ("prefetch-count", "-1"),
            ("prefetch-count", "+1"),
            ("prefetch-count", "1e3"),
            ("prefetch-count", "\N{ARABIC-INDIC DIGIT FIVE}"),
            ("prefetch-count", "1" * 10),
        ):
            client = self.application.connect()
            client.send("SUBSCRIBE", id="1", destination=ROOM, **{name: value})
            self.assert_refused("bad-header", 1002, client)
            self.application.clock.advance(1)

    def test_selector(self) -> None:
        """AZ-8: there are no selectors; what a client writes there is neither read nor run."""
        for selector in ("a = 'b'", "T(java.lang.Runtime).getRuntime()", "__import__('os')", "'"):
            client = self.application.connect()
            client.send("SUBSCRIBE", id="1", destination=ROOM, selector=selector)
            self.publish("x", to=ROOM)
            self.assertEqual(self.bodies(client), ["x"])

    def test_without_id(self) -> None:
        """In STOMP 1.0 the destination will do in place of an id."""
        self.start("1.0")
        self.do("SUBSCRIBE", destination=ROOM)
        self.publish("x", to=ROOM)
        frame = self.client.frame()
        self.assertNotIn("subscription", frame.headers)
        self.do("UNSUBSCRIBE", destination=ROOM)
        self.publish("y", to=ROOM)
        self.assertEqual(self.client.frames(), [])

    def test_wildcards(self) -> None:
        """A pattern is allowed where the rule covers all of it; the message says where it was."""
        self.start(rules=Rules([allow("subscribe", "send", "/topic/news/**")]))
        self.do("SUBSCRIBE", id="1", destination="/topic/news/*")
        self.publish("a", to="/topic/news/a")
        self.publish("b", to="/topic/news/a/b")
        frame = self.client.frame()
        self.assertEqual((frame.body, frame.headers["destination"]), (b"a", "/topic/news/a"))
        self.client.send("SUBSCRIBE", id="2", destination="/topic/**")
        self.assert_refused("access-denied", 4403)


class Edit(Interceptor):
    """Changes the headers of SENDs, in place or in another frame, as it is told."""

    headers: ClassVar[dict[str, str]] = {}
    replaces = False

    def pre_send(self, frame: Frame, session: Session) -> Frame:
        """Change it."""
        if frame.command == "SEND":
            if self.replaces:
                return dataclasses.replace(frame, headers={**frame.headers, **self.headers})
            frame.headers.update(self.headers)
        return frame


class SendTests(CommandsTestCase):
    """A SEND whose head came before is what its headers say now."""

    def test_edited_headers(self) -> None:
        """What an interceptor makes of the headers counts, each time, and no other time."""
        edit = Edit()
        self.start(interceptors=[edit])
        self.do("SUBSCRIBE", id="0", destination=QUEUE)
        self.do("SUBSCRIBE", id="1", destination=QUEUE + "/other")
        for edit.replaces in (False, True):
            for edit.headers, found in (
                ({}, (QUEUE, None, None)),
                ({"priority": "9"}, (QUEUE, "9", None)),
                ({"content-type": "text/plain"}, (QUEUE, None, "text/plain")),
                ({"destination": QUEUE + "/other"}, (QUEUE + "/other", None, None)),
                ({}, (QUEUE, None, None)),
            ):
                for receipt in ({}, {"receipt": "a"}):
                    self.client.send("SEND", b"x", destination=QUEUE, **receipt)
                    (message, *_) = self.client.frames()
                    got = [
                        message.headers.get(name)
                        for name in ("destination", "priority", "content-type", "receipt")
                    ]
                    self.assertEqual(got, [*found, None])

    def test_edited_to_nowhere(self) -> None:
        """A destination that is changed to one that nobody may send to is refused."""
        edit = Edit()
        self.start(interceptors=[edit])
        self.do("SEND", b"a", destination=QUEUE)
        edit.headers = {"destination": "/topic/elsewhere"}
        self.client.send("SEND", b"b", destination=QUEUE)
        self.assert_refused("access-denied", 4403)

    def test_same_sender(self) -> None:
        """With ``stamp_sender`` the same head from two users is of two senders."""
        self.start(stamp_sender=True)
        self.do("SUBSCRIBE", id="0", destination=QUEUE)
        other = self.application.connect("bob")
        senders = []
        for client in (self.client, other, self.client, other):
            client.send("SEND", b"x", destination=QUEUE)
            senders += [frame.headers["sender"] for frame in self.client.frames()]
        self.assertEqual(senders, ["alice", "bob", "alice", "bob"])


class AckTests(CommandsTestCase):
    """ACK and NACK in all modes and versions (STOMP 1.2, "ACK", "NACK" and "SUBSCRIBE")."""

    def receive(self, mode: str, *bodies: str, **headers: str) -> list[Frame]:
        self.do("SUBSCRIBE", id="1", destination=QUEUE, ack=mode, **headers)
        self.publish(*bodies)
        return self.client.frames()

    def test_auto(self) -> None:
        """Without an ack mode nothing is to be acknowledged."""
        (frame,) = self.receive("auto", "a")
        self.assertNotIn("ack", frame.headers)

    def test_individual(self) -> None:
        """client-individual: each message alone; what is not acknowledged comes again."""
        frames = self.receive("client-individual", "a", "b", "c")
        self.do("ACK", id=frames[1].headers["ack"])
        self.client.websocket.socket.lose()
        other = self.application.connect("bob")
        other.send("SUBSCRIBE", id="1", destination=QUEUE)
        again = other.frames()
        self.assertEqual([frame.body for frame in again], [b"a", b"c"])
        for frame in again:
            self.assertEqual(frame.headers["redelivered"], "true")
            self.assertEqual(frame.headers["delivery-count"], "2")

    def test_cumulative(self) -> None:
        """client: an ACK covers all before it in its subscription, and none in another."""
        self.do("SUBSCRIBE", id="2", destination="/queue/work/y", ack="client")
        self.publish("other", to="/queue/work/y")
        self.client.frames()
        frames = self.receive("client", "a", "b", "c")
        self.do("ACK", id=frames[1].headers["ack"])
        session = self.application.stompauth.sessions.of_user("alice")[0]
        held = {s.id: [d.message.body for d in s.unacked.values()] for s in session.subscriptions}
        self.assertEqual(held, {"2": [b"other"], "1": [b"c"]})

    def test_nack(self) -> None:
        """NACK gives a message back; it comes again, in its place, and says so."""
        frames = self.receive("client-individual", "a", "b")
        (again,) = self.do("NACK", id=frames[0].headers["ack"])
        self.assertEqual((again.body, again.headers["redelivered"]), (b"a", "true"))
        self.assertNotEqual(again.headers["ack"], frames[0].headers["ack"])
        self.do("ACK", id=again.headers["ack"])

    def test_max_deliveries(self) -> None:
        """After its last delivery a message goes to the dead letters, with the reason."""
        self.start(
            rules=Rules(
                [
                    allow("subscribe", "send", "/queue/work/**"),
                    allow("subscribe", "/queue/dlq.work/x"),
                ]
            ),
            limits=Limits(max_deliveries=2),
        )
        (frame,) = self.receive("client", "a")
        (again,) = self.do("NACK", id=frame.headers["ack"])
        self.assertEqual(self.do("NACK", id=again.headers["ack"]), [])
        self.assertEqual(self.application.broker.counts()["queue_messages"], 1)

    def test_unknown(self) -> None:
        """Ids that name nothing, no longer name it, or are another's, are refused."""
        other = self.application.connect("bob")
        other.send("SUBSCRIBE", id="1", destination=QUEUE, ack="client-individual")
        self.publish("a")
        theirs = other.frame().headers["ack"]
        for bad in ("x", "1-1-x", "", "--", theirs):
            for command in ("ACK", "NACK"):
                client = self.application.connect("carol")
                client.send(command, id=bad)
                self.assert_refused("unknown-ack", 1002, client)
                self.application.clock.advance(1)
        other.send("ACK", id=theirs)
        other.send("ACK", id=theirs)
        self.assert_refused("unknown-ack", 1002, other)

    def test_stale(self) -> None:
        """The id of a delivery that was given back is not that of the next one."""
        (frame,) = self.receive("client-individual", "a")
        self.do("NACK", id=frame.headers["ack"])
        self.client.send("ACK", id=frame.headers["ack"])
        self.assert_refused("unknown-ack", 1002)

    def test_prefetch(self) -> None:
        """No more unacknowledged messages than asked for; each ACK makes room for one."""
        frames = self.receive("client", "a", "b", "c", **{"prefetch-count": "2"})
        self.assertEqual([frame.body for frame in frames], [b"a", b"b"])
        (third,) = self.do("ACK", id=frames[1].headers["ack"])
        self.assertEqual(third.body, b"c")

    def test_version_1_1(self) -> None:
        """STOMP 1.1: by subscription and message-id; MESSAGEs have no ack header."""
        self.start("1.1")
        frames = self.receive("client-individual", "a", "b")
        self.assertNotIn("ack", frames[0].headers)
        named = {"message-id": frames[0].headers["message-id"]}
        (again,) = self.do("NACK", subscription="1", **named)
        self.assertEqual(again.body, b"a")
        self.do("ACK", subscription="1", **named)
        self.client.send("ACK", subscription="2", **named)
        self.assert_refused("unknown-ack", 1002)

    def test_version_1_0(self) -> None:
        """STOMP 1.0: by message-id alone, and there is no NACK."""
        self.start("1.0")
        (frame,) = self.receive("client", "a")
        self.do("ACK", message_id=frame.headers["message-id"])
        self.client.send("NACK", message_id="x")
        self.assert_refused("unexpected-frame", 1002)

    def test_topics(self) -> None:
        """A topic's messages may be acknowledged, too."""
        self.do("SUBSCRIBE", id="1", destination=ROOM, ack="client")
        self.publish("a", to=ROOM)
        self.do("ACK", id=self.client.frame().headers["ack"])
        self.do("UNSUBSCRIBE", id="1")

    def test_topic_that_is_never_acknowledged(self) -> None:
        """RS-2: who acknowledges nothing holds no more than may be held."""
        self.start(limits=Limits(unacked=3))
        self.do("SUBSCRIBE", id="1", destination=ROOM, ack="client")
        self.publish("a", "b", "c", to=ROOM)
        self.assertEqual(len(self.client.frames()), 3)
        self.publish("d", to=ROOM)
        self.assert_refused("slow-consumer", 4429)


class QueueTests(CommandsTestCase):
    """A queue gives each message to one, and keeps it while there is none."""

    def test_backlog(self) -> None:
        """What was sent while nobody listened comes to the first who does, in order."""
        self.do("SEND", b"a", destination=QUEUE)
        self.do("SEND", b"b", destination=QUEUE)
        frames = self.do("SUBSCRIBE", id="1", destination=QUEUE)
        self.assertEqual([frame.body for frame in frames], [b"a", b"b"])

    def test_in_turn(self) -> None:
        """Consumers take turns."""
        other = self.application.connect("bob")
        for client in (self.client, other):
            client.send("SUBSCRIBE", id="1", destination=QUEUE)
        self.publish("a", "b", "c", "d")
        mine, theirs = self.bodies(), self.bodies(other)
        self.assertEqual((len(mine), sorted(mine + theirs)), (2, ["a", "b", "c", "d"]))

    def test_full(self) -> None:
        """A full queue refuses the SEND, and keeps what it had accepted."""
        self.start(limits=Limits(queue_messages=2))
        self.do("SEND", b"a", destination=QUEUE)
        self.do("SEND", b"b", destination=QUEUE)
        self.client.send("SEND", b"c", destination=QUEUE, receipt="r")
        self.assert_refused("queue-full", 4429)
        other = self.application.connect("bob")
        other.send("SUBSCRIBE", id="1", destination=QUEUE)
        self.assertEqual(self.bodies(other), ["a", "b"])

    def test_expires(self) -> None:
        """What has expired is not delivered; a bad time is refused."""
        self.do("SEND", b"a", destination=QUEUE, expires=str(int(NOW + 5) * 1000))
        self.do("SEND", b"b", destination=QUEUE)
        self.application.clock.advance(6)
        frames = self.do("SUBSCRIBE", id="1", destination=QUEUE)
        self.assertEqual([frame.body for frame in frames], [b"b"])
        self.client.send("SEND", destination=QUEUE, expires="soon")
        self.assert_refused("bad-header", 1002)

    def test_request_and_reply(self) -> None:
        """A reply finds its way by a name that only those know who were given it."""
        worker = self.application.connect("bob")
        worker.send("SUBSCRIBE", id="w", destination=QUEUE)
        self.do("SUBSCRIBE", id="r", destination="/temp-queue/answers")
        self.do("SEND", b"?", destination=QUEUE, reply_to="/temp-queue/answers", correlation_id="7")
        question = worker.frame()
        reply_to = question.headers["reply-to"]
        self.assertTrue(reply_to.startswith("/temp-queue/"))
        self.assertNotEqual(reply_to, "/temp-queue/answers")
        worker.send("SEND", b"!", destination=reply_to, correlation_id="7")
        answer = self.client.frame()
        self.assertEqual(answer.headers["destination"], "/temp-queue/answers")
        self.assertEqual((answer.headers["correlation-id"], answer.body), ("7", b"!"))

    def test_temporary_queues_are_private(self) -> None:
        """Nobody else reads or writes a temporary queue by the name that its owner uses."""
        self.do("SUBSCRIBE", id="r", destination="/temp-queue/answers")
        other = self.application.connect("bob")
        other.send("SUBSCRIBE", id="r", destination="/temp-queue/answers", receipt="s")
        self.assertEqual(other.frame().command, "RECEIPT")
        other.send("SEND", b"x", destination="/temp-queue/answers", receipt="s")
        other.frames()
        self.assertEqual(self.client.frames(), [])

    def test_application_destination(self) -> None:
        """A destination that is allowed but that nothing serves is told as such."""
        self.start(rules=Rules([allow("subscribe", "send", "/app/x")]))
        self.client.send("SEND", destination="/app/x")
        self.assert_refused("no-such-destination", 1002)

    def test_retained(self) -> None:
        """A retained value comes first to who subscribes later, where the rule lets it be kept."""
        self.start(
            rules=Rules(
                [
                    allow("subscribe", "send", "/topic/t", retain=True),
                    allow("subscribe", "send", "/topic/u"),
                ]
            )
        )
        self.do("SEND", b"now", destination="/topic/t", retain="true")
        (frame,) = self.do("SUBSCRIBE", id="1", destination="/topic/t")
        self.assertEqual(frame.body, b"now")
        self.client.send("SEND", b"now", destination="/topic/u", retain="true")
        self.assert_refused("access-denied", 4403)


class TransactionTests(CommandsTestCase):
    """BEGIN, COMMIT and ABORT: all or nothing (STOMP 1.2, "BEGIN")."""

    def test_commit(self) -> None:
        """Nothing before COMMIT, everything with it, in order."""
        self.do("SUBSCRIBE", id="1", destination=ROOM)
        self.do("BEGIN", transaction="t")
        self.assertEqual(self.do("SEND", b"a", destination=ROOM, transaction="t"), [])
        self.assertEqual(self.do("SEND", b"b", destination=ROOM, transaction="t"), [])
        frames = self.do("COMMIT", transaction="t")
        self.assertEqual([frame.body for frame in frames], [b"a", b"b"])

    def test_abort(self) -> None:
        """ABORT forgets it all."""
        self.do("BEGIN", transaction="t")
        self.do("SEND", b"a", destination=QUEUE, transaction="t")
        self.do("ABORT", transaction="t")
        self.assertEqual(self.application.broker.counts()["queue_messages"], 0)
        self.client.send("COMMIT", transaction="t")
        self.assert_refused("unknown-transaction", 1002)

    def test_gone_with_the_session(self) -> None:
        """What was not committed never was."""
        self.do("BEGIN", transaction="t")
        self.do("SEND", b"a", destination=QUEUE, transaction="t")
        self.client.websocket.socket.lose()
        self.assertEqual(self.application.broker.counts()["queue_messages"], 0)

    def test_acks(self) -> None:
        """ACK and NACK count at COMMIT; after an ABORT the messages are held as before."""
        self.do("SUBSCRIBE", id="1", destination=QUEUE, ack="client-individual")
        self.publish("a", "b")
        first, second = self.client.frames()
        self.do("BEGIN", transaction="t")
        self.do("ACK", id=first.headers["ack"], transaction="t")
        self.do("ABORT", transaction="t")
        self.do("BEGIN", transaction="t")
        self.do("ACK", id=first.headers["ack"], transaction="t")
        self.do("NACK", id=second.headers["ack"], transaction="t")
        (again,) = self.do("COMMIT", transaction="t")
        self.assertEqual(again.body, b"b")

    def test_all_or_nothing(self) -> None:
        """If one of them cannot be, none is."""
        self.start(limits=Limits(queue_messages=1))
        self.do("BEGIN", transaction="t")
        for destination in ("/queue/work/y", QUEUE, QUEUE):
            self.do("SEND", b"a", destination=destination, transaction="t")
        self.client.send("COMMIT", transaction="t", receipt="r")
        self.assert_refused("queue-full", 4429)
        self.assertEqual(self.application.broker.counts()["queue_messages"], 0)

    def test_too_much_at_once(self) -> None:
        """What one COMMIT sends to subscribers is no more than they can take at once."""
        self.start(limits=Limits(send_buffer=20_000))
        self.do("SUBSCRIBE", id="1", destination=ROOM)
        for fits in (True, False):
            self.do("BEGIN", transaction="t")
            for _ in range(4 if fits else 5):
                self.do("SEND", b"x" * 2300, destination=ROOM, transaction="t")
            self.client.send("COMMIT", transaction="t", receipt="c")
            if fits:
                self.assertEqual(len(self.client.frames()), 5)
        self.assert_refused("limit", 4429)

    def test_too_many_headers_at_once(self) -> None:
        """RS-1: headers count in it, as they are written: an empty body sends them all the same."""
        self.start(limits=Limits(send_buffer=20_000))
        self.do("SUBSCRIBE", id="1", destination=ROOM)
        for fits in (True, False):
            self.do("BEGIN", transaction="t")
            for _ in range(2 if fits else 3):
                self.do("SEND", destination=ROOM, transaction="t", x=1200 * ":\\")
            self.client.send("COMMIT", transaction="t", receipt="c")
            if fits:
                self.assertEqual(len(self.client.frames()), 3)
        self.assert_refused("limit", 4429)

    def test_authorized_at_send(self) -> None:
        """ST-14: the rules are asked at SEND."""
        self.do("BEGIN", transaction="t")
        self.client.send("SEND", destination="/topic/rooms/attic", transaction="t")
        self.assert_refused("access-denied", 4403)

    def test_authorized_at_commit(self) -> None:
        """ST-14: and again at COMMIT, by what the token says then."""
        self.do("BEGIN", transaction="t")
        self.do("SEND", b"a", destination=QUEUE, transaction="t")
        self.do("SEND", b"a", destination=ROOM, transaction="t")
        newer = f"Bearer {token(iat=int(NOW) + 1, rooms=[])}"
        self.client.send("SEND", destination="/session/token", Authorization=newer)
        self.client.send("COMMIT", transaction="t")
        self.assert_refused("access-denied", 4403)
        self.assertEqual(self.application.broker.counts()["queue_messages"], 0)

    def test_unknown(self) -> None:
        """A frame for a transaction that is not open is refused."""
        for command, headers in (
            ("SEND", {"destination": QUEUE}),
            ("COMMIT", {}),
            ("ABORT", {}),
        ):
            client = self.application.connect()
            client.send(command, transaction="t", **headers)
            self.assert_refused("unknown-transaction", 1002, client)
            self.application.clock.advance(1)

    def test_acks_of_many(self) -> None:
        """RS-2: an ACK of many messages counts for each of them: its COMMIT looks at them all."""
        self.start(limits=Limits(transaction_bytes=10000))
        self.do("SUBSCRIBE", id="1", destination=ROOM, ack="client")
        for n in range(100):
            self.publish(str(n), to=ROOM)
        last = self.client.frames()[-1].headers["ack"]
        self.do("BEGIN", transaction="t")
        self.do("ACK", id=last, transaction="t")
        self.client.send("ACK", id=last, transaction="t")
        self.assert_refused("limit", 4429)

    def test_bounds(self) -> None:
        """ST-14: no more at a time, and no more bytes in them, than may be."""
        self.start(limits=Limits(transactions=1, transaction_bytes=2000))
        self.do("BEGIN", transaction="t")
        self.do("SEND", b"x" * 800, destination=QUEUE, transaction="t")
        self.client.send("SEND", b"x" * 200, destination=QUEUE, transaction="t")
        self.assert_refused("limit", 4429)
        self.client = self.application.connect()
        self.do("BEGIN", transaction="t")
        self.client.send("BEGIN", transaction="u")
        self.assert_refused("limit", 4429)
