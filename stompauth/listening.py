"""Listeners that open and close in order with what they serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import (
        IAddress,
        IListeningPort,
        IProtocolFactory,
        IStreamServerEndpoint,
    )


class ListeningService(Service):
    """Listens on endpoints, and runs a service behind them.

    It stops in order: first it takes no more connections, then the service stops; or the other way
    round, for what has to be asked until the end. A listener that cannot be had is an error at
    start, not a line in the log.

    :param endpoints: endpoints, or Twisted's descriptions of them, such as
        ``tcp:8080:interface=127.0.0.1``.
    :param factory: what listens.
    :param inner: the service; one that listens itself stops to do so after this one.
    :param to_the_end: whether to listen from after the service's start until after its stop.
    :param listening: called with the address of each listener as it is there.
    :param announces: whether to log the address, too.
    :param opened: called with each listener before it accepts anything.
    """

    _log = Logger()

    def __init__(
        self,
        endpoints: Sequence[str | IStreamServerEndpoint],
        factory: IProtocolFactory,
        inner: Service,
        reactor: Any,
        listening: Callable[[IAddress], None] | None = None,
        *,
        to_the_end: bool = False,
        announces: bool = True,
        opened: Callable[[IListeningPort], None] | None = None,
    ) -> None:
        self._endpoints = [
            serverFromString(reactor, endpoint) if isinstance(endpoint, str) else endpoint
            for endpoint in endpoints
        ]
        self._announces = announces
        self._opened = opened
        self._factory = factory
        self._inner = inner
        self._listening = listening
        self._to_the_end = to_the_end
        self._ports: list[IListeningPort] = []
        self._begun = False

    def privilegedStartService(self) -> None:
        """Listen while the process still may: before twistd gives up its privileges."""
        super().privilegedStartService()
        if self._to_the_end:
            self._inner.privilegedStartService()
        self._listen()
        if not self._to_the_end:
            self._inner.privilegedStartService()

    def startService(self) -> None:
        """Listen, unless that is done, and start the service."""
        super().startService()
        if self._to_the_end:
            self._inner.startService()
        self._listen()
        if not self._to_the_end:
            self._inner.startService()

    def _listen(self) -> None:
        if self._begun:
            return
        self._begun = True
        for endpoint in self._endpoints:
            failures: list[Failure] = []
            listening = endpoint.listen(self._factory)
            listening.addCallback(self._is_listening)
            listening.addErrback(failures.append)
            if failures:
                failures[0].raiseException()

    def _is_listening(self, port: IListeningPort) -> None:
        self._ports.append(port)
        if self._opened is not None:
            self._opened(port)
        address = port.getHost()
        if self._listening is not None:
            self._listening(address)
        if self._announces:
            self._log.info("listening on {address}", address=describe(address))

    def stopService(self) -> Deferred[None]:
        """Stop in order.

        :return: fires when the listeners are closed and the service has stopped.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if not self._to_the_end:
            await self._stop_listening()
        stopped = self._inner.stopService()
        if stopped is not None:
            await stopped
        await self._stop_listening()
        self._begun = False

    async def _stop_listening(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            closed = port.stopListening()
            if closed is not None:
                await closed


class BesideService(Service):
    """Runs a service, and another one that is there from before its start until after its stop.

    :param inner: the service.
    :param beside: the other one.
    """

    def __init__(self, inner: Service, beside: Service) -> None:
        self._inner = inner
        self._beside = beside

    def privilegedStartService(self) -> None:
        """Let them do what has to be done before twistd gives up its privileges."""
        super().privilegedStartService()
        self._beside.privilegedStartService()
        self._inner.privilegedStartService()

    def startService(self) -> None:
        """Start them."""
        super().startService()
        self._beside.startService()
        self._inner.startService()

    def stopService(self) -> Deferred[None]:
        """Stop the service, and then the other one.

        :return: fires when both have stopped.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in (self._inner, self._beside):
            stopped = service.stopService()
            if stopped is not None:
                await stopped


def describe(address: IAddress) -> str:
    """An address as people write it: ``127.0.0.1:8080``, ``[::1]:8080``, a path."""
    if isinstance(address, UNIXAddress):
        return str(address.name, "utf-8") if isinstance(address.name, bytes) else str(address.name)
    host, port = getattr(address, "host", "unknown"), getattr(address, "port", 0)
    return f"[{host}]:{port}" if isinstance(address, IPv6Address) else f"{host}:{port}"
