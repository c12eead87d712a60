"""Whether all is there that fast I/O relies on."""

from __future__ import annotations

from stompauth.fastio.protocol import FastWebSocketFactory
from stompauth.handshake.websocket import StompWebSocketFactory


def websocket_factory(fast_io: bool) -> type[StompWebSocketFactory]:
    """The class of the factory to use."""
    return FastWebSocketFactory if fast_io else StompWebSocketFactory
