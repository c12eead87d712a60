"""How HTTP requests are answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from stompauth.errors import Denied

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.web.server import Request


@dataclass(slots=True, repr=False)
class Answer:
    """What is to be answered, by whatever speaks HTTP here; the body may hold a ticket.

    :ivar status: of HTTP.
    :ivar headers: by their names, but those that follow from the body or the connection.
    :ivar body: the octets.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""

    def fill(self, request: Request) -> bytes:
        """Set status and headers, and give the body."""
        request.setResponseCode(self.status)
        for name, value in self.headers.items():
            request.responseHeaders.setRawHeaders(name, [value])
        return self.body


def security_headers(*, is_secure: bool) -> dict[str, str]:
    """What every answer of ours says: keep it nowhere, guess nothing, tell nobody."""
    headers = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    if is_secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"
    return headers


def set_security_headers(request: Request) -> None:
    """Set :func:`security_headers`."""
    for name, value in security_headers(is_secure=request.isSecure()).items():
        request.responseHeaders.setRawHeaders(name, [value])


def deny(request: Request, denied: Denied) -> bytes:
    """Set status and headers, and give the JSON body: ``error``, and ``detail`` if there is one."""
    return denial(denied, is_secure=request.isSecure()).fill(request)


def denial(denied: Denied, *, is_secure: bool) -> Answer:
    """Answer with the status and a JSON body: ``error``, and ``detail`` if there is one."""
    body = {"error": denied.slug}
    if denied.detail is not None:
        body["detail"] = denied.detail
    answer = json_answer(body, is_secure=is_secure)
    answer.status = denied.status
    if denied.retry_after is not None:
        answer.headers["Retry-After"] = str(denied.retry_after)
    return answer


def json_answer(value: object, *, is_secure: bool) -> Answer:
    """Answer 200, with the value as JSON."""
    headers = security_headers(is_secure=is_secure)
    headers["Content-Type"] = "application/json"
    return Answer(200, headers, json.dumps(value).encode("ascii"))


def unauthorized(request: Request, *, token_sent: bool) -> Denied:
    """Make the 401, with the challenge of RFC 6750 section 3 among the headers."""
    request.responseHeaders.setRawHeaders("WWW-Authenticate", [challenge(token_sent=token_sent)])
    return Denied(401, "unauthorized")


def challenge(*, token_sent: bool) -> str:
    """What a 401 says in ``WWW-Authenticate``."""
    return 'Bearer error="invalid_token"' if token_sent else "Bearer"


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
