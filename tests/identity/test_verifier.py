"""Tests for :mod:`stompauth.identity.verifier`."""

from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jwt
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from stompauth.errors import BadToken, ConfigError, TokenExpired, Unavailable
from stompauth.identity.keys import StaticKey, VerificationKey
from stompauth.identity.verifier import JWTVerifier
from stompauth.interfaces import ITokenVerifier
from tests.identity.signing import (
    AUDIENCE,
    ISSUER,
    NOW,
    SECRET,
    base64url,
    claims,
    private_key,
    public_pem,
    token,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from stompauth.identity.principal import Principal

PUBLIC_KEY_ALGORITHMS = [
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
]


class PendingKeys:
    """A key source that answers when the test says so, and keeps what it was asked."""

    generation = 0

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.answer: Deferred[Sequence[VerificationKey]] = Deferred()

    def check_algorithms(self, algorithms: Collection[str]) -> None:
        pass

    async def keys_for(self, algorithm: str, kid: str | None) -> Sequence[VerificationKey]:
        self.asked.append((algorithm, kid))
        return await self.answer


class VerifierTestCase(SynchronousTestCase):
    """Tests of a verifier whose clock stands still at NOW."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.keys: Any = StaticKey.hmac(SECRET)

    def verifier(self, **changes: Any) -> JWTVerifier:
        settings: dict[str, Any] = {
            "algorithms": ["HS256"],
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "clock": self.clock,
            **changes,
        }
        return JWTVerifier(settings.pop("keys", self.keys), **settings)

    def principal(self, text: str, **changes: Any) -> Principal:
        """The principal of a token that must verify."""
        return self.successResultOf(self.verifier(**changes).verify(text))

    def assertRefused(self, text: str, reason: str, **changes: Any) -> None:
        """Fail unless the token is refused for that reason."""
        failure = self.failureResultOf(self.verifier(**changes).verify(text), BadToken)
        self.assertEqual(failure.value.reason, reason)

    def assertClaimsRefused(self, reason: str, **changes: Any) -> None:
        """Fail unless a good token with these changes of its claims is refused."""
        self.assertRefused(token(claims(**changes)), reason)


class ConstructionTests(VerifierTestCase):
    """A verifier that would not be safe cannot be made."""

    def mistakes(self, **changes: Any) -> dict[str, str]:
        error = self.assertRaises(ConfigError, self.verifier, **changes)
        return {mistake.path: mistake.text for mistake in error.mistakes}

    def test_interface(self) -> None:
        """A verifier provides what the rest of the server asks for."""
        verifyObject(ITokenVerifier, self.verifier())

    def test_no_algorithms(self) -> None:
        """JW-1, JW-19: there is no default list of algorithms, and an empty one is refused."""
        self.assertEqual(list(self.mistakes(algorithms=[])), ["algorithms"])

    def test_none(self) -> None:
        """JW-1: ``none`` cannot be listed, in whatever case, not even beside others."""
        for name in ("none", "None", "NONE", ""):
            text = self.mistakes(algorithms=["HS256", name])["algorithms"]
            self.assertIn("unknown or unsafe", text)
            self.assertIn(name, text)

    def test_unknown_algorithm(self) -> None:
        """JW-1: an algorithm that is not of the list that we know is refused, by its name."""
        for name in ("ES256K", "HS1", "RSA-OAEP"):
            self.assertIn(name, self.mistakes(algorithms=[name])["algorithms"])

    def test_one_string(self) -> None:
        """A string in place of a list of algorithms is a mistake, not a list of letters."""
        self.assertIn("algorithms", self.mistakes(algorithms="HS256"))

    def test_mixed_families(self) -> None:
        """JW-1: HMAC beside public keys is refused, since there public keys pass for secrets."""
        text = self.mistakes(algorithms=["HS256", "RS256"])["algorithms"]
        self.assertIn("side by side", text)

    def test_secret_too_short_for_the_largest(self) -> None:
        """JW-2: a secret must be as long as the largest hash in use."""
        keys = StaticKey.hmac(SECRET[:48])
        self.verifier(keys=keys, algorithms=["HS256", "HS384"])
        text = self.mistakes(keys=keys, algorithms=["HS256", "HS512"])["keys"]
        self.assertIn("48 octets cannot serve HS512", text)

    def test_every_secret_is_checked(self) -> None:
        """JW-2: one short secret among several is refused."""
        keys = StaticKey.hmac(SECRET, SECRET[:32])
        self.assertIn("HS384", self.mistakes(keys=keys, algorithms=["HS384"])["keys"])

    def test_keys_of_another_kind(self) -> None:
        """JW-1: algorithms which the key cannot serve are refused."""
        for algorithm, listed in (("RS256", "ES256"), ("ES256", "ES384"), ("EdDSA", "RS256")):
            keys = StaticKey.public_key(public_pem(private_key(algorithm)))
            self.assertIn(listed, self.mistakes(keys=keys, algorithms=[listed])["keys"])
        self.assertIn("RS256", self.mistakes(algorithms=["RS256"])["keys"])

    def test_issuer_and_audience(self) -> None:
        """JW-7, JW-19: without an issuer or an audience there is no verifier."""
        self.assertIn("issuer", self.mistakes(issuer=""))
        self.assertIn("audience", self.mistakes(audience=""))
        self.assertIn("audience", self.mistakes(audience=["chat"]))
        self.assertIn("user_claim", self.mistakes(user_claim=""))

    def test_leeway(self) -> None:
        """JW-9: the leeway is at most 60 seconds."""
        self.verifier(leeway=60)
        for leeway in (61, -1, float("nan"), float("inf")):
            self.assertIn("leeway", self.mistakes(leeway=leeway))

    def test_max_lifetime(self) -> None:
        """A limit on the life of tokens is not negative, and a number."""
        for seconds in (-1, float("nan")):
            self.assertIn("max_lifetime", self.mistakes(max_lifetime=seconds))

    def test_every_mistake(self) -> None:
        """All mistakes are told at once, so that nobody mends them one by one."""
        found = self.mistakes(algorithms=[], issuer="", audience="", leeway=99, max_lifetime=-1)
        self.assertEqual(
            list(found), ["algorithms", "issuer", "audience", "leeway", "max_lifetime"]
        )


class AlgorithmTests(VerifierTestCase):
    """A signature counts only by one of our algorithms with a key that is for it."""

    def test_hmac(self) -> None:
        """Tokens signed with a secret verify, in each size of hash."""
        for algorithm in ("HS256", "HS384", "HS512"):
            text = token(claims(), SECRET, algorithm)
            self.assertEqual(self.principal(text, algorithms=[algorithm]).name, "alice")

    def test_public_keys(self) -> None:
        """Tokens signed with each public-key algorithm verify with the public half."""
        for algorithm in PUBLIC_KEY_ALGORITHMS:
            key = private_key(algorithm)
            text = token(claims(), key, algorithm)
            keys = StaticKey.public_key(public_pem(key))
            found = self.principal(text, keys=keys, algorithms=[algorithm])
            self.assertEqual(found.name, "alice")

    def test_ed448(self) -> None:
        """EdDSA is for both of its curves."""
        key = private_key("EdDSA", 1)
        keys = StaticKey.public_key(public_pem(key))
        text = token(claims(), key, "EdDSA")
        self.assertEqual(self.principal(text, keys=keys, algorithms=["EdDSA"]).name, "alice")

    def test_tokens_of_another_library(self) -> None:
        """What PyJWT makes verifies here: our reading of the form is not of our own making only."""
        exp = datetime.fromtimestamp(NOW + 60, UTC)
        text = jwt.encode(claims(exp=exp), SECRET, "HS512", headers={"kid": "k1"})
        self.assertEqual(self.principal(text, algorithms=["HS512"]).expires_at, NOW + 60)

    def test_signed_by_another_key(self) -> None:
        """A good form and good claims are nothing without the signature."""
        for algorithm in PUBLIC_KEY_ALGORITHMS:
            keys = StaticKey.public_key(public_pem(private_key(algorithm)))
            other = private_key("EdDSA", 1) if algorithm == "EdDSA" else private_key(algorithm, 9)
            text = token(claims(), other, algorithm)
            self.assertRefused(text, "signature", keys=keys, algorithms=[algorithm])
        self.assertRefused(token(claims(), SECRET[:-1]), "signature")

    def test_not_in_the_list(self) -> None:
        """JW-1: an algorithm that the key could serve, but that is not listed, is refused."""
        self.assertRefused(token(claims(), SECRET, "HS512"), "alg")
        key = private_key("RS256")
        keys = StaticKey.public_key(public_pem(key))
        text = token(claims(), key, "PS256")
        self.assertRefused(text, "alg", keys=keys, algorithms=["RS256"])

    def test_header_lies(self) -> None:
        """JW-1: a signature counts as what the header says only, not as what it is."""
        text = token(claims(), SECRET, "HS512", {"alg": "HS256"})
        self.assertRefused(text, "signature", algorithms=["HS256", "HS512"])

    def test_none(self) -> None:
        """JW-1: an unsigned token is refused, in every spelling."""
        header, payload = base64url(b'{"alg":"none"}'), base64url(json.dumps(claims()).encode())
        self.assertRefused(f"{header}.{payload}.", "form")
        for name in ("none", "None", "NONE", "nOnE", ""):
            text = token(claims(), SECRET, "HS256", {"alg": name})
            self.assertRefused(text, "alg")

    def test_algorithm_of_another_type(self) -> None:
        """JW-1: ``alg`` must be there, and a string."""
        for header in (b'{"typ":"JWT"}', b'{"alg":null}', b'{"alg":["HS256"]}', b'{"alg":{}}'):
            self.assertRefused(token(claims(), header=header), "alg")

    def test_public_key_as_secret(self) -> None:
        """JW-1: a token signed with the octets of the public key as an HMAC secret is refused."""
        pem = public_pem(private_key("RS256"))
        keys = StaticKey.public_key(pem)
        text = base64url(b'{"alg":"HS256"}') + "." + base64url(json.dumps(claims()).encode())
        signature = base64url(hmac.digest(pem, text.encode(), "sha256"))
        for listed in (["RS256"], ["RS256", "PS256"]):
            self.assertRefused(f"{text}.{signature}", "alg", keys=keys, algorithms=listed)

    def test_rotation_of_secrets(self) -> None:
        """While secrets are rotated, tokens of the old and of the new one verify."""
        old, new, other = SECRET[:32], SECRET[32:], bytes(32)
        keys = StaticKey.hmac(new, old)
        for secret in (old, new):
            self.assertEqual(self.principal(token(claims(), secret), keys=keys).name, "alice")
        self.assertRefused(token(claims(), other), "signature", keys=keys)


class HeaderTests(VerifierTestCase):
    """Of the header ``alg``, ``kid`` and ``typ`` are read; what would change more is refused."""

    def assertHeaderRefused(self, reason: str, **header: Any) -> None:
        self.assertRefused(token(claims(), header=header), reason)

    def test_keys_in_the_token(self) -> None:
        """JW-3: a token that brings a key, or sends us for one, is refused, signed or not."""
        for name in ("jwk", "jku", "x5u", "x5c"):
            for value in ("https://evil.example/", {"kty": "oct", "k": ""}, [], None):
                self.assertHeaderRefused("header", **{name: value})

    def test_refused_before_any_key_is_asked_for(self) -> None:
        """JW-3: nothing in such a token makes us go anywhere."""
        keys = PendingKeys()
        for name in ("jwk", "jku", "x5u", "x5c", "crit", "b64"):
            self.assertRefused(token(claims(), header={name: "x"}), "header", keys=keys)
        self.assertEqual(keys.asked, [])

    def test_critical_extensions(self) -> None:
        """JW-5: we know no extension, so ``crit`` and ``b64`` are refused whatever they hold."""
        for header in (
            {"crit": ["exp"]},
            {"crit": []},
            {"crit": ["b64"], "b64": True},
            {"crit": ["b64"], "b64": False},
            {"b64": False},
            {"b64": True},
        ):
            self.assertHeaderRefused("header", **header)

    def test_kid_of_another_type(self) -> None:
        """JW-4: a ``kid`` is a string of at most 128 characters."""
        for kid in (1, None, True, [], {"a": "b"}, "k" * 129):
            self.assertHeaderRefused("kid", kid=kid)
        self.assertEqual(self.principal(token(claims(), header={"kid": "k" * 128})).name, "alice")

    def test_kid_is_looked_up_and_nothing_else(self) -> None:
        """JW-4: the key source gets the ``kid`` as it is, with the algorithm, and nothing more."""
        keys = PendingKeys()
        for kid in ("../../etc/passwd", "' or 1=1 --", "https://evil.example/", ""):
            self.verifier(keys=keys).verify(token(claims(), header={"kid": kid}))
            self.assertEqual(keys.asked[-1], ("HS256", kid))
        self.verifier(keys=keys).verify(token(claims()))
        self.assertEqual(keys.asked[-1], ("HS256", None))

    def test_no_key(self) -> None:
        """A token whose key nobody knows is refused."""
        keys = PendingKeys()
        keys.answer.callback([])
        self.assertRefused(token(claims()), "unknown key", keys=keys)

    def test_types_by_default(self) -> None:
        """JW-8: an access token may have no type, or one of two, in any spelling."""
        self.assertEqual(self.principal(token(claims(), header=b'{"alg":"HS256"}')).name, "alice")
        for typ in ("JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"):
            self.assertEqual(self.principal(token(claims(), header={"typ": typ})).name, "alice")

    def test_other_types_of_token(self) -> None:
        """JW-8: a token which says that it is another kind of token is refused."""
        for typ in ("logout+jwt", "dpop+jwt", "secevent+jwt", "id+jwt", "JOSE", "", "at"):
            self.assertHeaderRefused("typ", typ=typ)

    def test_type_of_another_type(self) -> None:
        """JW-6: ``typ`` is a string where it is there."""
        for typ in (1, None, ["JWT"], {"JWT": 1}, False):
            self.assertHeaderRefused("typ", typ=typ)

    def test_configured_type(self) -> None:
        """JW-8: a configured type is required, however either side spells it."""
        for configured in ("at+jwt", "application/at+jwt", "AT+jwt"):
            for typ in ("at+jwt", "Application/AT+JWT"):
                text = token(claims(), header={"typ": typ})
                self.assertEqual(self.principal(text, typ=configured).name, "alice")
            for header in (b'{"alg":"HS256"}', b'{"alg":"HS256","typ":"JWT"}'):
                self.assertRefused(token(claims(), header=header), "typ", typ=configured)


class FormTests(VerifierTestCase):
    """A token has one form, and what is not of that form is never looked at further."""

    def test_size(self) -> None:
        """JW-11: 8,000 octets are a token, one more is too long."""
        for size, is_good in ((8000, True), (8001, False)):
            text = next(
                text
                for filler in range(5700, 5950)
                for more in range(3)
                if len(text := token(claims(filler="x" * filler), header={"more": "x" * more}))
                == size
            )
            if is_good:
                self.assertEqual(self.principal(text).name, "alice")
            else:
                self.assertRefused(text, "too long")

    def test_size_comes_first(self) -> None:
        """JW-11: a long token is refused before anything of it is decoded."""
        keys = PendingKeys()
        self.assertRefused(token(claims(filler="x" * 6000)), "too long", keys=keys)
        self.assertRefused("\ud800" * 8001, "too long", keys=keys)
        self.assertEqual(keys.asked, [])

    def test_not_compact(self) -> None:
        """JW-11: other numbers of parts, empty parts and other letters are refused."""
        good = token(claims())
        header, payload, signature = good.split(".")
        for text in (
            "",
            ".",
            "..",
            "...",
            header,
            f"{header}.{payload}",
            f"{header}.{payload}.",
            f"{header}..{signature}",
            f".{payload}.{signature}",
            f"{good}.{signature}",
            f"{good}.{header}.{payload}",
            f" {good}",
            f"{good}\n",
            f"{good}=",
            f"{header}=.{payload}.{signature}",
            f"{good}\x00",
            good.replace(".", " "),
            good.replace("_", "/") + "+",
            good + "\ud800",
            good + "é",
            "\udcff.\udcff.\udcff",
        ):
            self.assertRefused(text, "form")

    def test_one_spelling(self) -> None:
        """JW-12: a token has no second spelling, which could pass for another token."""
        text = token(claims(), SECRET)
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        last = letters.index(text[-1])
        # 32 octets leave two bits unused in the last letter.
        self.assertEqual(last % 4, 0)
        for spare in (1, 2, 3):
            self.assertRefused(text[:-1] + letters[last + spare], "signature")

    def test_header_is_no_object(self) -> None:
        """JW-11: a header that is not a JSON object in UTF-8 is refused."""
        for header in (
            b"[]",
            b"1",
            b"null",
            b'"HS256"',
            b"{",
            b"\xff\xfe",
            b'{"alg":"HS256","x":"\xed\xa0\x80"}',
            b'{"alg":"HS256","x":"\\ud800"}',
            b'\xef\xbb\xbf{"alg":"HS256"}',
            '{"alg":"HS256"}'.encode("utf-16-le"),
            b"[" * 3000,
        ):
            self.assertRefused(token(claims(), header=header), "header")

    def test_claims_are_no_object(self) -> None:
        """JW-11: signed claims that are not a JSON object in UTF-8 are refused all the same."""
        whole = json.dumps(claims())
        for payload in (
            b"[]",
            b"1",
            b"null",
            b"x",
            b"\xff",
            whole.encode("utf-16"),
            whole.encode("utf-32-le"),
            b'{"a":' * 1100,
            whole[:-1].encode() + b',"n":' + b"9" * 4400 + b"}",
        ):
            self.assertRefused(token(payload), "claims")

    def test_half_a_surrogate_pair(self) -> None:
        """JW-10, JW-11: text that cannot be encoded is refused wherever it stands in the claims."""
        for changes in (
            {"sub": "a\ud800"},
            {"rooms": ["a", {"b": "\udfff"}]},
            {"\ud83d": 1},
            {"jti": "\udc00"},
            {"scope": "\udc00\ud800"},
        ):
            self.assertClaimsRefused("claims", **changes)

    def test_whole_surrogate_pair(self) -> None:
        """A character beyond the first 65,536 is fine, though JSON spells it as two."""
        found = self.principal(token(claims(topic="😀")))
        self.assertEqual(found.claims["topic"], "😀")


class TimeTests(VerifierTestCase):
    """Times are JSON numbers, read against our clock, with one leeway."""

    NO_TIMES = (
        "1800000100",
        True,
        False,
        [1],
        {},
        -1,
        -0.5,
        10**30,
        10**4000,
        1e300,
        float("nan"),
        float("inf"),
        float("-inf"),
    )

    def test_required(self) -> None:
        """JW-6: there is no token without ``exp`` and ``iat``."""
        self.assertClaimsRefused("exp", exp=None)
        self.assertClaimsRefused("iat", iat=None)
        self.assertRefused(token(json.dumps({**claims(), "exp": None}).encode()), "exp")

    def test_not_a_number(self) -> None:
        """JW-6: a time that is not a JSON number of this age is refused, also one in a string."""
        for value in self.NO_TIMES:
            for name in ("exp", "iat", "nbf"):
                self.assertClaimsRefused(name, **{name: value})

    def test_overflowing_number(self) -> None:
        """JW-6: a number that is too large for a float is not for ever."""
        payload = json.dumps(claims()).replace(f'"exp": {int(NOW) + 240}', '"exp": 1e999')
        self.assertIn("1e999", payload)
        self.assertRefused(token(payload.encode()), "exp")

    def test_fraction(self) -> None:
        """A NumericDate may have a fraction."""
        found = self.principal(token(claims(exp=NOW + 1.5, iat=NOW - 0.5)))
        self.assertEqual((found.expires_at, found.issued_at), (NOW + 1.5, NOW - 0.5))

    def test_expired(self) -> None:
        """JW-9: a token is good until its ``exp`` plus the leeway, and then no longer."""
        text = token(claims(exp=NOW))
        verifier = self.verifier(leeway=10)
        self.clock.advance(9.5)
        self.successResultOf(verifier.verify(text))
        self.clock.advance(0.5)
        self.failureResultOf(verifier.verify(text), TokenExpired)

    def test_expired_and_bad(self) -> None:
        """An expired token that is bad for another reason too is bad, not expired."""
        for changes in ({"iss": "x"}, {"aud": "x"}, {"sub": ""}, {"jti": 1}, {"scope": 1}):
            text = token(claims(exp=NOW - 50, **changes))
            failure = self.failureResultOf(self.verifier().verify(text), BadToken)
            self.assertNotIsInstance(failure.value, TokenExpired)
        text = token(claims(exp=NOW - 50), bytes(32))
        failure = self.failureResultOf(self.verifier().verify(text), BadToken)
        self.assertEqual(failure.value.reason, "signature")

    def test_not_before(self) -> None:
        """JW-9: ``nbf`` counts from its time less the leeway."""
        self.principal(token(claims(nbf=NOW + 10)), leeway=10)
        self.assertRefused(token(claims(nbf=NOW + 10.5)), "nbf", leeway=10)

    def test_issued_in_the_future(self) -> None:
        """JW-6, JW-9: a token from the future is refused beyond the leeway."""
        self.principal(token(claims(iat=NOW + 10)), leeway=10)
        self.assertRefused(token(claims(iat=NOW + 10.5)), "iat", leeway=10)

    def test_no_leeway(self) -> None:
        """JW-9: a leeway of 0 is none."""
        self.principal(token(claims(iat=NOW, nbf=NOW, exp=NOW + 0.25)), leeway=0)
        self.assertRefused(token(claims(iat=NOW + 1)), "iat", leeway=0)
        verifier = self.verifier(leeway=0)
        self.failureResultOf(verifier.verify(token(claims(exp=NOW))), TokenExpired)

    def test_lifetime(self) -> None:
        """JW-6: a token that lives longer than tokens may is refused from the start."""
        self.principal(token(claims(iat=NOW, exp=NOW + 100)), max_lifetime=100)
        self.assertRefused(token(claims(iat=NOW, exp=NOW + 100.5)), "lifetime", max_lifetime=100)
        self.assertClaimsRefused("lifetime", iat=NOW - 1, exp=NOW + 86400)

    def test_unlimited_lifetime(self) -> None:
        """A limit of 0 is none, as for all limits."""
        found = self.principal(token(claims(exp=253402300799)), max_lifetime=0)
        self.assertEqual(found.expires_at, 253402300799)

    def test_our_clock(self) -> None:
        """The time is that of the clock, not of the wall: a token of today is not yet good."""
        self.clock = Clock()
        self.assertRefused(token(claims()), "iat")

    def test_clock_is_read_when_the_keys_are_there(self) -> None:
        """A token that expires while its key is fetched is expired."""
        keys = PendingKeys()
        result = self.verifier(keys=keys, leeway=0).verify(token(claims(exp=NOW + 2)))
        self.clock.advance(3)
        keys.answer.callback([VerificationKey(frozenset({"HS256"}), SECRET)])
        self.failureResultOf(result, TokenExpired)


class ClaimTests(VerifierTestCase):
    """Claims must be there, of their type, and ours exactly."""

    def test_issuer(self) -> None:
        """JW-7: ``iss`` is compared whole and exactly; nothing near to it will do."""
        for iss in (
            ISSUER[:-1],
            ISSUER + "x",
            ISSUER.upper(),
            "x" + ISSUER,
            ISSUER + " ",
            "",
            [ISSUER],
            {ISSUER: 1},
            1,
            None,
        ):
            self.assertClaimsRefused("iss", iss=iss)

    def test_audience(self) -> None:
        """JW-7: ``aud`` is our identifier, or a list in which it is."""
        for aud in (AUDIENCE, [AUDIENCE], ["other", AUDIENCE]):
            self.assertEqual(self.principal(token(claims(aud=aud))).name, "alice")

    def test_other_audience(self) -> None:
        """JW-7: an identifier that contains ours, or is part of it, is another one."""
        for aud in (
            "chatter",
            "chat ",
            "cha",
            "Chat",
            "my chat",
            "",
            [],
            ["chatter", "cha"],
            [["chat"]],
            {"chat": 1},
            [{"chat": 1}],
            1,
            True,
            None,
        ):
            self.assertClaimsRefused("aud", aud=aud)

    def test_audience_of_one_letter(self) -> None:
        """JW-7: an audience is no substring: a single letter of ours is another one."""
        self.assertRefused(token(claims(aud="chat")), "aud", audience="c")

    def test_other_kinds_of_token(self) -> None:
        """JW-8: ID, refresh and logout tokens of the same issuer are no access tokens."""
        for changes in (
            {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
            {"events": False},
            {"at_hash": "x"},
            {"c_hash": "x"},
            {"token_use": "id"},
            {"token_use": "refresh"},
            {"token_use": 1},
            {"token_use": ["access"]},
            {"typ": "Refresh"},
            {"typ": "ID"},
            {"typ": "Offline"},
            {"typ": "Logout"},
        ):
            self.assertClaimsRefused("another kind of token", **changes)

    def test_marked_access_tokens(self) -> None:
        """JW-8: a token that says it is an access token is one."""
        for changes in ({"token_use": "access"}, {"typ": "Bearer"}, {"typ": 3}):
            self.assertEqual(self.principal(token(claims(**changes))).name, "alice")

    def test_subject_required(self) -> None:
        """JW-6: ``sub`` is there, a string, and not empty."""
        for sub in (None, "", 7, True, ["alice"], {"alice": 1}):
            self.assertClaimsRefused("user name", sub=sub)

    def test_plain_names(self) -> None:
        """JW-10: names of all scripts are names, and so are those that identity providers make."""
        for name in (
            "a",
            "alice@example.com",
            "auth0|5f7c8ec7c33c6c004bbafe82",
            "urn:user:7",
            "Jane Doe",
            "Zoë",
            "Ελένη",
            "王小明",
            "😀",
            "queues",
            "Queue",
            "*alice*",
            "x" * 255,
        ):
            self.assertEqual(self.principal(token(claims(sub=name))).name, name)

    def test_refused_names(self) -> None:
        """JW-10: names that break headers, destinations or the eye's judgement are refused."""
        for name in (
            "x" * 256,
            "a\nx:1",
            "a\r",
            "\x00",
            "a\x1b[2J",
            "a\x7f",
            "a\x85b",
            "a\u2028b",
            "a\u2029b",
            "a/b",
            "/",
            "a%2Fb",
            "%",
            "queue",
            "*",
            "**",
            ".",
            "..",
            " ",
            " alice",
            "alice ",
            "ali\u00a0ce",
            "ali\u3000ce",
            "ali\u200bce",
            "ali\u200dce",
            "\u202eecila",
            "\u2066alice\u2069",
            "\ufeffalice",
            "ali\u00adce",
            "alice\ue000",
            "alice\uffff",
        ):
            self.assertClaimsRefused("user name", sub=name)

    def test_names_are_not_normalised(self) -> None:
        """JW-10: a name that is not in NFC is refused rather than made into another one."""
        self.assertClaimsRefused("user name", sub="Zoe\u0308")
        self.assertClaimsRefused("user name", sub="\u212b")

    def test_another_user_claim(self) -> None:
        """With another ``user_claim`` that one names the user, and nobody looks at ``sub``."""
        for sub in ("f2a1/7", None, "", 7):
            text = token(claims(sub=sub, email="alice@example.com"))
            self.assertEqual(self.principal(text, user_claim="email").name, "alice@example.com")

    def test_another_user_claim_is_checked_the_same(self) -> None:
        """JW-10: whichever claim names the user, it must be there and plain."""
        for email in (None, "", 1, "a\nb", "a/b", "queue"):
            self.assertRefused(token(claims(email=email)), "user name", user_claim="email")

    def test_authorities(self) -> None:
        """Authorities are a list, or a string in which spaces separate them."""
        for value, expected in (
            ("chat admin", {"chat", "admin"}),
            (" chat  admin ", {"chat", "admin"}),
            ("chat", {"chat"}),
            ("", set()),
            (["chat", "read all"], {"chat", "read all"}),
            ([], set()),
            ("a\tb", {"a\tb"}),
        ):
            found = self.principal(token(claims(scope=value)))
            self.assertEqual(found.authorities, expected)

    def test_no_authorities(self) -> None:
        """A token without that claim has no authorities, and is good."""
        self.assertEqual(self.principal(token(claims())).authorities, frozenset())

    def test_authorities_of_another_type(self) -> None:
        """Authorities that nobody can read make a bad token, not one without any."""
        for value in (1, True, {"chat": True}, [["chat"]], ["chat", 1], ["chat", None]):
            self.assertClaimsRefused("authorities", scope=value)
        payload = json.dumps({**claims(), "scope": None}).encode()
        self.assertRefused(token(payload), "authorities")

    def test_another_authorities_claim(self) -> None:
        """``authorities_claim`` says where the authorities are."""
        text = token(claims(scope="no", roles=["chat"]))
        self.assertEqual(self.principal(text, authorities_claim="roles").authorities, {"chat"})

    def test_token_id(self) -> None:
        """JW-13: a ``jti`` is a string, else a deny-list of them could be passed by."""
        self.assertEqual(self.principal(token(claims(jti="j1"))).token_id, "j1")
        self.assertIsNone(self.principal(token(claims())).token_id)
        for jti in (1, "", [], False, {}):
            self.assertClaimsRefused("jti", jti=jti)
        self.assertRefused(token(json.dumps({**claims(), "jti": None}).encode()), "jti")

    def test_principal(self) -> None:
        """The principal has the token's times, and all its claims for the rules."""
        found = self.principal(token(claims(rooms=["a", "b"])))
        self.assertEqual(found.issuer, ISSUER)
        self.assertEqual(found.expires_at, NOW + 240)
        self.assertEqual(found.issued_at, NOW - 60)
        self.assertEqual(found.claims, claims(rooms=["a", "b"]))


class WaitingTests(VerifierTestCase):
    """Verification waits for keys, and for nothing else."""

    def test_at_once(self) -> None:
        """With the key at hand, the answer is there when ``verify`` returns."""
        self.assertEqual(self.principal(token(claims())).name, "alice")

    def test_waits_for_keys(self) -> None:
        """While the keys are on their way there is no answer, and then there is."""
        keys = PendingKeys()
        result = self.verifier(keys=keys).verify(token(claims()))
        self.assertNoResult(result)
        keys.answer.callback([VerificationKey(frozenset({"HS256"}), SECRET)])
        self.assertEqual(self.successResultOf(result).name, "alice")

    def test_unavailable(self) -> None:
        """That the keys cannot be had is not the token's fault, and not said to be."""
        keys = PendingKeys()
        result = self.verifier(keys=keys).verify(token(claims()))
        keys.answer.errback(Unavailable("keys", retry_after=7))
        self.assertEqual(self.failureResultOf(result, Unavailable).value.retry_after, 7)


class SecrecyTests(VerifierTestCase):
    """No error shows the token."""

    def test_errors(self) -> None:
        """JW-11: neither the text of an error, nor what caused it, has anything of the token."""
        secret = "tell-nobody"
        for text in (
            token(claims(sub=secret), bytes(32)),
            token(claims(aud=secret)),
            token(claims(sub=secret + "\n")),
            token(claims(scope={secret: secret})),
            token(claims(exp=secret)),
            token(b'{"' + secret.encode() + b'":'),
            token(b'{"x":"' + secret.encode() + b'\xff"}'),
            token(claims(), header=b"[" + secret.encode()),
            token(claims(), header={"kid": [secret]}),
            secret + "\ud800",
        ):
            failure = self.failureResultOf(self.verifier().verify(text), BadToken)
            self.assertIsNone(failure.value.__context__)
            self.assertIsNone(failure.value.__cause__)
            shown = f"{failure.value!r} {failure.value} {failure!r} {failure.getTraceback()}"
            self.assertNotIn(secret, shown)
            self.assertNotIn(text, shown)

    def test_principal(self) -> None:
        """A principal's repr has no claims, which may be personal."""
        self.assertNotIn("555", repr(self.principal(token(claims(phone="555")))))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


class PropertyTests(VerifierTestCase):
    """Nothing that a peer can send gets past, or out in any other way than by our errors."""

    def outcome(self, text: str) -> Principal | Exception:
        found: list[Any] = []
        self.verifier().verify(text).addBoth(found.append)
        result = found[0]
        error = getattr(result, "value", None)
        if error is not None and not isinstance(error, BadToken | Unavailable):
            raise error
        return error or result

    def assertNotVerified(self, text: str) -> None:
        self.assertIsInstance(self.outcome(text), BadToken)

    @settings(deadline=None, max_examples=150)
    @given(st.text(st.characters(exclude_categories=()), max_size=300))
    def test_garbage(self, text: str) -> None:
        """JW-11: no text verifies that nobody signed, and none raises anything else."""
        self.assertNotVerified(text)

    @settings(deadline=None, max_examples=150)
    @given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
    def test_compact_garbage(self, header: bytes, payload: bytes, signature: bytes) -> None:
        """JW-11: nor does text in a token's form."""
        self.assertNotVerified(".".join(map(base64url, (header, payload, signature))))

    @settings(deadline=None, max_examples=150)
    @given(st.data())
    def test_changed_letter(self, data: st.DataObject) -> None:
        """JW-12: a token with any of its letters changed, added or gone does not verify."""
        good = token(claims())
        at = data.draw(st.integers(0, len(good) - 1))
        letter = data.draw(st.sampled_from("AZaz09-_=. \n\x00é"))
        changed = data.draw(
            st.sampled_from(
                [
                    good[:at] + letter + good[at + 1 :],
                    good[:at] + letter + good[at:],
                    good[:at] + good[at + 1 :],
                ]
            ).filter(lambda text: text != good)
        )
        self.assertNotVerified(changed)

    @settings(deadline=None, max_examples=200)
    @given(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x"]), json_values)
    def test_any_header(self, name: str, value: Any) -> None:
        """JW-5, JW-11: whatever a signed header holds, the outcome is a principal or our error."""
        self.outcome(token(claims(), header={name: value}))

    @settings(deadline=None, max_examples=300)
    @given(
        st.sampled_from(
            ["iss", "aud", "sub", "iat", "exp", "nbf", "jti", "scope", "typ", "events", "x"]
        ),
        json_values,
    )
    def test_any_claim(self, name: str, value: Any) -> None:
        """JW-6, JW-10: whatever a signed claim holds, what verifies keeps every promise."""
        payload = json.dumps({**claims(), name: value}).encode()
        found = self.outcome(token(payload))
        if isinstance(found, Exception):
            return
        self.assertEqual(found.claims["iss"], ISSUER)
        self.assertTrue(found.claims["aud"] == AUDIENCE or AUDIENCE in found.claims["aud"])
        self.assertTrue(0 < len(found.name) <= 255)
        self.assertTrue(found.name.isprintable())
        self.assertFalse({"/", "%", "\n"} & set(found.name))
        self.assertLessEqual(found.issued_at, NOW + 10)
        self.assertGreater(found.expires_at, NOW - 10)
        self.assertLessEqual(found.expires_at - found.issued_at, 86400)
        self.assertNotIsInstance(found.expires_at, bool)
        json.dumps(found.claims, ensure_ascii=False).encode("utf-8")
