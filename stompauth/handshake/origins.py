"""Which pages may talk to us: the Origin of RFC 6454, and CORS for the ticket endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class OriginPolicy:
    """An exact list of origins.

    No patterns, no case folding, no default ports: a browser sends an origin in one way only, and
    what differs from it in a single octet comes from elsewhere. ``null`` is never on the list.

    :param origins: strings such as ``https://chat.example.com``.
    :param require: whether a handshake without an Origin is turned down.
    """

    def __init__(self, origins: Collection[str], *, require: bool = True) -> None:
        self.replace(origins, require=require)

    def replace(self, origins: Collection[str], *, require: bool = True) -> None:
        """Have other origins from now on; open WebSockets stay. The parameters are the class'.

        :raises ValueError: ``*`` or ``null`` is among them; then nothing changes.
        """
        if "*" in origins or "null" in origins:
            raise ValueError("origins are exact; * and null never are")
        self._origins = {origin.encode("ascii") for origin in origins}
        self.require = require

    def add(self, origin: str) -> None:
        """Allow one more, for a server that learns its own port only by listening."""
        self._origins.add(origin.encode("ascii"))

    def allows(self, headers: Sequence[bytes]) -> bool:
        """Whether a request with these Origin headers may go on; none at all is fine."""
        return not headers or (len(headers) == 1 and headers[0] in self._origins)

    def allows_handshake(self, headers: Sequence[bytes]) -> bool:
        """Whether a handshake with these Origin headers may go on."""
        return bool(headers or not self.require) and self.allows(headers)
