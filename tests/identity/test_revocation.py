"""Tests of stompauth.identity.revocation."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stompauth.errors import TokenRevoked
from stompauth.identity.principal import Principal
from stompauth.identity.revocation import RevocableVerifier, Revocations
from stompauth.interfaces import ITokenVerifier


class RevocationsTests(SynchronousTestCase):
    """JW-13: what was revoked is refused for as long as it could be good, within a bound."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.revocations = Revocations(self.clock, lifetime=100, max_entries=3)

    def is_revoked(
        self, user: str = "alice", issued_at: float = 900, jti: str | None = "t"
    ) -> bool:
        return self.revocations.is_revoked(user, issued_at, jti)

    def test_user(self) -> None:
        """All tokens of the user up to now are refused; later ones, and other users', are not."""
        self.assertFalse(self.is_revoked())
        self.revocations.revoke_user("alice")
        self.assertTrue(self.is_revoked())
        self.assertTrue(self.is_revoked(issued_at=1000))
        self.assertFalse(self.is_revoked(issued_at=1001))
        self.assertFalse(self.is_revoked("bob"))

    def test_token(self) -> None:
        """One token is refused by its jti, whoever it is for and whenever it was issued."""
        self.revocations.revoke_token("t")
        self.assertTrue(self.is_revoked())
        self.assertTrue(self.is_revoked("bob", 2000))
        self.assertFalse(self.is_revoked(jti="u"))
        self.assertFalse(self.is_revoked(jti=None))

    def test_again(self) -> None:
        """A second revocation counts from then on."""
        self.revocations.revoke_user("alice")
        self.clock.advance(50)
        self.assertFalse(self.is_revoked(issued_at=1040))
        self.revocations.revoke_user("alice")
        self.assertTrue(self.is_revoked(issued_at=1040))

    def test_end(self) -> None:
        """Entries go when no token that they are about can be good any more."""
        self.revocations.revoke_user("alice")
        self.revocations.revoke_token("t")
        self.clock.advance(101)
        self.revocations.revoke_user("bob")
        self.assertEqual(len(self.revocations), 1)

    def test_bound_fails_closed(self) -> None:
        """I8: over the bound nothing that was revoked comes back; older tokens go with it."""
        for n in range(5):
            self.clock.advance(1)
            self.revocations.revoke_user(f"user{n}")
        self.assertEqual(len(self.revocations), 3)
        for n in range(5):
            self.assertTrue(self.is_revoked(f"user{n}", 1001 + n))
        self.assertTrue(self.is_revoked("anybody", 1002))
        self.assertFalse(self.is_revoked("anybody", 1003))
        self.assertFalse(self.is_revoked("user0", 1003))


@implementer(ITokenVerifier)
class Cached:
    """A verifier that gives the same answer each time, as a cache does."""

    leeway = 7.0

    def verify(self, token: str) -> Deferred[Principal]:
        return succeed(Principal("alice", "https://id/", 2000, 900, token_id="t"))


class RevocableVerifierTests(SynchronousTestCase):
    """The deny list is asked each time that a token verifies."""

    def test_verify(self) -> None:
        """JW-13: also for an answer that the verifier has given before."""
        clock = Clock()
        clock.advance(1000)
        revocations = Revocations(clock)
        verifier = RevocableVerifier(Cached(), revocations)
        self.assertTrue(verifyObject(ITokenVerifier, verifier))
        self.assertEqual(verifier.leeway, 7.0)
        self.assertEqual(self.successResultOf(verifier.verify("x")).name, "alice")
        revocations.revoke_user("alice")
        self.failureResultOf(verifier.verify("x"), TokenRevoked)
