"""The head of an HTTP request, whoever has parsed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted.web.server import Request


@dataclass(slots=True)
class RequestHead:
    """What a client asks for (RFC 9112 sections 3 and 5).

    :ivar method: such as ``GET``.
    :ivar target: as it came, with its query.
    :ivar version: such as ``HTTP/1.1``.
    :ivar headers: the values of each, in their order, by its name in lower case.
    """

    method: bytes
    target: bytes
    version: bytes
    headers: Mapping[bytes, Sequence[bytes]]

    @classmethod
    def of(cls, request: Request) -> RequestHead:
        """The head of a request that twisted.web has parsed."""
        headers = {
            name.lower(): values for name, values in request.requestHeaders.getAllRawHeaders()
        }
        return cls(request.method, request.uri, request.clientproto, headers)

    def values(self, name: bytes) -> Sequence[bytes]:
        """The values of all headers with that name, given in lower case."""
        return self.headers.get(name, ())

    def __repr__(self) -> str:
        # The target may hold a ticket, and the headers a token.
        return f"<RequestHead {self.method!r}>"
