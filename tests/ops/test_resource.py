"""Tests of stompauth.ops.resource."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.handshake.site import StrictSite
from stompauth.ops.resource import OpsResource
from tests.applications import Application
from tests.wire import Response, request

TOKEN = "0123456789abcdef" * 2


class FixedText:
    """Metrics that never change."""

    content_type = b"text/plain"

    def text(self) -> bytes:
        return b"stompauth_sessions 1\n"


class OpsResourceTests(SynchronousTestCase):
    """Who watches over a server asks it over HTTP."""

    def setUp(self) -> None:
        self.application = Application()
        self.serve(FixedText())

    def serve(self, metrics: FixedText | None, token: str = "") -> None:
        resource = OpsResource(self.application.stompauth, metrics, token)
        self.site = StrictSite(resource, self.application.clock)

    def ask(self, path: str, *extra: str, method: str = "GET") -> Response:
        return request(self.site, [f"{method} {path} HTTP/1.1", "Host: x", *extra])

    def test_health(self) -> None:
        """OP-1: it is up, and that is all it says, also while it is about to stop."""
        for stopping in (False, True):
            self.application.stompauth._connections.is_stopping = stopping
            answer = self.ask("/health")
            self.assertEqual((answer.status, answer.json), (200, {"up": True}))

    def test_ready(self) -> None:
        """It is ready until it is about to stop."""
        answer = self.ask("/ready")
        self.assertEqual((answer.status, answer.json), (200, {"ready": True}))
        self.application.stompauth._connections.is_stopping = True
        answer = self.ask("/ready")
        self.assertEqual((answer.status, answer.json), (503, {"ready": False}))

    def test_metrics(self) -> None:
        """The metrics as they are now, to be kept nowhere."""
        answer = self.ask("/metrics")
        self.assertEqual((answer.status, answer.body), (200, b"stompauth_sessions 1\n"))
        self.assertEqual(answer.headers["content-type"], "text/plain")
        self.assertEqual(answer.headers["cache-control"], "no-store")

    def test_token(self) -> None:
        """OP-1: with a token the metrics are for those who show it; health is for all."""
        self.serve(FixedText(), TOKEN)
        for extra in (
            (),
            ("Authorization: Bearer " + TOKEN[::-1],),
            ("Authorization: Basic eA==",),
        ):
            self.assertEqual(self.ask("/metrics", *extra).status, 401)
        self.assertEqual(self.ask("/metrics", f"Authorization: Bearer {TOKEN}").status, 200)
        self.assertEqual(self.ask("/health").status, 200)
        with self.assertRaises(ValueError):
            self.serve(FixedText(), "short")

    def test_without_metrics(self) -> None:
        """Without prometheus-client there are no metrics, and the rest is there."""
        self.serve(None)
        self.assertEqual(self.ask("/metrics").status, 404)
        self.assertEqual(self.ask("/health").status, 200)

    def test_elsewhere(self) -> None:
        """Other paths and methods are refused."""
        self.assertEqual(self.ask("/").status, 404)
        answer = self.ask("/ready", "Content-Length: 0", method="POST")
        self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"))
        self.assertEqual(self.ask("/health", method="HEAD").status, 200)
