"""Runs targets with random octets."""

from __future__ import annotations

import random
import time
from hashlib import sha256
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TARGETS: Final = ("decoder", "destinations", "heads", "sessions", "tokens")

#: The average length of random octets, and the longest.
MEAN, MOST = 120, 1500


def load(target: str) -> Callable[[bytes], None]:
    """The function of a target."""
    run: Callable[[bytes], None] = import_module(f"tests.fuzz.{target}").run
    return run


def random_octets(seed: int) -> Iterator[bytes]:
    """Octets without end; the same for the same seed."""
    source = random.Random(seed)
    while True:
        yield source.randbytes(min(MOST, int(source.expovariate(1 / MEAN)) + 1))


def fuzz(target: str, seed: int, kept: Path, runs: int = 0, seconds: float = 0) -> int:
    """Run a target with random octets, and give the number of runs.

    :param kept: a directory; the octets of a run that fails are kept there.
    :param runs: how many at most, 0 for any number.
    :param seconds: for how long at most, 0 for any time.
    """
    run = load(target)
    end = time.monotonic() + (seconds or float("inf"))
    for done, octets in enumerate(random_octets(seed)):
        if done == (runs or -1) or time.monotonic() >= end:
            return done
        try:
            run(octets)
        except Exception as error:
            kept.mkdir(parents=True, exist_ok=True)
            path = kept / f"{target}-{sha256(octets).hexdigest()[:16]}"
            path.write_bytes(octets)
            error.add_note(f"seed {seed}, run {done}; the octets are in {path}")
            raise
    raise AssertionError("random octets do not end")
