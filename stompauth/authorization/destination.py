"""Destinations: one grammar and one parser, for rules, sessions, brokers and handlers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from sys import intern
from typing import Final

from stompauth.errors import Refused

#: The most segments that a destination has.
MAX_SEGMENTS: Final = 16

#: The most bytes of UTF-8 that a destination has.
MAX_BYTES: Final = 255

#: First segments that only a pattern which spells them covers.
RESERVED: Final = frozenset({"user", "session", "app", "temp-queue"})

#: How the second segment of a dead-letter queue begins.
DEAD_LETTER_PREFIX: Final = "dlq."

# White space, controls (C0, DEL, C1), what UTF-8 cannot encode, and what is syntax elsewhere: in
# URLs, in rules, in the patterns and names of other brokers.
_FORBIDDEN = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff?#>{}%\\;,]")

# Of the longest destinations this many take about 8 MiB, whatever clients send.
_CACHED_DESTINATIONS = 4096


class Kind(Enum):
    """What a destination is for, by its first segment, which has to be followed by another."""

    TOPIC = "topic"
    QUEUE = "queue"
    USER = "user"
    TEMP_QUEUE = "temp-queue"
    APP = "app"
    SESSION = "session"
    OTHER = ""


_KINDS = {kind.value: kind for kind in Kind if kind is not Kind.OTHER}


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination, or a pattern of a SUBSCRIBE; made by :meth:`parse`.

    Nothing is normalised: two destinations are the same when their bytes are.

    :ivar path: the text, as it was parsed.
    :ivar segments: what stands between the slashes, without the empty text before the first.
    :ivar is_pattern: whether a segment is ``*`` or ``**``.
    :ivar kind: what this is for.
    """

    path: str
    segments: tuple[str, ...] = field(repr=False, compare=False)
    is_pattern: bool = field(repr=False, compare=False)
    kind: Kind = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        segments = self.segments
        kind = _KINDS.get(segments[0], Kind.OTHER) if len(segments) > 1 else Kind.OTHER
        object.__setattr__(self, "kind", kind)

    @staticmethod
    def parse(text: str, *, pattern: bool = False) -> Destination:
        """Read a destination.

        :param pattern: whether ``*`` (one segment) and ``**`` (one or more, last) may occur, each
            as a whole segment: in a SUBSCRIBE they may, in a SEND not.
        :raises Refused: ``bad-destination``, when it does not follow the grammar.
        """
        if len(text) > MAX_BYTES:  # before the cache would hash it
            raise Refused("bad-destination")
        try:
            destination = _parsed(text)
        except ValueError as error:
            raise Refused("bad-destination") from error
        if destination.is_pattern and not pattern:
            raise Refused("bad-destination")
        return destination

    @property
    def user_name(self) -> str | None:
        """The name in ``/user/{name}/queue/**``; None for every other form.

        No user is called ``queue``, so ``/user/queue/queue/x`` is the sender's own ``queue/x``.
        """
        match self.segments:
            case ("user", name, "queue", _, *_) if name != "queue":
                return name
        return None

    @property
    def user_path(self) -> str | None:
        """The ``/queue/**`` in ``/user/queue/**`` and ``/user/{name}/queue/**``, or else None."""
        match self.segments:
            case ("user", "queue", _, *_):
                return self.path.removeprefix("/user")
            case ("user", name, "queue", _, *_):
                return self.path.removeprefix(f"/user/{name}")
        return None

    def matches(self, other: Destination) -> bool:
        """Whether this destination is, or this pattern covers, that one, which is no pattern.

        A wildcard never stands for what :func:`guarded_segment` names.
        """
        ours, theirs = self.segments, other.segments
        if len(theirs) < len(ours) or (len(theirs) > len(ours) and ours[-1] != "**"):
            return False
        guarded = guarded_segment(theirs)
        if guarded is not None and ours[min(guarded, len(ours) - 1)] in ("*", "**"):
            return False
        return all(mine in (its, "*", "**") for mine, its in zip(ours, theirs, strict=False))


def guarded_segment(segments: tuple[str, ...]) -> int | None:
    """The index of the segment that a pattern must spell to cover these segments, if one is so.

    It is the first of ``/user/..``, ``/session/..``, ``/app/..`` and ``/temp-queue/..``, and the
    second of a dead-letter queue, ``/queue/dlq...``. Neither ``*`` nor ``**`` nor a variable of a
    rule stands for it, in rules as in a client's SUBSCRIBE.
    """
    if segments[0] in RESERVED:
        return 0
    if segments[0] == "queue" and len(segments) > 1 and segments[1].startswith(DEAD_LETTER_PREFIX):
        return 1
    return None


def parse_segments(text: str, *, pattern: bool) -> tuple[str, ...]:
    """Split a destination at its slashes.

    Format characters, such as the joiners that some scripts need, are no control characters.

    :param pattern: as for :meth:`Destination.parse`.
    :raises ValueError: when it does not follow the grammar; the text says which part of it, in
        constant words.
    """
    if not text.startswith("/"):
        raise ValueError("a destination begins with a slash")
    if _FORBIDDEN.search(text):
        raise ValueError(
            "a destination has no white space, no control character and none of ? # > { } % \\ ; ,"
        )
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(f"a destination has at most {MAX_BYTES} bytes")
    segments = tuple(text[1:].split("/"))
    if len(segments) > MAX_SEGMENTS:
        raise ValueError(f"a destination has at most {MAX_SEGMENTS} segments")
    if any(segment in ("", ".", "..") for segment in segments):
        raise ValueError("no segment of a destination is empty, '.' or '..'")
    if "*" in text:
        if not pattern:
            raise ValueError("'*' stands only in a pattern")
        if any("*" in segment and segment not in ("*", "**") for segment in segments):
            raise ValueError("'*' and '**' are whole segments")
        if "**" in segments[:-1]:
            raise ValueError("'**' is the last segment")
    # Sessions keep destinations; how most of them begin, they have in common.
    return (intern(segments[0]), *segments[1:])


def is_segment(text: str) -> bool:
    """Whether a destination can have a segment of this text."""
    try:
        return parse_segments("/" + text, pattern=False) == (text,)
    except ValueError:
        return False


@lru_cache(maxsize=_CACHED_DESTINATIONS)
def _parsed(text: str) -> Destination:
    return Destination(text, parse_segments(text, pattern=True), "*" in text)
