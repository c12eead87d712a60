"""Tests of stompauth.handshake.connections."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.errors import Denied
from stompauth.handshake.connections import Connections
from stompauth.settings import Limits


class ConnectionsTests(SynchronousTestCase):
    """HS-7: sockets are counted from the handshake on, and given back once."""

    def setUp(self) -> None:
        self.connections = Connections(
            Limits(sessions=4, sessions_per_address=3, sessions_per_user=2)
        )

    def test_in_all(self) -> None:
        """There are no more sockets than there may be in all."""
        for n in range(4):
            self.connections.claim(f"192.0.2.{n}")
        error = self.assertRaises(Denied, self.connections.claim, "192.0.2.9")
        self.assertEqual(error.status, 429)

    def test_per_address(self) -> None:
        """One address has no more than its share, others still have theirs."""
        for _ in range(3):
            self.connections.claim("192.0.2.1")
        error = self.assertRaises(Denied, self.connections.claim, "192.0.2.1")
        self.assertEqual(error.status, 429)
        self.connections.claim("192.0.2.2")

    def test_per_user(self) -> None:
        """One user has no more than his share; a user of another issuer is another user."""
        for n in range(2):
            self.connections.claim(f"192.0.2.{n}").claim_user("https://id/", "alice")
        slot = self.connections.claim("192.0.2.9")
        self.assertTrue(self.connections.is_full_for("https://id/", "alice"))
        error = self.assertRaises(Denied, slot.claim_user, "https://id/", "alice")
        self.assertEqual(error.status, 429)
        slot.claim_user("https://other/", "alice")

    def test_release_once(self) -> None:
        """However often a socket is given back, it counts once; and nothing is left behind."""
        slots = [self.connections.claim("192.0.2.1") for _ in range(2)]
        slots[0].claim_user("https://id/", "alice")
        for _ in range(3):
            slots[0].release()
        self.assertEqual(self.connections.total, 1)
        slots[1].release()
        self.assertEqual(
            (self.connections.total, self.connections.by_address, self.connections.by_user),
            (0, {}, {}),
        )

    def test_no_limits(self) -> None:
        """0 is no limit."""
        connections = Connections(Limits(sessions=0, sessions_per_address=0, sessions_per_user=0))
        for _ in range(100):
            connections.claim("192.0.2.1").claim_user("https://id/", "alice")
        self.assertFalse(connections.is_full_for("https://id/", "alice"))

    def test_when_none(self) -> None:
        """One can wait for the last socket to go."""
        self.successResultOf(self.connections.when_none())
        slot = self.connections.claim("192.0.2.1")
        waiting = self.connections.when_none()
        self.assertNoResult(waiting)
        slot.release()
        self.successResultOf(waiting)
