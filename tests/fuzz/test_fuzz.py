"""Each target for a moment, with octets that are new each time; ``make fuzz`` takes longer."""

from __future__ import annotations

import secrets
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import driver
from tests.fuzz.driver import TARGETS, fuzz, random_octets

#: Runs of each target: what takes about a second.
RUNS = {"decoder": 600, "destinations": 2000, "heads": 300, "sessions": 200, "tokens": 1000}


class FuzzTests(SynchronousTestCase):
    """Nothing that a peer can send makes the server do what it never may."""

    def fuzz(self, target: str) -> None:
        kept = Path(self.mktemp())
        seed = secrets.randbelow(2**31)
        self.assertEqual(fuzz(target, seed, kept, runs=RUNS[target]), RUNS[target])
        self.assertFalse(kept.exists())

    def test_decoder(self) -> None:
        """ST-1: however a stream is cut, it is the same frames and the same end."""
        self.fuzz("decoder")

    def test_destinations(self) -> None:
        """AZ-2, AZ-3: what is no destination is refused, and an allowed pattern allows no more."""
        self.fuzz("destinations")

    def test_heads(self) -> None:
        """HS-1, RS-4: no socket without a ticket, no answer without an end, and nothing is left."""
        self.fuzz("heads")

    def test_sessions(self) -> None:
        """RS-4: whatever clients do, nothing fails, and nothing of them is left."""
        self.fuzz("sessions")

    def test_tokens(self) -> None:
        """JW-6, JW-11: what is not a good token is a bad one, and raises nothing else."""
        self.fuzz("tokens")


class DriverTests(SynchronousTestCase):
    """What the targets are run by."""

    def test_all(self) -> None:
        """Every target is run here."""
        self.assertEqual(set(RUNS), set(TARGETS))

    def test_seed(self) -> None:
        """The same seed gives the same octets."""
        first, second = random_octets(1), random_octets(1)
        self.assertEqual([next(first) for _ in range(9)], [next(second) for _ in range(9)])

    def test_found(self) -> None:
        """Octets that a run fails with are kept, and the error says where and of which seed."""

        def broken(octets: bytes) -> None:
            raise ValueError("no")

        self.patch(driver, "load", lambda target: broken)
        kept = Path(self.mktemp())
        error = self.assertRaises(ValueError, fuzz, "decoder", 1, kept, runs=1)
        (path,) = kept.iterdir()
        self.assertEqual(path.read_bytes(), next(random_octets(1)))
        self.assertEqual(error.__notes__, [f"seed 1, run 0; the octets are in {path}"])
