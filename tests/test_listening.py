"""Tests of stompauth.listening."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from stompauth.listening import BesideService, ListeningService, describe


class Inner(Service):
    """A service that stops when it is told to."""

    def __init__(self) -> None:
        self.stopped: Deferred[None] = Deferred()
        self.log: list[str] = []

    def startService(self) -> None:
        super().startService()
        self.log.append("start")

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.log.append("stop")
        return self.stopped


class BesideServiceTests(SynchronousTestCase):
    """One service is there from before the other's start until after its stop."""

    def test_order(self) -> None:
        """They start and stop in order, and the stop waits for both."""
        inner, beside = Inner(), Inner()
        beside.log = inner.log
        service = BesideService(inner, beside)
        service.privilegedStartService()
        service.startService()
        self.assertTrue(inner.running and beside.running)
        stopped = service.stopService()
        self.assertEqual((inner.running, beside.running), (0, 1))
        inner.stopped.callback(None)
        self.assertEqual(beside.running, 0)
        self.assertNoResult(stopped)
        beside.stopped.callback(None)
        self.successResultOf(stopped)


class ListeningServiceTests(SynchronousTestCase):
    """Listeners come before the service and go before it."""

    def test_opened(self) -> None:
        """Whoever wants to set up listeners gets each of them."""
        opened: list[Any] = []
        endpoints = ["tcp:8080", "tcp:8081"]
        service = ListeningService(
            endpoints, Factory(), Inner(), self.reactor, opened=opened.append
        )
        service.startService()
        self.assertEqual([port.getHost().port for port in opened], [8080, 8081])

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.inner = Inner()
        self.addresses: list[Any] = []
        self.service = ListeningService(
            ["tcp:8080:interface=127.0.0.1", "tcp:0:interface=127.0.0.1"],
            Factory(),
            self.inner,
            self.reactor,
            self.addresses.append,
        )

    def test_order(self) -> None:
        """It listens while it may, once; and stops listening before the service stops."""
        self.service.privilegedStartService()
        self.assertEqual((len(self.reactor.tcpServers), self.inner.log), (2, []))
        self.service.startService()
        self.assertEqual((len(self.reactor.tcpServers), self.inner.log), (2, ["start"]))
        stopped = self.service.stopService()
        self.assertEqual(self.inner.log, ["start", "stop"])
        self.assertNoResult(stopped)
        self.inner.stopped.callback(None)
        self.successResultOf(stopped)

    def test_to_the_end(self) -> None:
        """What has to be asked until the end listens until the service has stopped."""
        closed: list[int] = []
        listen = self.reactor.listenTCP

        def listen_tcp(port: int, *args: Any, **kwargs: Any) -> Any:
            listening = listen(port, *args, **kwargs)
            listening.stopListening = lambda: closed.append(port)
            return listening

        self.patch(self.reactor, "listenTCP", listen_tcp)
        endpoints = ["tcp:8080:interface=127.0.0.1"]
        for to_the_end in (False, True):
            inner = Inner()
            service = ListeningService(
                endpoints, Factory(), inner, self.reactor, to_the_end=to_the_end
            )
            service.startService()
            stopped = service.stopService()
            self.assertEqual((inner.log, closed), (["start", "stop"], [8080] * (not to_the_end)))
            inner.stopped.callback(None)
            self.successResultOf(stopped)
            self.assertEqual(closed, [8080])
            closed.clear()

    def test_says_where(self) -> None:
        """Each listener is logged, and told, with its address."""
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.service.startService()
        listening = [event["address"] for event in events if "address" in event]
        self.assertEqual(len(listening), 2)
        self.assertEqual(listening, [describe(address) for address in self.addresses])

    def test_taken_port(self) -> None:
        """A port that cannot be had is an error at start, not a line in a log."""

        def listen(port: int, *args: Any, **kwargs: Any) -> None:
            raise CannotListenError("127.0.0.1", port, OSError("taken"))

        self.patch(self.reactor, "listenTCP", listen)
        with self.assertRaises(CannotListenError):
            self.service.privilegedStartService()

    def test_describe(self) -> None:
        """Addresses are written as people write them."""
        self.assertEqual(describe(IPv4Address("TCP", "127.0.0.1", 80)), "127.0.0.1:80")
        self.assertEqual(describe(IPv6Address("TCP", "::1", 80)), "[::1]:80")
        self.assertEqual(describe(UNIXAddress("/run/x")), "/run/x")
