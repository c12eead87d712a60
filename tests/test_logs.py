"""Tests of stompauth.logs."""

from __future__ import annotations

import io
import json
from string import Formatter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import (
    LogEvent,
    Logger,
    LogLevel,
    LogPublisher,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.python import log as legacy
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from stompauth.audit import EVENTS
from stompauth.logs import json_file_log_observer, json_line, text_file_log_observer, text_line


class Unshowable:
    """Something that cannot be written down."""

    def __repr__(self) -> str:
        raise ValueError("no")


def event_of(format_: str, /, **fields: Any) -> LogEvent:
    """An event as a Logger makes it."""
    events: list[LogEvent] = []
    publisher = LogPublisher(events.append)
    Logger("stompauth.here", observer=publisher).emit(LogLevel.warn, format_)
    return events[0] | fields | {"log_time": 1_750_000_000.25}


def parsed(event: LogEvent) -> dict[str, Any]:
    """The line of an event, as a program reads it."""
    line = json_line(event)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    fields: dict[str, Any] = json.loads(line)
    return fields


class TextLineTests(SynchronousTestCase):
    """The text is that of Twisted's own observer, whatever the event."""

    def assert_same(self, event: LogEvent) -> None:
        self.assertEqual(text_line(event), formatEventAsClassicLogText(event))

    def test_audit(self) -> None:
        """The events that come with each connection read as they always did."""
        events: list[LogEvent] = []
        for event, (level, text) in EVENTS.items():
            facts = {name: f"a {name}\n{{}}" for _, name, _, _ in Formatter().parse(text) if name}
            Logger("stompauth.audit", observer=events.append).emit(
                level, text, audit=event, **facts
            )
        self.assertEqual(len(events), len(EVENTS))
        for logged in events:
            self.assert_same(logged)
            # Of another process, as its parent logs it.
            self.assert_same(logged | {"log_system": "worker 1, here"})
            self.assert_same(logged | {"log_failure": Failure(ValueError("oh"))})

    def test_others(self) -> None:
        """So do all other events, with and without a time, and those that say nothing."""
        self.assert_same(event_of("{a.real} {b()}", a=3, b=lambda: "two\nlines"))
        self.assert_same(event_of("{missing}"))
        self.assert_same({"log_format": "no time"})
        self.assertIsNone(text_line({}))

    def test_time(self) -> None:
        """Each second has a text of its own."""
        for when in (1_750_000_000.0, 1_750_000_000.99, 1_750_000_001.0, 1_750_000_000.5):
            self.assert_same(event_of("now") | {"log_time": when})

    def test_file(self) -> None:
        """The observer writes lines."""
        file = io.StringIO()
        text_file_log_observer(file)({"log_format": "hello"})
        self.assertEqual(file.getvalue(), "- [-#-] hello\n")


class JSONLineTests(SynchronousTestCase):
    """An event is an object in one line."""

    def test_fields(self) -> None:
        """It has time, level, namespace and message, then what the text names, with its type."""
        line = parsed(event_of("{user} has {count} of {share}", user="alice", count=3, share=0.5))
        self.assertEqual(
            line,
            {
                "time": "2025-06-15T15:06:40.250Z",
                "level": "warn",
                "namespace": "stompauth.here",
                "message": "alice has 3 of 0.5",
                "user": "alice",
                "count": 3,
                "share": 0.5,
            },
        )
        self.assertEqual(list(line)[:3], ["time", "level", "namespace"])

    def test_worker(self) -> None:
        """An event of one of several processes tells its number."""
        self.assertEqual(parsed(event_of("here", worker=2))["worker"], 2)

    def test_unnamed(self) -> None:
        """LG-1: what the text does not name, and so does not tell, is left out."""
        line = json_line(event_of("{user} is here", user="alice", token="hunter2"))
        self.assertNotIn("hunter2", line)

    def test_objects(self) -> None:
        """What JSON has no notation for is a string, as the text has it."""
        line = parsed(event_of("{a!r} {b} {c} {d}", a=b"x", b={1}, c=float("inf"), d=None))
        self.assertEqual((line["a"], line["b"], line["c"]), ("b'x'", "{1}", "inf"))
        self.assertIsNone(line["d"])
        self.assertEqual(line["message"], "b'x' {1} inf None")

    def test_unshowable(self) -> None:
        """What cannot be shown does not keep the line back."""
        line = parsed(event_of("{thing!r}", thing=Unshowable()))
        self.assertIn("thing", line)
        self.assertTrue(line["message"])

    def test_own_fields_win(self) -> None:
        """A field of the text is not taken for the line's own."""
        line = parsed(event_of("{level} {namespace} {message}", level=1, namespace=2, message=3))
        self.assertEqual((line["level"], line["namespace"]), ("warn", "stompauth.here"))
        self.assertEqual(line["message"], "1 2 3")

    def test_one_line(self) -> None:
        """LG-2: line ends and terminal escapes in a text are escaped, and all is ASCII."""
        text = "a\r\nb\x1b[2J\u2028\u202e\ud800\xe4"
        line = json_line(event_of("{text}", text=text))
        self.assertTrue(line.isascii())
        self.assertTrue(line.removesuffix("\n").isprintable())
        self.assertEqual(json.loads(line)["text"], text)

    def test_audit(self) -> None:
        """An audit event has its name in ``event``, and each fact in a field."""
        level, text = EVENTS["denied"]
        facts = {"session": "s", "user": "u", "command": "send", "to": "/topic/a", "reason": "r"}
        event = event_of(text, audit="denied", **facts) | {"log_namespace": "stompauth.audit"}
        line = parsed(event | {"log_level": level})
        self.assertEqual(line["event"], "denied")
        self.assertEqual(line["level"], "warn")
        self.assertEqual({name: line[name] for name in facts}, facts)

    def test_failure(self) -> None:
        """A failure has its traceback in a field of its own."""
        events: list[LogEvent] = []
        log = Logger("stompauth.here", observer=LogPublisher(events.append))
        try:
            raise ValueError("that was it")
        except ValueError:
            log.failure("a {thing} failed", thing="session")
        line = parsed(events[0])
        self.assertEqual((line["level"], line["thing"]), ("critical", "session"))
        self.assertEqual(line["message"], "a session failed")
        self.assertIn("ValueError: that was it", line["traceback"])
        self.assertIn("test_logs.py", line["traceback"])

    def test_failure_variables(self) -> None:
        """LG-1: a traceback shows no variable, even where failures keep them."""
        events: list[LogEvent] = []
        log = Logger("stompauth.here", observer=LogPublisher(events.append))

        def fail(token: str) -> None:
            raise ValueError(len(token))

        try:
            fail("".join(["hunter", "2"]))
        except ValueError:
            log.failure("a session failed")
        self.assertNotIn("hunter2", json_line(events[0]))

    def test_legacy(self) -> None:
        """What comes from twisted.python.log is well formed as well."""
        events: list[LogEvent] = []
        legacy.LogPublisher(publishPublisher=LogPublisher(events.append)).msg("an", "old", "one")
        line = parsed(events[0])
        self.assertEqual(line.pop("message"), "an old one")
        self.assertEqual(set(line), {"time", "level", "namespace"})

    @settings(deadline=None, max_examples=150)
    @given(
        st.text(max_size=20) | st.none(),
        st.dictionaries(
            st.sampled_from(["a", "log_format", "log_time", "event", "log_failure", "log_source"])
            | st.text(max_size=5),
            st.text(max_size=9) | st.floats() | st.binary(max_size=5) | st.lists(st.integers()),
        ),
    )
    def test_any(self, text: str | None, fields: dict[str, Any]) -> None:
        """Whatever an event holds, its line is an object."""
        fields.pop("log_time", None)
        parsed({"log_format": text, "log_level": LogLevel.info, **fields})


class ObserverTests(SynchronousTestCase):
    """Lines go to a file."""

    def test_files(self) -> None:
        """Of text, or of octets."""
        event = event_of("{name}", name="\xe4")
        text, octets = io.StringIO(), io.BytesIO()
        json_file_log_observer(text)(event)
        json_file_log_observer(octets)(event)
        self.assertEqual(text.getvalue().encode(), octets.getvalue())
        self.assertEqual(json.loads(text.getvalue())["message"], formatEvent(event))
