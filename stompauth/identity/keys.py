"""Where the keys come from that verify tokens.

A key is an object of its kind, never text, and bound to the algorithms that it fits: what a token's
header says can select among them, and do nothing else. :class:`StaticKey` holds HMAC secrets or a
public key; :class:`JWKSet` fetches public keys from their issuer, with an agent such as
:func:`jwks_agent` makes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key
from jwt.algorithms import (
    ECAlgorithm,
    OKPAlgorithm,
    RSAAlgorithm,
    get_default_algorithms,
)
from jwt.exceptions import InvalidKeyError
from twisted.application.service import Service
from twisted.internet import ssl
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.web.client import Agent
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from stompauth.errors import Unavailable
from stompauth.fetch import fetch
from stompauth.interfaces import IReadiness

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from os import PathLike

    from twisted.internet.interfaces import (
        IDelayedCall,
        IOpenSSLClientConnectionCreator,
        IReactorTime,
    )
    from twisted.web.iweb import IAgent

#: The least octets of a secret for each HMAC algorithm (RFC 7518 section 3.2).
HMAC_ALGORITHMS: Final = {"HS256": 32, "HS384": 48, "HS512": 64}

_RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

#: The algorithms of public keys (RFC 7518 section 3, RFC 8037 section 3.1).
PUBLIC_KEY_ALGORITHMS: Final = _RSA_ALGORITHMS | set(_CURVES.values()) | {"EdDSA"}

_IMPLEMENTATIONS: Final = {
    name: implementation
    for name, implementation in get_default_algorithms().items()
    if name in HMAC_ALGORITHMS or name in PUBLIC_KEY_ALGORITHMS
}

#: The longest ``kid`` that a token may name and a key may have.
MAX_KID: Final = 128

_RSA_BITS: Final = 2048  # RFC 7518 section 3.3

_JWKS_BYTES: Final = 512 * 1024
_JWKS_TIMEOUT: Final = 5.0
_JWKS_WAITERS: Final = 1000
_JWKS_MAX_AGE: Final = 24 * 3600.0
# A refresh begins at this part of its period, so that it is done before the end.
_REFRESH_AHEAD: Final = 0.8

_FROM_JWK: Final = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One key, bound to what it may be used for.

    :ivar algorithms: the JWS algorithms that the key may verify.
    :ivar material: a public key of ``cryptography``, or the octets of an HMAC secret.
    :ivar kid: the key's id in the JWK Set that it is from, or None.
    """

    algorithms: frozenset[str]
    material: Any = field(repr=False)
    kid: str | None = None

    def verify(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Whether the key made the signature, with an algorithm that it is bound to."""
        if algorithm not in self.algorithms:
            return False
        try:
            return _IMPLEMENTATIONS[algorithm].verify(message, self.material, signature)
        except Exception:
            # What the library chokes on has not been verified.
            return False


class KeySource(Protocol):
    """What a verifier asks for keys.

    :ivar generation: rises whenever the set of accepted keys changes, and what was verified
        before may no longer be.
    """

    @property
    def generation(self) -> int: ...

    def check_algorithms(self, algorithms: Collection[str]) -> None:
        """Look whether the keys can serve all the algorithms.

        :raises ValueError: they cannot; says why.
        """

    async def keys_for(self, algorithm: str, kid: str | None) -> Sequence[VerificationKey]:
        """Find the keys that may have signed a token with this header; none if it is unknown.

        :raises Unavailable: it cannot be told now.
        """


class StaticKey:
    """Keys that stay as they are until they are replaced: HMAC secrets, or public keys.

    Several are valid at a time, so that they can be rotated; each is tried, and a token's ``kid``
    plays no part.

    :ivar generation: rises with every replacement.
    """

    def __init__(self, keys: Iterable[VerificationKey]) -> None:
        self.generation = 0
        self._keys = tuple(keys)

    def replace(self, keys: StaticKey) -> None:
        """Take the keys of another from now on. What was verified before is not asked again.

        To rotate a key, first have the new one beside the old one, and drop the old one when no
        token that it signed is left. :meth:`check_algorithms` of the others tells beforehand
        whether they serve.
        """
        if keys._keys != self._keys:
            self._keys = keys._keys
            self.generation += 1

    @classmethod
    def hmac(cls, *secrets: bytes) -> StaticKey:
        """Hold HMAC secrets: octets as they are, of at least 32 random ones.

        :raises ValueError: none was given, or one is too short, or a public key: no secret.
        """
        if not secrets:
            raise ValueError("at least one HMAC secret is needed")
        return cls(_hmac_key(secret) for secret in secrets)

    @classmethod
    def from_secret_files(cls, *paths: str | PathLike[str]) -> StaticKey:
        """Hold the HMAC secrets in these files; a line end after the secret is not part of it.

        :raises OSError: a file cannot be read.
        :raises ValueError: as :meth:`hmac`.
        """
        return cls.hmac(
            *(Path(path).read_bytes().removesuffix(b"\n").removesuffix(b"\r") for path in paths)
        )

    @classmethod
    def public_key(cls, *pems: bytes) -> StaticKey:
        """Hold public keys: RSA, on a NIST curve, Ed25519 or Ed448, each as PEM.

        :raises ValueError: none was given, or one is something else, or too weak.
        """
        if not pems:
            raise ValueError("at least one public key is needed")
        return cls(_public_key(pem) for pem in pems)

    @classmethod
    def from_public_key_files(cls, *paths: str | PathLike[str]) -> StaticKey:
        """Hold the public keys in these files, one in each.

        :raises OSError: a file cannot be read.
        :raises ValueError: as :meth:`public_key`.
        """
        return cls.public_key(*(Path(path).read_bytes() for path in paths))

    def check_algorithms(self, algorithms: Collection[str]) -> None:
        """Look whether the keys can serve all. See :meth:`.KeySource.check_algorithms`."""
        for key in self._keys:
            if unfit := sorted(set(algorithms) - key.algorithms):
                raise ValueError(f"{_description(key.material)} cannot serve {', '.join(unfit)}")

    async def keys_for(self, algorithm: str, kid: str | None) -> Sequence[VerificationKey]:
        """All keys. See :meth:`.KeySource.keys_for`."""
        return self._keys


@implementer(IReadiness)
class JWKSet(Service):
    """Public keys from an issuer's JWK Set (RFC 7517), found by ``kid``.

    The set is fetched when it is first needed, and again: before it is ``refresh`` seconds old,
    when a token names an unknown ``kid``, and after a failure; never twice within ``cooldown``, and
    never twice at a time. Known keys do not wait for that. A set that cannot be refreshed serves
    for 24 hours from its fetch; after that, and before the first one, nothing verifies.

    It is a service, which that of the :class:`.StompAuth` that uses it starts and stops. While it
    does not run there are no timers, and a refresh begins with the first token that finds it due. A
    token without ``kid`` is accepted if exactly one key of the set fits its algorithm.
    """

    _log = Logger()

    def __init__(
        self,
        agent: IAgent,
        url: str,
        *,
        clock: IReactorTime,
        refresh: float = 3600,
        cooldown: float = 30,
    ) -> None:
        """
        :param agent: makes the requests; it is for the agent to verify the host's certificate.
        :param url: the set's, ``https:`` only. A redirect is not followed.
        :param refresh: the age in seconds at which a removed key no longer verifies; at most a day.
        :param cooldown: the least seconds between two fetches, also failed ones.
        :raises ValueError: the URL or a time cannot be used.
        """
        self._agent = agent
        self._url = _checked_url(url)
        self._clock = clock
        if not 1 <= cooldown <= refresh <= _JWKS_MAX_AGE:
            raise ValueError(
                f"needs 1 <= cooldown <= refresh <= {_JWKS_MAX_AGE:.0f} seconds, not "
                f"{cooldown} and {refresh}"
            )
        self._refresh = refresh
        self._cooldown = cooldown
        self._keys: tuple[VerificationKey, ...] = ()
        self._by_kid: dict[str, VerificationKey] = {}
        self._generation = 0
        self._fetched_at = -math.inf
        self._tried_at = -math.inf
        self._failed = False
        self._fetching = False
        self._attempt: Deferred[None] | None = None
        self._waiters: dict[Deferred[None], None] = {}
        #: How many fetches there were, by outcome.
        self.fetches = {"success": 0, "failure": 0}
        self._timer: IDelayedCall | None = None

    @property
    def generation(self) -> int:
        """Rises whenever the set of accepted keys changes."""
        return self._generation

    def is_ready(self) -> bool:
        """Whether there are keys to verify with. See :meth:`.IReadiness.is_ready`."""
        return self._age() < _JWKS_MAX_AGE

    def startService(self) -> None:
        """Fetch the set now, and from now on refresh it by a timer."""
        super().startService()
        self._schedule()
        self._fetch_unless_recent()

    def stopService(self) -> None:
        """End the timer and a fetch that is under way."""
        super().stopService()
        self._cancel_timer()
        if self._attempt is not None:
            self._attempt.cancel()

    def check_algorithms(self, algorithms: Collection[str]) -> None:
        """Look whether keys can serve all. See :meth:`.KeySource.check_algorithms`."""
        if unfit := sorted(set(algorithms) - PUBLIC_KEY_ALGORITHMS):
            raise ValueError(f"a JWK Set holds public keys, which cannot serve {', '.join(unfit)}")

    async def keys_for(self, algorithm: str, kid: str | None) -> Sequence[VerificationKey]:
        """Find keys in the set as it is known now. See :meth:`.KeySource.keys_for`."""
        age = self._age()
        unknown = self._is_unknown(kid)
        if unknown or age >= self._refresh * _REFRESH_AHEAD:
            self._fetch_unless_recent()
        overdue = age >= self._refresh and not self._failed
        if self._fetching and (unknown or overdue or age >= _JWKS_MAX_AGE):
            await self._fetch_end()
        if self._age() >= _JWKS_MAX_AGE or (self._failed and self._is_unknown(kid)):
            raise self._unavailable()
        if kid is not None:
            key = self._by_kid.get(kid)
            return (key,) if key is not None and algorithm in key.algorithms else ()
        fitting = [key for key in self._keys if algorithm in key.algorithms]
        return fitting if len(fitting) == 1 else ()

    def _is_unknown(self, kid: str | None) -> bool:
        return kid is not None and kid not in self._by_kid

    def _age(self) -> float:
        return self._clock.seconds() - self._fetched_at

    def _unavailable(self) -> Unavailable:
        rest = self._tried_at + self._cooldown - self._clock.seconds()
        return Unavailable(
            "the JWK Set cannot be had", retry_after=min(max(rest, 1.0), self._cooldown)
        )

    def _fetch_end(self) -> Deferred[None]:
        if len(self._waiters) >= _JWKS_WAITERS:
            raise self._unavailable()
        waiter: Deferred[None] = Deferred(lambda waiter: self._waiters.pop(waiter, None))
        self._waiters[waiter] = None
        return waiter

    def _fetch_unless_recent(self) -> None:
        elapsed = self._clock.seconds() - self._tried_at
        # Below zero the wall clock was set back, and says nothing about the last time.
        if not 0 <= elapsed < self._cooldown:
            self._fetch()

    def _fetch(self) -> None:
        if not self._fetching:
            self._fetching = True
            self._tried_at = self._clock.seconds()
            self._attempt = Deferred.fromCoroutine(self._replace_keys())

    async def _replace_keys(self) -> None:
        download = Deferred.fromCoroutine(self._download())
        try:
            keys, skipped = await download.addTimeout(_JWKS_TIMEOUT, self._clock)
        except CancelledError:  # by stopService()
            self._failed = True
        except Exception as error:
            self._failed = True
            self.fetches["failure"] += 1
            self._log.warn(
                "JWK Set {url} cannot be had: {kind}: {reason}",
                url=self._url,
                kind=type(error).__name__,
                reason=str(error)[:300],
            )
        else:
            self._accept(keys, skipped)
        self._fetching = False
        self._schedule()
        waiters = tuple(self._waiters)
        self._waiters.clear()
        for waiter in waiters:
            # One that was resumed just now may have cancelled another.
            if not waiter.called:
                waiter.callback(None)

    def _accept(self, keys: tuple[VerificationKey, ...], skipped: int) -> None:
        self._failed = False
        self.fetches["success"] += 1
        self._fetched_at = self._clock.seconds()
        if keys == self._keys and self._generation:
            return
        self._keys = keys
        self._by_kid = {key.kid: key for key in keys if key.kid is not None}
        self._generation += 1
        self._log.info(
            "JWK Set {url}: {count} keys accepted, {skipped} skipped",
            url=self._url,
            count=len(keys),
            skipped=skipped,
        )

    async def _download(self) -> tuple[tuple[VerificationKey, ...], int]:
        accept = {"Accept": ["application/jwk-set+json, application/json"]}
        return _parse_jwk_set(
            await fetch(self._agent, "GET", self._url, headers=accept, limit=_JWKS_BYTES)
        )

    def _schedule(self) -> None:
        self._cancel_timer()
        if self.running:
            delay = self._cooldown if self._failed else self._refresh * _REFRESH_AHEAD
            self._timer = self._clock.callLater(delay, self._refresh_by_timer)

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _refresh_by_timer(self) -> None:
        self._timer = None
        self._fetch()


@implementer(IPolicyForHTTPS)
class _TLSPolicy:
    """TLS 1.2 at least, to a host whose certificate is for its name and from a trusted CA."""

    def __init__(self, trust_root: Any) -> None:
        self._trust_root = trust_root

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        return ssl.optionsForClientTLS(
            hostname.decode("ascii"),
            self._trust_root,
            extraCertificateOptions={"raiseMinimumTo": ssl.TLSVersion.TLSv1_2},
        )


def jwks_agent(reactor: Any, ca_file: str | PathLike[str] | None = None) -> Agent:
    """Make an agent for :class:`JWKSet`.

    :param reactor: the reactor: ``IReactorTime``, and what ``HostnameEndpoint`` wants.
    :param ca_file: certificates of the only CAs to trust, as PEM; None or empty for the system's.
    :raises OSError: the file cannot be read.
    :raises ValueError: it holds no certificate.
    """
    return Agent(reactor, tls_policy(ca_file), connectTimeout=_JWKS_TIMEOUT)


def tls_policy(ca_file: str | PathLike[str] | None = None) -> IPolicyForHTTPS:
    """Make what decides which servers are trusted; parameters and errors as :func:`jwks_agent`."""
    trust_root = ssl.platformTrust()
    if ca_file:
        trust_root = ssl.trustRootFromCertificates(
            ssl.Certificate.load(certificate.public_bytes(Encoding.DER))
            for certificate in x509.load_pem_x509_certificates(Path(ca_file).read_bytes())
        )
    return _TLSPolicy(trust_root)


def _public_key(pem: bytes) -> VerificationKey:
    """The key in a PEM text.

    :raises ValueError: it is no public key, or too weak.
    """
    if b"PRIVATE KEY-----" in pem:
        raise ValueError("a private key: only its public half belongs here")
    try:
        material = load_pem_public_key(pem)
    except Exception:
        material = None
    if material is None:
        raise ValueError("not a public key in PEM form")
    if isinstance(material, RSAPublicKey) and material.key_size < _RSA_BITS:
        raise ValueError(f"{_description(material)}: at least {_RSA_BITS} are needed")
    algorithms = _algorithms_of(material)
    if not algorithms:
        raise ValueError("not a kind of key that verifies tokens")
    return VerificationKey(algorithms, material)


def _hmac_key(secret: bytes) -> VerificationKey:
    try:
        # Whoever can read a public key could sign with it as a secret (RFC 8725 section 2.1).
        _IMPLEMENTATIONS["HS256"].prepare_key(secret)
        is_secret = b"-----BEGIN" not in secret
    except InvalidKeyError:
        is_secret = False
    if not is_secret:
        raise ValueError("empty, a key pair's part, a certificate or a JWK: no HMAC secret")
    algorithms = _algorithms_of(secret)
    if not algorithms:
        least = min(HMAC_ALGORITHMS.values())
        raise ValueError(f"{_description(secret)}: at least {least} are needed")
    return VerificationKey(algorithms, secret)


def _algorithms_of(material: object) -> frozenset[str]:
    match material:
        case bytes():
            return frozenset(
                name for name, octets in HMAC_ALGORITHMS.items() if len(material) >= octets
            )
        case RSAPublicKey() if material.key_size >= _RSA_BITS:
            return _RSA_ALGORITHMS
        case EllipticCurvePublicKey() if material.curve.name in _CURVES:
            return frozenset({_CURVES[material.curve.name]})
        case Ed25519PublicKey() | Ed448PublicKey():
            return frozenset({"EdDSA"})
    return frozenset()


def _description(material: object) -> str:
    match material:
        case bytes():
            return f"an HMAC secret of {len(material)} octets"
        case RSAPublicKey():
            return f"an RSA key of {material.key_size} bits"
        case EllipticCurvePublicKey():
            return f"a key on {material.curve.name}"
    return "an EdDSA key"


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise ValueError("the URL of a JWK Set is https://host/path, without user or fragment")
    if not (url.isascii() and url.isprintable() and " " not in url) or parts.port == 0:
        raise ValueError("the URL of a JWK Set is not well-formed")
    return url


def _parse_jwk_set(body: bytes) -> tuple[tuple[VerificationKey, ...], int]:
    """Take the usable keys of a JWK Set, and count the others (RFC 7517 section 5)."""
    document = json.loads(body.decode("utf-8"))
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a JWK Set")
    usable = [key for key in map(_key_from_jwk, entries) if key is not None]
    uses = Counter(key.kid for key in usable)
    # Of two keys with one id there is no telling which of them is meant.
    keys = tuple(key for key in usable if key.kid is None or uses[key.kid] == 1)
    return keys, len(entries) - len(keys)


def _key_from_jwk(jwk: object) -> VerificationKey | None:
    """Make a key of an entry; None if it is not one that verifies signatures, or is unsound."""
    if not isinstance(jwk, dict):
        return None
    kty, kid, key_ops = jwk.get("kty"), jwk.get("kid"), jwk.get("key_ops", ["verify"])
    if not isinstance(kty, str) or kty not in _FROM_JWK:
        return None
    if not (kid is None or (isinstance(kid, str) and 0 < len(kid) <= MAX_KID)):
        return None
    if jwk.get("use", "sig") != "sig" or not isinstance(key_ops, list) or "verify" not in key_ops:
        return None
    try:
        material = _FROM_JWK[kty](jwk)
    except Exception:
        return None
    algorithms = _algorithms_of(material)
    if "alg" in jwk:
        algorithms = frozenset(name for name in algorithms if name == jwk["alg"])
    return VerificationKey(algorithms, material, kid) if algorithms else None
