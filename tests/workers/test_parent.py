"""Tests for the parent of the workers, with processes in memory."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from stompauth.workers.parent import FIRST_DELAY, GOOD_AFTER, MAX_DELAY, WorkersService
from stompauth.workers.start import FROM_PARENT, READY, STOP, TO_PARENT, Start


class Port:
    """A listener that is bound, at a real descriptor."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.is_reading = True
        self.is_closed = False

    def fileno(self) -> int:
        return self.socket.fileno()

    def getHost(self) -> str:
        return f"host {self.fileno()}"

    def stopReading(self) -> None:
        self.is_reading = False

    def stopListening(self) -> None:
        self.is_closed = True
        self.socket.close()


class Process:
    """A worker in memory."""

    def __init__(self, reactor: Reactor, protocol: Any, arguments: dict[str, Any]) -> None:
        self.reactor = reactor
        self.protocol = protocol
        self.arguments = arguments
        self.pid: int = 1000 + len(reactor.processes)
        self.start: Start
        self.is_dismissed = False
        self.signals: list[str] = []
        self.is_over = False

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        assert descriptor == FROM_PARENT
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        self.start = Start.read(reading)
        os.close(reading)

    def closeChildFD(self, descriptor: int) -> None:
        assert descriptor == FROM_PARENT
        self.is_dismissed = True

    def signalProcess(self, name: str) -> None:
        if self.is_over:
            raise ProcessExitedAlready
        self.signals.append(name)
        if name == "KILL":
            self.exit(signal=9)

    def say(self, word: bytes) -> None:
        self.protocol.childDataReceived(TO_PARENT, word[:2])
        self.protocol.childDataReceived(TO_PARENT, word[2:] + b"\n")

    def exit(self, status: int | None = None, signal: int | None = None) -> None:
        self.is_over = True
        error = ProcessTerminated(status, signal) if status or signal else ProcessDone(0)
        self.protocol.processExited(Failure(error))
        self.protocol.processEnded(Failure(error))


