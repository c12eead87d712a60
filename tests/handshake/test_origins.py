"""Tests of stompauth.handshake.origins."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.handshake.origins import OriginPolicy

CHAT = b"https://chat.example.com"


class OriginPolicyTests(SynchronousTestCase):
    """An origin is on the list, octet for octet, or it is foreign."""

    def setUp(self) -> None:
        self.policy = OriginPolicy(["https://chat.example.com"])

    def test_replace(self) -> None:
        """Other origins take the place of all; a bad list changes nothing."""
        self.assertRaises(ValueError, self.policy.replace, ["https://a", "null"])
        self.assertTrue(self.policy.allows([b"https://chat.example.com"]))
        self.policy.replace(["https://a"], require=False)
        self.assertFalse(self.policy.allows([b"https://chat.example.com"]))
        self.assertTrue(self.policy.allows_handshake([b"https://a"]))
        self.assertTrue(self.policy.allows_handshake([]))

    def test_exact(self) -> None:
        """HS-4: the very string is allowed."""
        self.assertTrue(self.policy.allows([CHAT]))
        self.assertTrue(self.policy.allows_handshake([CHAT]))

    def test_foreign(self) -> None:
        """HS-4, TK-14: what merely resembles an origin of the list is foreign."""
        for origin in (
            b"https://chat.example.com:443",
            b"https://chat.example.com/",
            b"https://chat.example.com.evil.example",
            b"https://evil@chat.example.com",
            b"https://CHAT.example.com",
            b"http://chat.example.com",
            b"https://xchat.example.com",
            b"https://chat.example.com\x0b",
            b" https://chat.example.com",
            b"https://chatXexample.com",
            b"null",
            b"*",
            b"",
            b"https://chat.example.com,https://chat.example.com",
            "https://chat.ex\xe4mple.com".encode(),
        ):
            self.assertFalse(self.policy.allows([origin]), origin)

    def test_repeated(self) -> None:
        """HS-4: two Origin headers are no origin, even of the same value."""
        self.assertFalse(self.policy.allows([CHAT, CHAT]))

    def test_missing(self) -> None:
        """A missing Origin passes the ticket endpoint, and the handshake only if told so."""
        self.assertTrue(self.policy.allows([]))
        self.assertFalse(self.policy.allows_handshake([]))
        self.assertTrue(OriginPolicy(["https://a"], require=False).allows_handshake([]))

    def test_never(self) -> None:
        """HS-4, TK-14: a wildcard or null cannot be configured."""
        for origin in ("*", "null"):
            with self.assertRaises(ValueError):
                OriginPolicy([origin])
