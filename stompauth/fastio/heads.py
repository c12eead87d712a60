"""The way in, before a WebSocket: requests that are right in every point and have no body."""

from __future__ import annotations

import re
from typing import Final

from stompauth.handshake.head import RequestHead

#: Octets, and headers, that a head may have; twisted.web takes no more than these either.
_MAX_SIZE: Final = 16384
_MAX_HEADERS: Final = 100

#: A line that folds has no name; and a value has no controls but the tab, and no NEL.
_HEAD: Final = re.compile(
    rb"([A-Z]{3,7}) (/[\x21-\x7e]*) (HTTP/1\.1)\r\n"
    rb"((?:[A-Za-z0-9!#$%&'*+.^_`|~-]+:[\t\x20-\x7e\x80-\x84\x86-\xff]*\r\n)+)\r\n"
)

#: What makes more of a request than its head.
_OF_BODY: Final = frozenset({b"transfer-encoding", b"expect", b"trailer"})


_NO_BODY: Final = [b"0"]


def read_head(data: bytes) -> RequestHead | None:
    """Read a request that consists of a head, and of nothing in front of it or behind it.

    It is of HTTP/1.1, has one Host, no line that goes on in the next, nothing but CR LF at the end
    of a line, and no control characters (RFC 9112 sections 2.2, 3.2 and 5).

    :return: None if anything is otherwise, whatever that may be.
    """
    if len(data) > _MAX_SIZE:
        return None
    request = _HEAD.fullmatch(data)
    if request is None:
        return None
    method, target, version, fields = request.groups()
    lines = fields.split(b"\r\n")
    # Behind the last there is nothing.
    del lines[-1]
    if len(lines) > _MAX_HEADERS:
        return None
    headers: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in headers:
            headers[name].append(value.strip(b" \t"))
        else:
            headers[name] = [value.strip(b" \t")]
    if len(headers.get(b"host", ())) != 1 or headers.get(b"content-length", _NO_BODY) != _NO_BODY:
        return None
    if not _OF_BODY.isdisjoint(headers):
        return None
    return RequestHead(method, target, version, headers)
