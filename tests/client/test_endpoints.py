"""How the client reaches a server; that TLS checks names is tested with real sockets."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface.verify import verifyObject

from stompauth.client.endpoints import ClientEndpoints


class ClientEndpointsTests(SynchronousTestCase):
    """ClientEndpoints."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.endpoints = ClientEndpoints(self.reactor)

    def connected_to(self, uri: bytes) -> tuple[str, int, str]:
        """Host and port that a URI leads to, and what connects there."""
        endpoint = self.endpoints.endpointForURI(URI.fromBytes(uri))
        verifyObject(IStreamClientEndpoint, endpoint)
        endpoint.connect(Factory())
        self.reactor.advance(0)
        host, port, factory, *_ = self.reactor.tcpClients.pop()
        return host, port, type(factory._wrappedFactory).__name__

    def test_interface(self) -> None:
        """It provides what Agent wants."""
        verifyObject(IAgentEndpointFactory, self.endpoints)

    def test_plain(self) -> None:
        """Without TLS it is TCP alone."""
        for uri in (b"http://127.0.0.1:8080/x", b"ws://127.0.0.1:8080/x"):
            self.assertEqual(self.connected_to(uri), ("127.0.0.1", 8080, "Factory"))

    def test_tls(self) -> None:
        """With TLS, TLS is spoken, on the port for it."""
        for uri in (b"https://127.0.0.1/x", b"wss://127.0.0.1/x"):
            self.assertEqual(self.connected_to(uri), ("127.0.0.1", 443, "TLSMemoryBIOFactory"))

    def test_ca_file(self) -> None:
        """A file without a certificate, or none at all, is told at once."""
        empty = Path(self.mktemp())
        self.assertRaises(OSError, ClientEndpoints, self.reactor, empty)
        empty.write_bytes(b"")
        self.assertRaises(ValueError, ClientEndpoints, self.reactor, empty)
