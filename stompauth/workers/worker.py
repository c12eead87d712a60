"""A worker: what it does beside what a server in one process does."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from stompauth.workers.listeners import inherited, remove_stale
from stompauth.workers.mesh import Mesh
from stompauth.workers.start import READY, STOP, ParentWatch, tell_parent

if TYPE_CHECKING:
    from twisted.application.service import IService
    from twisted.internet.interfaces import IListeningPort, IProtocolFactory
    from twisted.python.failure import Failure

    from stompauth.workers.start import Start


#: Seconds between the parent's sign to stop and its effect.
GRACE: Final = 0.2


class Worker:
    """One of several processes that serve the same listeners.

    :param start: what the parent has said.
    :ivar mesh: connects it to the others.
    """

    def __init__(self, start: Start, reactor: Any) -> None:
        self._start = start
        self._reactor = reactor
        self._later: list[_Later] = []
        self.mesh = make_mesh(start, reactor)

    def endpoints(self, key: str) -> list[IStreamServerEndpoint]:
        """What the parent has bound for a key of the configuration.

        They listen at :meth:`serve`, and not before.
        """
        bound = self._start.listeners.get(key, ())
        later = [_Later(inherited(self._reactor, *one)) for one in bound]
        self._later += later
        return list(later)

    async def serve(self) -> None:
        """Listen, and tell the parent.

        :raises Exception: a listener cannot be had.
        """
        for later in self._later:
            await later.begin()
        tell_parent(READY)

    def stop_all(self) -> None:
        """Have the parent stop, and all workers with it."""
        tell_parent(STOP)

    def remove_directory(self) -> None:
        """Remove the directory of the sockets, unless another worker has one there."""
        with suppress(OSError):
            os.rmdir(self._start.directory)


@implementer(IStreamServerEndpoint)
class _Later:
    """An endpoint that listens when its time has come."""

    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        self._endpoint = endpoint
        self._factory: IProtocolFactory | None = None
        self._listening: Deferred[IListeningPort] = Deferred()

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen, later."""
        self._factory = factory
        return self._listening

    async def begin(self) -> None:
        """Listen now."""
        if self._factory is not None:
            self._listening.callback(await self._endpoint.listen(self._factory))


class WorkerService(Service):
    """Runs the service of a worker.

    Nobody is served before the other workers have told this one what it has to know. It ends in
    good order when the parent wants it to, or is gone.

    :param inner: the service, with :meth:`Worker.endpoints` to listen on.
    """

    _log = Logger()

    def __init__(self, worker: Worker, inner: IService, reactor: Any) -> None:
        self._worker = worker
        self._inner = inner
        self._reactor = reactor
        self._joining: Deferred[None] | None = None
        self._is_dismissed = False

    def startService(self) -> None:
        """Start the service, join the others, and then serve."""
        super().startService()
        self._reactor.addReader(ParentWatch(self._dismissed))
        self._inner.startService()
        self._joining = Deferred.fromCoroutine(self._join())
        self._joining.addErrback(self._failed)

    async def _join(self) -> None:
        await self._worker.mesh.start()
        await self._worker.serve()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("this worker cannot serve", failure)
            self._reactor.stop()

    def _dismissed(self) -> None:
        # A signal to all processes is on its way to this one, too, and to stop twice is an error.
        self._reactor.callLater(GRACE, self._end)

    def _end(self) -> None:
        self._is_dismissed = True
        if self.running:
            self._log.info("the parent stops, or is gone")
            self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Stop the service, and then leave the others.

        :return: fires when that is done.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._joining is not None:
            self._joining.cancel()
        stopped = self._inner.stopService()
        if stopped is not None:
            await stopped
        await self._worker.mesh.stop()
        if self._is_dismissed:
            self._worker.remove_directory()


def make_mesh(start: Start, reactor: Any) -> Mesh:
    """Make the mesh of a worker, with sockets in the directory that its parent has made."""

    def path(index: int) -> str:
        return f"{start.directory}/{index}"

    remove_stale(path(start.index))
    others = {
        index: UNIXClientEndpoint(reactor, path(index))
        for index in range(start.count)
        if index != start.index
    }
    own = UNIXServerEndpoint(reactor, path(start.index), mode=0o600, wantPID=0)
    return Mesh(start.index, own, others, reactor)
