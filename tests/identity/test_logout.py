"""Tests of stompauth.identity.logout."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.errors import BadToken, TokenExpired, Unavailable
from stompauth.identity.keys import StaticKey, VerificationKey
from stompauth.identity.logout import LOGOUT_EVENT, MAX_AGE, Logout, LogoutVerifier
from stompauth.identity.principal import Principal
from stompauth.identity.revocation import Revocations
from stompauth.identity.verifier import JWTVerifier
from tests.identity.signing import (
    AUDIENCE,
    ISSUER,
    NOW,
    SECRET,
    private_key,
    public_pem,
    token,
)
from tests.identity.signing import claims as access_claims


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good logout token; a change to None takes the claim away."""
    found = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": int(NOW),
        "jti": "j1",
        "sub": "alice",
        "events": {LOGOUT_EVENT: {}},
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


class LateKeys:
    """Keys that come when they are told to."""

    generation = 0

    def __init__(self) -> None:
        self.answer: Deferred[list[VerificationKey]] = Deferred()

    def check_algorithms(self, algorithms: object) -> None:
        """They can serve all."""

    async def keys_for(self, algorithm: str, kid: str | None) -> list[VerificationKey]:
        return await self.answer


class LogoutCase(SynchronousTestCase):
    """A logout verifier beside one of access tokens."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.access = self.make_access()
        self.verifier = LogoutVerifier(self.access, self.clock)

    def make_access(self, keys: Any = None, **changes: Any) -> JWTVerifier:
        settings = {
            "algorithms": ["HS256"],
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "clock": self.clock,
            **changes,
        }
        return JWTVerifier(keys or StaticKey.hmac(SECRET), **settings)

    def logout(self, *args: Any, **kwargs: Any) -> Logout:
        """What a good token says."""
        logout: Logout = self.successResultOf(self.verifier.verify(token(*args, **kwargs)))
        return logout

    def assert_refused(self, text: str, reason: str, error: type[BadToken] = BadToken) -> None:
        refused = self.failureResultOf(self.verifier.verify(text), error).value
        self.assertEqual(refused.reason, reason)


class LogoutVerifierTests(LogoutCase):
    """JW-8: a logout token is verified by its own specification, section 2.6."""

    def test_subject(self) -> None:
        """One with ``sub`` alone is about a user."""
        self.assertEqual(self.logout(claims()), Logout("alice", None, "alice", "j1"))

    def test_session(self) -> None:
        """One with ``sid`` is about a session, with ``sub`` or without."""
        self.assertEqual(self.logout(claims(sid="s1")), Logout("alice", "s1", None, "j1"))
        found = self.logout(claims(sid="s1", sub=None, jti="j2"))
        self.assertEqual(found, Logout(None, "s1", None, "j2"))

    def test_another_user_claim(self) -> None:
        """Where users are named by another claim, ``sub`` names none."""
        self.verifier = LogoutVerifier(self.make_access(user_claim="email"), self.clock)
        self.assertEqual(self.logout(claims()), Logout("alice", None, None, "j1"))

    def test_nobody(self) -> None:
        """One that says neither, or nothing by it, is refused."""
        self.assert_refused(token(claims(sub=None)), "sub")
        for name in ("sub", "sid", "jti"):
            for value in ("", "x" * 256, 1, ["alice"], {}, False):
                self.assert_refused(token(claims(**{name: value})), name)

    def test_signature(self) -> None:
        """JW-1: keys and algorithms are those of the access tokens, and no others."""
        self.assert_refused(token(claims(), bytes(64)), "signature")
        self.assert_refused(token(claims(), algorithm="HS384"), "alg")
        self.assert_refused(token(claims(), header={"alg": "none"}), "alg")
        key = private_key("ES256")
        keys = StaticKey.public_key(public_pem(key))
        access = self.make_access(keys, algorithms=["ES256"])
        self.verifier = LogoutVerifier(access, self.clock)
        self.logout(claims(), key, "ES256")
        self.assert_refused(token(claims(), private_key("ES256", 1), "ES256"), "signature")

    def test_forms(self) -> None:
        """What is no JWT is refused, as an access token would be."""
        good = token(claims())
        for text, reason in (
            ("", "form"),
            (good + "=", "form"),
            (good.rpartition(".")[0], "form"),
            (good + "x" * 8000, "too long"),
            (token(b"[]"), "claims"),
            (token(claims(), header={"jku": "https://evil.example/"}), "header"),
        ):
            self.assert_refused(text, reason)

    def test_parties(self) -> None:
        """JW-7: it is from our issuer and for us."""
        self.assert_refused(token(claims(iss="https://id.example.com")), "iss")
        self.assert_refused(token(claims(iss=None)), "iss")
        for audience in ("other", ["other"], [], None, AUDIENCE + "x", {AUDIENCE: 1}):
            self.assert_refused(token(claims(aud=audience)), "aud")
        self.logout(claims(aud=["other", AUDIENCE]))

    def test_own_audience(self) -> None:
        """Where the provider calls us otherwise in logout tokens, only that name counts."""
        self.verifier = LogoutVerifier(self.access, self.clock, audience="client-7")
        self.assert_refused(token(claims()), "aud")
        self.logout(claims(aud="client-7"))

    def test_types(self) -> None:
        """Explicit typing is taken, in any spelling, and so is none; another kind is not."""
        for n, typ in enumerate(("logout+jwt", "application/logout+jwt", "Logout+JWT", "JWT")):
            self.logout(claims(jti=f"t{n}"), header={"typ": typ})
        self.logout(claims(jti="t"), header=b'{"alg":"HS256"}')
        for typ in ("at+jwt", "secevent+jwt", "logout", "", 1, None):
            self.assert_refused(token(claims(jti="u"), header={"typ": typ}), "typ")

    def test_access_tokens(self) -> None:
        """JW-8: an access token logs nobody out, and a logout token gives no access."""
        self.assert_refused(token(access_claims(iat=int(NOW), jti="a")), "events")
        both = claims(exp=int(NOW) + 100, jti="b")
        self.failureResultOf(self.access.verify(token(both)), BadToken)
        self.logout(both)

    def test_events(self) -> None:
        """The logout event is an object among the events; there may be others."""
        for events in (
            None,
            [],
            "x",
            {},
            [LOGOUT_EVENT],
            LOGOUT_EVENT,
            {LOGOUT_EVENT: None},
            {LOGOUT_EVENT: True},
            {LOGOUT_EVENT: []},
            {LOGOUT_EVENT + "/": {}},
            {"logout": {LOGOUT_EVENT: {}}},
        ):
            self.assert_refused(token(claims(events=events)), "events")
        self.logout(claims(events={LOGOUT_EVENT: {"a": 1}, "urn:x": {}}))

    def test_nonce(self) -> None:
        """One with a nonce is meant to pass for an ID token, and refused, whatever it is."""
        for nonce in ("x", "", None, 0):
            self.assert_refused(token({**claims(), "nonce": nonce}), "nonce")

    def test_unknown_claims(self) -> None:
        """Claims that nobody knows are nothing to stumble over."""
        self.logout(claims(typ="Logout", trace_id="x", toe=1))


class TimeTests(LogoutCase):
    """A logout token is good for a short time."""

    def test_age(self) -> None:
        """It is at most five minutes old, and not from the future, give or take the leeway."""
        leeway = int(self.access.leeway)
        oldest, newest = int(NOW) - MAX_AGE - leeway, int(NOW) + leeway
        self.logout(claims(iat=oldest, jti="a"))
        self.logout(claims(iat=newest, jti="b"))
        for iat in (oldest - 1, newest + 1, 0, str(int(NOW)), True, None, float("nan")):
            self.assert_refused(token(claims(iat=iat)), "iat")

    def test_expiry(self) -> None:
        """``exp`` may be missing; where it is there it counts."""
        leeway = int(self.access.leeway)
        self.logout(claims(exp=int(NOW) - leeway + 1))
        self.assert_refused(token(claims(exp=int(NOW) - leeway)), "expired", TokenExpired)
        for exp in (str(int(NOW) + 60), True, [], -1):
            self.assert_refused(token(claims(exp=exp)), "exp")

    def test_exp_extends_nothing(self) -> None:
        """A far ``exp`` does not make an old token good."""
        self.assert_refused(token(claims(iat=int(NOW) - 3600, exp=int(NOW) + 3600)), "iat")

    def test_not_before(self) -> None:
        """So does ``nbf``."""
        leeway = int(self.access.leeway)
        self.assert_refused(token(claims(nbf=int(NOW) + leeway + 1)), "nbf")
        self.logout(claims(nbf=int(NOW) + leeway))


class ReplayTests(LogoutCase):
    """JW-13: a logout token is good once."""

    def test_once(self) -> None:
        """The same ``jti`` is refused, also in another token."""
        self.logout(claims())
        self.assert_refused(token(claims()), "used before")
        self.assert_refused(token(claims(sub="bob")), "used before")
        self.logout(claims(jti="j2"))

    def test_jti_is_required(self) -> None:
        """Without one it could not be told apart from the next."""
        self.assert_refused(token(claims(jti=None)), "jti")

    def test_bad_tokens_use_nothing(self) -> None:
        """What is refused leaves the ``jti`` to the good one."""
        self.assert_refused(token(claims(aud="other")), "aud")
        self.assert_refused(token(claims(), bytes(64)), "signature")
        self.logout(claims())

    def test_as_long_as_it_could_be_good(self) -> None:
        """A ``jti`` is remembered until its token is too old, and not much longer."""
        leeway = int(self.access.leeway)
        longest = token(claims(iat=int(NOW) + leeway))
        self.successResultOf(self.verifier.verify(longest))
        self.clock.advance(MAX_AGE + 2 * leeway)
        self.assert_refused(longest, "used before")
        self.clock.advance(1)
        self.assert_refused(longest, "iat")
        self.logout(claims(iat=int(NOW) + MAX_AGE))

    def test_bound(self) -> None:
        """What is remembered has a bound; a logout that is new is never turned away for it."""
        self.verifier = LogoutVerifier(self.access, self.clock, max_entries=3)
        for n in range(5):
            self.logout(claims(jti=f"j{n}"))
        self.assertEqual(len(self.verifier._used), 3)
        self.assert_refused(token(claims(jti="j2")), "used before")

    def test_at_once(self) -> None:
        """Of two that wait for the keys at the same time, one is taken."""
        keys = LateKeys()
        self.verifier = LogoutVerifier(self.make_access(keys), self.clock)
        waiting = [self.verifier.verify(token(claims())) for _ in range(2)]
        (key,) = StaticKey.hmac(SECRET)._keys
        keys.answer.callback([key])
        self.successResultOf(waiting[0])
        self.failureResultOf(waiting[1], BadToken)

    def test_forget(self) -> None:
        """A logout that failed may be asked for again."""
        self.verifier.forget(self.logout(claims()))
        self.logout(claims())

    def test_keys_unavailable(self) -> None:
        """Keys that cannot be had use nothing up."""
        keys = LateKeys()
        self.verifier = LogoutVerifier(self.make_access(keys), self.clock)
        waiting = self.verifier.verify(token(claims()))
        keys.answer.errback(Unavailable("no keys"))
        self.failureResultOf(waiting, Unavailable)
        keys.answer = Deferred()
        keys.answer.callback(StaticKey.hmac(SECRET)._keys)
        self.logout(claims())


class LogoutTests(SynchronousTestCase):
    """Which access tokens a logout is about."""

    def assert_concerns(self, logout: Logout, claims: dict[str, object], expected: bool) -> None:
        revocations = Revocations(Clock()).log_out(logout)
        principal = Principal("x", "i", 0, 0, claims=claims)
        concerned = any(revocation.concerns("x", (), principal) for revocation in revocations)
        self.assertEqual(concerned, expected, claims)

    def test_subject(self) -> None:
        """All of the subject's."""
        logout = Logout("alice", None, None, "j")
        for found, expected in (
            ({"sub": "alice"}, True),
            ({"sub": "alice", "sid": "s1"}, True),
            ({"sub": "bob"}, False),
            ({}, False),
            ({"sub": None}, False),
        ):
            self.assert_concerns(logout, found, expected)

    def test_session(self) -> None:
        """Those of the session, and no others."""
        logout = Logout(None, "s1", None, "j")
        for found, expected in (
            ({"sub": "alice", "sid": "s1"}, True),
            ({"sub": "alice", "sid": "s2"}, False),
            ({"sub": "alice"}, False),
            ({"sub": None, "sid": None}, False),
        ):
            self.assert_concerns(logout, found, expected)

    def test_both(self) -> None:
        """Those of the session, and those of the subject that may be of any session."""
        logout = Logout("alice", "s1", None, "j")
        for found, expected in (
            ({"sub": "alice", "sid": "s1"}, True),
            ({"sub": "alice", "sid": "s2"}, False),
            ({"sub": "alice"}, True),
            ({"sub": "alice", "sid": None}, True),
            ({"sub": "bob"}, False),
        ):
            self.assert_concerns(logout, found, expected)
