"""Tests for :mod:`stompauth.identity.principal`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.identity.principal import Principal


class PrincipalTests(SynchronousTestCase):
    """Who somebody is, is said by the issuer and the name together."""

    def setUp(self) -> None:
        self.alice = Principal("alice", "https://id.example.com/", 1000, 900, token_id="j1")

    def test_same_subject(self) -> None:
        """Another token of the same issuer and user is of the same subject."""
        self.assertTrue(self.alice.is_same_subject("https://id.example.com/", "alice"))

    def test_other_subject(self) -> None:
        """The same name from another issuer is somebody else, and names are compared exactly."""
        for issuer, name in (
            ("https://id.example.org/", "alice"),
            ("https://id.example.com", "alice"),
            ("https://id.example.com/", "Alice"),
            ("https://id.example.com/", "alice "),
            ("https://id.example.com/", ""),
        ):
            self.assertFalse(self.alice.is_same_subject(issuer, name))

    def test_repr(self) -> None:
        """A repr ends in logs: it names the user, and shows no claims and no token's id."""
        shown = repr(Principal("alice", "i", 1, 0, claims={"phone": "555"}, token_id="j1"))
        self.assertIn("alice", shown)
        self.assertNotIn("555", shown)
        self.assertNotIn("j1", shown)
