"""How the client reaches a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from stompauth.identity.keys import tls_policy

if TYPE_CHECKING:
    from os import PathLike

    from twisted.internet.interfaces import IStreamClientEndpoint
    from twisted.web.client import URI


@implementer(IAgentEndpointFactory)
class ClientEndpoints:
    """TCP, and TLS 1.2 at least for ``https`` and ``wss``.

    :param reactor: the reactor.
    :param ca_file: certificates of the only CAs to trust, as PEM; None for the system's.
    :raises OSError: the file cannot be read.
    :raises ValueError: it holds no certificate.
    """

    def __init__(self, reactor: Any, ca_file: str | PathLike[str] | None = None) -> None:
        self._reactor = reactor
        self._policy: Any = tls_policy(ca_file)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Make the endpoint for a URI."""
        plain = HostnameEndpoint(self._reactor, uri.host, uri.port)
        if uri.scheme in (b"https", b"wss"):
            creator = self._policy.creatorForNetloc(uri.host, uri.port)
            secured: IStreamClientEndpoint = wrapClientTLS(creator, plain)
            return secured
        return plain
