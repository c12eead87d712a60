"""Messages as octets, for a bus: our own encoding.

A head in JSON, a line end, and the body as it is. The head has only what crosses between nodes:
where the message goes, its id, its sender, its headers and its expiry. A token is not among it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stompauth.authorization.destination import Destination
from stompauth.broker.message import Message
from stompauth.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

#: The version of the encoding; nodes drop what has another one.
VERSION: Final = 1

#: Bytes of a payload.
MAX_PAYLOAD: Final = 16 << 20

# Of our own ids, and those that an application gives.
_MAX_ID: Final = 256


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message for other nodes.

    :ivar user: whose sessions get it; None where the destination says it all.
    :ivar answer_to: the node that wants to know how many sessions got it, and what it calls the
        question; or None.
    """

    message: Message
    user: str | None = None
    answer_to: tuple[str, int] | None = None

    def encode(self) -> bytes:
        """Return the payload.

        :raises Refused: ``too-large``.
        """
        message = self.message
        head: dict[str, object] = {
            "v": VERSION,
            "d": message.destination.path,
            "i": message.message_id,
            "h": dict(message.headers),
        }
        optional = {
            "f": message.sender_user,
            "s": message.sender_session,
            "e": message.expires,
            "u": self.user,
            "a": self.answer_to,
        }
        head |= {key: value for key, value in optional.items() if value is not None}
        payload = b"%b\n%b" % (_json(head), message.body)
        if len(payload) > MAX_PAYLOAD:
            raise Refused("too-large")
        return payload


@dataclass(frozen=True, slots=True)
class Answer:
    """How many sessions of a user a node has delivered a message to.

    :ivar question: as the node that asked calls it.
    """

    question: int
    sessions: int

    def encode(self) -> bytes:
        """Return the payload."""
        return _json({"v": VERSION, "q": self.question, "n": self.sessions}) + b"\n"


def decode(payload: bytes) -> Envelope | Answer:
    """Read a payload.

    :raises ValueError: it is none, or of another version; the text says why, in constant words.
    """
    if len(payload) > MAX_PAYLOAD:
        raise ValueError("too large")
    end = payload.find(b"\n")
    if end < 0:
        raise ValueError("no head")
    try:
        head = json.loads(payload[:end])
    except (ValueError, RecursionError):
        raise ValueError("no JSON") from None
    if not isinstance(head, dict) or not _is_whole(head.get("v")) or head["v"] != VERSION:
        raise ValueError("another version")
    if "q" in head:
        return Answer(_field(head, "q", _is_whole), _field(head, "n", _is_whole))
    try:
        destination = Destination.parse(_field(head, "d", _is_text))
    except Refused:
        raise ValueError("no destination") from None
    answer_to = _field(head, "a", _is_address, optional=True)
    message = Message(
        destination,
        _field(head, "h", _is_headers),
        payload[end + 1 :],
        sender_user=_field(head, "f", _is_text, optional=True),
        sender_session=_field(head, "s", _is_text, optional=True),
        expires=_field(head, "e", _is_time, optional=True),
        message_id=_field(head, "i", _is_id),
    )
    return Envelope(
        message,
        _field(head, "u", _is_text, optional=True),
        None if answer_to is None else (answer_to[0], answer_to[1]),
    )


def _json(head: object) -> bytes:
    return json.dumps(head, separators=(",", ":")).encode("ascii")


def _field(
    head: dict[str, Any], key: str, is_fine: Callable[[Any], bool], *, optional: bool = False
) -> Any:
    value = head.get(key)
    if value is None and optional:
        return None
    if not is_fine(value):
        raise ValueError("a field that is none")
    return value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_ID


def _is_time(value: object) -> bool:
    # Neither NaN nor infinity, which JSON here may hold.
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    )


def _is_headers(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_address(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and _is_whole(value[1])
    )
