"""Tests of stompauth.broker.temporary."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.destination import Destination, Kind
from stompauth.broker.temporary import ReplyNames, is_reply_name
from stompauth.errors import Refused


class ReplyNamesTests(SynchronousTestCase):
    """Who was given a name may reply to it."""

    def setUp(self) -> None:
        self.names = ReplyNames(2)

    def assert_refused(self, code: str, call: object, *arguments: str) -> None:
        self.assertEqual(self.assertRaises(Refused, call, *arguments).code, code)

    def test_name(self) -> None:
        """ST-11: a name has 128 random bits, and is a destination that can be sent to."""
        name = self.names.name("s1", "/temp-queue/x")
        self.assertTrue(re.fullmatch(r"/temp-queue/reply\.[0-9a-f]{32}", name))
        self.assertEqual(Destination.parse(name).kind, Kind.TEMP_QUEUE)
        self.assertEqual(self.names.owner(name), ("s1", "/temp-queue/x"))

    def test_form(self) -> None:
        """A name can be told from what a session calls its own queue."""
        self.assertTrue(is_reply_name(self.names.name("s1", "/temp-queue/x")))
        for path in ("/temp-queue/x", "/temp-queue/reply.x", "/queue/reply." + "0" * 32):
            self.assertFalse(is_reply_name(path))

    def test_one_each(self) -> None:
        """A queue has one name, and one of another session or another name has another."""
        name = self.names.name("s1", "/temp-queue/x")
        self.assertEqual(self.names.name("s1", "/temp-queue/x"), name)
        others = {self.names.name("s1", "/temp-queue/y"), self.names.name("s2", "/temp-queue/x")}
        self.assertEqual(len(others - {name}), 2)

    def test_passed_on(self) -> None:
        """Who was given a name may give it to somebody else, who replies in its place."""
        name = self.names.name("s1", "/temp-queue/x")
        self.assertEqual(self.names.name("s2", name), name)
        self.assertEqual(len(self.names), 1)

    def test_bound(self) -> None:
        """RS-2: a session has a bounded number of names, which others do not feel."""
        first = self.names.name("s1", "/temp-queue/1")
        self.names.name("s1", "/temp-queue/2")
        self.assert_refused("limit", self.names.name, "s1", "/temp-queue/3")
        self.assertEqual(self.names.name("s1", "/temp-queue/1"), first)
        self.names.name("s2", "/temp-queue/3")
        unbounded = ReplyNames(0)
        for number in range(10):
            unbounded.name("s1", f"/temp-queue/{number}")
        self.assertEqual(len(unbounded), 10)

    def test_own_name(self) -> None:
        """Nobody sends to a temporary queue by the name that its owner uses."""
        self.names.name("s1", "/temp-queue/x")
        for path in ("/temp-queue/x", "/temp-queue/reply.x", "/temp-queue/" + "0" * 32):
            self.assert_refused("no-such-destination", self.names.owner, path)

    def test_forget(self) -> None:
        """Names end with their session, and nobody can tell that they ever were."""
        name = self.names.name("s1", "/temp-queue/x")
        other = self.names.name("s2", "/temp-queue/x")
        self.assertEqual(self.names.forget("s1"), ["/temp-queue/x"])
        self.assertEqual(self.names.forget("s1"), [])
        self.assertIsNone(self.names.owner(name))
        self.assertIsNone(self.names.owner("/temp-queue/reply." + "0" * 32))
        self.assertEqual(self.names.owner(other), ("s2", "/temp-queue/x"))
        self.names.forget("s2")
        self.assertEqual((len(self.names), self.names._names), (0, {}))
