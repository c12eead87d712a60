"""Tests of stompauth.cluster.directory."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.cluster.directory import Directory
from stompauth.cluster.messages import Presence

ISSUER = "https://id.example.com/"


def presence(session_id: str, user: str = "alice", opened_at: float = 5) -> Presence:
    return Presence(session_id, user, ISSUER, "192.0.2.1", opened_at)


class DirectoryTests(SynchronousTestCase):
    """Sessions by node, user and id."""

    def setUp(self) -> None:
        self.directory = Directory("own", max_sessions=3)
        self.directory.add_node("other")

    def test_open_and_close(self) -> None:
        """A session is found by its user and its id until it is closed; twice is once."""
        for _ in range(2):
            self.assertTrue(self.directory.open("other", presence("a")))
        self.assertEqual(self.directory.of_user("alice"), [presence("a")])
        self.assertEqual(self.directory.node_of("a"), "other")
        self.assertEqual(self.directory.count_elsewhere(ISSUER, "alice"), 1)
        self.assertEqual(self.directory.nodes_of_user("alice"), {"other"})
        for _ in range(2):
            self.directory.close("other", "a")
        self.assertEqual(self.directory.of_user("alice"), [])
        self.assertIsNone(self.directory.node_of("a"))
        self.assertEqual(self.directory.count_elsewhere(ISSUER, "alice"), 0)
        self.assertEqual(len(self.directory), 0)

    def test_own(self) -> None:
        """This node's own sessions are of the user, and not elsewhere."""
        self.directory.open("own", presence("a"))
        self.assertEqual(self.directory.of_user("alice"), [presence("a")])
        self.assertIsNone(self.directory.node_of("a"))
        self.assertEqual(self.directory.count_elsewhere(ISSUER, "alice"), 0)
        self.assertEqual(self.directory.nodes_of_user("alice"), set())

    def test_order(self) -> None:
        """The oldest come first; of the same age, all nodes have them in the same order."""
        for node, session_id, opened_at in (("own", "c", 1), ("other", "b", 1), ("own", "a", 2)):
            self.directory.open(node, presence(session_id, opened_at=opened_at))
        found = [found.session_id for found in self.directory.of_user("alice")]
        self.assertEqual(found, ["b", "c", "a"])
        of_subject = [
            (node_id, found.session_id)
            for node_id, found in self.directory.of_subject(ISSUER, "alice")
        ]
        self.assertEqual(of_subject, [("other", "b"), ("own", "c"), ("own", "a")])
        self.assertEqual(list(self.directory.of_subject("https://elsewhere/", "alice")), [])

    def test_same_id(self) -> None:
        """An id that two nodes claim is one session of each: neither can close the other's."""
        self.directory.add_node("third")
        self.directory.open("other", presence("a"))
        self.directory.open("third", presence("a"))
        self.directory.close("third", "a")
        self.assertEqual(self.directory.node_of("a"), "other")
        self.assertEqual(len(self.directory.of_user("alice")), 1)

    def test_bound(self) -> None:
        """RS-2: other nodes' sessions have a most; room that is given back is room."""
        for session_id in "abc":
            self.assertTrue(self.directory.open("other", presence(session_id)))
        self.assertFalse(self.directory.open("other", presence("d")))
        self.assertTrue(self.directory.open("other", presence("c")))
        self.assertTrue(self.directory.open("own", presence("e")))
        self.assertEqual(self.directory.count_elsewhere(ISSUER, "alice"), 3)
        self.directory.remove_node("other")
        self.assertEqual(len(self.directory), 1)
        self.directory.add_node("other")
        self.assertTrue(self.directory.open("other", presence("d")))

    def test_nothing_stays(self) -> None:
        """RS-4: nothing is left of a node that was removed."""
        for number in range(3):
            self.directory.open("other", presence(f"s-{number}", f"user-{number}"))
        self.directory.remove_node("other")
        self.directory.remove_node("other")
        self.assertEqual((self.directory.nodes, self.directory._by_user), ({}, {}))
