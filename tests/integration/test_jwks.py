"""JWK Sets from a real HTTPS server, whose certificate is of a CA made here."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.util import Redirect

from stompauth.errors import BadToken, Unavailable
from stompauth.identity.keys import JWKSet, jwks_agent
from stompauth.identity.verifier import JWTVerifier
from tests.identity.signing import (
    AUDIENCE,
    ISSUER,
    NOW,
    claims,
    private_key,
    public_jwk,
    token,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from twisted.web.server import Request


class Authority:
    """A certificate authority.

    :ivar certificate: its own, which those trust who trust it.
    """

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(
            self._name,
            self._key,
            x509.BasicConstraints(ca=True, path_length=0),
            x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()),
        )

    def certify(self, host: str) -> ssl.CertificateOptions:
        """What a server of that name needs for TLS."""
        key, certificate = self._certified(host)
        return ssl.CertificateOptions(privateKey=key, certificate=certificate)

    def write(self, directory: Path, host: str) -> tuple[Path, Path, Path]:
        """The same as PEM files: the certificate, its key, and this authority's certificate."""
        key, certificate = self._certified(host)
        paths = tuple(directory / f"{host}-{part}.pem" for part in ("certificate", "key", "ca"))
        paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        paths[2].write_bytes(self.certificate.public_bytes(Encoding.PEM))
        return paths[0], paths[1], paths[2]

    def _certified(self, host: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]),
            key,
            x509.BasicConstraints(ca=False, path_length=None),
            x509.SubjectAlternativeName([x509.DNSName(host)]),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
        )
        return key, certificate

    def _sign(self, subject: x509.Name, key: Any, *extensions: Any) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )
        for extension in extensions:
            critical = isinstance(extension, x509.BasicConstraints)
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, SHA256())


class Keys(Resource):
    """Serves a JWK Set.

    :ivar jwks: the keys in it.
    :ivar requests: how often it was asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.jwks: list[dict[str, Any]] = []
        self.requests = 0

    def render_GET(self, request: Request) -> bytes:
        self.requests += 1
        return json.dumps({"keys": self.jwks}).encode()


class Endless(Resource):
    """Never stops sending, until the client hangs up.

    :ivar ended: fires then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ended: Deferred[None] = Deferred()

    def render_GET(self, request: Request) -> int:
        request.notifyFinish().addBoth(lambda _: self.ended.callback(None))
        request.registerProducer(self, False)
        self._request = request
        return NOT_DONE_YET

    def resumeProducing(self) -> None:
        self._request.write(b" " * 65536)

    def stopProducing(self) -> None:
        pass


