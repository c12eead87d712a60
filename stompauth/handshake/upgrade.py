"""What a WebSocket's opening handshake has to be right about (RFC 6455 section 4.2.1)."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Final

from stompauth.errors import Denied
from stompauth.handshake.admission import HandshakeRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stompauth.handshake.head import RequestHead

#: What may not be in a header: controls, and NEL, at which str.splitlines() starts a new line.
_BAD_OCTETS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f\x85]")

_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")

#: A Host with a port that is a number, or without one; an address of IPv6 has colons, too.
_HOST: Final = re.compile(rb"[^:]*|.*\]|.*:[0-9]+", re.DOTALL)


def read_upgrade(head: RequestHead, path: str, address: str, *, has_body: bool) -> HandshakeRequest:
    """Check the head of the request, in the order of the contract.

    :param path: where the WebSocket is.
    :param address: the client's.
    :param has_body: whether there is more to the request than its head.
    :raises Denied: with the status to answer.
    """
    if head.method != b"GET":
        raise Denied(405, "method")
    requested, _, query = head.target.partition(b"?")
    if requested != path.encode("ascii"):
        raise Denied(404, "not-found")
    values = head.values
    versions = values(b"sec-websocket-version")
    if not _has_token(values(b"upgrade"), b"websocket") or list(versions) != [b"13"]:
        raise Denied(426, "version")
    hosts = values(b"host")
    keys = values(b"sec-websocket-key")
    offered = b",".join(values(b"sec-websocket-protocol"))
    if (
        head.version != b"HTTP/1.1"
        or not _has_token(values(b"connection"), b"upgrade")
        or len(hosts) != 1
        or not _HOST.fullmatch(hosts[0])
        or len(keys) != 1
        or not _KEY.fullmatch(keys[0])
        or _repeats(offered)
        or has_body
        or _BAD_OCTETS.search(b"".join(chain.from_iterable(head.headers.values())))
    ):
        raise Denied(400, "malformed")
    return HandshakeRequest(
        path=path,
        query=query,
        origins=tuple(values(b"origin")),
        authorizations=tuple(values(b"authorization")),
        subprotocols=tuple(name.decode("latin-1") for name in _tokens(offered)),
        address=address,
        key=keys[0],
    )


def _tokens(value: bytes) -> list[bytes]:
    """The elements of a comma-separated header (RFC 9110 section 5.6.1)."""
    return [token for token in (part.strip(b" \t") for part in value.split(b",")) if token]


def _has_token(values: Sequence[bytes], token: bytes) -> bool:
    """Whether the token is among the elements of a header, in any case."""
    value = b",".join(values).lower()
    return value == token or token in _tokens(value)


def _repeats(offered: bytes) -> bool:
    """Whether a subprotocol is there twice; to Autobahn an empty element is one, too."""
    if b"," not in offered:
        return False
    # It takes a no-break space for white space.
    names = [part.strip() for part in offered.decode("latin-1").split(",")]
    return len(set(names)) != len(names)
