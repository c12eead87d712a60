"""How HTTP requests are turned down."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from twisted.web.resource import Resource

from stompauth.errors import Denied

if TYPE_CHECKING:
    from twisted.web.server import Request


def set_security_headers(request: Request) -> None:
    """What every answer of ours says: keep it nowhere, guess nothing, tell nobody."""
    headers = request.responseHeaders
    headers.setRawHeaders("Cache-Control", ["no-store"])
    headers.setRawHeaders("X-Content-Type-Options", ["nosniff"])
    headers.setRawHeaders("Referrer-Policy", ["no-referrer"])
    if request.isSecure():
        headers.setRawHeaders("Strict-Transport-Security", ["max-age=31536000"])


def deny(request: Request, denied: Denied) -> bytes:
    """Set status and headers, and give the JSON body ``{"error": slug}``."""
    set_security_headers(request)
    request.setResponseCode(denied.status)
    if denied.retry_after is not None:
        request.responseHeaders.setRawHeaders("Retry-After", [str(denied.retry_after)])
    return json_body(request, {"error": denied.slug})


def json_body(request: Request, value: object) -> bytes:
    """The value as JSON, with its content type set."""
    request.responseHeaders.setRawHeaders("Content-Type", ["application/json"])
    return json.dumps(value).encode("ascii")


class NotFound(Resource):
    """404, as JSON, at any path and for any method."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        """Say so."""
        return deny(request, Denied(404, "not-found"))
