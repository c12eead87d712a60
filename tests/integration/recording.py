"""A TCP proxy that remembers what passes."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class RecordingProxy:
    """Passes connections on to a server of 127.0.0.1, in threads of its own.

    It does not depend on the reactor, which a test may block meanwhile.

    :ivar port: where it listens on 127.0.0.1.
    :ivar sent: every octet to the server so far, of all connections, as they came.
    :ivar received: every octet from it.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent = bytearray()
        self.received = bytearray()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection that there is."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        """Accept no more connections, and end every one."""
        # Closing alone would leave the thread in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._sockets += (client, server)
            for source, target, record in (
                (client, server, self.sent),
                (server, client, self.received),
            ):
                threading.Thread(
                    target=self._pass, args=(source, target, record), daemon=True
                ).start()

    def _pass(self, source: socket.socket, target: socket.socket, record: bytearray) -> None:
        with contextlib.suppress(OSError):
            while octets := source.recv(65536):
                with self._lock:
                    record += octets
                target.sendall(octets)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def recording(server_port: int) -> Iterator[RecordingProxy]:
    """Run a proxy in front of a server for as long as the block lasts."""
    proxy = RecordingProxy(server_port)
    try:
        yield proxy
    finally:
        proxy.close()