class Reactor(Clock):
    """A reactor whose processes and listeners are the test's."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.ports: list[Port] = []
        self.is_stopped = False

    def listenTCP(self, *arguments: object, **options: object) -> Port:
        self.ports.append(Port())
        return self.ports[-1]

    def callWhenRunning(self, function: Any) -> None:
        self.callLater(0, function)

    def spawnProcess(
        self, protocol: Any, executable: str, arguments: list[str], **options: Any
    ) -> Process:
        options |= {"executable": executable, "arguments": arguments}
        self.processes.append(Process(self, protocol, options))
        return self.processes[-1]

    def stop(self) -> None:
        self.is_stopped = True


class WorkersServiceTests(SynchronousTestCase):
    """Tests for WorkersService."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.heard: list[object] = []
        self.logged: list[str] = []
        self.service = WorkersService(
            self.reactor,
            ["/usr/bin/python", "-m", "it"],
            2,
            {"listen": ["tcp:8080", "haproxy:tcp:8081"], "control.listen": ["tcp:9"], "ops": []},
            stop_timeout=10.0,
            listening=self.heard.append,
        )

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event.get("log_namespace", "").startswith("stompauth."):
                self.logged.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def tearDown(self) -> None:
        for process in self.reactor.processes:
            if not process.is_over:
                self.service.running = False
                process.exit()
        self.service.stopService()
        for port in self.reactor.ports:
            port.socket.close()

    def start(self) -> list[Process]:
        """Start the service, and have the workers ready."""
        self.service.privilegedStartService()
        self.service.startService()
        self.reactor.advance(0)
        for process in self.reactor.processes:
            process.say(READY)
        return self.reactor.processes

    def test_binds_early(self) -> None:
        """The listeners are bound while the process may, once; nobody is accepted by them."""
        self.service.privilegedStartService()
        self.assertEqual(len(self.reactor.ports), 3)
        self.assertEqual(self.reactor.processes, [])
        self.service.startService()
        self.assertEqual(len(self.reactor.ports), 3)
        self.assertFalse(any(port.is_reading for port in self.reactor.ports))

    def test_spawns(self) -> None:
        """Each worker has the listeners, its number, and a directory that is this user's alone."""
        first, second = self.start()
        self.assertEqual([first.start.index, second.start.index], [0, 1])
        for process in (first, second):
            self.assertEqual(process.start.count, 2)
            self.assertEqual(
                process.start.listeners,
                {
                    "listen": (("tcp:8080", 4), ("haproxy:tcp:8081", 5)),
                    "control.listen": (("tcp:9", 6),),
                    "ops": (),
                },
            )
            descriptors = process.arguments["childFDs"]
            self.assertEqual(
                [descriptors[number] for number in (4, 5, 6)],
                [port.fileno() for port in self.reactor.ports],
            )
            self.assertEqual(process.arguments["arguments"], ["/usr/bin/python", "-m", "it"])
        self.assertEqual(os.stat(first.start.directory).st_mode & 0o777, 0o700)

    def test_announces(self) -> None:
        """The addresses are told once, when all workers are ready."""
        self.service.startService()
        self.reactor.advance(0)
        first, second = self.reactor.processes
        first.say(READY)
        self.assertEqual(self.heard, [])
        second.say(READY)
        self.assertEqual(self.heard, [port.getHost() for port in self.reactor.ports])
        second.exit(signal=9)
        self.reactor.advance(FIRST_DELAY)
        self.reactor.processes[-1].say(READY)
        self.assertEqual(len(self.heard), 3)

    def test_another(self) -> None:
        """In place of a worker that ends another one comes, with the same number, soon."""
        first, _ = self.start()
        first.exit(signal=9)
        self.assertIn("worker 0 has ended: signal 9; another one starts in 0.5 s", self.logged)
        self.reactor.advance(FIRST_DELAY)
        self.assertEqual([process.start.index for process in self.reactor.processes], [0, 1, 0])
        self.assertFalse(any(port.is_closed for port in self.reactor.ports))

    def test_back_off(self) -> None:
        """One that ends again and again is started ever more rarely, up to a bound."""
        self.start()[0].exit(status=1)
        waited = []
        for _ in range(9):
            count = len(self.reactor.processes)
            seconds = 0.0
            while len(self.reactor.processes) == count:
                self.reactor.advance(0.5)
                seconds += 0.5
            waited.append(seconds)
            self.reactor.processes[-1].exit()
        self.assertEqual(waited, [0.5, 1, 2, 4, 8, 16, MAX_DELAY, MAX_DELAY, MAX_DELAY])
        self.assertIn("worker 0 has ended: exit status 1; another one starts in 0.5 s", self.logged)
        self.assertIn("worker 0 has ended: by itself; another one starts in 1.0 s", self.logged)
        self.reactor.advance(MAX_DELAY)
        good = self.reactor.processes[-1]
        good.say(READY)
        self.reactor.advance(GOOD_AFTER)
        good.exit(signal=11)
        self.assertIn(f"another one starts in {FIRST_DELAY} s", self.logged[-1])

    def test_stops(self) -> None:
        """The workers are dismissed, and when they have ended, the listeners are closed."""
        first, second = self.start()
        directory = first.start.directory
        stopped = self.service.stopService()
        self.assertTrue(first.is_dismissed)
        self.assertTrue(second.is_dismissed)
        first.exit()
        self.assertNoResult(stopped)
        self.assertFalse(any(port.is_closed for port in self.reactor.ports))
        second.exit()
        self.successResultOf(stopped)
        self.assertTrue(all(port.is_closed for port in self.reactor.ports))
        self.assertFalse(os.path.exists(directory))
        self.reactor.advance(MAX_DELAY)
        self.assertEqual(len(self.reactor.processes), 2)
        self.assertEqual(first.signals, [])

    def test_kills(self) -> None:
        """A worker that does not end in time is killed."""
        first, second = self.start()
        stopped = self.service.stopService()
        first.exit()
        self.reactor.advance(9.9)
        self.assertEqual(second.signals, [])
        self.reactor.advance(0.1)
        self.assertEqual(second.signals, ["KILL"])
        self.successResultOf(stopped)

    def test_stops_while_one_is_missing(self) -> None:
        """Nobody is started any more once the service stops, nor before the reactor has run."""
        first, second = self.start()
        first.exit()
        stopped = self.service.stopService()
        second.exit()
        self.successResultOf(stopped)
        self.reactor.advance(MAX_DELAY)
        self.assertEqual(len(self.reactor.processes), 2)
        self.service.startService()
        self.service.stopService()
        self.reactor.advance(MAX_DELAY)
        self.assertEqual(len(self.reactor.processes), 2)

    def test_signals(self) -> None:
        """A signal goes to every worker, when it is ready for it; one that is gone is no error."""
        self.service.startService()
        self.reactor.advance(0)
        first, second = self.reactor.processes
        first.say(READY)
        self.service.signal("HUP")
        self.assertEqual((first.signals, second.signals), (["HUP"], []))
        second.say(READY)
        self.assertEqual(second.signals, ["HUP"])
        second.is_over = True
        self.service.signal("HUP")
        self.assertEqual(first.signals, ["HUP", "HUP"])
        second.is_over = False

    def test_stop_all(self) -> None:
        """A worker that is told to end everything has the parent stop."""
        self.start()[1].say(STOP)
        self.assertTrue(self.reactor.is_stopped)

    def test_words_that_mean_nothing(self) -> None:
        """What a worker says beside these has no effect."""
        self.start()[1].say(b"whatever")
        self.assertFalse(self.reactor.is_stopped)

    def test_directory(self) -> None:
        """Where systemd has made a directory for the service, that of the sockets is in it."""
        runtime = self.mktemp()
        os.makedirs(runtime)
        self.patch(os, "environ", {**os.environ, "RUNTIME_DIRECTORY": f"{runtime}:/other"})
        first, _ = self.start()
        self.assertEqual(os.path.dirname(first.start.directory), runtime)

    def test_not_bound(self) -> None:
        """A listener that cannot be had is an error at start."""

        def refuse(*arguments: object, **options: object) -> None:
            raise OSError("taken")

        self.patch(self.reactor, "listenTCP", refuse)
        self.assertRaises(OSError, self.service.privilegedStartService)
        self.assertEqual(self.reactor.processes, [])
