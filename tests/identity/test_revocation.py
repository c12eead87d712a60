"""Tests of stompauth.identity.revocation."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stompauth.counters import Counters
from stompauth.errors import TokenRevoked
from stompauth.identity.logout import Logout
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

    def refuses(self, issued_at: float = 900, **claims: object) -> bool:
        """Whether a token of alice's with these claims is refused."""
        principal = Principal("alice", "https://id/", 2000, issued_at, claims=claims)
        return self.revocations.refuses(principal)

    def test_principal(self) -> None:
        """A user and a token that were revoked are refused by their principal, too."""
        self.assertFalse(self.refuses())
        self.revocations.revoke_user("alice")
        self.assertTrue(self.refuses())
        self.assertFalse(self.refuses(1001))

    def test_logout_of_a_subject(self) -> None:
        """All tokens of the subject up to now are refused, whatever the user is called."""
        self.revocations.log_out(Logout("1001", None, None, "j"))
        self.assertTrue(self.refuses(sub="1001"))
        self.assertTrue(self.refuses(sub="1001", sid="s1"))
        self.assertTrue(self.refuses(1000, sub="1001"))
        self.assertFalse(self.refuses(1001, sub="1001"))
        self.assertFalse(self.refuses(sub="alice"))
        self.assertFalse(self.is_revoked("1001"))

    def test_logout_of_a_session(self) -> None:
        """All tokens of the provider's session are refused, whenever they were issued."""
        self.revocations.log_out(Logout(None, "s1", None, "j"))
        self.assertTrue(self.refuses(sid="s1"))
        self.assertTrue(self.refuses(2000, sid="s1", sub="1001"))
        self.assertFalse(self.refuses(sid="s2"))
        self.assertFalse(self.refuses(sub="s1"))
        self.assertFalse(self.refuses())

    def test_logout_of_a_subject_s_session(self) -> None:
        """So are those of its subject up to now that may be of any session."""
        self.revocations.log_out(Logout("1001", "s1", None, "j"))
        self.assertTrue(self.refuses(sub="1001", sid="s1"))
        self.assertTrue(self.refuses(sub="1001"))
        self.assertFalse(self.refuses(1001, sub="1001"))
        self.assertFalse(self.refuses(sub="1001", sid="s2"))
        self.assertFalse(self.refuses(sub="1002"))

    def test_strange_claims(self) -> None:
        """Claims of other types than strings are those of nobody who was logged out."""
        self.revocations.log_out(Logout("1001", "s1", None, "j"))
        for value in (["s1"], {"s1": 1}, 1001, True):
            self.assertFalse(self.refuses(sub=value, sid=value))

    def test_again(self) -> None:
        """A second revocation counts from then on."""
        self.revocations.revoke_user("alice")
        self.revocations.revoke_user("bob")
        self.clock.advance(50)
        self.assertFalse(self.is_revoked(issued_at=1040))
        self.revocations.revoke_user("alice")
        self.assertTrue(self.is_revoked(issued_at=1040))
        self.clock.advance(60)
        self.revocations.revoke_user("carol")
        self.assertEqual(len(self.revocations), 2)
        self.assertTrue(self.is_revoked(issued_at=1040))

    def test_end(self) -> None:
        """Entries go when no token that they are about can be good any more."""
        self.revocations.revoke_user("alice")
        self.revocations.revoke_token("t")
        self.clock.advance(100)
        self.revocations.log_out(Logout(None, "s1", None, "j"))
        self.assertEqual(len(self.revocations), 3)
        self.clock.advance(1)
        self.revocations.revoke_user("bob")
        self.assertEqual(len(self.revocations), 2)
        self.clock.advance(100)
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

    def test_bound_of_all_kinds(self) -> None:
        """I8: whatever kind of entry is over the bound, the oldest one becomes the floor."""
        self.revocations.revoke_token("t")
        self.clock.advance(1)
        for n in range(3):
            self.revocations.log_out(Logout(None, f"s{n}", None, "j"))
        self.assertEqual(len(self.revocations), 3)
        self.assertTrue(self.is_revoked("anybody", 1000, "t"))
        self.assertFalse(self.is_revoked("anybody", 1001, "u"))
        self.assertTrue(self.refuses(2000, sid="s0"))


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
        verifier = RevocableVerifier(Cached(), revocations, Clock(), Counters())
        self.assertTrue(verifyObject(ITokenVerifier, verifier))
        self.assertEqual(verifier.leeway, 7.0)
        self.assertEqual(self.successResultOf(verifier.verify("x")).name, "alice")
        revocations.revoke_user("alice")
        self.failureResultOf(verifier.verify("x"), TokenRevoked)
