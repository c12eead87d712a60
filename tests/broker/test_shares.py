"""Tests of stompauth.broker.shares."""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from stompauth.broker.shares import Shares


class SharesTests(SynchronousTestCase):
    """RS-2: nobody alone uses up what all have together."""

    def fill(self, shares: Shares, users: list[str | None], limit: int) -> dict[str | None, int]:
        """Let the users take in turn, one at a time, until nobody may."""
        held: dict[str | None, int] = dict.fromkeys(users, 0)
        took = True
        while took:
            took = False
            for user in users:
                if shares.leaves_room({user: 1}, limit - sum(held.values()) - 1):
                    shares.add(user, 1)
                    held[user] += 1
                    took = True
        return held

    def test_one_of_many(self) -> None:
        """Who takes all that he may leaves as much free, and one more share for each further."""
        self.assertEqual(self.fill(Shares(), ["alice"], 100), {"alice": 50})
        self.assertEqual(self.fill(Shares(), ["alice", "bob"], 99), {"alice": 33, "bob": 33})

    def test_application(self) -> None:
        """The application may take it all."""
        self.assertEqual(self.fill(Shares(), [None], 100), {None: 100})

    def test_no_limit(self) -> None:
        """Where there is no limit there is no share."""
        self.assertTrue(Shares().leaves_room({"alice": 10**9}, inf))

    def test_given_back(self) -> None:
        """What was given back may be taken again, and nothing is left of who holds nothing."""
        shares = Shares()
        shares.add("alice", 2)
        self.assertFalse(shares.leaves_room({"alice": 1}, 2))
        self.assertTrue(shares.leaves_room({"alice": -1, "bob": 2}, 2))
        shares.add("alice", -2)
        self.assertEqual(len(shares), 0)
        self.assertTrue(shares.leaves_room({"alice": 2}, 2))
