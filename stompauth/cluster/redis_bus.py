"""Nodes that reach one another through Redis."""

from __future__ import annotations

import math
import re
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from stompauth.cluster.messages import MAX_PAYLOAD
from stompauth.errors import Unavailable
from stompauth.redis import ErrorReply, Redis, RedisSubscriber

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from stompauth.cluster.bus import NodeListener

#: Seconds between a node's signs of life, and of silence after which it counts as gone.
BEAT: Final = 1.0
SILENCE: Final = 5.0

#: Seconds between attempts to be heard, while this node is not connected.
HURRY: Final = 0.1

#: Other nodes at most.
MAX_NODES: Final = 256

#: Octets before the payload: kind, node, line feed.
_HEAD: Final = 128

_NODE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class RedisNodeBus:
    """Provides a :class:`.NodeBus`, by pub/sub: one channel for all, and one for each node.

    A node is connected once it hears itself, which shows that both of its connections work. It
    gives a sign of life each second; who was silent for five is gone.

    :param clock: what time it is.
    :param redis: for commands; runs while this does.
    :param subscriber: makes the other connection, out of the arguments of
        :class:`.RedisSubscriber` that are callbacks; runs likewise.
    :param channel: of all nodes; what the channels of single ones begin with.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        redis: Redis,
        subscriber: Callable[..., RedisSubscriber],
        channel: str,
    ) -> None:
        self.node_id = token_urlsafe(12)
        self._clock = clock
        self._redis = redis
        self._subscriber = subscriber(
            received=self._received, connected=self._subscribed, lost=self._lost
        )
        self._channel = channel
        self._listener: NodeListener | None = None
        self._nodes: dict[str, float] = {}
        self._is_connected = False
        self._heard_self = -math.inf
        self._last_beat = -math.inf
        self._beating = LoopingCall(self._beat)
        self._beating.clock = clock
        self._is_full = False
        self._trouble = ""

    def start(self, listener: NodeListener) -> None:
        """See :meth:`.NodeBus.start`."""
        self._listener = listener
        # No connection yet: the first one will bring these.
        for channel in (self._channel, self._channel_of(self.node_id)):
            self._subscriber.subscribe(channel).addErrback(_unavailable)
        self._redis.start()
        self._subscriber.start()

    def stop(self) -> Deferred[None]:
        """See :meth:`.NodeBus.stop`."""
        self._listener = None
        self._is_connected = False
        self._nodes.clear()
        if self._beating.running:
            self._beating.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        try:
            await self._publish(self._channel, b"l", b"")
        except Unavailable:
            self._log.info("left the cluster without a word: Redis is away")
        await self._subscriber.stop()
        await self._redis.stop()

    def broadcast(self, payload: bytes) -> Deferred[None]:
        """See :meth:`.NodeBus.broadcast`."""
        return self._publish(self._channel, b"m", payload)

    def send(self, node_id: str, payload: bytes) -> Deferred[None]:
        """See :meth:`.NodeBus.send`."""
        return self._publish(self._channel_of(node_id), b"m", payload)

    def _publish(self, channel: str, kind: bytes, payload: bytes) -> Deferred[None]:
        octets = b"%b%b\n%b" % (kind, self.node_id.encode("ascii"), payload)
        return self._redis.execute("PUBLISH", channel, octets).addCallback(lambda _: None)

    def _channel_of(self, node_id: str) -> str:
        return f"{self._channel}:{node_id}"

    # Signs of life.

    def _subscribed(self) -> None:
        if self._listener is not None and not self._beating.running:
            self._beating.start(HURRY)

    def _beat(self) -> None:
        was_connected = self._is_connected
        # The first one is a greeting, which the others answer: they may not have missed us.
        kind = b"b" if was_connected else b"h"
        self._publish(self._channel, kind, b"").addErrback(self._not_published)
        self._beating.interval = BEAT if self._is_connected else HURRY
        now = self._clock.seconds()
        stall, self._last_beat = now - self._last_beat - BEAT, now
        if not was_connected:
            return
        if stall > BEAT:
            # For so long it was this node that did not listen.
            self._heard_self += stall
            for node_id in self._nodes:
                self._nodes[node_id] += stall
        if self._heard_self + SILENCE < now:
            self._cut_off()
            return
        for node_id, heard in list(self._nodes.items()):
            if heard + SILENCE < now:
                self._forget(node_id)

    def _not_published(self, failure: Failure) -> None:
        failure.trap(Unavailable)
        trouble = str(failure.value)
        if failure.check(ErrorReply) and trouble != self._trouble:
            self._trouble = trouble
            self._log.warn("cannot publish: {trouble}", trouble=trouble)

    def _lost(self) -> None:
        if self._beating.running:
            self._beating.stop()
        self._cut_off()

    def _cut_off(self) -> None:
        self._nodes.clear()
        if self._is_connected and self._listener is not None:
            self._is_connected = False
            self._listener.disconnected()

    def _forget(self, node_id: str) -> None:
        if self._nodes.pop(node_id, None) is not None and self._listener is not None:
            self._is_full = False
            self._log.info("node {node} has left the cluster", node=node_id)
            self._listener.left(node_id)

    # What comes.

    def _received(self, channel: str, octets: bytes) -> None:
        if self._listener is None or len(octets) > MAX_PAYLOAD + _HEAD:
            return
        head, _, payload = octets.partition(b"\n")
        kind, node_id = head[:1], head[1:_HEAD].decode("ascii", "replace")
        if kind not in (b"b", b"h", b"l", b"m") or not _NODE_ID.fullmatch(node_id):
            return
        if node_id == self.node_id:
            self._heard_self = self._clock.seconds()
            if not self._is_connected:
                self._is_connected = True
                self._listener.connected()
            return
        if not self._is_connected:
            return
        if kind == b"l":
            self._forget(node_id)
            return
        if node_id not in self._nodes and not self._join(node_id):
            return
        self._nodes[node_id] = self._clock.seconds()
        if kind == b"h":
            self._greet(node_id)
        elif kind == b"m":
            self._listener.received(node_id, payload)

    def _join(self, node_id: str) -> bool:
        if len(self._nodes) >= MAX_NODES:
            if not self._is_full:
                self._is_full = True
                self._log.error("more nodes than {most}; the rest are not heard", most=MAX_NODES)
            return False
        self._log.info("node {node} has joined the cluster", node=node_id)
        self._nodes[node_id] = self._clock.seconds()
        self._greet(node_id)
        if self._listener is not None:
            self._listener.joined(node_id)
        return True

    def _greet(self, node_id: str) -> None:
        beat = self._publish(self._channel_of(node_id), b"b", b"")
        beat.addErrback(self._not_published)


def _unavailable(failure: Failure) -> None:
    failure.trap(Unavailable)
