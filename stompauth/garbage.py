"""What the garbage collector need not look at."""

from __future__ import annotations

import gc

from twisted.application.service import Service


class FreezeService(Service):
    """Keeps out of all collections to come what is there when it starts.

    Modules, classes and configuration stay until the process ends; a full collection, for which
    everybody waits, takes far less time without them. It is for a process that does nothing else:
    what is there is never collected any more.
    """

    _is_done = False

    def privilegedStartService(self) -> None:
        """Freeze, before anybody listens."""
        super().privilegedStartService()
        self._freeze()

    def startService(self) -> None:
        """Freeze, unless that is done: ``twist`` begins here."""
        super().startService()
        self._freeze()

    def _freeze(self) -> None:
        if not self._is_done:
            self._is_done = True
            # Garbage would be frozen, too.
            gc.collect()
            gc.freeze()
