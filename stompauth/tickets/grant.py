"""What a ticket stands for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TicketGrant:
    """What is remembered of the request that a ticket was issued for; never the token itself.

    :ivar issuer: ``iss`` of the token.
    :ivar user: the user name of the token.
    :ivar path: the WebSocket path that the ticket opens.
    :ivar token_expires_at: ``exp`` of the token, in seconds since the epoch.
    :ivar token_issued_at: ``iat`` of the token, likewise.
    :ivar token_id: ``jti`` of the token, or None.
    :ivar subject: ``sub`` of the token, or None.
    :ivar provider_session: ``sid`` of the token, its session at the identity provider, or None.
    :ivar origin: the Origin of the request, or None when it had none.
    :ivar address: the network of the client, when tickets are bound to it, else None.
    :ivar grant_id: random, and no secret: tells the session that a ticket has opened. Empty where
        there was no ticket.
    """

    issuer: str
    user: str
    path: str
    token_expires_at: float
    token_issued_at: float
    token_id: str | None = None
    subject: str | None = None
    provider_session: str | None = None
    origin: str | None = None
    address: str | None = None
    grant_id: str = ""
