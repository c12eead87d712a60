"""Tests of stompauth.handshake.address."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from stompauth.handshake.address import ClientAddress, network_of

PROXY = IPv4Address("TCP", "10.0.0.5", 1)
STRANGER = IPv4Address("TCP", "198.51.100.7", 1)


class ClientAddressTests(SynchronousTestCase):
    """HS-12: X-Forwarded-For is believed from trusted proxies, as far as they vouch for it."""

    def setUp(self) -> None:
        self.addresses = ClientAddress(["10.0.0.0/8", "2001:db8::/32"])

    def test_no_proxies(self) -> None:
        """Without trusted proxies the socket's peer counts, whatever the header says."""
        self.assertEqual(ClientAddress().of(PROXY, [b"192.0.2.9"]), "10.0.0.5")

    def test_stranger(self) -> None:
        """A peer that is no proxy is not believed."""
        self.assertEqual(self.addresses.of(STRANGER, [b"192.0.2.9"]), "198.51.100.7")

    def test_rightmost_untrusted(self) -> None:
        """What stands left of the first foreign address may be forged."""
        forwarded = [b"6.6.6.6, 192.0.2.9", b"10.1.1.1"]
        self.assertEqual(self.addresses.of(PROXY, forwarded), "192.0.2.9")

    def test_only_proxies(self) -> None:
        """When all are proxies, the farthest of them is taken."""
        self.assertEqual(self.addresses.of(PROXY, [b"10.2.2.2,10.1.1.1"]), "10.2.2.2")

    def test_garbage(self) -> None:
        """What is no address ends the search, and is never taken itself."""
        for garbage in (b"", b"unknown", b"192.0.2.9:80", b"\xff", b"evil.example"):
            self.assertEqual(self.addresses.of(PROXY, [garbage]), "10.0.0.5")
            self.assertEqual(
                self.addresses.of(PROXY, [b"6.6.6.6, " + garbage + b", 10.1.1.1"]), "10.1.1.1"
            )

    def test_ipv6(self) -> None:
        """IPv6 is compared as an address; one that stands for an IPv4 address is that one."""
        peer = IPv6Address("TCP", "::ffff:198.51.100.7", 1)
        self.assertEqual(self.addresses.of(peer, [b"192.0.2.9"]), "198.51.100.7")
        proxy = IPv6Address("TCP", "2001:0db8::1", 1)
        self.assertEqual(self.addresses.of(proxy, [b"2001:4860::8"]), "2001:4860::8")

    def test_unix(self) -> None:
        """A peer on a Unix socket is a proxy of this machine if any proxy is trusted."""
        self.assertEqual(self.addresses.of(UNIXAddress("/x"), [b"192.0.2.9"]), "192.0.2.9")
        self.assertEqual(ClientAddress().of(UNIXAddress("/x"), [b"192.0.2.9"]), "unknown")

    def test_network(self) -> None:
        """TK-10, TK-12: an IPv6 client counts by its /64, an IPv4 client by its address."""
        self.assertEqual(network_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64")
        self.assertEqual(network_of("192.0.2.1"), "192.0.2.1")
        self.assertEqual(network_of("unknown"), "unknown")
