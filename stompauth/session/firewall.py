"""Which headers of a SEND reach the MESSAGEs that come of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Headers that never cross from a sender to a receiver, in lower case: credentials, what concerns
#: the sender's own session, and what the server says.
BLOCKED: Final = frozenset(
    {
        "authorization",
        "login",
        "passcode",
        "ticket",
        "host",
        "accept-version",
        "heart-beat",
        "version",
        "session",
        "server",
        "user-name",
        "user-id",
        "receipt",
        "receipt-id",
        "transaction",
        "message-id",
        "subscription",
        "ack",
        "id",
        "redelivered",
        "delivery-count",
        "error",
        "code",
        "retain",
        # Set anew on every MESSAGE.
        "destination",
        "content-length",
    }
)

_PREFIX: Final = "x-stompauth-"


def pass_headers(headers: Mapping[str, str], sender: str | None) -> dict[str, str]:
    """Keep what may cross.

    :param sender: the verified user name to put into ``sender``, in place of whatever the client
        sent under that name; None to leave that header alone.
    """
    passed = {}
    for name, value in headers.items():
        lowered = name.lower()
        if lowered in BLOCKED or lowered.startswith(_PREFIX):
            continue
        if sender is not None and lowered == "sender":
            continue
        passed[name] = value
    if sender is not None:
        passed["sender"] = sender
    return passed
