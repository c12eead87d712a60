"""The ``Bearer`` scheme of RFC 6750, in HTTP and in STOMP headers."""

from __future__ import annotations

import re
from typing import Final

#: Characters of a token at most, before anything is decoded.
MAX_TOKEN: Final = 8000

_BEARER = re.compile(r"bearer +([A-Za-z0-9\-._~+/]+=*)", re.IGNORECASE | re.ASCII)


def parse_bearer(value: str) -> str | None:
    """Take the token out of the value of an ``Authorization`` header (RFC 6750 section 2.1).

    :return: the token, or None when it is another scheme, no ``b64token``, or too long.
    """
    match = _BEARER.fullmatch(value)
    if match is None or len(match[1]) > MAX_TOKEN:
        return None
    return match[1]
