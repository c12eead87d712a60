"""What the log may not hold."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twisted.logger import LogLevel, globalLogPublisher

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_failures() -> Iterator[list[dict[str, Any]]]:
    """Raise after the block if it logged a failure or an error; gives all its events meanwhile."""
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(events.append)
    for event in events:
        if "log_failure" in event:
            raise AssertionError(event["log_format"]) from event["log_failure"].value
        assert event["log_level"] < LogLevel.error, event["log_format"]
