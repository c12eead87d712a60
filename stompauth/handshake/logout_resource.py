"""``POST /logout/backchannel``: the identity provider says who has logged out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.resource import IResource, Resource

from stompauth.audit import audit
from stompauth.errors import BadToken, Denied, Unavailable
from stompauth.handshake.address import network_of
from stompauth.handshake.rate import TokenBuckets
from stompauth.handshake.responses import NotFound, answer_later, deny, set_security_headers
from stompauth.handshake.site import MAX_BODY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from stompauth.handshake.address import ClientAddress
    from stompauth.identity.logout import Logout, LogoutVerifier

#: Parameters in a form at most; those that are not ``logout_token`` are passed over.
MAX_PARAMETERS = 16


class LogoutResource(Resource):
    """Takes the logout requests of OpenID Connect Back-Channel Logout 1.0, sections 2.5 to 2.8.

    The logout token is all that authenticates them. They come from a server, not from a page: one
    with an Origin is turned down. Once the token is verified the logout is carried out, also when
    nobody waits for the answer any more.

    :param verifier: verifies the tokens.
    :param log_out: ends what a logout is about.
    :param addresses: finds the client's address.
    :param failures_per_address: bad requests per minute; then 429 before a signature is checked.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        verifier: LogoutVerifier,
        log_out: Callable[[Logout], Awaitable[None]],
        addresses: ClientAddress,
        clock: IReactorTime,
        failures_per_address: float,
    ) -> None:
        super().__init__()
        self._verifier = verifier
        self._log_out = log_out
        self._addresses = addresses
        self._failures = TokenBuckets(clock, failures_per_address / 60, failures_per_address)

    def getChild(self, path: bytes, request: Request) -> IResource:
        """There is nothing below."""
        return NotFound()

    def render(self, request: Request) -> int:
        """Answer any method."""
        return answer_later(request, Deferred.fromCoroutine(self._answer(request)))

    async def _answer(self, request: Request) -> bytes:
        address = self._addresses.of(
            request.getClientAddress(),
            request.requestHeaders.getRawHeaders(b"X-Forwarded-For", []),
        )
        try:
            await self._carry_out(request, network_of(address))
        except Denied as denied:
            audit("logout-refused", address=address, reason=denied.reason)
            if denied.status == 405:
                request.responseHeaders.setRawHeaders("Allow", ["POST"])
            return deny(request, denied)
        except Exception:
            self._log.failure("the logout endpoint failed")
            return deny(request, Denied(503, "unavailable", 1))
        set_security_headers(request)
        return b""

    async def _carry_out(self, request: Request, network: str) -> None:
        if request.method != b"POST":
            raise Denied(405, "method")
        if getattr(request, "body_too_large", False):
            raise Denied(413, "too-large")
        if request.requestHeaders.hasHeader(b"Origin"):
            raise Denied(403, "origin")
        if self._failures.is_empty(network):
            raise Denied(429, "rate", self._failures.retry_after(network))
        token = _token_of(request)
        if token is None:
            self._failures.take(network)
            raise Denied(400, "invalid_request")
        try:
            await self._end(await self._verifier.verify(token))
        except BadToken as bad:
            self._failures.take(network)
            raise Denied(400, "invalid_request") from bad
        except Unavailable as unavailable:
            raise Denied(503, "unavailable", math.ceil(unavailable.retry_after)) from None

    async def _end(self, logout: Logout) -> None:
        try:
            await self._log_out(logout)
        except Exception:
            # The provider may send the same token again.
            self._verifier.forget(logout)
            raise


def _token_of(request: Request) -> str | None:
    """The one ``logout_token`` of a form; None if there is none, or it is no such form."""
    types = request.requestHeaders.getRawHeaders(b"Content-Type", [])
    if len(types) != 1:
        return None
    media_type = types[0].partition(b";")[0].strip(b" \t").lower()
    if media_type != b"application/x-www-form-urlencoded" or request.content is None:
        return None
    try:
        form = parse_qsl(
            request.content.read(MAX_BODY).decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError:
        return None
    tokens = [value for name, value in form if name == "logout_token"]
    return tokens[0] if len(tokens) == 1 else None
