"""``POST /authenticate/token``: a JWT in, a one-time ticket out."""

from __future__ import annotations

import math
from secrets import token_urlsafe
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.web.resource import IResource, Resource

from stompauth.audit import audit
from stompauth.errors import BadToken, Denied, TokenRevoked, Unavailable
from stompauth.handshake.address import network_of
from stompauth.handshake.rate import TokenBuckets
from stompauth.handshake.responses import (
    NotFound,
    answer_later,
    deny,
    json_body,
    set_security_headers,
    unauthorized,
)
from stompauth.identity.bearer import parse_bearer
from stompauth.settings import TicketSettings
from stompauth.tickets.grant import TicketGrant

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from stompauth.handshake.address import ClientAddress
    from stompauth.handshake.connections import Connections
    from stompauth.handshake.origins import OriginPolicy
    from stompauth.identity.principal import Principal
    from stompauth.interfaces import ITicketStore, ITokenVerifier


class TicketResource(Resource):
    """Trades a good JWT for a ticket.

    What can be known of a later handshake is said here, because a browser does not tell a page
    why a WebSocket could not be opened. Checks go from what costs nothing to what costs most.

    :param verifier: provider of :class:`.ITokenVerifier`.
    :param tickets: provider of :class:`.ITicketStore`.
    :param origins: the pages that may ask; a request without an Origin may, too.
    :param connections: the counts of open sockets.
    :param addresses: finds the client's address.
    :param websocket_path: what the tickets open.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        verifier: ITokenVerifier,
        tickets: ITicketStore,
        origins: OriginPolicy,
        connections: Connections,
        addresses: ClientAddress,
        clock: IReactorTime,
        settings: TicketSettings | None = None,
        websocket_path: str = "/stomp",
    ) -> None:
        super().__init__()
        settings = settings or TicketSettings()
        self._verifier = verifier
        self._tickets = tickets
        self._origins = origins
        self._connections = connections
        self._addresses = addresses
        self._clock = clock
        self._settings = settings
        self._websocket_path = websocket_path
        self._failures = TokenBuckets(
            clock, settings.failures_per_address / 60, settings.failures_per_address
        )
        self._rate = TokenBuckets(clock, settings.rate, 2 * settings.rate)

    def getChild(self, path: bytes, request: Request) -> IResource:
        """There is nothing below."""
        return NotFound()

    def render(self, request: Request) -> bytes | int:
        """Answer any method."""
        self._allow_origin(request)
        if request.method == b"OPTIONS":
            return self._preflight(request)
        answer = Deferred.fromCoroutine(self._answer(request))
        request.notifyFinish().addErrback(lambda _: answer.cancel())
        done = answer_later(request, answer)
        # Of a client that has left.
        answer.addErrback(lambda failure: failure.trap(CancelledError))
        return done

    def _allow_origin(self, request: Request) -> None:
        headers = request.responseHeaders
        headers.setRawHeaders("Vary", ["Origin"])
        origins = request.requestHeaders.getRawHeaders(b"Origin", [])
        if origins and self._origins.allows(origins):
            headers.setRawHeaders(b"Access-Control-Allow-Origin", [origins[0]])
            headers.setRawHeaders("Access-Control-Expose-Headers", ["Retry-After"])

    def _preflight(self, request: Request) -> bytes:
        """Answer a CORS preflight (Fetch, "CORS-preflight request")."""
        origins = request.requestHeaders.getRawHeaders(b"Origin", [])
        if not origins or not self._origins.allows(origins):
            return deny(request, Denied(403, "origin"))
        set_security_headers(request)
        headers = request.responseHeaders
        headers.setRawHeaders("Access-Control-Allow-Methods", ["POST"])
        headers.setRawHeaders("Access-Control-Allow-Headers", ["authorization"])
        headers.setRawHeaders("Access-Control-Max-Age", ["600"])
        request.setResponseCode(204)
        return b""

    async def _answer(self, request: Request) -> bytes:
        address = self._addresses.of(
            request.getClientAddress(),
            request.requestHeaders.getRawHeaders(b"X-Forwarded-For", []),
        )
        try:
            answer = await self._trade(request, address)
        except Denied as denied:
            audit("ticket-refused", address=address, reason=denied.reason)
            if denied.status == 405:
                request.responseHeaders.setRawHeaders("Allow", ["POST, OPTIONS"])
            return deny(request, denied)
        except CancelledError:
            raise
        except Exception:
            self._log.failure("the ticket endpoint failed")
            return deny(request, Denied(503, "unavailable", 1))
        set_security_headers(request)
        return json_body(request, answer)

    async def _trade(self, request: Request, address: str) -> dict[str, object]:
        if request.method != b"POST":
            raise Denied(405, "method")
        if getattr(request, "body_too_large", False):
            raise Denied(413, "too-large")
        network = network_of(address)
        origins = request.requestHeaders.getRawHeaders(b"Origin", [])
        if not self._origins.allows(origins):
            # No failure of the address: any page that a user looks at could lock him out.
            raise Denied(403, "origin")
        self._connections.check_open()
        if self._failures.is_empty(network):
            raise Denied(429, "rate", self._failures.retry_after(network))
        principal = await self._verify(request, network)
        subject = f"{principal.issuer}\n{principal.name}"
        if not self._rate.take(subject):
            raise Denied(429, "rate", self._rate.retry_after(subject))
        if self._connections.is_full_for(principal.issuer, principal.name):
            raise Denied(429, "sessions", 1)
        ttl = min(self._settings.ttl, principal.expires_at - self._clock.seconds())
        if ttl < 1:
            # Good only by the leeway: a ticket may not outlive its token.
            raise self._unauthorized(request, network, token_sent=True)
        grant = TicketGrant(
            issuer=principal.issuer,
            user=principal.name,
            path=self._websocket_path,
            token_expires_at=principal.expires_at,
            token_issued_at=principal.issued_at,
            token_id=principal.token_id,
            subject=principal.subject,
            provider_session=principal.provider_session,
            origin=origins[0].decode("ascii") if origins else None,
            address=network if self._settings.bind_address else None,
            grant_id=token_urlsafe(9),
        )
        try:
            ticket = await self._tickets.issue(grant, ttl)
        except Unavailable as unavailable:
            raise Denied(503, "unavailable", math.ceil(unavailable.retry_after)) from None
        audit("ticket-issued", user=principal.name, address=address)
        return {"ticket": ticket, "expires_in": int(ttl)}

    async def _verify(self, request: Request, network: str) -> Principal:
        values = request.requestHeaders.getRawHeaders(b"Authorization", [])
        token = parse_bearer(values[0].decode("latin-1")) if len(values) == 1 else None
        if token is None:
            raise self._unauthorized(request, network, token_sent=bool(values))
        try:
            return await self._verifier.verify(token)
        except TokenRevoked:
            raise Denied(403, "revoked") from None
        except BadToken as bad:
            raise self._unauthorized(request, network, token_sent=True) from bad
        except Unavailable as unavailable:
            raise Denied(503, "unavailable", math.ceil(unavailable.retry_after)) from None

    def _unauthorized(self, request: Request, network: str, *, token_sent: bool) -> Denied:
        self._failures.take(network)
        return unauthorized(request, token_sent=token_sent)
