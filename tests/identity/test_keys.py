"""Tests for :mod:`stompauth.identity.keys`."""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import dsa, ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IPolicyForHTTPS, IResponse
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stompauth.errors import Unavailable
from stompauth.identity.keys import (
    PUBLIC_KEY_ALGORITHMS,
    JWKSet,
    StaticKey,
    VerificationKey,
    _TLSPolicy,
    jwks_agent,
)
from tests.identity.signing import (
    NOW,
    SECRET,
    base64url,
    private_jwk,
    private_key,
    private_pem,
    public_jwk,
    public_pem,
    rsa_key,
)

URL = "https://id.example.com/jwks.json"
HOUR = 3600


class FakeTransport:
    """Of a connection only the end."""

    def __init__(self) -> None:
        self.lost = False

    def stopProducing(self) -> None:
        self.lost = True


@implementer(IResponse)
class FakeResponse:
    """A response whose body the test delivers, in pieces if it likes.

    :ivar transport: what the reader of the body may hang up.
    """

    version = (b"HTTP", 1, 1)
    phrase = b""
    length = UNKNOWN_LENGTH
    request = None

    def __init__(self, code: int = 200) -> None:
        self.code = code
        self.headers = Headers()
        self.previousResponse: Any = None
        self.transport = FakeTransport()
        self.reader: Any = None

    def deliverBody(self, protocol: Any) -> None:
        self.reader = protocol
        protocol.makeConnection(self.transport)

    def setPreviousResponse(self, response: Any) -> None:
        self.previousResponse = response

    def end(self, reason: Exception | None = None) -> None:
        self.reader.connectionLost(Failure(reason or ResponseDone()))


@implementer(IAgent)
class FakeAgent:
    """Keeps each request until the test answers it.

    :ivar urls: where requests went, with their methods.
    :ivar cancelled: how many were given up by who asked.
    """

    def __init__(self) -> None:
        self.urls: list[tuple[bytes, bytes]] = []
        self.waiting: list[Deferred[FakeResponse]] = []
        self.cancelled = 0

    def request(
        self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None
    ) -> Deferred[FakeResponse]:
        self.urls.append((method, uri))
        self.waiting.append(Deferred(self._cancel))
        return self.waiting[-1]

    def _cancel(self, _: object) -> None:
        self.cancelled += 1

    def respond(self, response: FakeResponse) -> FakeResponse:
        """Answer the oldest request."""
        self.waiting.pop(0).callback(response)
        return response

    def serve(self, *keys: Any) -> None:
        """Answer the oldest request with this JWK Set."""
        self.serve_octets(json.dumps({"keys": keys}).encode())

    def serve_octets(self, body: bytes) -> None:
        response = self.respond(FakeResponse())
        response.reader.dataReceived(body)
        response.end()

    def fail(self) -> None:
        """Let the oldest request fail."""
        self.waiting.pop(0).errback(ConnectError())


def rsa_jwk(number: int = 0, **members: Any) -> dict[str, Any]:
    return public_jwk("RS256", rsa_key(number), **members)


def ec_jwk(number: int = 0, **members: Any) -> dict[str, Any]:
    return public_jwk("ES256", private_key("ES256", number), **members)


