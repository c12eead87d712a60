"""Tests of stompauth.fastio.transport."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from stompauth.fastio.output import socket_of
from stompauth.fastio.transport import SlimServer, slim_transports


class Reactor(MemoryReactor):  # type: ignore[misc]  # its methods differ from the interfaces'
    """Reads and writes nothing by itself."""


class SlimServerTests(SynchronousTestCase):
    """A transport that keeps less does what Twisted's does."""

    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.theirs.close)
        self.addCleanup(self.ours.close)

    def transport(self, of: type[tcp.Server] = SlimServer, host: str = "192.0.2.1") -> Any:
        client = (host, 4711, 0, 0) if ":" in host else (host, 4711)
        port: Any = SimpleNamespace(_realPortNumber=8080)
        return of(self.ours, Protocol(), client, port, 7, Reactor())

    def test_told(self) -> None:
        """What it does not keep it tells."""
        transport = self.transport()
        self.assertEqual(transport.hostname, "192.0.2.1")
        self.assertEqual(transport.logPrefix(), "Connection,7,192.0.2.1")
        self.assertEqual(repr(transport), "<Connection,7,192.0.2.1>")
        self.assertEqual(transport.fileno(), self.ours.fileno())
        self.assertEqual(transport.getPeer().port, 4711)
        self.assertEqual(self.transport(host="2001:db8::1").getPeer().host, "2001:db8::1")

    def test_keeps_less(self) -> None:
        """It holds nothing that Twisted's does not, and a few things less."""
        slim, plain = vars(self.transport()), vars(self.transport(tcp.Server))
        self.assertEqual(plain.keys() - slim.keys(), {"fileno", "hostname", "logstr", "repstr"})
        self.assertEqual(slim.keys() - plain.keys(), set())

    def test_life(self) -> None:
        """It reads and writes, and when it is closed it has no descriptor any more."""
        transport = self.transport()
        received: list[bytes] = []
        lost: list[Failure] = []
        transport.protocol.dataReceived = received.append
        transport.protocol.connectionLost = lost.append
        self.theirs.send(b"ping")
        self.assertIsNone(transport.doRead())
        transport.write(b"pong")
        transport.doWrite()
        self.assertEqual((received, self.theirs.recv(100)), ([b"ping"], b"pong"))
        transport.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((len(lost), transport.fileno()), (1, -1))

    def test_direct(self) -> None:
        """It is one of those that fast I/O writes to directly."""
        self.assertIs(socket_of(self.transport()), self.ours)

    def test_listeners(self) -> None:
        """A TCP listener makes them from then on; one that makes something else goes on so."""
        port = tcp.Port(0, Factory(), reactor=Reactor())
        slim_transports(port)
        self.assertIs(port.transport, SlimServer)

        class Other(tcp.Server):
            """Somebody's own."""

        port.transport = Other
        slim_transports(port)
        self.assertIs(port.transport, Other)
        slim_transports(object())
