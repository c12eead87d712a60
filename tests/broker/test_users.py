"""Tests of stompauth.broker.users."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.broker.users import UserDestinations
from stompauth.settings import Limits
from tests.broker.receiver import Receiver, message_to


class UserDestinationsTests(SynchronousTestCase):
    """What is one user's is nobody else's."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.users = UserDestinations(Limits(unacked=1), self.clock.seconds)
        self.phone = Receiver("phone", "alice")
        self.laptop = Receiver("laptop", "alice")
        self.bob = Receiver("other", "bob")
        for receiver in (self.phone, self.laptop, self.bob):
            self.users.subscribe(receiver.subscription("/user/queue/x"))

    def test_all_sessions(self) -> None:
        """AZ-5: a message goes to all sessions of the user, and to nobody else."""
        self.assertEqual(self.users.send("alice", "/queue/x", message_to("/queue/x", b"1")), 2)
        self.assertEqual((self.phone.bodies, self.laptop.bodies), ([b"1"], [b"1"]))
        self.assertEqual(self.bob.bodies, [])

    def test_sessions_once(self) -> None:
        """A session with two subscriptions gets two deliveries and counts once."""
        self.users.subscribe(self.phone.subscription("/user/queue/x"))
        self.assertEqual(self.users.send("alice", "/queue/x", message_to("/queue/x")), 2)
        self.assertEqual(len(self.phone.deliveries), 2)

    def test_one_session(self) -> None:
        """AZ-5: what is for one session goes to no other, of the same user neither."""
        message = message_to("/queue/x", b"1")
        self.assertEqual(self.users.send("alice", "/queue/x", message, "phone"), 1)
        self.assertEqual((self.phone.bodies, self.laptop.bodies), ([b"1"], []))
        for session_id in ("other", "nobody"):
            self.assertEqual(self.users.send("alice", "/queue/x", message, session_id), 0)
        self.assertEqual(self.bob.bodies, [])

    def test_nobody(self) -> None:
        """For a user who does not listen, or not to that, nothing is kept."""
        self.assertEqual(self.users.send("carol", "/queue/x", message_to("/queue/x")), 0)
        self.assertEqual(self.users.send("alice", "/queue/y", message_to("/queue/y")), 0)
        self.users.subscribe(self.phone.subscription("/user/queue/y"))
        self.assertEqual(self.phone.bodies, [])

    def test_shown(self) -> None:
        """AZ-7: the receiver sees the destination that it subscribed to."""
        self.users.send("alice", "/queue/x", message_to("/user/alice/queue/x"))
        self.assertEqual(self.phone.last.message.shown, "/user/queue/x")

    def test_names_that_look_alike(self) -> None:
        """AZ-5: no user name and no path run into one another."""
        odd = Receiver("odd", "alice/queue")
        self.users.subscribe(odd.subscription("/user/queue/x"))
        self.users.send("alice", "/queue/queue/x", message_to("/queue/x"))
        self.assertEqual((odd.bodies, self.phone.bodies), ([], []))

    def test_expired(self) -> None:
        """What has expired goes to nobody."""
        message = message_to("/queue/x", expires=0.0)
        self.assertEqual(self.users.send("alice", "/queue/x", message), 0)
        self.assertEqual(self.phone.bodies, [])

    def test_overflow(self) -> None:
        """RS-2: a session that acknowledges nothing is told, and has not got the message."""
        slow = Receiver("slow", "carol")
        slow.on_overflow = self.users.unsubscribe
        self.users.subscribe(slow.subscription("/user/queue/x", "client"))
        self.assertEqual(self.users.send("carol", "/queue/x", message_to("/queue/x")), 1)
        self.assertEqual(self.users.send("carol", "/queue/x", message_to("/queue/x")), 0)
        self.assertEqual(len(slow.overflows), 1)

    def test_unsubscribe(self) -> None:
        """Nothing comes after an UNSUBSCRIBE, and when all have left nothing stays."""
        users = UserDestinations(Limits(), self.clock.seconds)
        first = self.phone.subscription("/user/queue/x", "client")
        second = self.phone.subscription("/user/queue/x")
        users.subscribe(first)
        users.subscribe(second)
        users.send("alice", "/queue/x", message_to("/queue/x"))
        users.unsubscribe(first)
        self.assertEqual((first.active, first.unacked), (False, {}))
        self.phone.deliveries.clear()
        users.send("alice", "/queue/x", message_to("/queue/x"))
        self.assertEqual([to for to, _ in self.phone.deliveries], [second])
        users.unsubscribe(second)
        self.assertEqual(len(users), 0)
