"""Whether a WebSocket may open: the origin, the limits, and the ticket."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger

from stompauth.audit import audit
from stompauth.errors import BadToken, Denied, TicketRefused, TicketReplayed, Unavailable
from stompauth.handshake.address import network_of
from stompauth.identity.bearer import parse_bearer
from stompauth.settings import WebSocketSettings
from stompauth.tickets.grant import TicketGrant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stompauth.counters import Counters
    from stompauth.handshake.connections import Connections, Slot
    from stompauth.handshake.origins import OriginPolicy
    from stompauth.handshake.rate import TokenBuckets
    from stompauth.identity.revocation import Revocations
    from stompauth.interfaces import IHandshakeInterceptor, ITicketStore, ITokenVerifier

#: The subprotocols of STOMP; the first that the client offers is taken.
SUBPROTOCOLS: Final = ("v12.stomp", "v11.stomp", "v10.stomp")

#: What a ticket looks like; of any store's, since 16 octets in base64url are 22 characters.
_TICKET = re.compile(rb"[A-Za-z0-9_-]{22,128}")


@dataclass(frozen=True, slots=True)
class HandshakeRequest:
    """What counts of a client's opening handshake (RFC 6455 section 4.2.1).

    :ivar query: the octets behind the question mark, without it.
    :ivar origins: the values of all Origin headers.
    :ivar authorizations: the values of all Authorization headers.
    :ivar subprotocols: those that the client offers, in its order.
    :ivar address: the client's address.
    :ivar key: of the handshake, which its answer has to prove known.
    """

    path: str
    query: bytes
    origins: tuple[bytes, ...]
    authorizations: tuple[bytes, ...]
    subprotocols: tuple[str, ...]
    address: str
    key: bytes = b""

    def __repr__(self) -> str:
        # The query holds the ticket.
        return f"<HandshakeRequest {self.path} from {self.address}>"

    def subprotocol(self) -> str | None:
        """The first of ours among the offered, or None."""
        for offered in self.subprotocols:
            if offered in SUBPROTOCOLS:
                return offered
        return None


@dataclass(frozen=True, slots=True)
class Admission:
    """An accepted handshake: whose it is, its place in the counts, the session's attributes."""

    grant: TicketGrant
    slot: Slot
    attributes: dict[str, Any]


