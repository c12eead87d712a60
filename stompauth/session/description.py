"""What there is to say of a session to those who operate the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stompauth.broker.subscription import Subscription
    from stompauth.session.session import Session


def describe(session: Session) -> dict[str, object]:
    """What there is to know of a connected session, as JSON has it, without its token's claims."""
    principal = session.require_principal()
    return {
        "id": session.session_id,
        "user": session.user,
        "issuer": session.grant.issuer,
        "address": session.address,
        "version": session.version,
        "token_id": principal.token_id,
        "expires_at": principal.expires_at,
        "subscriptions": [_subscription(found) for found in session.subscriptions],
    }


def _subscription(subscription: Subscription) -> dict[str, object]:
    return {
        "id": subscription.client_id,
        "destination": subscription.destination.path,
        "ack": subscription.ack,
    }
