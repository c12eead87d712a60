"""What a client is told of a refusal: an ERROR, or a notice."""

from __future__ import annotations

from secrets import token_urlsafe
from typing import TYPE_CHECKING

from stompauth.stomp.frame import Frame

if TYPE_CHECKING:
    from stompauth.errors import Refused


def error_frame(refused: Refused, receipt: str | None) -> Frame:
    """The ERROR before the end of a session.

    :param receipt: the ``receipt`` of the frame that is to blame.
    """
    headers = {
        "message": refused.consequence.message,
        "code": refused.code,
        "content-type": "text/plain",
        **refused.headers,
    }
    return _told(refused, "ERROR", headers, receipt)


def notice_frame(
    refused: Refused, subscription_id: str, destination: str, receipt: str | None = None
) -> Frame:
    """The MESSAGE that tells of it where the session goes on.

    :param subscription_id: whose message it is.
    :param receipt: as for :func:`error_frame`.
    """
    headers = {
        "subscription": subscription_id,
        "message-id": token_urlsafe(8),
        "destination": destination,
        "error": "true",
        "code": refused.code,
        "content-type": "text/plain",
    }
    return _told(refused, "MESSAGE", headers, receipt)


def _told(refused: Refused, command: str, headers: dict[str, str], receipt: str | None) -> Frame:
    if receipt is not None:
        headers["receipt-id"] = receipt
    return Frame(command, headers, refused.consequence.explanation.encode())
