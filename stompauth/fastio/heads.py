"""The way in, before a WebSocket: requests that are right in every point and have no body."""

from __future__ import annotations

import re
from typing import Final

from stompauth.handshake.head import RequestHead

#: Octets, and headers, that a head may have; twisted.web takes no more than these either.
_MAX_SIZE: Final = 16384
_MAX_HEADERS: Final = 100

_LINE: Final = re.compile(rb"([A-Z]{3,7}) (/[\x21-\x7e]*) (HTTP/1\.1)")
_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

#: Controls but the tab, and NEL.
_BAD_OCTETS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f\x85]")

#: What makes more of a request than its head.
_OF_BODY: Final = (b"transfer-encoding", b"expect", b"trailer")


def read_head(data: bytes) -> RequestHead | None:
    """Read a request that consists of a head, and of nothing in front of it or behind it.

    It is of HTTP/1.1, has one Host, no line that goes on in the next, nothing but CR LF at the end
    of a line, and no control characters (RFC 9112 sections 2.2, 3.2 and 5).

    :return: None if anything is otherwise, whatever that may be.
    """
    if len(data) > _MAX_SIZE or not data.endswith(b"\r\n\r\n"):
        return None
    first, *lines = data[:-4].split(b"\r\n")
    request = _LINE.fullmatch(first)
    if request is None or len(lines) > _MAX_HEADERS or _BAD_OCTETS.search(b" ".join(lines)):
        return None
    headers: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        # An empty line has no name, nor has one that folds; so no second request gets through.
        if not colon or not _NAME.fullmatch(name):
            return None
        name = name.lower()
        value = value.strip(b" \t")
        if name in headers:
            headers[name].append(value)
        else:
            headers[name] = [value]
    if len(headers.get(b"host", ())) != 1 or headers.get(b"content-length", _NONE) != _NONE:
        return None
    if any(name in headers for name in _OF_BODY):
        return None
    method, target, version = request.groups()
    return RequestHead(method, target, version, headers)


_NONE: Final = [b"0"]
