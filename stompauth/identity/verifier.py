"""From a JWT to the principal that it speaks for (RFC 7519, with the advice of RFC 8725).

Nothing of a token is believed before its signature has been checked, except for ``alg``, which must
be one of ours, and ``kid``, which selects among our keys.
"""

from __future__ import annotations

import json
import re
import unicodedata
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from sys import intern
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from stompauth.coroutines import start
from stompauth.errors import BadToken, ConfigError, Mistake, TokenExpired
from stompauth.identity.keys import HMAC_ALGORITHMS, MAX_KID, PUBLIC_KEY_ALGORITHMS
from stompauth.identity.principal import Principal
from stompauth.identity.verified import VerifiedTokens
from stompauth.interfaces import ITokenVerifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from twisted.internet.interfaces import IReactorTime

    from stompauth.identity.keys import KeySource

#: The longest token that is looked at, in characters.
MAX_TOKEN: Final = 8000

_MAX_USER_NAME: Final = 255
_MAX_LEEWAY: Final = 60

#: Sets of authorities that principals share.
_SHARED: Final = 1024
_END_OF_TIME: Final = 253402300799  # the last second of the year 9999

# Without padding, and so with one spelling for each token (RFC 7515 section 2).
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")

# Characters of a header that is not read again when it comes again.
_SHORT_HEADER: Final = 512

# What brings its own key or sends us for one, and what changes the meaning of the signature.
_REFUSED_HEADERS: Final = frozenset({"jwk", "jku", "x5u", "x5c", "crit", "b64"})

# The types of what may be an access token: none, RFC 7519's, and that of RFC 9068. Any other says
# that it is another kind of token (RFC 8725 section 3.11).
_ACCESS_TYPES: Final = frozenset({None, "jwt", "at+jwt"})

# Claims that only other kinds of token have: ID tokens (OpenID Connect Core section 3.3.2.11), and
# logout tokens and other security events (RFC 8417 section 2.2).
_FOREIGN_CLAIMS: Final = frozenset({"at_hash", "c_hash", "events"})

# Keycloak's names for its other kinds of token, in the claim ``typ``.
_FOREIGN_KINDS: Final = frozenset({"id", "refresh", "offline", "logout"})

# As a segment of a destination these would mean something else than a user.
_RESERVED_NAMES: Final = frozenset({"queue", ".", "..", "*", "**"})


class SignedClaims:
    """Checks form, header and signature of JWTs, and nothing of what they claim.

    :param keys: where the keys come from.
    :param algorithms: those that tokens may be signed with.
    :param types: what ``typ`` in a header may be, in the form of :func:`media_type`; None if it
        may be missing.
    """

    def __init__(
        self, keys: KeySource, algorithms: frozenset[str], types: frozenset[str | None]
    ) -> None:
        self._keys = keys
        self._algorithms = algorithms
        self._types = types

    async def of(self, token: str) -> dict[str, object]:
        """Take the claims out of a token.

        :raises BadToken: its signature is not good, or it is not a token.
        :raises Unavailable: the keys cannot be had now.
        """
        if len(token) > MAX_TOKEN:
            raise BadToken("too long")
        parts = _COMPACT.fullmatch(token)
        if parts is None:
            raise BadToken("form")
        header = _header(parts[1]) if len(parts[1]) <= _SHORT_HEADER else _json_object(parts[1])
        if header is None:
            raise BadToken("header")
        algorithm, kid = self._check_header(header)
        keys = await self._keys.keys_for(algorithm, kid)
        if not keys:
            raise BadToken("unknown key")
        signed = f"{parts[1]}.{parts[2]}".encode("ascii")
        signature = _base64url(parts[3])
        if signature is None or not any(key.verify(algorithm, signed, signature) for key in keys):
            raise BadToken("signature")
        claims = _json_object(parts[2])
        if claims is None:
            raise BadToken("claims")
        return claims

    def _check_header(self, header: Mapping[str, object]) -> tuple[str, str | None]:
        """Check all that a header may say, and pick what selects the key."""
        if not _REFUSED_HEADERS.isdisjoint(header):
            raise BadToken("header")
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise BadToken("alg")
        kid = optional_string(header, "kid")
        if kid is not None and len(kid) > MAX_KID:
            raise BadToken("kid")
        typ = optional_string(header, "typ")
        if (typ and media_type(typ)) not in self._types:
            raise BadToken("typ")
        return algorithm, kid


class _Claims:
    """Where dictionaries come from that have their keys in common (PEP 412)."""


