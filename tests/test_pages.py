"""The pages on the protocol and on security say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from stompauth.audit import EVENTS
from stompauth.errors import ERROR_CODES
from stompauth.session.firewall import BLOCKED
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
