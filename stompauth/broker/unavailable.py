"""The refusal while what carries messages elsewhere cannot be reached."""

from __future__ import annotations

from secrets import randbelow

from stompauth.errors import Refused


def unavailable() -> Refused:
    """Make one: ``broker-unavailable``, with a ``retry-after`` of 2 to 10 seconds.

    It differs from one to the next, so that clients that were cut off together do not come back
    together.
    """
    return Refused("broker-unavailable", {"retry-after": str(2 + randbelow(9))})
