"""Where a request comes from."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

#: Characters of the longest IPv6 address.
_LONGEST = 45

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twisted.internet.interfaces import IAddress


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    plain = text.partition("%")[0]
    # No address is longer: what a client says costs the cache no more than that.
    return _parse_plain(plain) if len(plain) <= _LONGEST else None


@lru_cache(maxsize=4096)
def _parse_plain(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _address_of(peer: IAddress | None) -> IPv4Address | IPv6Address | None:
    host = getattr(peer, "host", None)
    return _parse(host) if isinstance(host, str) else None


class ClientAddress:
    """Finds the client's address, behind proxies that are trusted and no others.

    :param trusted: networks of proxies, such as ``10.0.0.0/8``, whose ``X-Forwarded-For`` is
        believed. The address taken is the right-most one that is not trusted itself. A peer on a
        Unix socket is a proxy of this machine, and trusted when any is.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted = [ip_network(network) for network in trusted]

    def of(self, peer: IAddress | None, forwarded: Sequence[bytes]) -> str:
        """The client's address.

        :param peer: the other end of the socket.
        :param forwarded: the values of all ``X-Forwarded-For`` headers.
        :return: an IP address, or ``unknown`` for a Unix socket that says nothing.
        """
        address = _address_of(peer)
        if not self.is_proxy(peer):
            plain = str(address) if address is not None else "unknown"
            # Rather the string that the transport keeps than another one that is equal.
            host: str | None = getattr(peer, "host", None)
            return host if host == plain else plain
        for text in reversed(b",".join(forwarded).split(b",")):
            hop = _parse(text.strip().decode("ascii", "replace"))
            if hop is None:
                break
            address = hop
            if not self._trusts(hop):
                break
        return str(address) if address is not None else "unknown"

    def is_proxy(self, peer: IAddress | None) -> bool:
        """Whether the other end of a socket is a trusted proxy, with many clients behind it."""
        address = _address_of(peer)
        return bool(self._trusted) and (address is None or self._trusts(address))

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


def network_of(address: str) -> str:
    """The network that counts as one client: the IPv4 address itself, or the IPv6 /64."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, 64), strict=False))
    return address
