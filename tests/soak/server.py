"""The server of a soak: ``python -m tests.soak.server CONFIG``.

It runs what ``twistd`` would run, writes a line of JSON with its ports when it is ready, and one
with what it holds for each line on its standard input. It stops when that is closed.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor, stdio
from twisted.internet.protocol import connectionDone
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.protocols.basic import LineReceiver

from stompauth.application import StompAuth, StompAuthService
from stompauth.handshake.site import StrictHTTPChannel
from stompauth.handshake.websocket import StompWebSocketProtocol
from stompauth.listening import ListeningService
from stompauth.session.session import Session
from stompauth.tap import Options, makeService

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.python.failure import Failure

COUNTED = (Session, StompWebSocketProtocol, StrictHTTPChannel)


def held(application: StompAuth) -> dict[str, int]:
    """What the process holds, by name."""
    gc.collect()
    # What the allocator could give back does not count.
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    types = list(map(type, gc.get_objects()))
    connections = application._connections
    loop: Any = reactor
    tickets: Any = application._tickets
    return {
        "sessions": len(application.sessions),
        "open_sessions": len(application._sessions.open_sessions),
        "connections": connections.total,
        "addresses": len(connections.by_address),
        "users": len(connections.by_user),
        "timers": len(loop.getDelayedCalls()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        **{kind.__name__: sum(issubclass(found, kind) for found in types) for kind in COUNTED},
        **application._broker.counts(),
        "tickets": len(tickets),
        "revocations": len(application._revocations),
        "rss": pages * os.sysconf("SC_PAGE_SIZE"),
    }


def services(service: Any) -> Iterator[Any]:
    """A service, and those inside of it, the outermost first."""
    yield service
    inner = [*getattr(service, "services", ()), getattr(service, "_inner", None)]
    for each in inner:
        if each is not None:
            yield from services(each)


class Answers(LineReceiver):
    """Answers on the standard output."""

    delimiter = b"\n"

    def __init__(self, service: Any) -> None:
        found = list(services(service))
        self._application = next(
            each.application for each in found if isinstance(each, StompAuthService)
        )
        # Those of the innermost first: clients, and then the control resource.
        self._listening = [each for each in found if isinstance(each, ListeningService)][::-1]

    def connectionMade(self) -> None:
        """Say where the server listens."""
        self._say({"ports": [each._ports[0].getHost().port for each in self._listening]})

    def lineReceived(self, line: bytes) -> None:
        """Say what the server holds."""
        self._say(held(self._application))

    def _say(self, answer: dict[str, Any]) -> None:
        self.sendLine(json.dumps(answer).encode())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the server."""
        loop: Any = reactor
        if loop.running:
            loop.stop()


def main() -> None:
    """Run."""
    only_errors = LogLevelFilterPredicate(LogLevel.error)
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [only_errors])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    loop: Any = reactor
    options = Options()
    options.parseOptions(["--config", sys.argv[1]])
    service: Any = makeService(options)
    service.privilegedStartService()
    service.startService()
    loop.addSystemEventTrigger("before", "shutdown", service.stopService)
    stdio.StandardIO(Answers(service))
    loop.run()


if __name__ == "__main__":
    main()
