"""Tests of stompauth.handshake.connections."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from stompauth.errors import Denied
from stompauth.handshake.address import ClientAddress
from stompauth.handshake.connections import Connections, HTTPConnections
from stompauth.settings import Limits

CLIENT = IPv4Address("TCP", "192.0.2.1", 1)
PROXY = IPv4Address("TCP", "10.0.0.1", 1)
UNIX = UNIXAddress(None)


class HTTPConnectionsTests(SynchronousTestCase):
    """HS-7: sockets that speak HTTP are counted from accept on, and given back once."""

    def connections(self, total: int = 0, per_address: int = 0) -> HTTPConnections:
        return HTTPConnections(total, per_address, ClientAddress(["10.0.0.0/8"]))

    def test_in_all(self) -> None:
        """There are no more than there may be, whoever they are from."""
        connections = self.connections(total=2)
        places = [connections.claim(PROXY), connections.claim(UNIX)]
        self.assertIsNone(connections.claim(CLIENT))
        places[0]()
        self.assertIsNotNone(connections.claim(CLIENT))
        self.assertEqual(len(connections), 2)

    def test_per_address(self) -> None:
        """One network has no more than its share; a proxy's address is many clients'."""
        connections = self.connections(per_address=2)
        first = connections.claim(IPv6Address("TCP", "2001:db8::1", 1))
        connections.claim(IPv6Address("TCP", "2001:db8::2", 1))
        self.assertIsNone(connections.claim(IPv6Address("TCP", "2001:db8::3", 1)))
        for peer in (PROXY, UNIX) * 3:
            self.assertIsNotNone(connections.claim(peer))
        first()
        self.assertIsNotNone(connections.claim(IPv6Address("TCP", "2001:db8::3", 1)))

    def test_told_once(self) -> None:
        """LG-3: the log says once that there are too many, until there is room again."""
        connections = self.connections(per_address=1)
        with capturedLogs() as events:
            place = connections.claim(CLIENT)
            for _ in range(100):
                connections.claim(CLIENT)
            place()
            connections.claim(CLIENT)
            connections.claim(CLIENT)
        self.assertEqual([event["address"] for event in events], ["192.0.2.1"] * 2)

    def test_told_once_of_all(self) -> None:
        """LG-3: likewise when it is the bound of all."""
        connections = self.connections(total=1)
        with capturedLogs() as events:
            for _ in range(2):
                place = connections.claim(CLIENT)
                connections.claim(CLIENT)
                connections.claim(PROXY)
                place()
        self.assertEqual([event["address"] for event in events], ["all addresses"] * 2)


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
