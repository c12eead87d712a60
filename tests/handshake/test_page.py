"""Tests of stompauth.handshake.page."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.handshake.page import Content, PageResource
from stompauth.handshake.site import PathRouter, StrictSite
from tests.wire import Response, request


class PageResourceTests(SynchronousTestCase):
    """A file for browsers."""

    def setUp(self) -> None:
        self.file = Path(self.mktemp()).with_suffix(".html")
        self.file.write_text("<p>one")
        page = PageResource(lambda: Content.of(self.file), "default-src 'none'")
        self.site = StrictSite(PathRouter({b"/": page}), Clock())

    def ask(self, method: str = "GET") -> Response:
        return request(self.site, [f"{method} / HTTP/1.1", "Host: x"])

    def test_get(self) -> None:
        """It is served as it is now, with its type and under its policy."""
        self.file.write_text("<p>two")
        response = self.ask()
        self.assertEqual((response.status, response.body), (200, b"<p>two"))
        for name, value in {
            "content-type": "text/html; charset=utf-8",
            "content-security-policy": "default-src 'none'",
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
        }.items():
            self.assertEqual(response.headers[name], value)

    def test_head(self) -> None:
        """HEAD tells the same without the body."""
        response = self.ask("HEAD")
        self.assertEqual((response.headers["content-length"], response.body), ("6", b""))

    def test_methods(self) -> None:
        """Nothing else can be done with it."""
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            response = self.ask(method)
            self.assertEqual((response.status, response.headers["allow"]), (405, "GET, HEAD"))

    def test_status(self) -> None:
        """What is not there may say so."""
        page = PageResource(lambda: Content("text/plain", b"no", 404), "default-src 'none'")
        self.site = StrictSite(PathRouter({b"/": page}), Clock())
        self.assertEqual(self.ask().status, 404)
