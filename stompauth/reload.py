"""A configuration that changes while the server runs: taken over whole, or not at all."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from stompauth.config.changes import needs_restart
from stompauth.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stompauth.config import Config


class Reload:
    """Reads the configuration again, and takes it over.

    :param config: what the server runs with.
    :param read: reads it again, knowing what the server runs with.
    :param prepare: makes all that a configuration asks for and may fail; what it returns, which
        may not, has it used from then on.
    :param recheck: asks the rules again about every session.
    :ivar config: what the server runs with now.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        *,
        read: Callable[[Config], Config],
        prepare: Callable[[Config], Callable[[], None]],
        recheck: Callable[[], Deferred[int]],
    ) -> None:
        self.config = config
        self._read = read
        self._prepare = prepare
        self._recheck = recheck

    def __call__(self) -> Deferred[bool]:
        """Reload, and log what came of it: a configuration with mistakes changes nothing, nor does
        one with a change that needs a restart; all of either are told.

        :return: fires with whether it was taken over, when every session was rechecked.
        """
        return Deferred.fromCoroutine(self._reload())

    async def _reload(self) -> bool:
        try:
            config = self._read(self.config)
            if changes := needs_restart(self.config, config):
                self._log.error(
                    "not reloaded, nothing is changed; these need a restart: {keys}",
                    keys=", ".join(changes),
                )
                return False
            take_over = self._prepare(config)
        except ConfigError as error:
            self._log.error(
                "not reloaded, nothing is changed; the configuration has mistakes:\n{mistakes}",
                mistakes=str(error),
            )
            return False
        except Exception:
            self._log.failure("not reloaded, nothing is changed")
            return False
        take_over()
        self.config = config
        self._log.info("reloaded; now the rules are asked again about every session")
        sessions = await self._recheck()
        self._log.info("{sessions} sessions rechecked", sessions=sessions)
        return True


#: The signal that asks for a reload, where there is such a one.
SIGNAL: Final = getattr(signal, "SIGHUP", None)


class ReloadOnSignal(Service):
    """Reloads whenever the process gets SIGHUP, from the service's start to its stop.

    A program that has signals of its own calls :class:`Reload` instead.

    :param reload: is called in a turn of the reactor.
    """

    _log = Logger()

    def __init__(self, reload: Callable[[], object], reactor: Any) -> None:
        self._reload = reload
        self._reactor = reactor
        self._previous: Any = None

    def startService(self) -> None:
        """Take the signal."""
        super().startService()
        if SIGNAL is not None:
            self._previous = signal.signal(SIGNAL, self._signalled)

    def stopService(self) -> None:
        """Give the signal back."""
        super().stopService()
        if SIGNAL is not None:
            signal.signal(SIGNAL, self._previous)

    def _signalled(self, *_: object) -> None:
        # Between any two instructions of the reactor thread; so not yet.
        self._reactor.callFromThread(self._carry_out)

    def _carry_out(self) -> None:
        done = maybeDeferred(self._reload)
        done.addErrback(lambda failure: self._log.failure("a reload failed", failure))
