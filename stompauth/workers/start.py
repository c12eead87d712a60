"""What a parent tells each of its workers, and how the two keep watch of one another."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

#: A worker's end of the pipe from its parent: a line of JSON, and then nothing for as long as the
#: worker is to go on. The end of the parent, of whatever kind, ends the pipe.
FROM_PARENT: Final = 0

#: Where a worker says that it is ready, and whatever else; a line each.
TO_PARENT: Final = 3

READY: Final = b"ready"

#: With this it asks for the end of all.
STOP: Final = b"stop"


def tell_parent(word: bytes) -> None:
    """Say a word to the parent."""
    os.write(TO_PARENT, word + b"\n")


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker has to know.

    :ivar index: its number, from 0.
    :ivar count: of all workers.
    :ivar directory: where their sockets are.
    :ivar listeners: by the key of the configuration, endpoint descriptions and the descriptors of
        what the parent has bound for them.
    """

    index: int
    count: int
    directory: str
    listeners: Mapping[str, Sequence[tuple[str, int]]]

    def encode(self) -> bytes:
        """A line of JSON."""
        return json.dumps(asdict(self)).encode("ascii") + b"\n"

    @classmethod
    def read(cls, descriptor: int = FROM_PARENT) -> Start:
        """Read the line.

        :raises ValueError: whoever has begun this process is no parent of workers.
        """
        line = b""
        while not line.endswith(b"\n"):
            octets = os.read(descriptor, 1)
            if not octets:
                raise ValueError("no parent has begun this worker")
            line += octets
        match json.loads(line):
            case {
                "index": int(index),
                "count": int(count),
                "directory": str(directory),
                "listeners": dict(listeners),
            }:
                bound = {
                    key: tuple((str(description), int(number)) for description, number in pairs)
                    for key, pairs in listeners.items()
                }
                return cls(index, count, directory, bound)
        raise ValueError("what has begun this worker is no parent of workers")


@implementer(IReadDescriptor)
class ParentWatch:
    """Tells when the pipe from the parent ends.

    Give it to a reactor as a reader.
    """

    def __init__(self, gone: Callable[[], object], descriptor: int = FROM_PARENT) -> None:
        self._gone = gone
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Who reads."""
        return "parent"

    def doRead(self) -> Any:
        """See whether the pipe has ended."""
        return None if os.read(self._descriptor, 4096) else ConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has done with the pipe."""
        self._gone()
