"""From a token to a ticket, as a client."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from twisted.web.http_headers import Headers

from stompauth.errors import ConnectFailed
from stompauth.fetch import read_body
from stompauth.version import __version__

if TYPE_CHECKING:
    from twisted.web.iweb import IAgent, IResponse

USER_AGENT: Final = f"stompauth/{__version__}"

#: The longest time for which a ``Retry-After`` is believed.
MAX_RETRY_AFTER: Final = 3600

_MAX_ANSWER = 8192
_TICKET = re.compile("[A-Za-z0-9_-]{1,512}")


async def fetch_ticket(agent: IAgent, url: str, token: str, origin: str | None) -> str:
    """Trade a token for a ticket.

    :raises ConnectFailed: there is none; with the endpoint's code, ``http`` if it said none, or
        ``bad-answer`` if it is no ticket endpoint.
    :raises Exception: whatever the agent raises when there is no answer.
    """
    headers = Headers({"Authorization": [f"Bearer {token}"], "User-Agent": [USER_AGENT]})
    if origin is not None:
        headers.setRawHeaders("Origin", [origin])
    response: IResponse = await agent.request(b"POST", url.encode("ascii"), headers, None)
    try:
        answer = json.loads(await read_body(response, _MAX_ANSWER))
    except (ValueError, RecursionError):
        answer = None
    if response.code == 200:
        ticket = _member(answer, "ticket")
        if not _TICKET.fullmatch(ticket):
            raise ConnectFailed("bad-answer", status=response.code)
        return ticket
    (retry_after,) = response.headers.getRawHeaders("Retry-After", [""])[:1]
    raise ConnectFailed(
        _member(answer, "error") or "http",
        status=response.code,
        retry_after=parse_retry_after(retry_after),
    )


def parse_retry_after(value: str) -> float | None:
    """Read a number of seconds, at most :data:`MAX_RETRY_AFTER`; None if it is something else."""
    if not re.fullmatch("[0-9]{1,9}", value):
        return None
    return float(min(int(value), MAX_RETRY_AFTER))


def _member(answer: Any, name: str) -> str:
    value = answer.get(name) if isinstance(answer, dict) else None
    return value if isinstance(value, str) else ""
