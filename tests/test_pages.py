"""The pages on the protocol, on security and for Spring's users say what the code does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from twisted.logger import LogLevel
from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

from stompauth.application import StompAuth
from stompauth.audit import EVENTS
from stompauth.errors import ERROR_CODES
from stompauth.interfaces import IInterceptor
from stompauth.session import events
from stompauth.session.firewall import BLOCKED
from stompauth.settings import Limits
from stompauth.stomp.frame import CLIENT_COMMANDS, REQUIRED_HEADERS, UNKNOWN_COMMANDS, VERSIONS

PAGE = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text()


class ProtocolPageTests(SynchronousTestCase):
    """docs/protocol.md."""

    def section(self, title: str) -> str:
        return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]

    def test_error_codes(self) -> None:
        """It lists every ERROR code with its close status, and no other."""
        listed = {
            code: int(close)
            for code, close in re.findall(
                r"^\| `([a-z-]+)` \| (\d+) \|", self.section("Errors"), re.M
            )
        }
        self.assertEqual(listed, {code: error.close for code, error in ERROR_CODES.items()})

    def test_required_headers(self) -> None:
        """It lists every command of a client with the headers that each version requires."""
        rows = re.findall(
            r"^\| ([A-Z][A-Z, ]+) \|(.*)\|$", self.section("Frames of a client"), re.M
        )
        listed = {
            command: cells.split("|")[:3]
            for commands, cells in rows
            for command in commands.split(", ")
        }
        self.assertEqual(set(listed), CLIENT_COMMANDS)
        for command, cells in listed.items():
            for version, cell in zip(VERSIONS, cells, strict=True):
                if command in UNKNOWN_COMMANDS[version]:
                    self.assertEqual(cell.strip(), f"not in {version}")
                elif "or" not in cell:
                    required = REQUIRED_HEADERS[version].get(command, ())
                    self.assertEqual(set(re.findall(r"`([a-z-]+)`", cell)), set(required), command)

    def test_firewall(self) -> None:
        """It lists every header that does not pass from a sender to a receiver."""
        text = self.section("Frames of the server").split("Of a sender's headers")[1]
        listed = set(re.findall(r"`([a-z-]+)`", text.split("x-stompauth")[0]))
        self.assertEqual(listed, BLOCKED - {"destination", "content-length"})


class SecurityPageTests(SynchronousTestCase):
    """docs/security.md."""

    def test_audit_events(self) -> None:
        """It lists every audit event with its level and the facts that its text names."""
        page = (Path(__file__).parents[1] / "docs" / "security.md").read_text()
        listed = {
            name: (level, set(facts.split(", ")))
            for name, level, facts in re.findall(
                r"^\| `([a-z-]+)` \| (\w+) \| (.*) \|$", page, re.M
            )
        }
        levels = {LogLevel.info: "info", LogLevel.warn: "warning"}
        events = {
            name: (levels[level], set(re.findall(r"{(\w+)}", text)))
            for name, (level, text) in EVENTS.items()
        }
        self.assertEqual(listed, events)


class SpringPageTests(SynchronousTestCase):
    """docs/howto/spring.md."""

    def setUp(self) -> None:
        page = (Path(__file__).parents[1] / "docs" / "howto" / "spring.md").read_text()
        self.tables = "\n".join(re.findall(r"^\|.*\|$", page, re.M))

    def named(self, pattern: str) -> set[str]:
        return set(re.findall(pattern, self.tables))

    def test_application(self) -> None:
        """What it names of the application is there."""
        names = self.named(r"`@?app\.(\w+)")
        self.assertIn("publish", names)
        self.assertEqual([name for name in names if not hasattr(StompAuth, name)], [])

    def test_modules(self) -> None:
        """What it names by its full name is there."""
        names = self.named(r"`(stompauth\.[\w.]+)`")
        self.assertIn("stompauth.client.connect", names)
        for name in names:
            namedAny(name)

    def test_limits(self) -> None:
        """What it names of the limits is there."""
        names = self.named(r"`limits\.(\w+)`")
        self.assertIn("heartbeat", names)
        self.assertLessEqual(names, {field.name for field in dataclasses.fields(Limits)})

    def test_interceptors(self) -> None:
        """It has each moment of an interceptor beside Spring's name for it."""
        for moment in IInterceptor.names():
            words = moment.split("_")
            theirs = words[0] + "".join(word.capitalize() for word in words[1:])
            (row,) = (row for row in self.tables.splitlines() if f"`{moment}`" in row)
            self.assertIn(f"`{theirs}`", row)

    def test_events(self) -> None:
        """It has each event that Spring has, too, under its name here."""
        names = self.named(r'"(\w+ed)"')
        self.assertEqual(names, set(events.EVENTS) - {"expiring"})
