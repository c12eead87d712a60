"""Tests for :mod:`stompauth.identity.verified`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.counters import Counters
from stompauth.errors import BadToken, TokenExpired, TokenRevoked
from stompauth.identity.keys import StaticKey
from stompauth.identity.revocation import RevocableVerifier, Revocations
from stompauth.identity.verified import MAX_AGE, VerifiedTokens
from stompauth.identity.verifier import JWTVerifier
from tests.identity.signing import AUDIENCE, ISSUER, NOW, SECRET, claims, token

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from stompauth.identity.keys import VerificationKey
    from stompauth.identity.principal import Principal


class CountingKeys:
    """Static keys that can be withdrawn, and count how often they are asked for."""

    def __init__(self) -> None:
        self.key = StaticKey.hmac(SECRET)
        self.generation = 0
        self.asked = 0

    def check_algorithms(self, algorithms: Collection[str]) -> None:
        self.key.check_algorithms(algorithms)

    async def keys_for(self, algorithm: str, kid: str | None) -> Sequence[VerificationKey]:
        self.asked += 1
        return await self.key.keys_for(algorithm, kid)


class VerifiedTokensTests(SynchronousTestCase):
    """JW-12: a signature is checked once for a short while, and all else each time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.keys = CountingKeys()
        self.verifier = JWTVerifier(
            self.keys,
            algorithms=["HS256"],
            issuer=ISSUER,
            audience=AUDIENCE,
            clock=self.clock,
        )

    def verify(self, text: str) -> Principal:
        return self.successResultOf(self.verifier.verify(text))

    def test_once(self) -> None:
        """A token that comes again soon is not verified again, nor is another one taken for it."""
        text, other = token(claims()), token(claims(sub="bob"))
        first = self.verify(text)
        self.assertEqual(self.verify(text), first)
        self.assertEqual(self.keys.asked, 1)
        self.assertEqual(self.verify(other).name, "bob")
        self.assertEqual(self.keys.asked, 2)

    def test_age(self) -> None:
        """After a minute it is verified anew; so it is when the clock was set back."""
        text = token(claims())
        self.verify(text)
        self.clock.advance(MAX_AGE - 1)
        self.verify(text)
        self.assertEqual(self.keys.asked, 1)
        self.clock.advance(1)
        self.verify(text)
        self.assertEqual(self.keys.asked, 2)
        self.clock.rightNow -= 5
        self.verify(text)
        self.assertEqual(self.keys.asked, 3)

    def test_age_of_the_second(self) -> None:
        """Whenever it was verified: that holds for half a minute at least, and for one at most."""
        text = token(claims(iat=NOW, exp=NOW + 600))
        for second in range(0, 150, 7):
            self.setUp()
            self.verify(token(claims()))
            self.clock.advance(second)
            self.verify(text)
            self.assertEqual(self.keys.asked, 2)
            self.clock.advance(MAX_AGE / 2 - 1)
            self.verify(text)
            self.assertEqual(self.keys.asked, 2)
            self.clock.advance(MAX_AGE / 2 + 1)
            self.verify(text)
            self.assertEqual(self.keys.asked, 3)

    def test_expiry(self) -> None:
        """A token ends in its time, whoever remembers it."""
        text = token(claims(exp=NOW + 5))
        self.verify(text)
        self.clock.advance(15)
        self.failureResultOf(self.verifier.verify(text), TokenExpired)

    def test_keys_change(self) -> None:
        """With other keys everything is verified anew."""
        text = token(claims())
        self.verify(text)
        self.keys.key = StaticKey.hmac(b"x" * 32)
        self.verify(text)
        self.keys.generation += 1
        self.failureResultOf(self.verifier.verify(text), BadToken)

    def test_bad(self) -> None:
        """A bad token is never remembered."""
        text = token(claims(aud="other"))
        for _ in range(2):
            self.failureResultOf(self.verifier.verify(text), BadToken)
        self.assertEqual(self.keys.asked, 2)

    def test_revoked(self) -> None:
        """JW-13: the deny list is asked each time."""
        revocations = Revocations(self.clock)
        verifier = RevocableVerifier(self.verifier, revocations, self.clock, Counters())
        text = token(claims())
        name = self.successResultOf(verifier.verify(text)).name
        revocations.revoke_user(name)
        self.failureResultOf(verifier.verify(text), TokenRevoked)
        self.assertEqual(self.keys.asked, 1)

    def test_bounds(self) -> None:
        """There are so many entries at most, and what is over is not kept."""
        principal = self.verify(token(claims()))
        tokens = VerifiedTokens(self.keys, self.clock, max_entries=4)
        for n in range(9):
            tokens.add(str(n), principal, 0)
            self.assertLessEqual(len(tokens), 4)
            self.assertIs(tokens.get(str(n)), principal)
        self.assertEqual([tokens.get(str(n)) for n in range(5)], [None] * 5)
        self.clock.advance(MAX_AGE)
        tokens.add("9", principal, 0)
        self.assertEqual(len(tokens), 1)

    def test_changed_meanwhile(self) -> None:
        """What was verified with keys that have changed meanwhile is not kept."""
        principal = self.verify(token(claims()))
        tokens = VerifiedTokens(self.keys, self.clock)
        self.keys.generation += 1
        tokens.add("a", principal, 0)
        self.assertIsNone(tokens.get("a"))
