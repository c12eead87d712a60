"""Sockets that a parent has bound and its workers listen on."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet import unix
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from stompauth.config.listener import Listener

if TYPE_CHECKING:
    from twisted.internet.interfaces import (
        IListeningPort,
        IProtocolFactory,
        IStreamServerEndpoint,
    )


def bind(reactor: Any, description: str) -> IListeningPort:
    """Bind what an endpoint description says, and accept nothing there.

    Its TLS is looked at, too, so that a certificate that is missing is told at once.

    :raises Exception: it cannot be had.
    """
    results: list[Any] = []
    listening = serverFromString(reactor, description).listen(_Shared())
    listening.addBoth(results.append)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    # Before the reactor has had the time to look.
    result.stopReading()
    port: IListeningPort = result
    return port


class _Shared(Factory):
    """Of a socket at which others accept."""

    noisy = False


def inherited(reactor: Any, description: str, descriptor: int) -> IStreamServerEndpoint:
    """The endpoint of a description whose socket another process has bound.

    All that is done to what a connection brings, as TLS and the PROXY line, is done here.

    :param descriptor: the socket's, which is closed in this process when that listens.
    """
    listener = Listener.parse(description)
    if listener.kind == "systemd":
        # What systemd passes is meant for one process, and that was the other one.
        description = "haproxy:tcp:0" if listener.is_haproxy else "tcp:0"
    endpoint: IStreamServerEndpoint = serverFromString(
        _Inheriting(reactor, descriptor), description
    )
    return endpoint


class _Inheriting:
    """A reactor that listens on one socket, whichever it is asked for."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        return self._listen(factory)

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        return self._listen(TLSMemoryBIOFactory(contextFactory, False, factory))

    def listenUNIX(
        self, address: bytes | str, factory: IProtocolFactory, **options: object
    ) -> IListeningPort:
        return self._listen(factory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        with socket.socket(fileno=self._descriptor) as bound:
            if bound.family != socket.AF_UNIX:
                port: IListeningPort = self._reactor.adoptStreamPort(
                    bound.fileno(), bound.family, factory
                )
                return port
            return _adopt_unix(self._reactor, bound.fileno(), factory)


def _adopt_unix(reactor: Any, descriptor: int, factory: IProtocolFactory) -> IListeningPort:
    # What adoptStreamPort makes would change the mode of the path, and in the end remove it and
    # shut the socket down for everybody; all that is the parent's to do. It leaves alone what has
    # no place in the file system, and what it takes for somebody else's.
    port: Any = unix.Port._fromListeningDescriptor(reactor, descriptor, factory)
    port._bindPath = b"\0" + port._bindPath
    port._shouldShutdown = False
    port.startListening()
    listening: IListeningPort = port
    return listening


def remove_stale(path: str) -> None:
    """Remove the socket of a process that has ended."""
    with suppress(FileNotFoundError):
        os.unlink(path)
