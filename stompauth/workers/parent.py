"""The parent of the workers: binds, starts them, and starts others for those that end."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, globalLogPublisher

from stompauth.workers.listeners import bind
from stompauth.workers.log import WorkerLog
from stompauth.workers.start import FROM_PARENT, READY, STOP, TO_PARENT, Start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort
    from twisted.logger import ILogObserver
    from twisted.python.failure import Failure

#: Seconds until another worker is started in place of one that has ended: first, and at most. It
#: doubles, until one has been ready for so long.
FIRST_DELAY: Final = 0.5
MAX_DELAY: Final = 30.0
GOOD_AFTER: Final = 60.0


class WorkersService(Service):
    """Runs several processes that serve the same listeners.

    Nobody is served by this process itself. The listeners stay bound for as long as it runs, so
    that connections wait while a worker is replaced, and are never refused.

    :param reactor: spawns the workers, and gives the time.
    :param command: what a worker is started with, beginning with the executable; without a secret,
        since others can read it.
    :param count: how many workers.
    :param listeners: endpoint descriptions by the key of the configuration.
    :param stop_timeout: seconds that a worker has for an orderly end.
    :param listening: called with the address of each listener, when all workers are ready.
    :param observer: gets what the workers log.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        command: Sequence[str],
        count: int,
        listeners: Mapping[str, Sequence[str]],
        *,
        stop_timeout: float,
        listening: Callable[[IAddress], object] = lambda address: None,
        observer: ILogObserver = globalLogPublisher,
    ) -> None:
        self._reactor = reactor
        self._command = list(command)
        self._listeners = listeners
        self._stop_timeout = stop_timeout
        self._listening = listening
        self._workers = [_Worker(self, index) for index in range(count)]
        self._ports: dict[str, list[IListeningPort]] = {}
        self._directory = ""
        self._is_announced = False
        self.observer = observer

    def privilegedStartService(self) -> None:
        """Bind the listeners while the process still may."""
        super().privilegedStartService()
        self._bind()

    def startService(self) -> None:
        """Bind the listeners, unless that is done, and start the workers."""
        super().startService()
        self._bind()
        # Open to this user alone, whatever the directory that it is in.
        parent = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        self._directory = tempfile.mkdtemp(prefix="stompauth-", dir=parent or None)
        self._reactor.callWhenRunning(self._start_workers)

    def _bind(self) -> None:
        if self._ports:
            return
        for key, descriptions in self._listeners.items():
            bound = self._ports[key] = []
            for description in descriptions:
                bound.append(bind(self._reactor, description))

    def _start_workers(self) -> None:
        if self.running:
            for worker in self._workers:
                worker.start()

    def stopService(self) -> Deferred[None]:
        """Have the workers end in good order, and kill those that do not.

        :return: fires when all have ended.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        killing = self._reactor.callLater(self._stop_timeout, self._kill)
        await DeferredList([worker.stop() for worker in self._workers])
        if killing.active():
            killing.cancel()
        ports, self._ports = self._ports, {}
        # To close one shuts it down for whoever shares it.
        for port in (port for bound in ports.values() for port in bound):
            closed = port.stopListening()
            if closed is not None:
                await closed
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._is_announced = False

    def _kill(self) -> None:
        self._log.warn("workers that do not end are killed")
        for worker in self._workers:
            worker.signal("KILL")

    def signal(self, name: str) -> None:
        """Send a signal, such as ``HUP``, to every worker, as soon as it is ready."""
        for worker in self._workers:
            worker.signal_when_ready(name)

    def stop_all(self) -> None:
        """A worker was told to have everything stop."""
        if self.running:
            self._reactor.stop()

    # What workers use.

    def spawn(self, protocol: _WorkerProcess, index: int) -> Any:
        """Start the process of a worker."""
        descriptors: dict[int, int | str] = {FROM_PARENT: "w", 1: "r", 2: "r", TO_PARENT: "r"}
        listeners: dict[str, list[tuple[str, int]]] = {}
        for key, bound in self._ports.items():
            listeners[key] = []
            for description, port in zip(self._listeners[key], bound, strict=True):
                descriptor = len(descriptors)
                listening: Any = port
                descriptors[descriptor] = listening.fileno()
                listeners[key].append((description, descriptor))
        process = self._reactor.spawnProcess(
            protocol,
            self._command[0],
            self._command,
            # It finds the same modules, whatever has made them to be found here.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            childFDs=descriptors,
        )
        start = Start(index, len(self._workers), self._directory, listeners)
        process.writeToChild(FROM_PARENT, start.encode())
        return process

    def worker_is_ready(self) -> None:
        """A worker serves."""
        if self._is_announced or not all(worker.is_ready for worker in self._workers):
            return
        self._is_announced = True
        for port in (port for bound in self._ports.values() for port in bound):
            self._listening(port.getHost())

    def call_later(self, delay: float, function: Callable[[], object]) -> IDelayedCall:
        """Call it after so many seconds."""
        later: IDelayedCall = self._reactor.callLater(delay, function)
        return later

    def seconds(self) -> float:
        """What time it is."""
        now: float = self._reactor.seconds()
        return now


class _Worker:
    """One worker after another, under one number."""

    _log = Logger()

    def __init__(self, parent: WorkersService, index: int) -> None:
        self._parent = parent
        self._index = index
        self._process: Any = None
        self._next: IDelayedCall | None = None
        self._delay = FIRST_DELAY
        self._ready_at: float | None = None
        self._ended: Deferred[None] | None = None
        self._signals: dict[str, None] = {}

    @property
    def is_ready(self) -> bool:
        """Whether it serves."""
        return self._ready_at is not None

    def start(self) -> None:
        """Start the process."""
        self._next = None
        self._signals.clear()
        log, errors = (WorkerLog(self._index, self._parent.observer) for _ in range(2))
        self._process = self._parent.spawn(_WorkerProcess(self, log, errors), self._index)

    def said(self, word: bytes) -> None:
        """The process has said that it serves, or that all shall stop."""
        if word == STOP:
            self._parent.stop_all()
        elif word == READY and self._process is not None:
            self._ready_at = self._parent.seconds()
            self._log.info(
                "worker {worker} is ready, as process {pid}",
                worker=self._index,
                pid=self._process.pid,
            )
            for name in self._signals:
                self.signal(name)
            self._parent.worker_is_ready()

    def exited(self, reason: str) -> None:
        """The process has ended."""
        self._process = None
        ready_at, self._ready_at = self._ready_at, None
        ended, self._ended = self._ended, None
        if ended is not None:
            ended.callback(None)
        if not self._parent.running:
            return
        if ready_at is not None and self._parent.seconds() - ready_at >= GOOD_AFTER:
            self._delay = FIRST_DELAY
        self._log.error(
            "worker {worker} has ended: {reason}; another one starts in {delay} s",
            worker=self._index,
            reason=reason,
            delay=self._delay,
        )
        self._next = self._parent.call_later(self._delay, self.start)
        self._delay = min(2 * self._delay, MAX_DELAY)

    def stop(self) -> Deferred[None]:
        """Have the process end; fires when it has."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._process is None:
            return succeed(None)
        # No signal: whoever has sent one to a group of processes has sent it to this one, too.
        self._process.closeChildFD(FROM_PARENT)
        self._ended = Deferred()
        return self._ended

    def signal_when_ready(self, name: str) -> None:
        """Send a signal to the process; before it is ready, it may not take it yet."""
        if self.is_ready:
            self.signal(name)
        else:
            self._signals[name] = None

    def signal(self, name: str) -> None:
        """Send a signal to the process, if there is one."""
        if self._process is not None:
            try:
                self._process.signalProcess(name)
            except ProcessExitedAlready:
                return


class _WorkerProcess(ProcessProtocol):
    """What one process says."""

    def __init__(self, worker: _Worker, log: WorkerLog, errors: WorkerLog) -> None:
        self._worker = worker
        self._logs = {1: log, 2: errors}
        self._said = b""

    def childDataReceived(self, descriptor: int, data: bytes) -> None:
        """Take what it logs, or has to say."""
        if descriptor != TO_PARENT:
            self._logs[descriptor].received(data)
            return
        *words, self._said = (self._said + data).split(b"\n")
        for word in words:
            self._worker.said(word)

    def processExited(self, reason: Failure) -> None:
        """It has ended; what it has logged may still come."""
        self._worker.exited(_told(reason))

    def processEnded(self, reason: Failure) -> None:
        """Nothing more comes."""
        for log in self._logs.values():
            log.ended()


def _told(reason: Failure) -> str:
    if reason.check(ProcessDone):
        return "by itself"
    ended: Any = reason.value
    return f"exit status {ended.exitCode}" if ended.signal is None else f"signal {ended.signal}"
