"""The destination patterns of rules, which may have variables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stompauth.authorization.destination import (
    MAX_SEGMENTS,
    Destination,
    guarded_segment,
    is_segment,
    parse_segments,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stompauth.identity.principal import Principal

_VARIABLE = re.compile(r"\{(?P<claim>claims\.)?(?P<name>[A-Za-z_][A-Za-z0-9_-]*)\}")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A destination with ``*``, ``**``, ``{name}``, ``{user}`` and ``{claims.x}``.

    ``{name}`` stands for any one segment, as ``*`` does. ``{user}`` and ``{claims.x}`` stand for
    the principal's name, and for a claim of its that is a string, as the whole segment; where
    there is no such claim, or no segment can have its text, nothing is covered. No wildcard and no
    variable stands for what :func:`~stompauth.authorization.destination.guarded_segment` names.

    Made by :meth:`parse`.

    :ivar text: the pattern as it was written.
    :ivar segments: what stands between the slashes, with ``*`` for ``{name}``.
    :ivar shortest: how many segments a covered destination has at least.
    :ivar longest: how many at most.
    :ivar literals: index and text of each segment that is spelled, the last one first: there the
        rules of an application differ soonest.
    :ivar variables: index of each ``{user}``, with None, and of each ``{claims.x}``, with ``x``.
    :ivar captures: name and index of each ``{name}``.
    """

    text: str
    segments: tuple[str, ...]
    shortest: int
    longest: int
    literals: tuple[tuple[int, str], ...]
    variables: tuple[tuple[int, str | None], ...]
    captures: tuple[tuple[str, int], ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a pattern.

        :raises ValueError: it is none; the text says why.
        """
        segments = text.removeprefix("/").split("/")
        literals: list[tuple[int, str]] = []
        variables: list[tuple[int, str | None]] = []
        captures: dict[str, int] = {}
        for index, segment in enumerate(segments):
            if "{" not in segment and "}" not in segment:
                if segment not in ("*", "**"):
                    literals.append((index, segment))
                continue
            variable = _VARIABLE.fullmatch(segment)
            if variable is None:
                raise ValueError(
                    f"{segment!r} is no variable; {{user}}, {{claims.NAME}} and {{NAME}} are,"
                    " each as a whole segment"
                )
            name = variable["name"]
            if variable["claim"]:
                variables.append((index, name))
            elif name == "user":
                variables.append((index, None))
            elif name == "claims":
                raise ValueError("{claims} does not say which; write {claims.NAME}")
            elif name in captures:
                raise ValueError(f"{segment} occurs twice")
            else:
                captures[name] = index
                segments[index] = "*"
        parse_segments(_VARIABLE.sub("*", text), pattern=True)
        return cls(
            text=text,
            segments=tuple(segments),
            shortest=len(segments),
            longest=MAX_SEGMENTS if segments[-1] == "**" else len(segments),
            literals=tuple(reversed(literals)),
            variables=tuple(variables),
            captures=tuple(captures.items()),
        )

    @property
    def first(self) -> str | None:
        """The first segment, if it is spelled."""
        return self.segments[0] if self._spells(0) else None

    def matches(self, destination: Destination, principal: Principal) -> bool:
        """Whether this covers the destination, which is no pattern."""
        return self.fits(destination) and self.binds(destination, principal)

    def fits(self, destination: Destination) -> bool:
        """Whether this covers the destination, which is no pattern, for some principal."""
        segments = destination.segments
        if not self.shortest <= len(segments) <= self.longest:
            return False
        for index, literal in self.literals:
            if segments[index] != literal:
                return False
        guarded = guarded_segment(segments)
        return guarded is None or self._spells(guarded)

    def binds(self, destination: Destination, principal: Principal) -> bool:
        """Whether a destination that fits has this principal's values for the variables."""
        segments = destination.segments
        return not self.variables or all(
            segments[index] == _value(claim, principal) for index, claim in self.variables
        )

    def overlaps(self, destination: Destination, principal: Principal) -> bool:
        """Whether something is covered by both this and the destination, which is a pattern.

        The bytes of a destination are not counted, so patterns whose common destinations would all
        be too long overlap here.
        """
        ours = self._bound(principal)
        if ours is None:
            return False
        theirs = destination.segments
        # If they have anything in common, then the least particular of it.
        common = _concrete(
            _spelled(theirs, index) or _spelled(ours, index) or "*"
            for index in range(max(len(ours), len(theirs)))
        )
        return self.matches(common, principal) and destination.matches(common)

    def covers(self, destination: Destination, principal: Principal) -> bool:
        """Whether this covers all that the destination, which is a pattern, covers."""
        return self._bound(principal) is not None and all(
            self.matches(example, principal) for example in _examples(destination.segments)
        )

    def covers_pattern(self, other: Pattern, anybody: Principal) -> bool:
        """Whether this covers all that the other covers, whoever the principal is.

        A yes is certain; a no may be wrong where the other's first segment is a variable.

        :param anybody: a principal whose name is ``{user}`` and whose claims are ``{claims.x}``.
        """
        return all(self.matches(example, anybody) for example in _examples(other.segments))

    def _spells(self, index: int) -> bool:
        return any(index == spelled for spelled, _ in self.literals)

    def _bound(self, principal: Principal) -> tuple[str, ...] | None:
        """The segments, with this principal's values; None where nothing is covered."""
        segments = list(self.segments)
        for index, claim in self.variables:
            value = _value(claim, principal)
            if not isinstance(value, str) or not is_segment(value):
                return None
            segments[index] = value
        return tuple(segments)


def _value(claim: str | None, principal: Principal) -> object:
    return principal.name if claim is None else principal.claims.get(claim)


def _spelled(segments: tuple[str, ...], index: int) -> str | None:
    if index < len(segments) and segments[index] not in ("*", "**"):
        return segments[index]
    return None


def _examples(segments: tuple[str, ...]) -> Iterator[Destination]:
    """Destinations such that who covers them covers all that the pattern covers.

    Their ``*`` is a segment that nobody spells. Two lengths stand for all that ``**`` allows, and
    where the first segment is open, ``queue`` stands there too, for the dead-letter queues.
    """
    bodies = [segments]
    if segments[-1] == "**":
        bodies = [(*segments[:-1], "*"), (*segments[:-1], "*", "*")]
    for body in bodies:
        if len(body) <= MAX_SEGMENTS:
            yield _concrete(body)
            if body[0].startswith(("*", "{")):
                yield _concrete(("queue", *body[1:]))


def _concrete(segments: Iterable[str]) -> Destination:
    parts = tuple(segments)
    return Destination("/" + "/".join(parts), parts, is_pattern=False)
