"""Files for browsers: pages, and what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twisted.web.resource import Resource

from stompauth.errors import Denied
from stompauth.handshake.responses import deny, set_security_headers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twisted.web.server import Request

#: The types of files that are served, by the end of their names.
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Content:
    """What is served at a path."""

    type: str
    body: bytes
    status: int = 200

    @classmethod
    def of(cls, file: Path) -> Content:
        """A file as it is now."""
        return cls(TYPES[file.suffix], file.read_bytes())


class PageResource(Resource):
    """What a browser GETs for a page.

    :param content: gives the content, each time.
    :param policy: the ``Content-Security-Policy`` (CSP Level 3) that goes with it.
    """

    isLeaf = True

    def __init__(self, content: Callable[[], Content], policy: str) -> None:
        super().__init__()
        self._content = content
        self._policy = policy

    def render(self, request: Request) -> bytes:
        """Answer any method."""
        if request.method not in (b"GET", b"HEAD"):
            request.responseHeaders.setRawHeaders("Allow", ["GET, HEAD"])
            return deny(request, Denied(405, "method"))
        content = self._content()
        set_security_headers(request)
        request.setResponseCode(content.status)
        headers = request.responseHeaders
        headers.setRawHeaders("Content-Security-Policy", [self._policy])
        headers.setRawHeaders("Content-Type", [content.type])
        headers.setRawHeaders("Content-Length", [str(len(content.body))])
        return content.body if request.method == b"GET" else b""