class Silent(Resource):
    """Never answers.

    :ivar asked: fires when it should have.
    :ivar ended: fires when the client hangs up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def render_GET(self, request: Request) -> int:
        request.notifyFinish().addBoth(lambda _: self.ended.callback(None))
        self.asked.callback(None)
        return NOT_DONE_YET


class Issuer:
    """An issuer of tokens, with a server on a port of its own for its keys."""

    def __init__(self, directory: Path) -> None:
        self.keys = Keys()
        self.elsewhere = Keys()
        self.endless = Endless()
        self.silent = Silent()
        authority = Authority("the test's CA")
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        root = Resource()
        root.putChild(b"jwks.json", self.keys)
        root.putChild(b"elsewhere", self.elsewhere)
        root.putChild(b"moved", Redirect(b"/elsewhere"))
        root.putChild(b"endless", self.endless)
        root.putChild(b"silent", self.silent)
        self.site = Site(root)
        self.options = authority.certify("localhost")
        self.port = 0
        # The cool-down passes when a test says so; the reactor's time is for the network.
        self.clock = Clock()
        self.clock.advance(NOW)

    def verifier(
        self, path: str = "jwks.json", *, host: str = "localhost", ca_file: Path | None = None
    ) -> JWTVerifier:
        """A verifier that fetches its keys from here."""
        agent = jwks_agent(reactor, ca_file or self.ca_file)
        return JWTVerifier(
            JWKSet(agent, f"https://{host}:{self.port}/{path}", clock=self.clock),
            algorithms=["ES256"],
            issuer=ISSUER,
            audience=AUDIENCE,
            clock=self.clock,
        )

    def publish(self, *numbers: int) -> None:
        """Serve the public halves of these keys, at every place where there are keys."""
        self.keys.jwks = self.elsewhere.jwks = [
            public_jwk("ES256", private_key("ES256", number), kid=f"k{number}")
            for number in numbers
        ]

    def token(self, number: int) -> str:
        """A good token, signed with that key."""
        key = private_key("ES256", number)
        return token(claims(), key, "ES256", {"kid": f"k{number}"})


@pytest_twisted.async_yield_fixture()
async def issuer(tmp_path: Path) -> AsyncIterator[Issuer]:
    found = Issuer(tmp_path)
    found.publish(0)
    endpoint = SSL4ServerEndpoint(reactor, 0, found.options, interface="127.0.0.1")
    port = await endpoint.listen(found.site)
    found.port = port.getHost().port
    yield found
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_fetch(issuer: Issuer) -> None:
    """JW-16: keys are fetched over TLS from a host with a good certificate, once."""
    verifier = issuer.verifier()
    for _ in range(3):
        assert (await verifier.verify(issuer.token(0))).name == "alice"
    assert issuer.keys.requests == 1


@pytest_twisted.ensureDeferred
async def test_rotation(issuer: Issuer) -> None:
    """JW-17, JW-18: a new key verifies after the cool-down, and one that is gone no longer."""
    verifier = issuer.verifier()
    await verifier.verify(issuer.token(0))
    issuer.publish(1)
    with pytest.raises(BadToken):
        await verifier.verify(issuer.token(1))
    issuer.clock.advance(30)
    assert (await verifier.verify(issuer.token(1))).name == "alice"
    with pytest.raises(BadToken):
        await verifier.verify(issuer.token(0))
    assert issuer.keys.requests == 2


@pytest_twisted.ensureDeferred
async def test_wrong_host_name(issuer: Issuer) -> None:
    """JW-16: a certificate for another name is refused, though its CA is trusted."""
    with pytest.raises(Unavailable):
        await issuer.verifier(host="127.0.0.1").verify(issuer.token(0))
    assert issuer.keys.requests == 0


@pytest_twisted.ensureDeferred
async def test_unknown_authority(issuer: Issuer, tmp_path: Path) -> None:
    """JW-16: a certificate for the right name, but of a CA that is not trusted, is refused."""
    other = tmp_path / "other.pem"
    other.write_bytes(Authority("the test's CA").certificate.public_bytes(Encoding.PEM))
    with pytest.raises(Unavailable):
        await issuer.verifier(ca_file=other).verify(issuer.token(0))
    assert issuer.keys.requests == 0


@pytest_twisted.ensureDeferred
async def test_system_authorities(issuer: Issuer) -> None:
    """JW-16: by default the system's CAs are trusted, and so not the one made here."""
    keys = JWKSet(
        jwks_agent(reactor), f"https://localhost:{issuer.port}/jwks.json", clock=issuer.clock
    )
    with pytest.raises(Unavailable):
        await keys.keys_for("ES256", "k0")
    assert issuer.keys.requests == 0


@pytest_twisted.ensureDeferred
async def test_several_authorities(issuer: Issuer, tmp_path: Path) -> None:
    """A CA file may hold several certificates, and each is trusted."""
    both = tmp_path / "both.pem"
    other = Authority("another CA").certificate.public_bytes(Encoding.PEM)
    both.write_bytes(other + issuer.ca_file.read_bytes())
    verifier = issuer.verifier(ca_file=both)
    assert (await verifier.verify(issuer.token(0))).name == "alice"


@pytest_twisted.ensureDeferred
async def test_redirect(issuer: Issuer) -> None:
    """JW-16: a redirect is not followed, not even to the same host."""
    with pytest.raises(Unavailable):
        await issuer.verifier("moved").verify(issuer.token(0))
    assert issuer.elsewhere.requests == 0


@pytest_twisted.ensureDeferred
async def test_endless(issuer: Issuer) -> None:
    """JW-16: a body without end is given up when it is too large, and the connection closed."""
    with pytest.raises(Unavailable):
        await issuer.verifier("endless").verify(issuer.token(0))
    await issuer.endless.ended.addTimeout(5, reactor)


@pytest_twisted.ensureDeferred
async def test_silent(issuer: Issuer) -> None:
    """JW-16: a server that does not answer is given up after 5 seconds, with its connection."""
    result = issuer.verifier("silent").verify(issuer.token(0))
    await issuer.silent.asked
    issuer.clock.advance(5)
    with pytest.raises(Unavailable):
        await result
    await issuer.silent.ended.addTimeout(5, reactor)


@pytest_twisted.ensureDeferred
async def test_nobody_there(issuer: Issuer) -> None:
    """JW-16: without a server nothing verifies."""
    issuer.port = 1
    with pytest.raises(Unavailable):
        await issuer.verifier().verify(issuer.token(0))
