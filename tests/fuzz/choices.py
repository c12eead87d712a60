"""Decisions read off octets."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

#: Octets that mean something to one of the parsers.
TELLING = (0, 9, 10, 13, 32, 42, 44, 46, 47, 58, 61, 92, 123, 127, 128, 133, 195, 255)


class Choices:
    """What a target does next, decided by the octets from a fuzzer.

    When the octets are used up, every choice is the first one: put what is plain there.

    :param octets: what decides.
    """

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there are octets left to decide with."""
        return self._at < len(self._octets)

    def number(self, below: int) -> int:
        """A number from 0, smaller than ``below``."""
        taken = self.octets(1 if below <= 256 else 3)
        return int.from_bytes(taken, "little") % below

    def once_in(self, times: int) -> bool:
        """True once in so many times."""
        return self.number(times) == times - 1

    def one_of(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.number(len(options))]

    def octets(self, count: int) -> bytes:
        """So many octets as they are, or what is left."""
        taken = self._octets[self._at : self._at + count]
        self._at += count
        return taken

    def pieces(self, data: bytes) -> list[bytes]:
        """The data, cut at some places."""
        pieces, start = [], 0
        while start < len(data):
            end = start + (1 + self.number(24) if self else len(data))
            pieces.append(data[start:end])
            start = end
        return pieces

    def mutated(self, data: bytes, most: int = 4) -> bytes:
        """The data with up to so many places changed."""
        for _ in range(self.number(most + 1)):
            start = self.number(len(data) + 1)
            end = start + self.number(9)
            match self.number(6):
                case 0:
                    data = data[:start] + bytes([self.one_of(TELLING)]) + data[start:]
                case 1:
                    data = data[:start] + bytes([self.one_of(TELLING)]) + data[start + 1 :]
                case 2:
                    data = data[:start] + data[end:]
                case 3:
                    data = data[:end] + data[start:]
                case 4:
                    data = data[:start] + self.octets(self.number(9)) + data[start:]
                case 5:
                    data = data[:start]
        return data
