"""Log events as lines: of JSON, for programs that read logs, or of text.

A line of JSON is an object. It tells what the event's text tells, and no more: of what an event
carries, only what its text names becomes a field.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from functools import lru_cache
from string import Formatter
from typing import IO, TYPE_CHECKING, Any, Final

from twisted.logger import (
    FileLogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
    formatEventAsClassicLogText,
    formatTime,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def text_file_log_observer(file: IO[Any]) -> FileLogObserver:
    """Make an observer that writes what Twisted's ``textFileLogObserver`` writes, at less cost.

    A connection is worth three lines, and to format them was a good part of what it cost.
    """
    return FileLogObserver(file, text_line)


def text_line(event: LogEvent) -> str | None:
    """An event as ``formatEventAsClassicLogText`` has it; None if there is nothing to say."""
    if event.get("log_namespace") != "stompauth.audit" or not _SPECIAL.isdisjoint(event):
        return formatEventAsClassicLogText(event, _time)
    # The texts name fields of strings and numbers, and nothing of those.
    text = event["log_format"].format_map(event).replace("\n", "\n\t")
    level = event["log_level"].name
    return f"{_time(event['log_time'])} [{event['log_namespace']}#{level}] {text}\n"


_SPECIAL: Final = frozenset({"log_failure", "log_flattened", "log_system"})


def _time(when: float | None) -> str:
    return "-" if when is None else _second(int(when))


@lru_cache(maxsize=4)
def _second(when: int) -> str:
    return formatTime(when)


def json_file_log_observer(file: IO[Any]) -> FileLogObserver:
    """Make an observer that writes each event to the file as :func:`json_line` has it."""
    return FileLogObserver(file, json_line)


def json_line(event: LogEvent) -> str:
    """An event as one line of JSON, in ASCII, with these fields.

    ``time``: when, in UTC (RFC 3339); ``level``; ``namespace``: the logger's; ``event``: of
    ``stompauth.audit``, the event's name; ``message``: the text, formatted; whatever fields the
    text names; ``worker``: of several processes the number of the one that has logged it;
    ``traceback``: of a failure.
    """
    fields = dict(_named(event))
    if "log_time" in event:
        time = datetime.fromtimestamp(event["log_time"], UTC)
        fields["time"] = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields["level"] = event.get("log_level", LogLevel.info).name
    fields["namespace"] = event.get("log_namespace", "")
    fields["message"] = formatEvent(event)
    if event.get("log_namespace") == "stompauth.audit":
        fields["event"] = event["audit"]
    if "worker" in event:
        fields["worker"] = event["worker"]
    if "log_failure" in event:
        fields["traceback"] = _traceback(event["log_failure"])
    first = {name: fields[name] for name in _FIRST if name in fields}
    return json.dumps(first | fields, default=str) + "\n"


_FIRST: Final = ("time", "level", "namespace", "event", "message")


def _named(event: LogEvent) -> Iterator[tuple[str, object]]:
    """The fields that the event's text names, as JSON can have them."""
    try:
        parts = list(Formatter().parse(event.get("log_format") or ""))
    except (TypeError, ValueError):
        return
    for _, name, _, conversion in parts:
        if (
            not name
            or name not in event
            or not re.fullmatch(r"(?!log_)[A-Za-z_]\w*", name, re.ASCII)
        ):
            continue
        value = event[name]
        if not (
            value is None
            or isinstance(value, bool | int | str)
            or (isinstance(value, float) and math.isfinite(value))
        ):
            shown = f"{name}!{conversion}" if conversion else name
            value = formatEvent({"log_format": f"{{{shown}}}", name: value})
        yield name, value


def _traceback(failure: Any) -> str:
    try:
        return str(failure.getTraceback())
    except Exception:
        # A log line less would hide that there was a failure at all.
        return "this failure cannot be shown"
