"""The ``Bearer`` scheme of RFC 6750, in HTTP and in STOMP headers."""

from __future__ import annotations

import re
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

#: Characters of a token at most, before anything is decoded.
MAX_TOKEN: Final = 8000

#: Characters at least of a token that is a secret itself: 128 bits, where each tells four.
MIN_SECRET_TOKEN: Final = 32

_B64TOKEN = r"[A-Za-z0-9\-._~+/]+=*"
_BEARER = re.compile(rf"bearer +({_B64TOKEN})", re.IGNORECASE | re.ASCII)


def parse_bearer(value: str) -> str | None:
    """Take the token out of the value of an ``Authorization`` header (RFC 6750 section 2.1).

    :return: the token, or None when it is another scheme, no ``b64token``, or too long.
    """
    match = _BEARER.fullmatch(value)
    if match is None or len(match[1]) > MAX_TOKEN:
        return None
    return match[1]


class SecretToken:
    """A token that callers show as it is; kept as its hash.

    :param token: :data:`MIN_SECRET_TOKEN` characters or more.
    :raises ValueError: it is too short, or cannot be sent.
    """

    def __init__(self, token: str) -> None:
        check_secret_token(token)
        self._digest = sha256(token.encode("ascii")).digest()

    def is_in(self, authorizations: Sequence[bytes]) -> bool:
        """Whether it is in a request's one ``Authorization`` header; takes equally long."""
        is_one = len(authorizations) == 1
        token = parse_bearer(authorizations[0].decode("latin-1")) if is_one else None
        return compare_digest(sha256((token or "").encode("ascii")).digest(), self._digest)


def check_secret_token(token: str) -> None:
    """Look whether a token can be a secret that callers show as it is.

    :raises ValueError: it is too short for that, or cannot be sent.
    """
    if len(token) < MIN_SECRET_TOKEN:
        raise ValueError(f"a token of {len(token)} characters: {MIN_SECRET_TOKEN} are needed")
    if len(token) > MAX_TOKEN or not re.fullmatch(_B64TOKEN, token):
        raise ValueError("no token: has others than A-Z a-z 0-9 - . _ ~ + /, and = at its end")


def read_secret_token(path: str | PathLike[str]) -> str:
    """Read the token in this file; white space around it is not part of it.

    :raises OSError: the file cannot be read.
    :raises ValueError: as :func:`check_secret_token`.
    """
    token = Path(path).read_bytes().decode("latin-1").strip()
    check_secret_token(token)
    return token