@implementer(ITokenVerifier)
class JWTVerifier:
    """Verifies the JWTs of one issuer for one audience.

    A token must have ``iss``, ``aud``, ``iat``, ``exp`` and the claim that names the user; ``nbf``,
    ``jti`` and the authorities are checked where present. ``sub`` must be there only if it names
    the user; with another ``user_claim`` nobody looks at it. Of revocation nothing is known here.

    The user name is compared, shown to others, and put into headers that are not escaped. So it
    must be plain: 1 to 255 printable characters, in NFC, without ``/`` and ``%``; the only white
    space is the ASCII space, neither first nor last; and it is not ``queue``, a wildcard or a dot
    segment. Controls, line separators and format characters, as those for joining and direction,
    are not printable: no name ends a header's line, and no two names look alike but for these.

    Its attributes are what it was made with, to be read only.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        algorithms: Sequence[str],
        issuer: str,
        audience: str,
        clock: IReactorTime,
        typ: str = "",
        leeway: float = 10,
        max_lifetime: float = 86400,
        user_claim: str = "sub",
        authorities_claim: str = "scope",
    ) -> None:
        """
        :param keys: a :class:`~stompauth.identity.keys.StaticKey` or
            :class:`~stompauth.identity.keys.JWKSet`.
        :param algorithms: those that tokens may be signed with: of HMAC, or of public keys.
        :param issuer: what ``iss`` must be, exactly.
        :param audience: what ``aud`` must be or contain, exactly.
        :param clock: tells the time, in seconds since the epoch.
        :param typ: what the header's ``typ`` must be, such as ``"at+jwt"``; in any case, with or
            without ``application/``. If empty, ``typ`` may be missing, ``JWT`` or ``at+jwt``.
        :param leeway: by how many seconds clocks may differ; at most 60.
        :param max_lifetime: the most seconds from ``iat`` to ``exp``; 0 for any.
        :param user_claim: the claim that names the user.
        :param authorities_claim: the claim with the authorities: a list of strings, or one string
            in which spaces separate them.
        :raises ConfigError: arguments are unsafe or do not fit together; each by its name.
        """
        mistakes = [
            *_mistaken_algorithms(keys, algorithms),
            *(
                Mistake(name, "must be a string, and not empty")
                for name, value in (
                    ("issuer", issuer),
                    ("audience", audience),
                    ("user_claim", user_claim),
                )
                if not (isinstance(value, str) and value)
            ),
        ]
        if not 0 <= leeway <= _MAX_LEEWAY:
            mistakes.append(Mistake("leeway", f"must be 0 to {_MAX_LEEWAY} seconds"))
        if not max_lifetime >= 0:
            mistakes.append(Mistake("max_lifetime", "must be seconds, or 0 for no limit"))
        if mistakes:
            raise ConfigError(mistakes)
        self.keys = keys
        self.algorithms = frozenset(algorithms)
        self.issuer = issuer
        self.audience = audience
        self.leeway = leeway
        self.max_lifetime = max_lifetime or float("inf")
        self.user_claim = user_claim
        self._clock = clock
        self._authorities_claim = authorities_claim
        types = frozenset({media_type(typ)}) if typ else _ACCESS_TYPES
        self._signed = SignedClaims(keys, self.algorithms, types)
        self._verified = VerifiedTokens(keys, clock)

    def verify(self, token: str) -> Deferred[Principal]:
        """Verify a token; where the key is at hand, the Deferred has fired already.

        What was verified a moment ago is not verified again; see ``VerifiedTokens``.

        :raises BadToken: it is not good, :exc:`TokenExpired` when only its time is over.
        :raises Unavailable: the keys cannot be had now.
        """
        principal = self._verified.get(token)
        if principal is not None:
            return succeed(principal)
        try:
            verified = start(self._verify(token))
        except Exception:
            return fail()
        return verified if isinstance(verified, Deferred) else succeed(verified)

    async def _verify(self, token: str) -> Principal:
        generation = self.keys.generation
        principal = self._principal(await self._signed.of(token))
        self._verified.add(token, principal, generation)
        return principal

    def _principal(self, claims: dict[str, object]) -> Principal:
        if not _is_access_token(claims):
            raise BadToken("another kind of token")
        check_parties(claims, self.issuer, self.audience)
        now = self._clock.seconds()
        issued_at, expires_at = time_of(claims, "iat"), time_of(claims, "exp")
        if issued_at > now + self.leeway:
            raise BadToken("iat")
        if "nbf" in claims and time_of(claims, "nbf") > now + self.leeway:
            raise BadToken("nbf")
        if expires_at - issued_at > self.max_lifetime:
            raise BadToken("lifetime")
        name = claims.get(self.user_claim)
        if not isinstance(name, str) or not is_user_name(name):
            raise BadToken("user name")
        token_id = optional_string(claims, "jti")
        if token_id == "":
            raise BadToken("jti")
        authorities = authorities_of(claims.get(self._authorities_claim, ""))
        if now >= expires_at + self.leeway:
            raise TokenExpired
        return Principal(
            name=name,
            issuer=self.issuer,
            expires_at=expires_at,
            issued_at=issued_at,
            authorities=_shared(authorities),
            claims=self._keep(claims),
            token_id=token_id,
        )

    def _keep(self, claims: dict[str, object]) -> dict[str, object]:
        """Have what all tokens have in common once, since sessions keep their claims."""
        kept: dict[str, object] = vars(_Claims())
        for name, value in claims.items():
            kept[name] = value
        kept["iss"] = self.issuer
        if kept["aud"] == self.audience:
            kept["aud"] = self.audience
        authorities = kept.get(self._authorities_claim)
        if isinstance(authorities, str):
            kept[self._authorities_claim] = intern(authorities)
        return kept


def _mistaken_algorithms(keys: KeySource, algorithms: Sequence[str]) -> Iterator[Mistake]:
    names = frozenset(algorithms)
    if not names:
        yield Mistake("algorithms", "is empty: name those that your tokens are signed with")
    elif unknown := names.difference(HMAC_ALGORITHMS, PUBLIC_KEY_ALGORITHMS):
        yield Mistake("algorithms", f"unknown or unsafe: {', '.join(sorted(map(str, unknown)))}")
    elif not names.isdisjoint(HMAC_ALGORITHMS) and not names.isdisjoint(PUBLIC_KEY_ALGORITHMS):
        yield Mistake("algorithms", "HMAC and public-key algorithms cannot be used side by side")
    else:
        try:
            keys.check_algorithms(names)
        except ValueError as error:
            yield Mistake("keys", str(error))


def _base64url(part: str) -> bytes | None:
    """Decode; None unless it is spelt in the one right way (RFC 7515 section 2)."""
    try:
        octets = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return None
    return octets if urlsafe_b64encode(octets).decode("ascii").rstrip("=") == part else None


def _json_object(part: str) -> dict[str, object] | None:
    octets = _base64url(part)
    if octets is None:
        return None
    try:
        text = octets.decode("utf-8")
        found = json.loads(text)
        # JSON can spell half a surrogate pair, a string that nobody can encode later.
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except Exception:
        # Bad input gives several kinds, RecursionError among them. None leaves this function, since
        # they hold the text.
        return None
    return found if isinstance(found, dict) else None


@lru_cache(maxsize=64)
def _header(part: str) -> Mapping[str, object] | None:
    """The same for a header, of which most tokens have the same one."""
    return _json_object(part)


def media_type(typ: str) -> str:
    """Bring ``typ`` to the form in which types are compared (RFC 7515 section 4.1.9)."""
    return typ.lower().removeprefix("application/")


def _is_access_token(claims: Mapping[str, object]) -> bool:
    kind = claims.get("typ")
    return (
        _FOREIGN_CLAIMS.isdisjoint(claims)
        and claims.get("token_use", "access") == "access"
        and not (isinstance(kind, str) and kind.lower() in _FOREIGN_KINDS)
    )


def check_parties(claims: Mapping[str, object], issuer: str, audience: str) -> None:
    """Check who a token is from and whom it is for.

    :raises BadToken: ``iss`` is another, or ``aud`` neither is this one nor has it in its list.
    """
    if claims.get("iss") != issuer:
        raise BadToken("iss")
    audiences = claims.get("aud")
    if audiences != audience and not (isinstance(audiences, list) and audience in audiences):
        raise BadToken("aud")


def optional_string(members: Mapping[str, object], name: str) -> str | None:
    """Take a member that may be missing, but be nothing else than a string.

    :raises BadToken: it is something else.
    """
    if name not in members:
        return None
    value = members[name]
    if not isinstance(value, str):
        raise BadToken(name)
    return value


def time_of(claims: Mapping[str, object], name: str) -> float:
    """Take a NumericDate: a number, which true and false are not (RFC 7519 section 2).

    :raises BadToken: it is missing, or something else.
    """
    value = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadToken(name)
    # NaN is on neither side of anything.
    if not 0 <= value <= _END_OF_TIME:
        raise BadToken(name)
    return value


def is_user_name(name: str) -> bool:
    """Whether somebody can be called so; see :class:`JWTVerifier`."""
    return (
        0 < len(name) <= _MAX_USER_NAME
        and name.isprintable()
        and name.strip() == name
        and "/" not in name
        and "%" not in name
        and name not in _RESERVED_NAMES
        and unicodedata.is_normalized("NFC", name)
    )


@lru_cache(maxsize=_SHARED)
def _shared(authorities: frozenset[str]) -> frozenset[str]:
    """Return the same object for equal ones: sessions keep them."""
    return authorities


def authorities_of(value: object) -> frozenset[str]:
    """Take the authorities out of a claim: a list of strings, or one with spaces between them.

    :raises BadToken: it is something else.
    """
    if isinstance(value, str):
        return frozenset(value.split(" ")) - {""}
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return frozenset(value)
    raise BadToken("authorities")
