"""Frames to bytes.

No header ever reaches the wire raw: what the receiving session's version cannot express is left
out, or refused where leaving it out would change the meaning.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from stompauth.errors import LocalProtocolError
from stompauth.stomp.frame import BODY_COMMANDS, COMMANDS, UNESCAPED_COMMANDS, Frame

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: What has to be looked at in some version; surrogates have no place in UTF-8.
_SPECIAL: Final = re.compile("[\\\\:\r\n\0\ud800-\udfff]")

#: Per version, what replaces a character ("Value Encoding").
_ESCAPES: Final[dict[str, dict[int, str]]] = {
    "1.0": {},
    "1.1": str.maketrans({"\\": "\\\\", "\n": "\\n", ":": "\\c"}),
    "1.2": str.maketrans({"\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c"}),
}

#: Per version, what no name and no value can hold.
_UNWRITABLE: Final = {
    "1.0": re.compile("[\r\n\0\ud800-\udfff]"),
    "1.1": re.compile("[\r\0\ud800-\udfff]"),
    "1.2": re.compile("[\0\ud800-\udfff]"),
}

#: Computed from the body; nobody else's is believed.
_COMPUTED: Final = frozenset({"content-length"})

#: What differs from one delivery of a message to the next.
_PER_DELIVERY: Final = frozenset(
    {"content-length", "subscription", "ack", "redelivered", "delivery-count"}
)


#: The headers of most messages, if they have any, and for how many it is kept how they are
#: written.
_COMMON: Final = frozenset({"content-type"})
_CACHED_COMMON: Final = 1024
_LONGEST_TYPE: Final = 128

#: How many ids of subscriptions are kept as they are written; clients number theirs.
_CACHED_IDS: Final = 1024


def encode(frame: Frame, version: str) -> bytes:
    """Return the frame as the version writes it, with ``content-length`` if it has a body.

    A header that the version cannot express is left out: CR or LF in 1.0, CR in 1.1, a colon in a
    name in 1.0, NUL and surrogates, an empty name, and a name that ends with a space.

    :param version: the session's version.
    :raises LocalProtocolError: there is no such command; it has a body and may have none; or it is
        CONNECT, STOMP or CONNECTED, which know no escapes, with a header that would need one.
    """
    command = frame.command
    body = frame.body
    if command not in COMMANDS:
        raise LocalProtocolError("not a STOMP command")
    if body and command not in BODY_COMMANDS:
        raise LocalProtocolError(f"{command} has no body")
    if command in UNESCAPED_COMMANDS:
        lines = _write_unescaped(frame.headers)
    else:
        lines = _write_headers(frame.headers, version, _COMPUTED)
    if body:
        lines += f"content-length:{len(body)}\n"
    return b"%b\n%b\0" % (f"{command}\n{lines}".encode(), body)


def encode_receipt(receipt_id: str, version: str) -> bytes:
    """Return the RECEIPT, as :func:`encode` would."""
    return b"RECEIPT\n%b\n\0" % _write_header("receipt-id", receipt_id, version).encode()


def is_text(data: bytes) -> bool:
    """Whether the octets are valid UTF-8 and may go out in a WebSocket text message."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class MessageTemplate:
    """A MESSAGE that goes to many subscriptions: built once, spliced for each.

    :param headers: the others of every delivery; not to be changed afterwards. Passed over here are
        those that belong to one delivery, ``subscription``, ``ack``, ``redelivered`` and
        ``delivery-count``, and the two that have parameters of their own.
    :param body: the octets of the body.
    :ivar is_text: whether every frame of this message is valid UTF-8; headers always are.
    """

    __slots__ = (
        "_body",
        "_destination",
        "_headers",
        "_heads",
        "_message_id",
        "_spliced",
        "_spliced_for",
        "is_text",
    )

    def __init__(
        self, destination: str, message_id: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        self._destination = destination
        self._message_id = message_id
        self._headers = headers
        self._body = body
        self._heads: dict[str, bytes] = {}
        self._spliced = b""
        self._spliced_for: tuple[str, str | None] | None = None
        self.is_text = body.isascii() or is_text(body)

    def encode(
        self,
        version: str,
        subscription: str | None,
        *,
        ack: str | None = None,
        delivery_count: int = 1,
    ) -> bytes:
        """Return the frame for one delivery.

        The same object comes back as long as version and subscription stay the same and nothing
        else belongs to the delivery.

        :param subscription: the subscription's id; None for one of STOMP 1.0 that has no id.
        :param ack: the id by which the client will acknowledge, if it will.
        :param delivery_count: from the second on the frame says that it was delivered before.
        :raises LocalProtocolError: the version cannot express one of the ids.
        """
        if ack is None and delivery_count <= 1:
            key = (version, subscription)
            if key != self._spliced_for:
                line = _write_subscription(subscription, version)
                self._spliced = b"%b%b\n%b\0" % (self._head(version), line, self._body)
                self._spliced_for = key
            return self._spliced
        own = _write_subscription(subscription, version)
        if ack is not None:
            if not (written := _write_header("ack", ack, version)):
                raise LocalProtocolError(f"ack cannot be expressed in STOMP {version}")
            own += written.encode()
        if delivery_count > 1:
            own += b"redelivered:true\ndelivery-count:%d\n" % delivery_count
        return b"%b%b\n%b\0" % (self._head(version), own, self._body)

    def _head(self, version: str) -> bytes:
        """Return what all deliveries in that version have in common."""
        head = self._heads.get(version)
        if head is not None:
            return head
        others = self._headers
        message_id = self._message_id
        content_type = others.get("content-type")
        if message_id.isalnum() and (
            not others
            or (others.keys() == _COMMON and content_type and len(content_type) <= _LONGEST_TYPE)
        ):
            before, after = _write_common(self._destination, content_type, version)
            text = f"{before}{message_id}{after}"
        else:
            ours = {"destination": self._destination, "message-id": message_id}
            # Ours stand first, and are not the sender's to say.
            lines = _write_headers({**ours, **others, **ours}, version, _PER_DELIVERY)
            text = f"MESSAGE\n{lines}"
        if self._body:
            text = f"{text}content-length:{len(self._body)}\n"
        self._heads[version] = head = text.encode()
        return head


@lru_cache(maxsize=_CACHED_COMMON)
def _write_common(destination: str, content_type: str | None, version: str) -> tuple[str, str]:
    """Return what stands before and behind the id of a message that has no other headers.

    It is kept, so that no other header may be in it: that could be a secret.
    """
    before = f"MESSAGE\n{_write_header('destination', destination, version)}message-id:"
    if content_type is None:
        return before, "\n"
    return before, "\n" + _write_header("content-type", content_type, version)


@lru_cache(maxsize=_CACHED_IDS)
def _write_subscription(subscription: str | None, version: str) -> bytes:
    """Return the line with the id of a subscription, or nothing for one that has none."""
    if subscription is None:
        return b""
    line = _write_header("subscription", subscription, version)
    if not line:
        raise LocalProtocolError(f"subscription cannot be expressed in STOMP {version}")
    return line.encode()


def _write_headers(headers: Mapping[str, str], version: str, without: Collection[str]) -> str:
    """Return the lines of the headers that the version can express."""
    if not _SPECIAL.search("".join([*headers, *headers.values()])):
        # Every version writes these as they are.
        return "".join(
            [
                f"{name}:{value}\n"
                for name, value in headers.items()
                if name not in without and name and name[-1] != " "
            ]
        )
    return "".join(
        [
            _write_header(name, value, version)
            for name, value in headers.items()
            if name not in without
        ]
    )


def _write_header(name: str, value: str, version: str) -> str:
    """Return the line of one header, or nothing if the version cannot express it."""
    if not name or name[-1] == " ":
        return ""
    if _SPECIAL.search(name) or _SPECIAL.search(value):
        unwritable = _UNWRITABLE[version]
        if unwritable.search(name) or unwritable.search(value):
            return ""
        if version == "1.0" and ":" in name:
            return ""
        escapes = _ESCAPES[version]
        name = name.translate(escapes)
        value = value.translate(escapes)
    return f"{name}:{value}\n"


def _write_unescaped(headers: Mapping[str, str]) -> str:
    """Return the lines of a CONNECT, STOMP or CONNECTED; all of them, or none."""
    lines = ""
    for name, value in headers.items():
        # These frames are written in every version as 1.0 writes all of its frames.
        line = _write_header(name, value, "1.0")
        if not line:
            raise LocalProtocolError("a header of the handshake cannot be expressed")
        lines += line
    return lines
