"""What a client has subscribed to, and what comes of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from stompauth.client.stomp_client import StompClient

    #: What a message is given to. What it returns is awaited, if that can be, before the
    #: subscription's next message comes; an exception is logged.
    MessageCallback: TypeAlias = Callable[["Message"], object]

#: What a waiting message takes besides its body.
_OVERHEAD: Final = 1024


@dataclass(frozen=True, slots=True)
class Message:
    """A MESSAGE that has come.

    :ivar destination: where it was sent to.
    :ivar body: its octets.
    :ivar headers: all of them, as in the frame.
    """

    destination: str
    body: bytes
    headers: Mapping[str, str]
    _client: StompClient = field(compare=False)

    def __repr__(self) -> str:
        # Headers and bodies may hold secrets, and reprs end in logs.
        return f"<Message to {self.destination}, {len(self.body)} bytes>"

    @property
    def text(self) -> str:
        """The body as text; octets that are no UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")

    def ack(self, headers: Mapping[str, str] | None = None) -> Deferred[None]:
        """Tell the server that this is dealt with, on the connection on which it came.

        :param headers: further ones, such as ``transaction``.
        :return: fires when the server has noted it.
        :raises ClientError: by the Deferred.
        :raises LocalProtocolError: by the Deferred: the subscription's mode is ``auto``.
        """
        return self._client._settle("ACK", self.headers, headers)

    def nack(self, headers: Mapping[str, str] | None = None) -> Deferred[None]:
        """Tell the server that this will not be dealt with here; as :meth:`ack`."""
        return self._client._settle("NACK", self.headers, headers)


class Subscription:
    """One subscription of one session.

    :ivar id: its id.
    :ivar destination: what was subscribed to.
    :ivar is_active: whether messages may still come: until it is unsubscribed, the server drops it,
        or the session ends.
    """

    _log = Logger()

    def __init__(
        self, client: StompClient, subscription_id: str, destination: str, callback: MessageCallback
    ) -> None:
        self._client = client
        self.id = subscription_id
        self.destination = destination
        self.is_active = True
        self._callback = callback
        self._waiting: deque[Message] = deque()
        self._size = 0
        self._running = False

    def unsubscribe(self) -> Deferred[None]:
        """Want no more messages, from this call on.

        :return: fires when the server has noted it; at once if it is not active.
        :raises ClientError: by the Deferred.
        """
        return self._client._unsubscribe(self)

    def _take(self, message: Message) -> int:
        """Give a message to the callback, or keep it for later; return what is kept, in octets."""
        self._waiting.append(message)
        self._size += len(message.body) + _OVERHEAD
        if not self._running:
            self._running = True
            Deferred.fromCoroutine(self._run())
        return self._size

    async def _run(self) -> None:
        while self._waiting:
            message = self._waiting.popleft()
            self._size -= len(message.body) + _OVERHEAD
            try:
                result = self._callback(message)
                if isinstance(result, Awaitable):
                    await result
            except Exception:
                self._log.failure(
                    "a callback for {destination} failed", destination=self.destination
                )
        self._running = False

    def _end(self) -> None:
        """Let nothing more come; a callback that runs goes on."""
        self.is_active = False
        self._waiting.clear()
        self._size = 0
