"""Tests of stompauth.operations.tracing."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.operations.tracing import (
    MAX_BATCH,
    MAX_FRAMES,
    MAX_HEADERS,
    MAX_SECONDS,
    MAX_VALUE,
    Tracing,
    shown_headers,
)
from stompauth.settings import Limits
from tests.applications import Application, token


class ShownHeadersTests(SynchronousTestCase):
    """Which headers an operator may see."""

    def test_secrets(self) -> None:
        """What may hold a secret is left out, in any case of its name."""
        for name in (
            *("Authorization", "passcode", "login", "ticket", "X-Ticket", "x-auth-token"),
            *("Cookie", "api-key", "client_secret", "PASSWORD", "x-jwt", "Proxy-Authorization"),
        ):
            self.assertEqual(shown_headers({name: "s3cret", "note": "x"}), [["note", "x"]], name)

    def test_values(self) -> None:
        """A value that looks like a secret is cut down, whatever its name."""
        for value in (token(), f"Bearer {'x' * 32}", "basic dXNlcjpwYXNz", "/temp-queue/r4nd0m"):
            ((_, shown),) = shown_headers({"note": value})
            self.assertNotIn(value[12:20], shown)

    @given(st.dictionaries(st.text(max_size=300), st.text(max_size=400), max_size=40))
    @settings(deadline=None, max_examples=60)
    def test_bounds(self, headers: dict[str, str]) -> None:
        """There are so many of them, of that length, and all can be shown."""
        shown = shown_headers(headers)
        self.assertLessEqual(len(shown), MAX_HEADERS)
        for name, value in shown:
            self.assertTrue((name + value).isprintable())
            # An escaped character takes ten at most.
            self.assertLessEqual(len(value), 10 * MAX_VALUE + 1)


class TracingTests(SynchronousTestCase):
    """Traces of sessions of an application in memory."""

    def setUp(self) -> None:
        self.application = Application(limits=Limits(frames_per_second=0))
        self.clock = self.application.clock
        self.alice = self.application.connect()
        self.bob = self.application.connect("bob")
        sessions = self.application.stompauth.sessions
        ((self.session,), (self.other,)) = (sessions.of_user("alice"), sessions.of_user("bob"))
        self.shared = self.session.chain
        self.reports: list[tuple[str, Any]] = []
        self.tracing = Tracing(self.clock, lambda *report: self.reports.append(report))

    def frames(self, operator: str = "op") -> list[Any]:
        self.clock.advance(1)
        return [
            frame for name, report in self.reports if name == operator for frame in report["frames"]
        ]

    def test_inbound(self) -> None:
        """A frame of the client is shown without token and body, with what came of it."""
        self.tracing.start("op", self.session)
        self.alice.send(
            "SEND",
            b"body",
            destination="/queue/work/1",
            Authorization=f"Bearer {token()}",
            note="n",
        )
        self.alice.send("SEND", b"body", destination="/topic/secret", note="n")
        sent, refused = self.frames()
        self.assertEqual((sent["direction"], sent["command"], sent["size"]), ("in", "SEND", 4))
        self.assertEqual(sent["outcome"], "done")
        self.assertIn(["note", "n"], sent["headers"])
        self.assertEqual(refused["outcome"], "access-denied")
        told = repr(self.reports).lower()
        for secret in ("authorization", token()[:20], "body"):
            self.assertNotIn(secret, told)

    def test_outbound(self) -> None:
        """A MESSAGE is shown as it went out, also to a subscription from before the trace."""
        # What bob gets of a message could go to alice as it is.
        self.bob.send("SUBSCRIBE", id="old", destination="/topic/rooms/lobby")
        self.alice.send("SUBSCRIBE", id="old", destination="/topic/rooms/lobby")
        self.tracing.start("op", self.session)
        self.alice.send("SUBSCRIBE", id="new", destination="/topic/rooms/lobby")
        self.bob.send("SEND", b"one", destination="/topic/rooms/lobby")
        shown = [frame for frame in self.frames() if frame["direction"] == "out"]
        ids = [dict(frame["headers"])["subscription"] for frame in shown]
        self.assertEqual((ids, shown[0]["command"]), (["old", "new"], "MESSAGE"))
        self.tracing.stop("op")
        self.bob.send("SEND", b"two", destination="/topic/rooms/lobby")
        for client, times in ((self.alice, 2), (self.bob, 1)):
            bodies = [frame.body for frame in client.frames() if frame.command == "MESSAGE"]
            self.assertEqual(bodies, [b"one"] * times + [b"two"] * times)

    def test_others(self) -> None:
        """Only the session that is traced has another chain, and only while it is."""
        self.tracing.start("op", self.session)
        self.assertIs(self.other.chain, self.shared)
        self.assertIsNot(self.session.chain, self.shared)
        self.tracing.stop("op")
        self.tracing.stop("op")
        self.assertIs(self.session.chain, self.shared)
        self.alice.send("SEND", b"x", destination="/queue/work/1")
        self.assertEqual(self.frames(), [])

    def test_two_operators(self) -> None:
        """Two operators may trace one session; that one has enough is nothing to the other."""
        self.tracing.start("one", self.session)
        self.tracing.start("two", self.session)
        self.alice.send("SEND", b"x", destination="/queue/work/1")
        self.assertEqual((len(self.frames("one")), len(self.frames("two"))), (1, 1))
        self.tracing.stop("one")
        self.alice.send("SEND", b"x", destination="/queue/work/1")
        self.assertEqual((len(self.frames("one")), len(self.frames("two"))), (1, 2))
        self.tracing.stop("two")
        self.assertIs(self.session.chain, self.shared)

    def test_another(self) -> None:
        """An operator traces one session at a time."""
        self.tracing.start("op", self.session)
        self.tracing.start("op", self.other)
        self.assertIs(self.session.chain, self.shared)
        self.assertEqual(len(self.tracing), 1)

    def test_flood(self) -> None:
        """Of frames that come too fast some are only counted."""
        self.tracing.start("op", self.session)
        for _ in range(MAX_BATCH + 20):
            self.alice.send("SEND", b"x", destination="/queue/work/1")
        self.assertEqual(len(self.frames()), MAX_BATCH)
        self.assertEqual(self.reports[0][1]["missed"], 20)

    def ended(self) -> Any:
        self.assertIs(self.session.chain, self.shared)
        self.assertEqual(len(self.tracing), 0)
        return self.reports[-1][1]["ended"]

    def test_enough(self) -> None:
        """After so many frames it ends."""
        self.tracing.start("op", self.session)
        for _ in range(MAX_FRAMES + 20):
            self.alice.send("SEND", b"x", destination="/queue/work/1")
        self.clock.advance(1)
        self.assertEqual(self.ended(), "frames")
        told = len(self.reports[0][1]["frames"]) + self.reports[0][1]["missed"]
        self.assertEqual(told, MAX_FRAMES)

    def test_time(self) -> None:
        """After so long it ends, and leaves no timer."""
        calls = len(self.clock.getDelayedCalls())
        self.tracing.start("op", self.session)
        self.clock.pump([0.5] * 2 * MAX_SECONDS)
        self.assertEqual(self.ended(), "time")
        self.assertEqual(len(self.reports), 1)
        self.assertEqual(len(self.clock.getDelayedCalls()), calls)

    def test_session_ends(self) -> None:
        """It ends with the session."""
        self.tracing.start("op", self.session)
        self.alice.websocket.socket.lose()
        self.clock.advance(1)
        self.assertEqual(self.ended(), "session")
