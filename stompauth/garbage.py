"""What the garbage collector need not look at."""

from __future__ import annotations

import gc
from typing import Any

from twisted.application.service import Service


class FreezeService(Service):
    """Keeps out of all collections to come what is there when the reactor begins to run.

    Modules, classes and configuration stay until the process ends; without them a full collection,
    for which everybody waits, takes a third of the time. It is for a process that does nothing
    else: what it has set up is never collected any more.

    :param reactor: is asked when it runs.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def startService(self) -> None:
        """Freeze as soon as everything has started."""
        super().startService()
        self._reactor.callWhenRunning(_freeze)


def _freeze() -> None:
    # Garbage would be frozen, too.
    gc.collect()
    gc.freeze()
