"""What nodes tell one another without waiting for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from stompauth.cluster.messages import encode
from stompauth.errors import Unavailable

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from stompauth.cluster.bus import NodeBus
    from stompauth.cluster.messages import Message


class Outbox:
    """Sends messages, in vain while this node is cut off.

    :ivar bus: how they go.
    """

    _log = Logger()

    def __init__(self, bus: NodeBus) -> None:
        self.bus = bus

    def broadcast(self, message: Message) -> None:
        """Send to all other nodes."""
        self.bus.broadcast(encode(message)).addErrback(self.failed)

    def send(self, node_id: str, message: Message) -> None:
        """Send to one of them."""
        self.bus.send(node_id, encode(message)).addErrback(self.failed)

    def failed(self, failure: Failure) -> None:
        """Pass over what was to be expected, and log what was not."""
        if not failure.check(Unavailable, CancelledError):
            self._log.failure("the cluster failed", failure)
