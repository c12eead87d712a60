"""What the nodes of a cluster say to one another: JSON, with a version, and never a secret.

Nothing here knows a token, a ticket or a header of a handshake; a deny list goes by names, ``jti``
and times.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stompauth.identity.revocation import KINDS, Revocation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Of what is spoken here. A node passes over what is of another version.
VERSION: Final = 1

#: Octets of a message at most.
MAX_PAYLOAD: Final = 4 << 20

#: Characters of a name, an id or an address at most; those of tokens are shorter by far.
MAX_NAME: Final = 8192

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Presence:
    """A session, as all nodes know it.

    :ivar session_id: random.
    :ivar user: the user name.
    :ivar issuer: ``iss`` of the token, which makes the name unique.
    :ivar address: the client's.
    :ivar opened_at: seconds since the epoch, by the clock of its node.
    """

    session_id: str
    user: str
    issuer: str
    address: str
    opened_at: float


@dataclass(frozen=True, slots=True)
class Delta:
    """What has changed at a node; ``number`` is one more than that of its last delta."""

    number: int
    opened: Sequence[Presence] = ()
    closed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Announcement:
    """The number of a node's last delta, said from time to time: who lacks it will ask."""

    number: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Please send all of your sessions."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a node's sessions, after a :class:`Wanted`.

    Deltas go on between the pages; a page is of the moment at which it is sent.

    :ivar number: of the node's last delta before the first page; None in later pages.
    :ivar is_last: whether all that were not named since the first page are gone.
    """

    number: int | None
    sessions: Sequence[Presence]
    is_last: bool


@dataclass(frozen=True, slots=True)
class Revoked:
    """Entries of a deny list that may be old: tokens of later issue are good."""

    revocations: Sequence[Revocation]


@dataclass(frozen=True, slots=True)
class Request:
    """Something that the other node is asked, or asked to do.

    :ivar number: of the request; 0 if no answer is wanted.
    :ivar arguments: by name, as JSON has them.
    """

    number: int
    kind: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to the request of that number."""

    number: int
    value: Any


Message = Delta | Announcement | Wanted | Page | Revoked | Request | Answer

_NAMES: Final = {
    Delta: "delta",
    Announcement: "at",
    Wanted: "wanted",
    Page: "page",
    Revoked: "revoked",
    Request: "request",
    Answer: "answer",
}


def encode(message: Message) -> bytes:
    """Write a message.

    :raises ValueError: it is longer than :data:`MAX_PAYLOAD`, or not of characters.
    """
    body: list[Any]
    match message:
        case Delta(number, opened, closed):
            body = [number, [_fields(presence) for presence in opened], list(closed)]
        case Announcement(number):
            body = [number]
        case Wanted():
            body = []
        case Page(first, sessions, is_last):
            body = [first, [_fields(presence) for presence in sessions], is_last]
        case Revoked(revocations):
            body = [fields_of(revocations)]
        case Request(number, kind, arguments):
            body = [number, kind, arguments]
        case Answer(number, value):
            body = [number, value]
    text = json.dumps([VERSION, _NAMES[type(message)], *body], ensure_ascii=False)
    payload = text.encode("utf-8")
    if len(payload) > MAX_PAYLOAD:
        raise ValueError("too long")
    return payload


def decode(payload: bytes) -> Message:
    """Read a message.

    :raises ValueError: it is none, or of another version; the text quotes nothing of it.
    """
    try:
        text = payload.decode("utf-8")
        parts = json.loads(text, parse_constant=_no_constant)
        if "\\u" in text:
            # JSON can spell half a surrogate pair, a string that nobody can encode later.
            json.dumps(parts, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise ValueError("not JSON in UTF-8") from None
    if not isinstance(parts, list) or not parts or parts[0] != VERSION:
        raise ValueError("of another version")
    match parts[1:]:
        case ["delta", number, opened, closed]:
            return Delta(_number(number), _list(opened, _presence), _list(closed, _name))
        case ["at", number]:
            return Announcement(_number(number))
        case ["wanted"]:
            return Wanted()
        case ["page", number, sessions, bool(is_last)]:
            first = None if number is None else _number(number)
            return Page(first, _list(sessions, _presence), is_last)
        case ["revoked", revocations]:
            return Revoked(revocations_of(revocations))
        case ["request", number, str(kind), dict(arguments)]:
            return Request(_number(number), kind, arguments)
        case ["answer", number, value]:
            return Answer(_number(number), value)
    raise ValueError("of no known form")


def fields_of(revocations: Sequence[Revocation]) -> list[list[Any]]:
    """Revocations, as JSON has them."""
    return [[entry.kind, entry.name, entry.revoked_at] for entry in revocations]


def revocations_of(value: object) -> list[Revocation]:
    """Read what :func:`fields_of` has written.

    :raises ValueError: it is something else.
    """
    return _list(value, _revocation)


def _revocation(value: object) -> Revocation:
    match value:
        case [str(kind), name, revoked_at] if kind in KINDS:
            return Revocation(kind, _name(name), _time(revoked_at))
    raise ValueError("no revocation")


def _fields(presence: Presence) -> list[Any]:
    return [
        presence.session_id,
        presence.user,
        presence.issuer,
        presence.address,
        presence.opened_at,
    ]


def _presence(value: object) -> Presence:
    match value:
        case [session_id, user, issuer, address, opened_at]:
            return Presence(
                _name(session_id), _name(user), _name(issuer), _name(address), _time(opened_at)
            )
    raise ValueError("no session")


def _list(value: object, read: Callable[[object], _T]) -> list[_T]:
    if not isinstance(value, list):
        raise ValueError("no list")
    return [read(item) for item in value]


def _name(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise ValueError("no name")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("no number")
    return value


def _time(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("no time")
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError("no time") from None
    if not 0 <= seconds < math.inf:
        raise ValueError("no time")
    return seconds


def _no_constant(name: str) -> None:
    """Refuse NaN and the infinities, which JSON does not have."""
    raise ValueError("no number")
