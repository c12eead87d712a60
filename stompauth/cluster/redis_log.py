"""Revocations that outlive all nodes, in Redis."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stompauth.cluster.messages import revocations_of
from stompauth.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IReactorTime

    from stompauth.identity.revocation import Revocation
    from stompauth.redis import Redis

#: Revocations in one command, or about as many in one reply.
_AT_ONCE: Final = 200

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
