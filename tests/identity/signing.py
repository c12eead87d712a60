"""Keys, and tokens signed with them, for the tests of identity."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import get_default_algorithms

NOW = 1_800_000_000.0
ISSUER = "https://id.example.com/"
AUDIENCE = "chat"
SECRET = bytes(range(64, 128))

_ALGORITHMS = get_default_algorithms()
_CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


# Making an RSA key takes long, so each is made once in a run.
_rsa_key = cache(lambda number, bits: rsa.generate_private_key(65537, bits))


def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """An RSA key pair, the same one for the same number."""
    return _rsa_key(number, bits)


@cache
def private_key(algorithm: str, number: int = 0) -> Any:
    """A signing key for the algorithm; "EdDSA" has Ed25519 as number 0 and Ed448 as number 1."""
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm]())
    if algorithm == "EdDSA":
        kind = ed448.Ed448PrivateKey if number else ed25519.Ed25519PrivateKey
        return kind.generate()
    return rsa_key(number)


def public_pem(key: Any) -> bytes:
    """The public half, as a file would hold it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: Any) -> bytes:
    """The private half, as a file would hold it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_jwk(algorithm: str, key: Any, **members: Any) -> dict[str, Any]:
    """The public half as a JWK, with these members more."""
    return {**_ALGORITHMS[algorithm].to_jwk(key.public_key(), as_dict=True), **members}


def private_jwk(algorithm: str, key: Any, **members: Any) -> dict[str, Any]:
    """The private half as a JWK, with these members more."""
    return {**_ALGORITHMS[algorithm].to_jwk(key, as_dict=True), "key_ops": ["verify"], **members}


def base64url(octets: bytes) -> str:
    return urlsafe_b64encode(octets).decode("ascii").rstrip("=")


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good token; a change to None takes the claim away."""
    found = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "iat": int(NOW) - 60,
        "exp": int(NOW) + 240,
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


def token(
    payload: dict[str, Any] | bytes,
    key: Any = SECRET,
    algorithm: str = "HS256",
    header: dict[str, Any] | bytes | None = None,
) -> str:
    """A signed token. Payload or header may be octets, to be taken as they are."""
    if not isinstance(header, bytes):
        header = json.dumps({"alg": algorithm, "typ": "JWT", **(header or {})}).encode()
    if not isinstance(payload, bytes):
        payload = json.dumps(payload).encode()
    signed = f"{base64url(header)}.{base64url(payload)}"
    return f"{signed}.{base64url(_ALGORITHMS[algorithm].sign(signed.encode(), key))}"
