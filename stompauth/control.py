"""The control resource: what an operator, or another service, has to say to a running server."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.resource import Resource

from stompauth.audit import audit
from stompauth.errors import Denied, Refused, Unavailable
from stompauth.handshake.address import ClientAddress, network_of
from stompauth.handshake.rate import TokenBuckets
from stompauth.handshake.responses import (
    answer_later,
    deny,
    json_body,
    set_security_headers,
    unauthorized,
)
from stompauth.identity.bearer import SecretToken
from stompauth.identity.verifier import is_user_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from stompauth.application import Revoked, StompAuth

    Answer = dict[str, object]

#: Octets of a body at most; for the ``max_body`` of a :class:`.StrictSite`.
MAX_BODY: Final = 1048576

#: Bad tokens per minute and address; then 429 before another one is looked at.
FAILURES_PER_ADDRESS: Final = 20

#: The codes of :exc:`.Refused` that say something of the request, and not of how things stand.
_BAD_REQUEST: Final = frozenset({"bad-destination", "no-such-destination"})


class ControlResource(Resource):
    """Sessions, revocation and messages over HTTP, for callers that know a token.

    It belongs at the root of a listener of its own: whoever has the token may do everything here.
    Pages may not, so a request with an Origin is turned down. What was asked for is carried out to
    its end, also when the caller does not wait for the answer. ``docs/control.md`` describes the
    requests.

    :param token: what callers show as ``Authorization: Bearer``; 32 characters or more.
    :param addresses: finds the caller's address.
    :param stop: what ``POST /drain`` begins; the application's own drain if None.
    :raises ValueError: the token is too short, or cannot be sent.
    """

    isLeaf = True

    _log = Logger()

    def __init__(
        self,
        application: StompAuth,
        *,
        token: str,
        clock: IReactorTime,
        addresses: ClientAddress | None = None,
        stop: Callable[[], object] | None = None,
    ) -> None:
        super().__init__()
        self._application = application
        self._token = SecretToken(token)
        self._stop = stop or application.drain
        self._addresses = addresses or ClientAddress()
        self._failures = TokenBuckets(clock, FAILURES_PER_ADDRESS / 60, FAILURES_PER_ADDRESS)

    def render(self, request: Request) -> int:
        """Answer any request."""
        return answer_later(request, Deferred.fromCoroutine(self._answer(request)))

    async def _answer(self, request: Request) -> bytes:
        try:
            answer = await self._carry_out(request)
        except Denied as denied:
            return deny(request, denied)
        except Refused as refused:
            if refused.code in _BAD_REQUEST:
                return deny(request, Denied(400, refused.code))
            return deny(request, Denied(503, refused.code, 1))
        except Unavailable as unavailable:
            retry_after = math.ceil(unavailable.retry_after)
            return deny(request, Denied(503, "unavailable", retry_after))
        except Exception:
            self._log.failure("a control request failed")
            return deny(request, Denied(503, "unavailable", 1))
        set_security_headers(request)
        return json_body(request, answer)

    async def _carry_out(self, request: Request) -> Answer:
        methods = self._methods(request.path)
        method = methods.get(request.method)
        if method is None:
            allowed = b", ".join(sorted(methods))
            request.responseHeaders.setRawHeaders(b"Allow", [allowed])
            raise Denied(405, "method")
        if getattr(request, "body_too_large", False):
            raise Denied(413, "too-large")
        self._authenticate(request)
        return await method(request)

    def _methods(self, path: bytes) -> dict[bytes, Callable[[Request], Awaitable[Answer]]]:
        """What can be done at a path, by HTTP method."""
        match path.split(b"/"):
            case [b"", b"sessions"]:
                return {b"GET": self._list_sessions}
            case [b"", b"sessions", segment]:
                return {
                    b"GET": partial(self._show_session, segment),
                    b"DELETE": partial(self._end_session, segment),
                }
            case [b"", b"revoke"]:
                return {b"POST": self._revoke}
            case [b"", b"recheck"]:
                return {b"POST": self._recheck}
            case [b"", b"drain"]:
                return {b"POST": self._drain}
            case [b"", b"publish"]:
                return {b"POST": self._publish}
            case [b"", b"users", segment, b"send"]:
                return {b"POST": partial(self._send_to_user, segment)}
        raise Denied(404, "not-found")

    def _authenticate(self, request: Request) -> None:
        """OP-1: nobody gets further without the token."""
        headers = request.requestHeaders
        address = self._addresses.of(
            request.getClientAddress(), headers.getRawHeaders(b"X-Forwarded-For", [])
        )
        network = network_of(address)
        try:
            if headers.hasHeader(b"Origin"):
                raise Denied(403, "origin")
            if self._failures.is_empty(network):
                raise Denied(429, "rate", self._failures.retry_after(network))
            values = headers.getRawHeaders(b"Authorization", [])
            if not self._token.is_in(values):
                self._failures.take(network)
                raise unauthorized(request, token_sent=bool(values))
        except Denied as denied:
            audit("control-refused", address=address, reason=denied.slug)
            raise

    # The requests.

    async def _list_sessions(self, request: Request) -> Answer:
        values = request.args.get(b"user", [])
        if len(values) != 1 or len(request.args) != 1:
            raise _malformed("user: needed once in the query, and nothing else")
        user = _user_name(_text(values[0]))
        return {"sessions": await self._application.describe(user=user)}

    async def _show_session(self, segment: bytes, request: Request) -> Answer:
        found = await self._application.describe(session=_segment(segment))
        if not found:
            raise Denied(404, "unknown-session")
        return found[0]

    async def _end_session(self, segment: bytes, request: Request) -> Answer:
        shown = await self._show_session(segment, request)
        return _revoked(await self._application.revoke(session=str(shown["id"])))

    async def _revoke(self, request: Request) -> Answer:
        body = _body(request, optional=("user", "session", "token_id", "reason"))
        reason = body.pop("reason", "")
        if len(body) != 1:
            raise _malformed("user, session, token_id: exactly one of them is needed")
        if "user" in body:
            _user_name(body["user"])
        return _revoked(await self._application.revoke(reason=reason, **body))

    async def _recheck(self, request: Request) -> Answer:
        body = _body(request, required=("user",))
        return {"sessions": await self._application.recheck(_user_name(body["user"]))}

    async def _drain(self, request: Request) -> Answer:
        count = len(self._application.sessions)
        # Once begun, it goes on by itself.
        stop, self._stop = self._stop, lambda: None
        stop()
        return {"sessions": count}

    async def _publish(self, request: Request) -> Answer:
        body = _body(request, required=("destination", "body"), optional=("headers",))
        await self._application.publish(**body)
        return {}

    async def _send_to_user(self, segment: bytes, request: Request) -> Answer:
        user = _user_name(_segment(segment))
        body = _body(request, required=("destination", "body"), optional=("headers",))
        return {"sessions": await self._application.send_to_user(user, **body)}


def _malformed(detail: str) -> Denied:
    return Denied(400, "malformed", detail=detail)


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed("the URL: not UTF-8") from None


def _segment(octets: bytes) -> str:
    """Decode a segment of the path, in which a slash may be encoded (RFC 3986 section 2.4)."""
    return _text(unquote_to_bytes(octets))


def _user_name(name: str) -> str:
    if not is_user_name(name):
        raise _malformed("user: nobody can have that name")
    return name


def _body(
    request: Request, required: Collection[str] = (), optional: Collection[str] = ()
) -> dict[str, Any]:
    """The JSON object in the body, with these keys: strings, and ``headers`` an object of strings.

    :raises Denied: it is something else; the detail names the key.
    """
    octets = request.content.read(MAX_BODY + 1) if request.content is not None else b""
    if len(octets) > MAX_BODY:
        raise Denied(413, "too-large")
    try:
        body = json.loads(octets.decode("utf-8"))
        # JSON can spell half a surrogate pair, a string that nobody can encode later.
        json.dumps(body, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise _malformed("the body: not JSON in UTF-8") from None
    if not isinstance(body, dict):
        raise _malformed("the body: not an object")
    for key, value in body.items():
        if key not in required and key not in optional:
            raise _malformed(f"{key[:64]}: is no key here")
        if key == "headers":
            if not (isinstance(value, dict) and all(isinstance(v, str) for v in value.values())):
                raise _malformed("headers: must be an object of strings")
        elif not isinstance(value, str):
            raise _malformed(f"{key}: must be a string")
    for key in required:
        if key not in body:
            raise _malformed(f"{key}: is needed")
    return body


def _revoked(revoked: Revoked) -> Answer:
    return {"sessions": revoked.sessions, "tickets": revoked.tickets}