class StaticKeyTests(SynchronousTestCase):
    """Keys of files and octets are checked once, when they are read."""

    def materials(self, keys: StaticKey) -> list[Any]:
        found = self.successResultOf(Deferred.fromCoroutine(keys.keys_for("HS256", "any kid")))
        return [key.material for key in found]

    def file(self, octets: bytes) -> str:
        path = self.mktemp()
        Path(path).write_bytes(octets)
        return path

    def test_no_secret(self) -> None:
        """JW-19: there is no source of secrets without a secret."""
        self.assertRaises(ValueError, StaticKey.hmac)
        self.assertRaises(ValueError, StaticKey.from_secret_files)

    def test_short_secret(self) -> None:
        """JW-2: a secret of fewer than 32 octets is refused, for whatever algorithm."""
        for secret in (b"", b"x", SECRET[:31]):
            self.assertRaises(ValueError, StaticKey.hmac, secret)
            self.assertRaises(ValueError, StaticKey.hmac, SECRET, secret)
        StaticKey.hmac(SECRET[:32])

    def test_length_for_the_hash(self) -> None:
        """JW-2: 32, 48 and 64 octets are the least for the three hashes."""
        for octets, name in ((32, "HS256"), (48, "HS384"), (64, "HS512")):
            StaticKey.hmac(SECRET[:octets]).check_algorithms([name])
            keys = StaticKey.hmac(SECRET[: max(octets - 1, 32)])
            if octets > 32:
                self.assertRaises(ValueError, keys.check_algorithms, [name])

    def test_public_key_as_secret(self) -> None:
        """JW-1: what is public, or a key of another kind, is refused as a secret."""
        key = private_key("ES256")
        for octets in (
            public_pem(rsa_key()),
            public_pem(key),
            private_pem(key),
            b"\n" + public_pem(key),
            public_pem(key).partition(b"-----END")[0],
            key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
            json.dumps(ec_jwk()).encode(),
            json.dumps({"keys": [rsa_jwk()]}).encode(),
        ):
            self.assertRaises(ValueError, StaticKey.hmac, octets)

    def test_secret_files(self) -> None:
        """The line end that an editor leaves is not part of the secret; other octets are."""
        secret = SECRET[:40]
        for octets, expected in (
            (secret, secret),
            (secret + b"\n", secret),
            (secret + b"\r\n", secret),
            (secret + b"\n\n", secret + b"\n"),
            (b" " + secret + b" ", b" " + secret + b" "),
        ):
            keys = StaticKey.from_secret_files(self.file(octets))
            self.assertEqual(self.materials(keys), [expected])

    def test_several_secret_files(self) -> None:
        """While secrets are rotated each of several files has one."""
        keys = StaticKey.from_secret_files(self.file(SECRET[:32]), Path(self.file(SECRET[32:])))
        self.assertEqual(self.materials(keys), [SECRET[:32], SECRET[32:]])

    def test_replace(self) -> None:
        """The keys of another are taken; the generation rises if they are others."""
        keys = StaticKey.hmac(SECRET[:32])
        keys.replace(StaticKey.hmac(SECRET[:32]))
        self.assertEqual(keys.generation, 0)
        keys.replace(StaticKey.hmac(SECRET[:32], SECRET[32:]))
        self.assertEqual(self.materials(keys), [SECRET[:32], SECRET[32:]])
        self.assertEqual(keys.generation, 1)

    def test_several_public_keys(self) -> None:
        """While public keys are rotated there are several; each has to serve."""
        pems = [public_pem(private_key("ES256")), public_pem(private_key("RS256"))]
        keys = StaticKey.from_public_key_files(*map(self.file, pems))
        self.assertEqual(len(self.materials(keys)), 2)
        self.assertRaises(ValueError, keys.check_algorithms, ["ES256"])
        self.assertRaises(ValueError, StaticKey.public_key)

    def test_short_secret_in_file(self) -> None:
        """JW-2: the line end does not count for the length."""
        self.assertRaises(ValueError, StaticKey.from_secret_files, self.file(SECRET[:31] + b"\n"))

    def test_missing_file(self) -> None:
        """A file that is not there is told apart from one that is wrong."""
        self.assertRaises(OSError, StaticKey.from_secret_files, self.mktemp())
        self.assertRaises(OSError, StaticKey.from_public_key_files, self.mktemp())

    def test_public_key_kinds(self) -> None:
        """Each kind of key serves the algorithms that are for it, and no others."""
        for algorithm, served in (
            ("RS256", {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
            ("ES256", {"ES256"}),
            ("ES384", {"ES384"}),
            ("ES512", {"ES512"}),
            ("EdDSA", {"EdDSA"}),
        ):
            keys = StaticKey.from_public_key_files(self.file(public_pem(private_key(algorithm))))
            keys.check_algorithms(served)
            for other in PUBLIC_KEY_ALGORITHMS - served:
                self.assertRaises(ValueError, keys.check_algorithms, [other])
            self.assertRaises(ValueError, keys.check_algorithms, ["HS256"])

    def test_short_rsa_key(self) -> None:
        """JW-2: an RSA key of fewer than 2048 bits is refused, and the text says why."""
        error = self.assertRaises(ValueError, StaticKey.public_key, public_pem(rsa_key(bits=1024)))
        self.assertIn("1024 bits: at least 2048", str(error))

    def test_not_a_public_key(self) -> None:
        """A private key, a key for other ends and what is no key are refused."""
        for octets in (
            private_pem(private_key("ES256")),
            public_pem(dsa.generate_private_key(1024)),
            public_pem(x25519.X25519PrivateKey.generate()),
            public_pem(ec.generate_private_key(ec.SECP256K1())),
            b"",
            b"secret" * 10,
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ):
            self.assertRaises(ValueError, StaticKey.public_key, octets)

    def test_private_key(self) -> None:
        """Who configures the private half by mistake is told so."""
        error = self.assertRaises(ValueError, StaticKey.public_key, private_pem(rsa_key()))
        self.assertIn("private key", str(error))

    def test_errors_show_no_key(self) -> None:
        """A refusal does not print what it refuses."""
        for make, octets in (
            (StaticKey.hmac, b"tell-nobody"),
            (StaticKey.hmac, b'{"kty":"oct","k":"tell-nobody, whatever happens"}'),
            (StaticKey.hmac, b"-----BEGIN tell-nobody-----" * 3),
            (StaticKey.public_key, b"-----BEGIN PRIVATE KEY-----tell-nobody"),
            (StaticKey.public_key, b"tell-nobody"),
        ):
            failure = Failure(self.assertRaises(ValueError, make, octets))
            self.assertNotIn("tell-nobody", failure.getTraceback())

    def test_repr(self) -> None:
        """No repr shows a secret."""
        secret = b"tell-nobody" * 3
        keys = StaticKey.hmac(secret)
        [key] = self.successResultOf(Deferred.fromCoroutine(keys.keys_for("HS256", None)))
        for shown in (repr(keys), str(keys), repr(key), str(key)):
            self.assertNotIn("tell-nobody", shown)

    def test_generation(self) -> None:
        """Keys that stay are of one generation for ever."""
        self.assertEqual(StaticKey.hmac(SECRET).generation, 0)


class JWKSetTestCase(SynchronousTestCase):
    """Tests of a set whose agent and clock are the test's."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.agent = FakeAgent()
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def jwk_set(self, **changes: Any) -> JWKSet:
        return JWKSet(self.agent, URL, clock=self.clock, **changes)

    def ask(self, keys: JWKSet, kid: str | None, algorithm: str = "RS256") -> Deferred[Any]:
        return Deferred.fromCoroutine(keys.keys_for(algorithm, kid))

    def fetched(self, *jwks: Any, **changes: Any) -> JWKSet:
        """A set that was fetched just now, by its first use."""
        keys = self.jwk_set(**changes)
        self.ask(keys, "first")
        self.agent.serve(*jwks)
        return keys

    def found(self, keys: JWKSet, kid: str | None, algorithm: str = "RS256") -> int:
        """How many keys are at hand."""
        return len(self.successResultOf(self.ask(keys, kid, algorithm)))

    def warnings(self) -> list[str]:
        return [
            event["log_format"].format(**event)
            for event in self.events
            if event["log_level"] == LogLevel.warn
        ]


class LocationTests(JWKSetTestCase):
    """The set is fetched from one place, over TLS."""

    def test_https_only(self) -> None:
        """JW-16: only ``https:``, not even loopback is spared; no file, no other scheme."""
        for url in (
            "http://id.example.com/jwks.json",
            "http://127.0.0.1/jwks.json",
            "file:///etc/passwd",
            "ftp://id.example.com/",
            "//id.example.com/jwks.json",
            "id.example.com/jwks.json",
            "https://",
            "https:///jwks.json",
            "https://user:secret@id.example.com/jwks.json",
            "https://id.example.com/jwks.json#keys",
            "https://id.example.com/jw ks.json",
            "https://id.example.com/jwks.json\r\nX: y",
            "https://id.example.com:port/jwks.json",
            "https://id.example.com:99999/jwks.json",
            "https://idé.example.com/",
            "",
        ):
            self.assertRaises(ValueError, JWKSet, self.agent, url, clock=self.clock)

    def test_url_as_configured(self) -> None:
        """JW-3: the request goes to the configured URL, whatever ``kid`` caused it."""
        keys = self.jwk_set()
        self.ask(keys, "https://evil.example/keys")
        self.assertEqual(self.agent.urls, [(b"GET", URL.encode())])

    def test_times(self) -> None:
        """Times that would fetch all the time, or hardly ever, are refused."""
        for changes in (
            {"cooldown": 0},
            {"cooldown": -1},
            {"cooldown": 60, "refresh": 59},
            {"refresh": 86401},
            {"refresh": float("nan")},
            {"cooldown": float("nan")},
        ):
            self.assertRaises(ValueError, self.jwk_set, **changes)

    def test_hmac(self) -> None:
        """JW-1: a JWK Set serves no HMAC algorithm."""
        keys = self.jwk_set()
        keys.check_algorithms(PUBLIC_KEY_ALGORITHMS)
        for name in ("HS256", "HS384", "HS512", "none"):
            self.assertRaises(ValueError, keys.check_algorithms, ["RS256", name])


class AnswerTests(JWKSetTestCase):
    """An answer counts whole, in time and from where it was asked for, or not at all."""

    def assertUnavailable(self, result: Deferred[Any]) -> None:
        self.failureResultOf(result, Unavailable)

    def test_fetched_when_needed(self) -> None:
        """The first token fetches the set; there is no request before."""
        keys = self.jwk_set()
        self.assertEqual(self.agent.urls, [])
        result = self.ask(keys, "k1")
        self.assertNoResult(result)
        self.agent.serve(rsa_jwk(kid="k1"))
        [key] = self.successResultOf(result)
        self.assertEqual(key.material, rsa_key().public_key())
        self.assertEqual(self.found(keys, "k1"), 1)
        self.assertEqual(len(self.agent.urls), 1)

    def test_in_pieces(self) -> None:
        """A body may come in any pieces, and end with the connection."""
        for reason in (ResponseDone(), PotentialDataLoss()):
            keys = self.jwk_set()
            result = self.ask(keys, "k1")
            response = self.agent.respond(FakeResponse())
            for octet in json.dumps({"keys": [ec_jwk(kid="k1")]}).encode():
                response.reader.dataReceived(bytes([octet]))
            self.assertNoResult(result)
            response.end(reason)
            self.assertEqual(self.found(keys, "k1", "ES256"), 1)

    def test_redirect(self) -> None:
        """JW-16: a redirect is not followed, and the connection is not kept."""
        for code in (301, 302, 303, 307, 308):
            self.agent = FakeAgent()
            result = self.ask(self.jwk_set(), "k1")
            response = FakeResponse(code)
            response.headers.setRawHeaders("location", ["https://id.example.com/other"])
            self.agent.respond(response)
            self.assertUnavailable(result)
            self.assertTrue(response.transport.lost)
            self.assertEqual(len(self.agent.urls), 1)

    def test_redirect_by_the_agent(self) -> None:
        """JW-16: what an agent found by following redirects by itself is refused."""
        result = self.ask(self.jwk_set(), "k1")
        response = FakeResponse()
        response.setPreviousResponse(FakeResponse(302))
        self.agent.respond(response)
        self.assertUnavailable(result)
        self.assertTrue(response.transport.lost)

    def test_other_status(self) -> None:
        """JW-16: only a 200 has keys, even if another answer has a body that looks like some."""
        for code in (201, 204, 206, 304, 401, 404, 500, 503):
            self.agent = FakeAgent()
            result = self.ask(self.jwk_set(), "k1")
            self.agent.respond(FakeResponse(code))
            self.assertUnavailable(result)

    def test_too_large(self) -> None:
        """JW-16: a body is given up when it passes 512 KiB, not when it has ended."""
        result = self.ask(self.jwk_set(), "k1")
        response = self.agent.respond(FakeResponse())
        response.reader.dataReceived(b" " * (512 * 1024))
        self.assertNoResult(result)
        self.assertFalse(response.transport.lost)
        response.reader.dataReceived(b" ")
        self.assertUnavailable(result)
        self.assertTrue(response.transport.lost)
        response.reader.dataReceived(b" " * 1024)
        response.end()

    def test_large_enough(self) -> None:
        """JW-16: a body of 512 KiB is taken."""
        keys = self.jwk_set()
        self.ask(keys, "k1")
        self.agent.serve_octets(
            json.dumps({"keys": [rsa_jwk(kid="k1")]}).encode().ljust(512 * 1024)
        )
        self.assertEqual(self.found(keys, "k1"), 1)

    def test_no_answer(self) -> None:
        """JW-16: a request without an answer is given up after 5 seconds."""
        result = self.ask(self.jwk_set(), "k1")
        self.clock.advance(4.9)
        self.assertNoResult(result)
        self.clock.advance(0.2)
        self.assertUnavailable(result)
        self.assertEqual(self.agent.cancelled, 1)

    def test_slow_answer(self) -> None:
        """JW-16: the 5 seconds are for all of it: bytes that trickle in win no time."""
        result = self.ask(self.jwk_set(), "k1")
        self.clock.advance(2)
        response = self.agent.respond(FakeResponse())
        for _ in range(3):
            response.reader.dataReceived(b" ")
            self.clock.advance(1.1)
        self.assertUnavailable(result)
        self.assertTrue(response.transport.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_broken_off(self) -> None:
        """A body whose end the server did not confirm is no set, though it looks whole."""
        result = self.ask(self.jwk_set(), "k1")
        response = self.agent.respond(FakeResponse())
        response.reader.dataReceived(json.dumps({"keys": [rsa_jwk(kid="k1")]}).encode())
        response.end(ConnectError())
        self.assertUnavailable(result)

    def test_cut_short(self) -> None:
        """A body that breaks off is no set."""
        for reason in (ConnectError(), PotentialDataLoss()):
            self.agent = FakeAgent()
            result = self.ask(self.jwk_set(), "k1")
            response = self.agent.respond(FakeResponse())
            response.reader.dataReceived(json.dumps({"keys": [rsa_jwk(kid="k1")]}).encode()[:-1])
            response.end(reason)
            self.assertUnavailable(result)

    def test_no_set(self) -> None:
        """JW-16: what is not a JSON object with a list of keys is no set."""
        for body in (
            b"",
            b"[]",
            b"null",
            b'"keys"',
            b"{}",
            b'{"keys": {}}',
            b'{"keys": null}',
            b'{"keys": "RSA"}',
            b"{",
            b"\xff",
            b"<html>",
            json.dumps([rsa_jwk(kid="k1")]).encode(),
            json.dumps({"Keys": [rsa_jwk(kid="k1")]}).encode(),
            json.dumps({"keys": [rsa_jwk(kid="k1")]}).encode("utf-16"),
            b'{"keys":' + b"[" * 200_000,
        ):
            self.agent = FakeAgent()
            result = self.ask(self.jwk_set(), "k1")
            self.agent.serve_octets(body)
            self.assertUnavailable(result)

    def test_failure_is_told(self) -> None:
        """An operator is told which set cannot be had and why, once per attempt."""
        self.ask(self.jwk_set(), "k1").addErrback(lambda _: None)
        self.agent.fail()
        [warning] = self.warnings()
        self.assertIn(URL, warning)
        self.assertIn("ConnectError", warning)

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=200))
    def test_any_octets(self, body: bytes) -> None:
        """JW-16: whatever a server sends, a token is either refused or cannot be judged now."""
        self.agent = FakeAgent()
        result = self.ask(self.jwk_set(), "k1")
        self.agent.serve_octets(body)
        self.failureResultOf(result, Unavailable)


class EntryTests(JWKSetTestCase):
    """Of a set only those keys count that are for signatures, sound and told apart."""

    def assertSkipped(self, *jwks: Any, kid: str | None = "k1") -> None:
        """Fail if one of these keys is taken, or if they spoil a good one beside them."""
        self.agent = FakeAgent()
        keys = self.fetched(*jwks, ec_jwk(9, kid="good"))
        for algorithm in PUBLIC_KEY_ALGORITHMS - {"ES256"}:
            self.assertEqual(self.found(keys, kid, algorithm), 0)
        self.assertEqual(self.found(keys, kid, "HS256"), 0)
        self.assertEqual(self.found(keys, "good", "ES256"), 1)

    def test_kinds(self) -> None:
        """Keys of each kind serve the algorithms that are for it, where they name none."""
        for name, served in (
            ("RS256", {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
            ("ES256", {"ES256"}),
            ("ES384", {"ES384"}),
            ("ES512", {"ES512"}),
            ("EdDSA", {"EdDSA"}),
        ):
            self.agent = FakeAgent()
            keys = self.fetched(public_jwk(name, private_key(name), kid="k1"))
            for algorithm in PUBLIC_KEY_ALGORITHMS:
                self.assertEqual(self.found(keys, "k1", algorithm), algorithm in served)

    def test_ed448(self) -> None:
        """Both curves of EdDSA are known."""
        keys = self.fetched(public_jwk("EdDSA", private_key("EdDSA", 1), kid="k1"))
        self.assertEqual(self.found(keys, "k1", "EdDSA"), 1)

    def test_alg_binds(self) -> None:
        """JW-1: a key that names its algorithm serves that one alone."""
        keys = self.fetched(rsa_jwk(kid="k1", alg="PS256"))
        for algorithm in PUBLIC_KEY_ALGORITHMS:
            self.assertEqual(self.found(keys, "k1", algorithm), algorithm == "PS256")

    def test_alg_that_does_not_fit(self) -> None:
        """JW-16: a key for another algorithm than those of its kind is skipped."""
        for alg in ("ES256", "HS256", "none", "RSA-OAEP", "", None, 1, ["RS256"]):
            self.assertSkipped(rsa_jwk(kid="k1", alg=alg))

    def test_oct(self) -> None:
        """JW-16: a secret that is served in public is none, empty or not."""
        for secret in (b"", SECRET):
            self.assertSkipped({"kty": "oct", "k": base64url(secret), "kid": "k1", "alg": "HS256"})

    def test_other_kty(self) -> None:
        """JW-16: unknown and missing kinds of key are skipped."""
        for kty in ("rsa", "AKP", "", None, 1, ["RSA"], {}):
            self.assertSkipped({**rsa_jwk(kid="k1"), "kty": kty})

    def test_use(self) -> None:
        """JW-16: only a key for signatures counts."""
        for use in ("enc", "", None, ["sig"]):
            self.assertSkipped(rsa_jwk(kid="k1", use=use))
        self.agent = FakeAgent()
        self.assertEqual(self.found(self.fetched(rsa_jwk(kid="k1", use="sig")), "k1"), 1)

    def test_key_ops(self) -> None:
        """JW-16: only a key that is for verifying counts."""
        for key_ops in (["sign"], ["encrypt", "wrapKey"], [], "verify", None, {"verify": 1}):
            self.assertSkipped(rsa_jwk(kid="k1", key_ops=key_ops))
        without = {name: value for name, value in rsa_jwk(kid="k1").items() if name != "key_ops"}
        for jwk in (without, rsa_jwk(kid="k1", key_ops=["sign", "verify"])):
            self.agent = FakeAgent()
            self.assertEqual(self.found(self.fetched(jwk), "k1"), 1)

    def test_short_rsa_key(self) -> None:
        """JW-2, JW-16: an RSA key of fewer than 2048 bits is skipped."""
        self.assertSkipped(public_jwk("RS256", rsa_key(bits=1024), kid="k1"))

    def test_private_key(self) -> None:
        """JW-16: a private key that is served in public is nobody's any more."""
        for name in ("RS256", "ES384", "EdDSA"):
            self.assertSkipped(private_jwk(name, private_key(name), kid="k1"))
        with_d_only = rsa_jwk(kid="k1", d=private_jwk("RS256", rsa_key())["d"])
        self.assertSkipped(with_d_only)

    def test_unsound(self) -> None:
        """JW-16: a key that cannot be made of its numbers is skipped, and the others are not."""
        off_curve = {**public_jwk("ES384", private_key("ES384"), kid="k1")}
        off_curve["y"] = off_curve["x"]
        for jwk in (
            off_curve,
            {"kty": "RSA", "kid": "k1"},
            {"kty": "RSA", "kid": "k1", "n": "", "e": ""},
            {**rsa_jwk(kid="k1"), "n": 7},
            {**rsa_jwk(kid="k1"), "e": "AA"},
            {**rsa_jwk(kid="k1"), "n": "é"},
            {"kty": "EC", "kid": "k1", "crv": "P-256", "x": "AA", "y": "AA"},
            {"kty": "EC", "kid": "k1", "crv": ["P-384"], "x": "AA", "y": "AA"},
            {"kty": "OKP", "kid": "k1", "crv": "X25519", "x": base64url(bytes(32))},
            {"kty": "OKP", "kid": "k1", "crv": "Ed25519", "x": "AA"},
            public_jwk("ES256K", ec.generate_private_key(ec.SECP256K1()), kid="k1"),
            "RSA",
            None,
            [],
            7,
        ):
            self.assertSkipped(jwk)

    def test_bad_kid(self) -> None:
        """JW-4: a key whose id is no short string is skipped, not taken for one without."""
        for kid in ("", 1, ["k1"], {}, True, "k" * 129):
            self.assertSkipped(rsa_jwk(kid=kid), kid=None)
        self.agent = FakeAgent()
        self.assertEqual(self.found(self.fetched(rsa_jwk(kid="k" * 128)), "k" * 128), 1)

    def test_two_of_one_kid(self) -> None:
        """JW-16: of two keys with one id neither is taken, whatever their order."""
        self.assertSkipped(rsa_jwk(0, kid="k1"), rsa_jwk(1, kid="k1"))
        self.assertSkipped(rsa_jwk(0, kid="k1"), rsa_jwk(0, kid="k1"))
        self.assertSkipped(rsa_jwk(kid="k1"), public_jwk("ES384", private_key("ES384"), kid="k1"))
        self.assertSkipped(rsa_jwk(0, kid="k1"), rsa_jwk(1, kid="k1"), kid=None)

    def test_no_kid_in_the_token(self) -> None:
        """JW-16: a token without ``kid`` verifies if one key alone fits its algorithm."""
        keys = self.fetched(rsa_jwk(kid="k1"), ec_jwk(0, kid="k2"), ec_jwk(1))
        [key] = self.successResultOf(self.ask(keys, None))
        self.assertEqual(key.kid, "k1")
        self.assertEqual(self.found(keys, None, "ES256"), 0)

    def test_no_kid_in_the_set(self) -> None:
        """JW-4: a token's ``kid`` is looked up; a key without one is not found by it."""
        keys = self.fetched(rsa_jwk())
        self.assertEqual(self.found(keys, None), 1)
        self.assertEqual(self.found(keys, "k1"), 0)

    def test_told(self) -> None:
        """An operator is told how many keys were taken, and how many were not."""
        self.fetched(rsa_jwk(kid="k1"), {"kty": "oct", "k": "AAAA"}, "x")
        [text] = [
            event["log_format"].format(**event)
            for event in self.events
            if event["log_level"] == LogLevel.info
        ]
        self.assertIn("1 keys accepted, 2 skipped", text)


class UnknownKeyTests(JWKSetTestCase):
    """Tokens that name unknown keys cannot make us ask for them often, or hold up others."""

    def test_rotation_is_seen(self) -> None:
        """JW-18: a token of a new key verifies as soon as the set may be fetched again."""
        keys = self.fetched(rsa_jwk(0, kid="old"))
        self.clock.advance(30)
        result = self.ask(keys, "new")
        self.agent.serve(rsa_jwk(0, kid="old"), rsa_jwk(1, kid="new"))
        [key] = self.successResultOf(result)
        self.assertEqual(key.material, rsa_key(1).public_key())

    def test_one_fetch_per_cooldown(self) -> None:
        """JW-17: however many unknown keys are named, a cool-down sees one fetch."""
        keys = self.fetched(rsa_jwk(kid="k1"))
        for number in range(50):
            self.assertEqual(self.found(keys, f"x{number}"), 0)
            self.clock.advance(0.5)
        self.assertEqual(len(self.agent.urls), 1)
        self.clock.advance(5)
        self.ask(keys, "x")
        self.assertEqual(len(self.agent.urls), 2)

    def test_cooldown_is_of_time_alone(self) -> None:
        """JW-17: it counts from the attempt, whether that failed or came back empty."""
        for end in (self.agent.fail, self.agent.serve):
            keys = self.jwk_set()
            before = len(self.agent.urls)
            self.ask(keys, "x").addErrback(lambda _: None)
            self.clock.advance(4)
            end()
            for _ in range(25):
                self.ask(keys, "x").addErrback(lambda _: None)
                self.clock.advance(1)
            self.assertEqual(len(self.agent.urls) - before, 1)
            self.clock.advance(1)
            self.ask(keys, "x").addErrback(lambda _: None)
            self.assertEqual(len(self.agent.urls) - before, 2)
            self.agent.fail()

    def test_one_fetch_at_a_time(self) -> None:
        """JW-17: while a fetch is under way there is no other, though the cool-down is over."""
        keys = self.jwk_set(cooldown=1)
        keys.startService()
        self.clock.advance(2)
        self.ask(keys, "x").addErrback(lambda _: None)
        self.assertEqual(len(self.agent.urls), 1)
        keys.stopService()

    def test_configured_cooldown(self) -> None:
        """JW-17: the cool-down is the configured one."""
        keys = self.fetched(rsa_jwk(kid="k1"), cooldown=100)
        self.clock.advance(99)
        self.assertEqual(self.found(keys, "x"), 0)
        self.clock.advance(1)
        self.assertNoResult(self.ask(keys, "x"))

    def test_clock_set_back(self) -> None:
        """JW-17: a wall clock that was set back does not stretch the cool-down."""
        keys = self.fetched(rsa_jwk(kid="k1"))
        self.clock.rightNow -= 7 * HOUR
        self.assertNoResult(self.ask(keys, "new"))

    def test_known_keys_do_not_wait(self) -> None:
        """JW-17: while an unknown key is asked for, known ones verify at once."""
        keys = self.fetched(rsa_jwk(kid="k1"))
        self.clock.advance(60)
        waiting = self.ask(keys, "x")
        self.assertNoResult(waiting)
        self.assertEqual(self.found(keys, "k1"), 1)
        self.assertEqual(self.found(keys, None), 1)
        self.agent.fail()
        self.failureResultOf(waiting, Unavailable)
        self.assertEqual(self.found(keys, "k1"), 1)

    def test_one_fetch_for_all(self) -> None:
        """JW-17: however many wait, there is one request, and it answers all."""
        keys = self.jwk_set()
        results = [self.ask(keys, kid) for kid in ("k1", "x", "k1", None)]
        self.assertEqual(len(self.agent.urls), 1)
        self.agent.serve(rsa_jwk(kid="k1"))
        self.assertEqual([len(self.successResultOf(result)) for result in results], [1, 0, 1, 1])

    def test_waiters_are_bounded(self) -> None:
        """JW-17: those who wait are at most a thousand; one more is told to come back."""
        keys = self.jwk_set()
        results = [self.ask(keys, "k1") for _ in range(1000)]
        self.failureResultOf(self.ask(keys, "k1"), Unavailable)
        self.agent.serve(rsa_jwk(kid="k1"))
        for result in results:
            self.assertEqual(len(self.successResultOf(result)), 1)
        self.assertEqual(self.found(keys, "k1"), 1)
        self.clock.advance(30)
        self.assertNoResult(self.ask(keys, "x"))

    def test_waiters_time_out(self) -> None:
        """JW-17: nobody waits longer than the fetch may take."""
        keys = self.jwk_set()
        results = [self.ask(keys, "k1") for _ in range(3)]
        self.clock.advance(5)
        for result in results:
            self.failureResultOf(result, Unavailable)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waiter_that_leaves(self) -> None:
        """JW-17: who gives up makes room, and does not end the fetch for the others."""
        keys = self.jwk_set()
        first, second = self.ask(keys, "k1"), self.ask(keys, "k1")
        rest = [self.ask(keys, "k1") for _ in range(998)]
        first.addErrback(lambda _: None)
        first.cancel()
        self.assertEqual(self.agent.cancelled, 0)
        rest.append(self.ask(keys, "k1"))
        self.agent.serve(rsa_jwk(kid="k1"))
        for result in (second, *rest):
            self.assertEqual(len(self.successResultOf(result)), 1)

    def test_waiter_that_makes_another_leave(self) -> None:
        """A waiter that is answered may give up another one's wait."""
        keys = self.jwk_set()
        first, second, third = (self.ask(keys, "k1") for _ in range(3))
        first.addCallback(lambda _: second.cancel())
        second.addErrback(lambda _: "left")
        self.agent.serve(rsa_jwk(kid="k1"))
        self.assertEqual(self.successResultOf(second), "left")
        self.assertEqual(len(self.successResultOf(third)), 1)

    def test_waiter_that_asks_again(self) -> None:
        """A waiter that is answered may ask at once for another key."""
        keys = self.jwk_set()
        again: list[Deferred[Any]] = []
        self.ask(keys, "k1").addCallback(lambda _: again.append(self.ask(keys, "k1")))
        self.agent.serve(rsa_jwk(kid="k1"))
        self.assertEqual(len(self.successResultOf(again[0])), 1)

    def test_unknown_while_the_issuer_is_down(self) -> None:
        """JW-17: a key that could not be asked for is not called unknown; the wait is told."""
        keys = self.fetched(rsa_jwk(kid="k1"))
        self.clock.advance(30)
        result = self.ask(keys, "new")
        self.agent.fail()
        self.failureResultOf(result, Unavailable)
        self.clock.advance(10)
        failure = self.failureResultOf(self.ask(keys, "new"), Unavailable)
        self.assertEqual(failure.value.retry_after, 20)
        self.assertEqual(self.found(keys, "k1"), 1)

    def test_no_kid_does_not_fetch(self) -> None:
        """JW-17: a token without ``kid`` that no single key fits makes no request."""
        keys = self.fetched(ec_jwk(0, kid="k1"), ec_jwk(1, kid="k2"))
        self.clock.advance(60)
        self.assertEqual(self.found(keys, None, "ES256"), 0)
        self.assertEqual(len(self.agent.urls), 1)

    def test_known_kid_of_another_algorithm(self) -> None:
        """JW-17: a known key with the wrong algorithm makes no request either."""
        keys = self.fetched(ec_jwk(kid="k1"))
        self.clock.advance(60)
        self.assertEqual(self.found(keys, "k1", "RS256"), 0)
        self.assertEqual(len(self.agent.urls), 1)


class RefreshTests(JWKSetTestCase):
    """The set follows its issuer's, and lives on for a day when that is gone."""

    def test_removed_key(self) -> None:
        """JW-18: a key that is gone from the set stops verifying within the period."""
        keys = self.fetched(rsa_jwk(0, kid="old"), rsa_jwk(1, kid="new"))
        self.clock.advance(HOUR)
        result = self.ask(keys, "old")
        self.assertNoResult(result)
        self.agent.serve(rsa_jwk(1, kid="new"))
        self.assertEqual(self.successResultOf(result), ())
        self.assertEqual(self.found(keys, "new"), 1)

    def test_refreshed_ahead(self) -> None:
        """JW-18: a set that is in use is refreshed before its time, and nobody waits for it."""
        keys = self.fetched(rsa_jwk(kid="k1"))
        self.clock.advance(HOUR * 0.79)
        self.assertEqual(self.found(keys, "k1"), 1)
        self.assertEqual(len(self.agent.urls), 1)
        self.clock.advance(HOUR * 0.02)
        self.assertEqual(self.found(keys, "k1"), 1)
        self.assertEqual(len(self.agent.urls), 2)
        self.agent.serve(rsa_jwk(kid="k1"))
        self.clock.advance(HOUR * 0.5)
        self.assertEqual(self.found(keys, "k1"), 1)
        self.assertEqual(len(self.agent.urls), 2)

    def test_failed_refresh(self) -> None:
        """JW-18: a refresh that fails keeps the old keys, and is tried again."""
        keys = self.fetched(rsa_jwk(kid="k1"))
        self.clock.advance(HOUR)
        result = self.ask(keys, "k1")
        self.agent.fail()
        self.assertEqual(len(self.successResultOf(result)), 1)
        self.assertEqual(self.found(keys, "k1"), 1)
        self.assertEqual(len(self.agent.urls), 2)
        self.clock.advance(30)
        self.assertEqual(self.found(keys, "k1"), 1)
        self.assertEqual(len(self.agent.urls), 3)

    def test_day(self) -> None:
        """JW-18: old keys serve for 24 hours from their fetch, and then nothing verifies."""
        keys = self.fetched(rsa_jwk(kid="k1"))
        for hours in (1, 12, 23.99):
            self.clock.rightNow = NOW + hours * HOUR
            self.ask(keys, "k1")
            self.agent.fail()
            self.assertEqual(self.found(keys, "k1"), 1)
        self.clock.rightNow = NOW + 24 * HOUR
        result = self.ask(keys, "k1")
        self.assertNoResult(result)
        self.agent.fail()
        self.failureResultOf(result, Unavailable)
        self.failureResultOf(self.ask(keys, "k1"), Unavailable)
        self.failureResultOf(self.ask(keys, None), Unavailable)
        self.clock.advance(30)
        result = self.ask(keys, "k1")
        self.agent.serve(rsa_jwk(kid="k1"))
        self.assertEqual(len(self.successResultOf(result)), 1)

    def test_never_fetched(self) -> None:
        """JW-18: without a first set nothing verifies, and the wait is told."""
        keys = self.jwk_set()
        result = self.ask(keys, None)
        self.agent.fail()
        self.failureResultOf(result, Unavailable)
        failure = self.failureResultOf(self.ask(keys, None), Unavailable)
        self.assertEqual(failure.value.retry_after, 30)

    def test_emptied(self) -> None:
        """JW-18: an issuer that publishes no key any more has taken back all."""
        keys = self.fetched(rsa_jwk(kid="k1"))
        self.clock.advance(30)
        self.ask(keys, "x")
        self.agent.serve()
        self.assertEqual(self.found(keys, "k1"), 0)

    def test_no_timer_unless_started(self) -> None:
        """A set that was never started leaves no timer behind."""
        keys = self.fetched(rsa_jwk(kid="k1"))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(30)
        self.ask(keys, "x").addErrback(lambda _: None)
        self.agent.fail()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        keys.stopService()

    def test_started(self) -> None:
        """JW-18: once started, the set is fetched and refreshed though nobody asks."""
        keys = self.jwk_set()
        keys.startService()
        self.assertEqual(len(self.agent.urls), 1)
        self.agent.serve(rsa_jwk(kid="k1"))
        self.assertEqual(self.found(keys, "k1"), 1)
        for count in (2, 3, 4):
            self.clock.advance(HOUR * 0.8)
            self.assertEqual(len(self.agent.urls), count)
            self.agent.serve(rsa_jwk(kid="k1"))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        keys.stopService()

    def test_started_twice(self) -> None:
        """Starting what runs changes nothing."""
        keys = self.jwk_set()
        keys.startService()
        keys.startService()
        self.agent.serve(rsa_jwk(kid="k1"))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        keys.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_started_while_the_issuer_is_down(self) -> None:
        """JW-18: after a failure the timer tries again at each end of the cool-down."""
        keys = self.jwk_set()
        keys.startService()
        for count in (1, 2, 3):
            self.assertEqual(len(self.agent.urls), count)
            self.agent.fail()
            self.clock.advance(30)
        self.agent.serve(rsa_jwk(kid="k1"))
        self.clock.advance(HOUR * 0.79)
        self.assertEqual(len(self.agent.urls), 4)
        keys.stopService()

    def test_started_after_use(self) -> None:
        """A set that was fetched just now is started without another request."""
        keys = self.fetched(rsa_jwk(kid="k1"))
        keys.startService()
        self.assertEqual(len(self.agent.urls), 1)
        self.clock.advance(HOUR * 0.8)
        self.assertEqual(len(self.agent.urls), 2)
        keys.stopService()

    def test_stopped(self) -> None:
        """Stopping ends the timer and the request; who waits is told, and no alarm is raised."""
        keys = self.jwk_set()
        keys.startService()
        result = self.ask(keys, "k1")
        keys.stopService()
        self.failureResultOf(result, Unavailable)
        self.assertEqual(self.agent.cancelled, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.warnings(), [])

    def test_generation(self) -> None:
        """The generation rises when the accepted keys change, and only then."""
        keys = self.jwk_set()
        self.assertEqual(keys.generation, 0)
        keys.startService()
        for generation, jwks in (
            (1, [rsa_jwk(0, kid="k1")]),
            (1, [rsa_jwk(0, kid="k1")]),
            (2, [rsa_jwk(0, kid="k1"), ec_jwk(kid="k2")]),
            (2, [rsa_jwk(0, kid="k1"), {"kty": "oct"}, ec_jwk(kid="k2")]),
            (3, [rsa_jwk(1, kid="k1"), ec_jwk(kid="k2")]),
            (4, [rsa_jwk(1, kid="k1", alg="RS256"), ec_jwk(kid="k2")]),
            (5, []),
        ):
            self.agent.serve(*jwks)
            self.assertEqual(keys.generation, generation)
            self.clock.advance(HOUR * 0.8)
        self.agent.fail()
        self.assertEqual(keys.generation, 5)
        keys.stopService()


class AgentTests(SynchronousTestCase):
    """The agent speaks TLS 1.2 or later with those whom it can identify."""

    def test_interfaces(self) -> None:
        """What Twisted calls is there."""
        verifyObject(IAgent, jwks_agent(MemoryReactorClock()))
        verifyObject(IPolicyForHTTPS, _TLSPolicy(ssl.platformTrust()))

    def test_tls_version_and_verification(self) -> None:
        """JW-16: no TLS before 1.2, and a certificate is asked for."""
        creator = _TLSPolicy(ssl.platformTrust()).creatorForNetloc(b"id.example.com", 443)
        connection = creator.clientConnectionForTLS(
            TLSMemoryBIOProtocol(TLSMemoryBIOFactory(creator, True, Factory()), Factory())
        )
        connection.set_connect_state()
        self.assertRaises(SSL.WantReadError, connection.do_handshake)
        # The extension supported_versions (RFC 8446 section 4.2.1) with 1.3 and 1.2, no others.
        self.assertIn(bytes.fromhex("002b 0005 04 0304 0303"), connection.bio_read(10000))
        self.assertEqual(connection.get_servername(), b"id.example.com")
        self.assertTrue(connection.get_verify_mode() & SSL.VERIFY_PEER)

    def test_file_without_certificate(self) -> None:
        """JW-16: a CA file that holds no certificate is refused, not passed over."""
        path = Path(self.mktemp())
        for octets in (b"", b"x", public_pem(private_key("ES256"))):
            path.write_bytes(octets)
            self.assertRaises(ValueError, jwks_agent, MemoryReactorClock(), path)
        self.assertRaises(OSError, jwks_agent, MemoryReactorClock(), self.mktemp())


class VerificationKeyTests(SynchronousTestCase):
    """A key answers yes or no."""

    def test_signature_of_any_length(self) -> None:
        """JW-11: no octets in a signature's place make a key fail otherwise than with a no."""
        for algorithm in PUBLIC_KEY_ALGORITHMS:
            key = VerificationKey(frozenset({algorithm}), private_key(algorithm).public_key())
            for length in (0, 1, 63, 64, 65, 96, 132, 256, 257, 6000):
                self.assertFalse(key.verify(algorithm, b"message", bytes(length)))

    def test_bound_to_its_algorithms(self) -> None:
        """JW-1: a key never verifies by an algorithm that it is not bound to."""
        message = b"message"
        signature = hmac.digest(SECRET, message, "sha256")
        for algorithm, is_good in (("HS256", True), ("HS512", False)):
            key = VerificationKey(frozenset({algorithm}), SECRET)
            self.assertEqual(key.verify("HS256", message, signature), is_good)

    def test_what_the_library_chokes_on(self) -> None:
        """JW-11: a key that the library cannot work with verifies nothing."""
        self.assertFalse(VerificationKey(frozenset({"ES256"}), SECRET).verify("ES256", b"", b""))
