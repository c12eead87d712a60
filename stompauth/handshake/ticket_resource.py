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
from stompauth.handshake.head import RequestHead
from stompauth.handshake.rate import TokenBuckets
from stompauth.handshake.responses import (
    Answer,
    NotFound,
    answer_later,
    challenge,
    denial,
    json_answer,
    security_headers,
)
from stompauth.identity.bearer import parse_bearer
from stompauth.settings import TicketSettings
from stompauth.tickets.grant import TicketGrant

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IReactorTime
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
        head = RequestHead.of(request)
        if request.method == b"OPTIONS":
            return self._preflight(request, head)
        answer = Deferred.fromCoroutine(
            self.answer(
                head,
                request.getClientAddress(),
                is_secure=request.isSecure(),
                body_too_large=getattr(request, "body_too_large", False),
            )
        )
        request.notifyFinish().addErrback(lambda _: answer.cancel())
        body: Deferred[bytes] = answer.addCallback(lambda answer: answer.fill(request))
        done = answer_later(request, body)
        # Of a client that has left.
        body.addErrback(lambda failure: failure.trap(CancelledError))
        return done

    def _cors(self, head: RequestHead) -> dict[str, str]:
        headers = {"Vary": "Origin"}
        origins = head.values(b"origin")
        if origins and self._origins.allows(origins):
            headers["Access-Control-Allow-Origin"] = origins[0].decode("ascii")
            headers["Access-Control-Expose-Headers"] = "Retry-After"
        return headers

    def _preflight(self, request: Request, head: RequestHead) -> bytes:
        """Answer a CORS preflight (Fetch, "CORS-preflight request")."""
        cors = self._cors(head)
        origins = head.values(b"origin")
        if not origins or not self._origins.allows(origins):
            answer = denial(Denied(403, "origin"), is_secure=request.isSecure())
        else:
            cors["Access-Control-Allow-Methods"] = "POST"
            cors["Access-Control-Allow-Headers"] = "authorization"
            cors["Access-Control-Max-Age"] = "600"
            answer = Answer(204, security_headers(is_secure=request.isSecure()))
        answer.headers |= cors
        return answer.fill(request)

    async def answer(
        self,
        head: RequestHead,
        peer: IAddress | None,
        *,
        is_secure: bool,
        body_too_large: bool = False,
    ) -> Answer:
        """Answer a request, of any method but OPTIONS.

        :param peer: the other end of the connection.
        :param is_secure: whether the connection is.
        :param body_too_large: whether there is a body that is longer than any may be.
        """
        address = self._addresses.of(peer, head.values(b"x-forwarded-for"))
        headers = self._cors(head)
        try:
            ticket = await self._trade(head, address, headers, body_too_large=body_too_large)
        except Denied as denied:
            audit("ticket-refused", address=address, reason=denied.reason)
            if denied.status == 405:
                headers["Allow"] = "POST, OPTIONS"
            answer = denial(denied, is_secure=is_secure)
        except CancelledError:
            raise
        except Exception:
            self._log.failure("the ticket endpoint failed")
            answer = denial(Denied(503, "unavailable", 1), is_secure=is_secure)
        else:
            answer = json_answer(ticket, is_secure=is_secure)
        answer.headers |= headers
        return answer

    async def _trade(
        self, head: RequestHead, address: str, headers: dict[str, str], *, body_too_large: bool
    ) -> dict[str, object]:
        if head.method != b"POST":
            raise Denied(405, "method")
        if body_too_large:
            raise Denied(413, "too-large")
        network = network_of(address)
        origins = head.values(b"origin")
        if not self._origins.allows(origins):
            # No failure of the address: any page that a user looks at could lock him out.
            raise Denied(403, "origin")
        self._connections.check_open()
        if self._failures.is_empty(network):
            raise Denied(429, "rate", self._failures.retry_after(network))
        principal = await self._verify(head, network, headers)
        subject = f"{principal.issuer}\n{principal.name}"
        if not self._rate.take(subject):
            raise Denied(429, "rate", self._rate.retry_after(subject))
        if self._connections.is_full_for(principal.issuer, principal.name):
            raise Denied(429, "sessions", 1)
        ttl = min(self._settings.ttl, principal.expires_at - self._clock.seconds())
        if ttl < 1:
            # Good only by the leeway: a ticket may not outlive its token.
            raise self._unauthorized(headers, network, token_sent=True)
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

    async def _verify(self, head: RequestHead, network: str, headers: dict[str, str]) -> Principal:
        values = head.values(b"authorization")
        token = parse_bearer(values[0].decode("latin-1")) if len(values) == 1 else None
        if token is None:
            raise self._unauthorized(headers, network, token_sent=bool(values))
        try:
            return await self._verifier.verify(token)
        except TokenRevoked:
            raise Denied(403, "revoked") from None
        except BadToken as bad:
            raise self._unauthorized(headers, network, token_sent=True) from bad
        except Unavailable as unavailable:
            raise Denied(503, "unavailable", math.ceil(unavailable.retry_after)) from None

    def _unauthorized(self, headers: dict[str, str], network: str, *, token_sent: bool) -> Denied:
        self._failures.take(network)
        headers["WWW-Authenticate"] = challenge(token_sent=token_sent)
        return Denied(401, "unauthorized")
