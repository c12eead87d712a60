"""Tests of stompauth.garbage."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from stompauth.garbage import FreezeService


class FreezeTests(SynchronousTestCase):
    """A process that serves does not look again and again at what never goes."""

    def setUp(self) -> None:
        self.addCleanup(gc.unfreeze)

    def test_start(self) -> None:
        """All that is there is frozen with the start, and not before."""
        before = gc.get_freeze_count()
        service = FreezeService()
        self.assertEqual(gc.get_freeze_count(), before)
        service.startService()
        self.assertGreater(gc.get_freeze_count(), before + 1000)

    def test_before_listening(self) -> None:
        """With twistd that is before anybody listens, and happens once."""
        service = FreezeService()
        service.privilegedStartService()
        frozen = gc.get_freeze_count()
        gc.unfreeze()
        service.startService()
        self.assertEqual((frozen > 1000, gc.get_freeze_count()), (True, 0))

    def test_garbage(self) -> None:
        """What is garbage by then is collected, and not frozen."""

        class Knot(list["Knot"]):
            pass

        knot = Knot()
        knot.append(knot)
        del knot
        FreezeService().startService()
        gc.unfreeze()
        self.assertFalse([found for found in gc.get_objects() if type(found) is Knot])