class AdmissionPolicy:
    """Decides about handshakes, in an order that burns a ticket only when nothing else is wrong.

    :param tickets: provider of :class:`.ITicketStore`.
    :param verifier: provider of :class:`.ITokenVerifier`, for ``websocket.bearer``.
    :param origins: the pages that may connect.
    :param connections: the counts of open sockets.
    :param revocations: the deny list, for what a ticket was issued for.
    :param failures: bad tokens by network, for ``websocket.bearer``; who has had too many is
        turned down before a signature is checked.
    :param counters: for how many tickets were redeemed.
    :param replayed: told of every ticket that comes a second time.
    :param was_replayed: whether a ticket is known to have come a second time, when it is redeemed.
    :param interceptors: providers of :class:`.IHandshakeInterceptor`, in their order.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        tickets: ITicketStore,
        verifier: ITokenVerifier,
        origins: OriginPolicy,
        connections: Connections,
        revocations: Revocations,
        failures: TokenBuckets,
        counters: Counters,
        replayed: Callable[[TicketGrant], None] = lambda grant: None,
        was_replayed: Callable[[TicketGrant], bool] = lambda grant: False,
        interceptors: Sequence[IHandshakeInterceptor] = (),
        settings: WebSocketSettings | None = None,
    ) -> None:
        self._tickets = tickets
        self._verifier = verifier
        self._origins = origins
        self._connections = connections
        self._revocations = revocations
        self._failures = failures
        self._counters = counters
        self._replayed = replayed
        self._was_replayed = was_replayed
        self._interceptors = tuple(interceptors)
        self._settings = settings or WebSocketSettings()

    async def admit(self, request: HandshakeRequest) -> Admission:
        """Let the client in.

        :raises Denied: with the status to answer.
        """
        if not self._origins.allows_handshake(request.origins):
            raise Denied(403, "origin")
        slot = self._connections.claim(network_of(request.address))
        passed: list[IHandshakeInterceptor] = []
        attributes: dict[str, Any] = {}
        try:
            for interceptor in self._interceptors:
                waiting = interceptor.before_handshake(request, attributes)
                if waiting is not None:
                    await waiting
                passed.append(interceptor)
            grant = await self._grant(request)
            slot.claim_user(grant.issuer, grant.user)
            # The answer may have taken its time.
            self._connections.check_open()
        except BaseException as failure:
            slot.release()
            denied = failure if isinstance(failure, Denied) else Denied(503, "unavailable")
            self._tell(passed, request, denied)
            raise
        self._tell(passed, request, grant)
        return Admission(grant, slot, attributes)

    def _tell(
        self,
        passed: Sequence[IHandshakeInterceptor],
        request: HandshakeRequest,
        outcome: TicketGrant | Denied,
    ) -> None:
        for interceptor in reversed(passed):
            try:
                interceptor.after_handshake(request, outcome)
            except Exception:
                self._log.failure("a handshake interceptor failed after the handshake")

    async def _grant(self, request: HandshakeRequest) -> TicketGrant:
        if self._settings.bearer and request.authorizations:
            if request.query:
                raise Denied(400, "two-credentials")
            return await self._from_token(request)
        return await self._from_ticket(request)

    async def _from_ticket(self, request: HandshakeRequest) -> TicketGrant:
        ticket = _ticket_of(request.query)
        try:
            grant = await self._tickets.redeem(ticket)
        except TicketReplayed as replayed:
            audit("ticket-replayed", user=replayed.grant.user, address=request.address)
            self._replayed(replayed.grant)
            raise Denied(401, "ticket") from None
        except TicketRefused:
            raise Denied(401, "ticket") from None
        except Unavailable as unavailable:
            raise Denied(503, "unavailable", math.ceil(unavailable.retry_after)) from None
        # From here on the ticket is gone, whatever comes of it.
        self._counters.tickets_redeemed += 1
        if self._revocations.refuses_grant(grant):
            raise Denied(401, "revoked")
        if self._was_replayed(grant):
            raise Denied(401, "ticket")
        origin = request.origins[0].decode("ascii") if request.origins else None
        if (
            grant.path != request.path
            or (grant.origin is not None and grant.origin != origin)
            or (grant.address is not None and grant.address != network_of(request.address))
        ):
            raise Denied(403, "binding")
        return grant

    async def _from_token(self, request: HandshakeRequest) -> TicketGrant:
        values = request.authorizations
        token = parse_bearer(values[0].decode("latin-1")) if len(values) == 1 else None
        if token is None:
            raise Denied(400, "authorization")
        network = network_of(request.address)
        if self._failures.is_empty(network):
            raise Denied(429, "rate", self._failures.retry_after(network))
        try:
            principal = await self._verifier.verify(token)
        except BadToken:
            self._failures.take(network)
            raise Denied(401, "ticket") from None
        except Unavailable as unavailable:
            raise Denied(503, "unavailable", math.ceil(unavailable.retry_after)) from None
        return TicketGrant(
            issuer=principal.issuer,
            user=principal.name,
            path=request.path,
            token_expires_at=principal.expires_at,
            token_issued_at=principal.issued_at,
            token_id=principal.token_id,
            subject=principal.subject,
            provider_session=principal.provider_session,
        )


def _ticket_of(query: bytes) -> str:
    """The ticket in a query that holds just that: ``ticket=`` once, and no other parameter.

    :raises Denied: 401 when there is none, 400 for any other query.
    """
    if not query:
        raise Denied(401, "ticket")
    name, _, value = query.partition(b"=")
    if name != b"ticket" or not _TICKET.fullmatch(value):
        raise Denied(400, "malformed")
    return value.decode("ascii")
