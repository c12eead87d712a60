"""What workers log, in the log of their parent."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Final

from twisted.logger import FileLogObserver, Logger, eventAsJSON, eventFromJSON
from twisted.python.reflect import safe_str

if TYPE_CHECKING:
    from twisted.logger import ILogObserver, LogEvent

#: Octets of a line at most; of a longer one the beginning is told.
MAX_LINE: Final = 1 << 20


def worker_log_observer(file: IO[Any]) -> FileLogObserver:
    """Make an observer that writes events for the parent to read: a line of JSON each."""
    return FileLogObserver(file, _line)


def _line(event: LogEvent) -> str:
    failure = event.get("log_failure")
    if failure is not None:
        # Of a failure Twisted's JSON leaves out what the exception says.
        event = {**event, "failure_text": safe_str(failure.value)}
    return eventAsJSON(event) + "\n"


class WorkerLog:
    """Takes a worker's output, and hands on the events in it.

    A line is an event as :func:`worker_log_observer` writes it; any other one, as from an
    interpreter that ends, is an event of ours.

    :param index: the number of the worker, which each event tells: as ``worker``, and in the text.
    :param observer: gets the events.
    """

    def __init__(self, index: int, observer: ILogObserver) -> None:
        self._index = index
        self._observer = observer
        self._log = Logger(observer=observer)
        self._rest = b""

    def received(self, data: bytes) -> None:
        """Take some octets."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._take(line)

    def ended(self) -> None:
        """There will be no more."""
        rest, self._rest = self._rest, b""
        self._take(rest)

    def _take(self, line: bytes) -> None:
        if not line:
            return
        try:
            event = eventFromJSON(line.decode("utf-8"))
            level = event["log_level"].name
            system = event.get("log_system") or f"{event['log_namespace']}#{level}"
            event["log_system"] = f"worker {self._index}, {system}"
        except Exception:
            text = line[:MAX_LINE].decode("utf-8", "replace")
            self._log.warn("worker {worker} says: {text}", worker=self._index, text=text)
            return
        event["worker"] = self._index
        text = event.pop("failure_text", None)
        if text is not None:
            event["log_failure"].value = text
        for of_that_process in ("log_logger", "log_source"):
            event.pop(of_that_process, None)
        self._observer(event)
