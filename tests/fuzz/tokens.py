"""Tokens, and the header values that they come in."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from stompauth.errors import BadToken, Unavailable
from stompauth.identity.bearer import parse_bearer
from stompauth.identity.keys import StaticKey
from stompauth.identity.principal import Principal
from stompauth.identity.verifier import JWTVerifier
from tests.fuzz.choices import Choices
from tests.identity.signing import AUDIENCE, ISSUER, NOW, base64url, public_pem

_SECRET: Final = bytes(range(64, 128))
_PRIVATE_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_PEM: Final = public_pem(_PRIVATE_KEY)

_VALUES: Final = (
    "null",
    "true",
    '""',
    "0",
    "-1",
    "1e400",
    "NaN",
    "1800000060",
    "1800000000.5",
    "1799999000",
    '"1800000060"',
    "9" * 400,
    "[]",
    "{}",
    '["chat", 1]',
    '["chat"]',
    '"chat"',
    '"chatter"',
    '"alice"',
    '"bo\\nb"',
    '"\\ud800"',
    '"\\u0000"',
    '"a/b"',
    '"queue"',
    '"e\\u0301"',
    '"' + "x" * 256 + '"',
    '"HS256"',
    '"none"',
    '"EdDSA"',
    '"JWT"',
    '"at+jwt"',
    '"logout+jwt"',
    "[" * 3000,
    "{",
)
_CLAIMS: Final = {
    "sub": '"alice"',
    "iss": json.dumps(ISSUER),
    "aud": json.dumps(AUDIENCE),
    "iat": "1799999940",
    "exp": "1800000060",
}
_CLAIM_NAMES: Final = (*_CLAIMS, "nbf", "jti", "scope", "events", "token_use", "typ", "x")
_HEADER_NAMES: Final = ("alg", "typ", "kid", "crit", "b64", "jwk", "jku", "x5c", "x")


def run(octets: bytes) -> None:
    """Verify: whatever is not a good token gives BadToken, and nothing else ever comes out."""
    choices = Choices(octets)
    match choices.number(4):
        case 0:
            _check_text(choices)
        case 1:
            _check_signed_by_others(choices)
        case _:
            _check_claims(choices)


def _check_text(choices: Choices) -> None:
    """No change to the text of a good token makes another good one."""
    algorithm = choices.one_of(("HS256", "EdDSA"))
    good = _good_token(algorithm)
    token = choices.mutated(good.encode(), most=6).decode("latin-1")
    principal = _verify(algorithm, token)
    assert (principal is not None) == (token == good), token
    value = choices.one_of(("Bearer ", "bearer  ", "Bearer\t", "")) + token
    parsed = parse_bearer(choices.mutated(value.encode("latin-1"), most=2).decode("latin-1"))
    assert parsed is None or (parsed.isascii() and len(parsed) <= 8000 and " " not in parsed)


def _check_signed_by_others(choices: Choices) -> None:
    """Who does not have the key signs nothing, whatever the header says."""
    signed = f"{base64url(_header(choices))}.{base64url(_payload(choices))}"
    secret = choices.one_of((_PEM, _PEM.strip(), b"", bytes(32), _SECRET[:-1], b"null"))
    digest = choices.one_of((hashlib.sha256, hashlib.sha384, hashlib.sha512))
    signature = hmac.digest(secret, signed.encode(), digest)
    signature = choices.one_of((signature, b"", signature[:16], bytes(64)))
    for algorithm in ("HS256", "EdDSA"):
        assert _verify(algorithm, f"{signed}.{base64url(signature)}") is None


def _check_claims(choices: Choices) -> None:
    """What was signed with the right key is taken only if it is an access token for us, now."""
    header, payload = _header(choices), _payload(choices)
    token = _signed(header, payload)
    principal = _verify("HS256", token)
    if principal is None:
        assert token != _good_token("HS256")
        return
    fields, claims = json.loads(header), json.loads(payload)
    assert fields["alg"] == "HS256"
    assert not fields.keys() & {"crit", "b64", "jwk", "jku", "x5c"}
    assert all(isinstance(fields.get(name, ""), str) for name in ("kid", "typ"))
    assert fields.get("typ", "JWT").lower() in ("", "jwt", "at+jwt")
    assert claims["iss"] == ISSUER
    assert claims["aud"] == AUDIENCE or AUDIENCE in tuple(claims["aud"])
    for name in ("iat", "exp", "nbf"):
        assert type(claims.get(name, 0)) in (int, float)
        assert math.isfinite(claims.get(name, 0))
    assert max(claims["iat"], claims.get("nbf", 0)) <= NOW + 10
    assert NOW - 10 < claims["exp"] <= claims["iat"] + 86400
    assert principal.name == claims["sub"]
    assert 0 < len(principal.name) <= 255
    assert principal.name.isprintable()
    assert not {"/", "%"} & set(principal.name)
    assert "events" not in claims
    assert claims.get("token_use", "access") == "access"
    assert isinstance(claims.get("jti", "x"), str)


def _header(choices: Choices) -> bytes:
    return _object({"alg": '"HS256"'}, _HEADER_NAMES, choices)


def _payload(choices: Choices) -> bytes:
    return _object(_CLAIMS, _CLAIM_NAMES, choices)


def _object(members: dict[str, str], names: tuple[str, ...], choices: Choices) -> bytes:
    """JSON text of these members, some of them changed, repeated or with others."""
    pairs = list(members.items())
    for _ in range(choices.number(4)):
        pair = (choices.one_of(names), choices.one_of(_VALUES))
        pairs.insert(choices.number(len(pairs) + 1), pair)
        if choices.once_in(3):
            del pairs[choices.number(len(pairs))]
    text = "{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}"
    return choices.mutated(text.encode()) if choices.once_in(6) else text.encode()


def _signed(header: bytes, payload: bytes) -> str:
    signed = f"{base64url(header)}.{base64url(payload)}"
    return f"{signed}.{base64url(hmac.digest(_SECRET, signed.encode(), hashlib.sha256))}"


@cache
def _good_token(algorithm: str) -> str:
    payload = _object(_CLAIMS, (), Choices(b""))
    if algorithm == "HS256":
        return _signed(b'{"alg":"HS256"}', payload)
    header = b'{"alg":"EdDSA"}'
    signed = f"{base64url(header)}.{base64url(payload)}"
    return f"{signed}.{base64url(_PRIVATE_KEY.sign(signed.encode()))}"


def _verify(algorithm: str, token: str) -> Principal | None:
    """The principal of a token, or None when it was refused as it may be; asked twice."""
    keys = StaticKey.hmac(_SECRET) if algorithm == "HS256" else StaticKey.public_key(_PEM)
    clock = Clock()
    clock.advance(NOW)
    verifier = JWTVerifier(
        keys, algorithms=[algorithm], issuer=ISSUER, audience=AUDIENCE, clock=clock
    )
    answers: list[Any] = []
    for _ in range(2):
        verifier.verify(token).addBoth(answers.append)
    first, second = answers
    if isinstance(first, Failure):
        assert isinstance(first.value, BadToken | Unavailable), repr(first.value)
        assert type(second.value) is type(first.value)
        return None
    assert first == second
    assert isinstance(first, Principal)
    return first
