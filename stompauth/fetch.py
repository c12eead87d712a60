"""HTTP requests of our own: bounded, and without redirects."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.web.client import FileBodyProducer, ResponseDone
from twisted.web.http import OK, PotentialDataLoss
from twisted.web.http_headers import Headers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted.python.failure import Failure
    from twisted.web.iweb import IAgent, IResponse


async def fetch(
    agent: IAgent,
    method: str,
    url: str,
    *,
    headers: Mapping[str, Sequence[str]],
    body: bytes | None = None,
    limit: int,
) -> bytes:
    """Make a request and have the body of its answer.

    How long it may take is for the caller to say, by cancelling.

    :param limit: octets of the answer at most.
    :raises ValueError: the answer's status is not 200, it comes by a redirect, or is too large.
    :raises Exception: whatever the agent raises when there is no answer.
    """
    response: IResponse = await agent.request(
        method.encode("ascii"),
        url.encode("ascii"),
        Headers({"User-Agent": ["stompauth"], **headers}),
        None if body is None else FileBodyProducer(BytesIO(body)),
    )
    # An agent of the caller's may have followed a redirect by itself.
    if response.code != OK or response.previousResponse is not None:
        response.deliverBody(_Unwanted())
        raise ValueError(f"status {response.code}, or a redirect")
    return await read_body(response, limit)


async def read_body(response: IResponse, limit: int) -> bytes:
    """Have the body of an answer, whatever its status.

    :param limit: octets at most.
    :raises ValueError: it is too large.
    :raises Exception: the connection was lost before its end.
    """
    body = _Body(limit)
    response.deliverBody(body)
    return await body.whole


def _hang_up(transport: Any) -> None:
    # Over TLS loseConnection waits for the peer's goodbye, and one that goes on sending has none.
    transport.stopProducing()


class _Unwanted(protocol.Protocol):
    """Hangs up instead of reading a response's body."""

    def connectionMade(self) -> None:
        _hang_up(self.transport)


class _Body(protocol.Protocol):
    """Gathers a response's body, and hangs up if it grows too large.

    :param limit: octets at most.
    :ivar whole: fires with the body.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.whole: Deferred[bytes] = Deferred(lambda _: _hang_up(self.transport))
        self._octets = bytearray()

    def dataReceived(self, data: bytes) -> None:
        if self.whole.called:
            return
        self._octets += data
        if len(self._octets) > self._limit:
            self._octets.clear()
            self.whole.errback(ValueError(f"more than {self._limit} octets"))
            _hang_up(self.transport)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        if self.whole.called:
            return
        # A body that ends with the connection may be cut short, but then it is no JSON.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(bytes(self._octets))
        else:
            self.whole.errback(reason)
