"""Tests of stompauth.session.refusals."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.errors import Refused
from stompauth.session.refusals import error_frame, notice_frame


class RefusalTests(SynchronousTestCase):
    """What is told of a refusal is that it was one, its code, and a fixed text."""

    def test_error(self) -> None:
        """An ERROR has the headers that the refusal brings; the receipt only if one was asked."""
        frame = error_frame(Refused("broker-unavailable", {"retry-after": "3"}), None)
        self.assertEqual(
            (frame.command, frame.headers, frame.body),
            (
                "ERROR",
                {
                    "message": "Broker unavailable",
                    "code": "broker-unavailable",
                    "content-type": "text/plain",
                    "retry-after": "3",
                },
                b"The message broker cannot be reached now.",
            ),
        )
        self.assertEqual(error_frame(Refused("limit"), "r").headers["receipt-id"], "r")

    def test_notice(self) -> None:
        """A notice is a MESSAGE that cannot be taken for one of somebody's, and needs no ack."""
        refused = Refused("full", explanation="Try the other room.", notify=True)
        frame = notice_frame(refused, "1", "/app/x", "r")
        message_id = frame.headers.pop("message-id")
        self.assertEqual(
            (frame.command, frame.headers, frame.body),
            (
                "MESSAGE",
                {
                    "subscription": "1",
                    "destination": "/app/x",
                    "error": "true",
                    "code": "full",
                    "content-type": "text/plain",
                    "receipt-id": "r",
                },
                b"Try the other room.",
            ),
        )
        other = notice_frame(refused, "1", "/app/x")
        self.assertNotIn("receipt-id", other.headers)
        self.assertNotEqual(other.headers["message-id"], message_id)
