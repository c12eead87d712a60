"""Tests for what a worker does beside what a server in one process does."""

from __future__ import annotations

import os
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from stompauth.workers import start as start_module
from stompauth.workers import worker as worker_module
from stompauth.workers.start import READY, STOP, Start
from stompauth.workers.worker import GRACE, Worker, WorkerService


class Reactor(Clock):
    """A reactor that nothing happens on."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []
        self.is_stopped = False

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def stop(self) -> None:
        self.is_stopped = True


class Mesh:
    """A mesh that is settled when the test says so."""

    def __init__(self) -> None:
        self.settled: Deferred[None] = Deferred()
        self.told: list[str] = []

    def start(self) -> Deferred[None]:
        self.told.append("mesh starts")
        return self.settled

    def stop(self) -> Deferred[None]:
        self.told.append("mesh stops")
        return succeed(None)


class Endpoint:
    """What the parent has bound."""

    def __init__(self, told: list[str], *, works: bool = True) -> None:
        self._told = told
        self._works = works

    def listen(self, factory: Factory) -> Deferred[Any]:
        self._told.append("listens")
        return succeed("port") if self._works else fail(OSError("no"))


class Inner(Service):
    """The service of a server, which listens on what the worker has."""

    def __init__(self, worker: Worker, told: list[str]) -> None:
        self._worker = worker
        self._told = told
        self.ports: list[object] = []

    def startService(self) -> None:
        super().startService()
        self._told.append("starts")
        for endpoint in self._worker.endpoints("listen"):
            endpoint.listen(Factory()).addCallback(self.ports.append)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._told.append("stops")
        return succeed(None)


class WorkerServiceTests(SynchronousTestCase):
    """Tests for Worker and WorkerService."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.mesh = Mesh()
        self.told = self.mesh.told
        self.works = True
        reading, self.writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, self.writing)
        self.reading = reading
        os.set_blocking(reading, False)
        self.patch(start_module, "TO_PARENT", self.writing)
        self.patch(worker_module, "make_mesh", lambda start, reactor: self.mesh)
        self.patch(
            worker_module,
            "inherited",
            lambda reactor, description, number: Endpoint(self.told, works=self.works),
        )
        start = Start(0, 2, "/run/x", {"listen": (("tcp:80", 4), ("tcp:81", 5))})
        self.worker = Worker(start, self.reactor)
        self.inner = Inner(self.worker, self.told)
        self.service = WorkerService(self.worker, self.inner, self.reactor)

    def said(self) -> bytes:
        """What the parent has heard."""
        try:
            return os.read(self.reading, 100)
        except BlockingIOError:
            return b""

    def test_order(self) -> None:
        """First it starts, then it joins the others, then it listens, then the parent is told."""
        self.service.startService()
        self.assertEqual(self.told, ["starts", "mesh starts"])
        self.assertEqual(self.said(), b"")
        self.mesh.settled.callback(None)
        self.assertEqual(self.told[2:], ["listens", "listens"])
        self.assertEqual(self.inner.ports, ["port", "port"])
        self.assertEqual(self.said(), READY + b"\n")
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.told[4:], ["stops", "mesh stops"])

    def test_stop_before_it_serves(self) -> None:
        """One that is stopped before it has joined does not listen any more."""
        self.service.startService()
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.told, ["starts", "mesh starts", "stops", "mesh stops"])
        self.assertEqual(self.said(), b"")
        self.assertFalse(self.reactor.is_stopped)

    def test_cannot_listen(self) -> None:
        """A listener that cannot be had ends the process, and tells why."""
        self.works = False
        self.service.startService()
        self.mesh.settled.callback(None)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertTrue(self.reactor.is_stopped)
        self.assertEqual(self.said(), b"")

    def test_dismissed(self) -> None:
        """When the parent wants it, or is gone, it ends; unless it is about to already."""
        self.service.startService()
        (watch,) = self.reactor.readers
        watch.connectionLost(Failure(Exception()))
        self.reactor.advance(GRACE)
        self.assertTrue(self.reactor.is_stopped)

    def test_dismissed_and_signalled(self) -> None:
        """A signal that comes with the dismissal is enough."""
        self.service.startService()
        (watch,) = self.reactor.readers
        watch.connectionLost(Failure(Exception()))
        self.service.stopService()
        self.reactor.advance(GRACE)
        self.assertFalse(self.reactor.is_stopped)

    def test_stop_all(self) -> None:
        """The parent hears when all are to stop."""
        self.worker.stop_all()
        self.assertEqual(self.said(), STOP + b"\n")

    def test_no_such_listeners(self) -> None:
        """There is nothing to listen on for a key that the parent has nothing for."""
        self.assertEqual(self.worker.endpoints("ops.listen"), [])
