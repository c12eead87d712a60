"""Nodes that reach one another through Redis.

Who can write to that Redis can end any session: it is inside the trust boundary. Nothing that
passes through it, or is kept in it, is a secret of a user's.
"""

from __future__ import annotations

import json
import math
import re
from functools import partial
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from stompauth.cluster.cluster import Cluster
from stompauth.cluster.messages import MAX_PAYLOAD, revocations_of
from stompauth.errors import Unavailable
from stompauth.redis import ErrorReply, Redis, RedisSubscriber, RedisURL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from stompauth.cluster.bus import BusListener
    from stompauth.identity.revocation import Revocation

#: Seconds between a node's signs of life, and of silence after which it counts as gone.
BEAT: Final = 1.0
SILENCE: Final = 5.0

#: Seconds between attempts to be heard, while this node is not connected.
HURRY: Final = 0.1

#: Other nodes at most.
MAX_NODES: Final = 256

#: Octets before the payload: kind, node, line feed.
_HEAD: Final = 128

#: Revocations in one command, or about as many in one reply.
_AT_ONCE: Final = 200

_NODE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class RedisBus:
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
        self._listener: BusListener | None = None
        self._nodes: dict[str, float] = {}
        self._is_connected = False
        self._heard_self = -math.inf
        self._last_beat = -math.inf
        self._beating = LoopingCall(self._beat)
        self._beating.clock = clock
        self._is_full = False
        self._trouble = ""

    def start(self, listener: BusListener) -> None:
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


#: Keeps revocations in a sorted set, by their times: KEYS[1] is the set; ARGV are the time before
#: which they do not matter, how many are kept, seconds after which the set goes, what stands for
#: those that gave way, and then times and entries in turn.
_ADD: Final = """
for i = 5, #ARGV, 2 do redis.call('ZADD', KEYS[1], 'GT', ARGV[i], ARGV[i + 1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1])
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[2])
if over > 0 then
  local last = redis.call('ZRANGE', KEYS[1], over, over, 'WITHSCORES')
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over)
  redis.call('ZADD', KEYS[1], 'GT', last[2], ARGV[4])
end
if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
"""

_FLOOR_ENTRY: Final = '["floor",""]'


class RedisRevocationLog:
    """Provides a :class:`.RevocationLog`, in one key.

    :param redis: runs while this is used.
    :param prefix: of the key.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, redis: Redis, prefix: str = "stompauth:") -> None:
        self._clock = clock
        self._redis = redis
        self._key = f"{prefix}revocations"

    def add(
        self, revocations: Sequence[Revocation], lifetime: float, max_entries: int
    ) -> Deferred[None]:
        """See :meth:`.RevocationLog.add`."""
        # All commands are under way when this returns: what is published later comes after them.
        adding = [
            self._add(revocations[start : start + _AT_ONCE], lifetime, max_entries)
            for start in range(0, len(revocations), _AT_ONCE)
        ]

        async def added() -> None:
            failures = []
            for each in adding:
                try:
                    await each
                except Unavailable as failure:
                    failures.append(failure)
            if failures:
                raise failures[0]

        return Deferred.fromCoroutine(added())

    def _add(
        self, revocations: Sequence[Revocation], lifetime: float, max_entries: int
    ) -> Deferred[Any]:
        words: list[str | float] = []
        for entry in revocations:
            name = json.dumps([entry.kind, entry.name], ensure_ascii=False, separators=(",", ":"))
            words += [entry.revoked_at, name]
        is_endless = math.isinf(lifetime)
        return self._redis.execute(
            *("EVAL", _ADD, 1, self._key),
            "-inf" if is_endless else self._clock.seconds() - lifetime,
            max_entries or 2**53,
            0 if is_endless else math.ceil(lifetime),
            _FLOOR_ENTRY,
            *words,
        )

    def load(self) -> Deferred[list[Revocation]]:
        """See :meth:`.RevocationLog.load`."""
        return Deferred.fromCoroutine(self._load())

    async def _load(self) -> list[Revocation]:
        found: list[Revocation] = []
        dropped = 0
        cursor: Any = 0
        while True:
            cursor, pairs = await self._redis.execute("ZSCAN", self._key, cursor, "COUNT", _AT_ONCE)
            for name, score in zip(pairs[::2], pairs[1::2], strict=True):
                try:
                    found += revocations_of([[*json.loads(name.decode("utf-8")), float(score)]])
                except (ValueError, TypeError, RecursionError):
                    dropped += 1
            if int(cursor) == 0:
                break
        if dropped:
            self._log.warn("{count} of the revocations in Redis are none", count=dropped)
        return found


def redis_cluster(
    reactor: Any,
    url: str,
    *,
    password: str | None = None,
    prefix: str = "stompauth:",
    timeout: float = 1.0,
    ca_file: str | PathLike[str] | None = None,
) -> Cluster:
    """Make a cluster of all nodes that are given the same Redis database and prefix.

    :param reactor: what connects, and what time it is.
    :param url: ``redis://[user@]host[:port][/database]``, or ``rediss://`` for TLS.
    :param password: of the URL's user, or of the default one.
    :param prefix: of the key and the channels.
    :param timeout: seconds that a command may take.
    :param ca_file: certificates of the only CAs to trust, as PEM; None for the system's.
    :raises ImportError: the extra ``redis`` is not installed.
    :raises ValueError: that is no URL of Redis'.
    """
    parsed = RedisURL.parse(url)
    connection: dict[str, Any] = {"password": password, "timeout": timeout, "ca_file": ca_file}
    redis = Redis(reactor, parsed, **connection)
    subscriber = partial(RedisSubscriber, reactor, parsed, **connection)
    # Redis does not keep channels apart by database.
    bus = RedisBus(reactor, redis, subscriber, f"{prefix}{parsed.database}:nodes")
    return Cluster(bus, reactor, RedisRevocationLog(reactor, redis, prefix))


def _unavailable(failure: Failure) -> None:
    failure.trap(Unavailable)
