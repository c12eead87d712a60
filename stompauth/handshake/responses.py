"""How HTTP requests are answered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from stompauth.errors import Denied

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
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
    """Set status and headers, and give the JSON body: ``error``, and ``detail`` if there is one."""
    set_security_headers(request)
    request.setResponseCode(denied.status)
    if denied.retry_after is not None:
        request.responseHeaders.setRawHeaders("Retry-After", [str(denied.retry_after)])
    body = {"error": denied.slug}
    if denied.detail is not None:
        body["detail"] = denied.detail
    return json_body(request, body)


def unauthorized(request: Request, *, token_sent: bool) -> Denied:
    """Make the 401, with the challenge of RFC 6750 section 3 among the headers."""
    challenge = 'Bearer error="invalid_token"' if token_sent else "Bearer"
    request.responseHeaders.setRawHeaders("WWW-Authenticate", [challenge])
    return Denied(401, "unauthorized")


def json_body(request: Request, value: object) -> bytes:
    """The value as JSON, with its content type set."""
    request.responseHeaders.setRawHeaders("Content-Type", ["application/json"])
    return json.dumps(value).encode("ascii")


def answer_later(request: Request, answer: Deferred[bytes]) -> int:
    """Send the body when it comes, unless the client has left by then.

    :return: for ``render`` to return.
    """
    is_here = True

    def left(_: object) -> None:
        nonlocal is_here
        is_here = False

    def finish(body: bytes) -> None:
        if is_here:
            request.responseHeaders.setRawHeaders("Content-Length", [str(len(body))])
            request.write(body)
            request.finish()

    request.notifyFinish().addErrback(left)
    answer.addCallback(finish)
    return NOT_DONE_YET


class NotFound(Resource):
    """404, as JSON, at any path and for any method."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        """Say so."""
        return deny(request, Denied(404, "not-found"))
