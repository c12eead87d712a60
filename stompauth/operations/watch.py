"""What happens in the server, told once a second for as long as somebody looks on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.logger import LogEvent

    from stompauth.application import StompAuth

#: Seconds between two reports.
INTERVAL: Final = 1.0

#: Audit events in one report at most; more of them are only counted.
MAX_EVENTS: Final = 50

#: Characters of an event's text at most.
MAX_TEXT: Final = 600

#: Attributes of :class:`.Counters` whose rise is reported, per second.
RATES: Final = (
    "frames_received",
    "messages_received",
    "messages_delivered",
    "bytes_received",
    "bytes_sent",
)

#: Audit events with which the list of sessions changes.
_CHANGES: Final = frozenset({"connected", "ended"})


@implementer(ILogObserver)
class Watch:
    """Reports totals, rates and audit events of an application's process.

    The events come from the log, which holds no secret and has what comes from peers escaped and
    cut. They are those of the process, so those of the operators are among them.

    :param report: takes each report.
    """

    def __init__(
        self,
        application: StompAuth,
        clock: IReactorTime,
        report: Callable[[dict[str, Any]], object],
    ) -> None:
        self._application = application
        self._clock = clock
        self._report = report
        self._call: IDelayedCall | None = None
        self._events: list[dict[str, Any]] = []
        self._missed = 0
        self._has_changed = False
        self._since = 0.0
        self._before: dict[str, int] = {}

    @property
    def is_running(self) -> bool:
        """Whether somebody looks on."""
        return self._call is not None

    def start(self) -> None:
        """Begin."""
        if self._call is None:
            self._since, self._before = self._clock.seconds(), self._counted()
            self._call = self._clock.callLater(INTERVAL, self._tell)
            globalLogPublisher.addObserver(self)

    def stop(self) -> None:
        """End, and forget."""
        if self._call is not None:
            globalLogPublisher.removeObserver(self)
            self._call.cancel()
            self._call = None
            self._take_events()

    def __call__(self, event: LogEvent) -> None:
        """Take note of an event, if it is an audit event."""
        name = event.get("audit")
        if not isinstance(name, str):
            return
        self._has_changed = self._has_changed or name in _CHANGES
        if len(self._events) >= MAX_EVENTS:
            self._missed += 1
            return
        self._events.append(
            {
                "at": self._clock.seconds(),
                "event": name,
                "denial": event.get("log_level") is LogLevel.warn,
                "text": formatEvent(event)[:MAX_TEXT],
            }
        )

    def now(self) -> dict[str, Any]:
        """The totals."""
        application = self._application
        return {
            "at": self._clock.seconds(),
            "sessions": len(application.sessions),
            "broker": dict(application.broker_counts()),
            "parts": application.readiness(),
        }

    def _tell(self) -> None:
        self._call = self._clock.callLater(INTERVAL, self._tell)
        now, counted = self._clock.seconds(), self._counted()
        # The clock is the wall's, and may be set back.
        passed = max(now - self._since, INTERVAL / 10)
        rates = {name: (count - self._before[name]) / passed for name, count in counted.items()}
        self._since, self._before = now, counted
        self._report({**self.now(), "rates": rates, **self._take_events()})

    def _counted(self) -> dict[str, int]:
        counters = self._application.counters
        return {name: getattr(counters, name) for name in RATES}

    def _take_events(self) -> dict[str, Any]:
        taken = {"events": self._events, "missed": self._missed, "changed": self._has_changed}
        self._events, self._missed, self._has_changed = [], 0, False
        return taken
