"""What is under each connection, without what can be told when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet import tcp

if TYPE_CHECKING:
    from collections.abc import Callable


def _told(get: Callable[[Any], Any]) -> Any:
    """An attribute that is told by that; what Twisted sets it to is not kept."""
    return property(get, lambda transport, value: None, lambda transport: None)


class SlimServer(tcp.Server):
    """A TCP connection that was accepted."""

    hostname = _told(lambda transport: transport.client[0])
    logstr = _told(lambda transport: f"Connection,{transport.sessionno},{transport.client[0]}")
    repstr = _told(lambda transport: f"<{transport.logstr}>")

    def _fileno(self) -> Callable[[], int]:
        # A connection that is closed has no socket.
        return self.socket.fileno if hasattr(self, "socket") else super().fileno

    fileno = _told(_fileno)


def slim_transports(port: Any) -> None:
    """Have a listener make slim transports from here on, if it makes Twisted's own."""
    if type(port) is tcp.Port and port.transport is tcp.Server:
        port.transport = SlimServer
