"""A message bus over Redis' publish and subscribe."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, gatherResults

from stompauth.errors import Unavailable
from stompauth.redis import Redis, RedisSubscriber, RedisURL

if TYPE_CHECKING:
    from os import PathLike

    from twisted.python.failure import Failure

    from stompauth.broker.bus import BusListener

# What is no plain character in a pattern of Redis'.
_GLOB = re.compile(r"[*?\[\\]")


class RedisBus:
    """Carries messages between all nodes that use one prefix at one Redis server.

    It has two connections: one publishes, and one is subscribed. Redis keeps nothing of what passes
    here, and its channels know no databases: what keeps two applications apart is the prefix.

    :param reactor: what connects, and what time it is.
    :param url: ``redis://[user@]host[:port][/database]``, or ``rediss://`` for TLS.
    :param password: of the URL's user, or of the default one.
    :param prefix: what the names of all channels begin with.
    :param timeout: seconds that a command may take.
    :param ca_file: certificates of the only CAs to trust, as PEM; None for the system's.
    :raises ImportError: the extra ``redis`` is not installed.
    :raises ValueError: the URL is none, or has a user and there is no password.
    """

    def __init__(
        self,
        reactor: Any,
        url: str | RedisURL,
        *,
        password: str | None = None,
        prefix: str = "stompauth:",
        timeout: float = 1.0,
        ca_file: str | PathLike[str] | None = None,
    ) -> None:
        self._prefix = prefix
        if isinstance(url, str):
            url = RedisURL.parse(url)
        self._commands = Redis(
            reactor,
            url,
            password=password,
            timeout=timeout,
            ca_file=ca_file,
            connected=self._connected,
        )
        self._subscriber = RedisSubscriber(
            reactor,
            url,
            password=password,
            timeout=timeout,
            ca_file=ca_file,
            received=lambda channel, payload: self._received(None, channel, payload),
            received_pattern=self._received,
            connected=self._connected,
            lost=self._lost,
        )
        self._listener: BusListener | None = None
        self._is_connected = False
        self._interests: dict[str, None] = {}
        # The patterns that Redis has confirmed, and what channels that fit them begin with.
        self._patterns: dict[str, str] = {}

    def start(self, listener: BusListener) -> None:
        """See :meth:`.MessageBus.start`."""
        self._listener = listener
        self._commands.start()
        self._subscriber.start()

    def stop(self) -> Deferred[None]:
        """See :meth:`.MessageBus.stop`."""
        self._listener = None
        stopping = [self._commands.stop(), self._subscriber.stop()]
        return gatherResults(stopping).addCallback(lambda _: None)

    def publish(self, channel: str, payload: bytes) -> Deferred[int]:
        """See :meth:`.MessageBus.publish`."""
        return self._commands.execute("PUBLISH", self._prefix + channel, payload)

    def subscribe(self, interest: str) -> Deferred[None]:
        """See :meth:`.MessageBus.subscribe`."""
        if not self._is_connected:
            return fail(Unavailable("Redis is away"))
        self._interests[interest] = None
        if not interest.endswith("*"):
            confirmed = self._subscriber.subscribe(self._prefix + interest)
        else:
            pattern = self._pattern(interest)
            confirmed = self._subscriber.psubscribe(pattern)
            # Redis confirms in its place among the messages, so none comes twice and none is
            # missed, whatever else the channel is subscribed by.
            confirmed.addCallback(
                lambda _: self._patterns.setdefault(pattern, self._prefix + interest[:-1])
            )
        return confirmed.addCallbacks(lambda _: None, self._refused, errbackArgs=(interest,))

    def unsubscribe(self, interest: str) -> None:
        """See :meth:`.MessageBus.unsubscribe`."""
        self._interests.pop(interest, None)
        if not interest.endswith("*"):
            self._subscriber.unsubscribe(self._prefix + interest)
            return
        pattern = self._pattern(interest)
        self._subscriber.punsubscribe(pattern).addCallback(
            lambda _: self._patterns.pop(pattern, None)
        )

    def pause(self) -> None:
        """See :meth:`.MessageBus.pause`."""
        self._subscriber.pause()

    def resume(self) -> None:
        """See :meth:`.MessageBus.resume`."""
        self._subscriber.resume()

    def _pattern(self, interest: str) -> str:
        literal = _GLOB.sub(r"\\\g<0>", self._prefix + interest[:-1])
        return f"{literal}*"

    def _refused(self, failure: Failure, interest: str) -> Failure:
        # The subscriber would ask for it again on its next connection.
        if interest in self._interests:
            self.unsubscribe(interest)
        return failure

    def _received(self, pattern: str | None, channel: str, payload: bytes) -> None:
        covering = (name for name, begin in self._patterns.items() if channel.startswith(begin))
        if self._listener is not None and pattern == next(covering, None):
            self._listener.bus_received(channel.removeprefix(self._prefix), payload)

    def _connected(self) -> None:
        if self._is_connected or not (
            self._commands.is_connected and self._subscriber.is_connected
        ):
            return
        self._is_connected = True
        if self._listener is not None:
            self._listener.bus_connected()

    def _lost(self) -> None:
        was_connected, self._is_connected = self._is_connected, False
        for interest in list(self._interests):
            self.unsubscribe(interest)
        self._patterns.clear()
        if self._listener is not None and was_connected:
            self._listener.bus_lost()
