"""Tickets in Redis, for several processes."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from hashlib import sha256
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from zope.interface import implementer

from stompauth.errors import TicketRefused, TicketReplayed, Unavailable
from stompauth.interfaces import IReadiness, ITicketStore
from stompauth.redis import Redis, RedisURL
from stompauth.tickets.grant import TicketGrant
from stompauth.tickets.memory import TICKET_BYTES, digest

if TYPE_CHECKING:
    from os import PathLike

# Redis runs a script as one step. A subject's list has a line for each of the user's tickets, of
# every issuer, the oldest first; the line of a ticket that is used or expired goes when it is met.

_ISSUE: Final = """
local ticket, list = KEYS[1], KEYS[2]
local grant, ttl, most, prefix, digest, issuer = unpack(ARGV)
if not redis.call('SET', ticket, grant, 'NX', 'PX', ttl) then
  return 0
end
local outstanding = {}
for _, line in ipairs(redis.call('LRANGE', list, 0, -1)) do
  if redis.call('EXISTS', prefix .. line:sub(1, 64)) == 0 then
    redis.call('LREM', list, 1, line)
  elseif line:sub(66) == issuer then
    table.insert(outstanding, line)
  end
end
if tonumber(most) > 0 then
  for n = 1, #outstanding - most + 1 do
    redis.call('DEL', prefix .. outstanding[n]:sub(1, 64))
    redis.call('LREM', list, 1, outstanding[n])
  end
end
redis.call('RPUSH', list, digest .. ' ' .. issuer)
if redis.call('PTTL', list) < tonumber(ttl) then
  redis.call('PEXPIRE', list, ttl)
end
return 1
"""

_REDEEM: Final = """
local ticket, used = KEYS[1], KEYS[2]
local rest = redis.call('PTTL', ticket)
local grant = redis.call('GETDEL', ticket)
if grant then
  redis.call('SET', used, grant, 'PX', math.max(rest, 1))
  return {1, grant}
end
grant = redis.call('GET', used)
return grant and {0, grant}
"""

_REVOKE: Final = """
local list = KEYS[1]
local prefix, every, issuer = unpack(ARGV)
local voided = 0
for _, line in ipairs(redis.call('LRANGE', list, 0, -1)) do
  if every == '1' or line:sub(66) == issuer then
    voided = voided + redis.call('DEL', prefix .. line:sub(1, 64))
    redis.call('LREM', list, 1, line)
  end
end
return voided
"""


@implementer(ITicketStore, IReadiness)
class RedisTicketStore(Service):
    """Keeps tickets in Redis 6.2 or later, or Valkey, under their hashes.

    A ticket that one process has issued is taken by another, by one of them only. While Redis is
    away, slower than the time-out or read-only, there are no tickets, and old ones are not taken:
    :exc:`.Unavailable`, and 503 for clients.

    Every key begins with the prefix and expires with the tickets. Scripts touch keys that are not
    named beforehand, which a cluster of Redis' own does not allow. A used ticket is remembered
    until its end, so that its second use is told from a guess. How many there are in all is for
    Redis' ``maxmemory`` to bound.

    It is a service, which that of the :class:`.StompAuth` that has the store starts and stops.
    """

    def __init__(
        self,
        reactor: Any,
        url: str | RedisURL,
        *,
        password: str | None = None,
        prefix: str = "stompauth:",
        timeout: float = 1.0,
        max_outstanding: int = 5,
        ca_file: str | PathLike[str] | None = None,
    ) -> None:
        """
        :param reactor: what connects, and what time it is.
        :param url: ``redis://[user@]host[:port][/database]``, or ``rediss://`` for TLS.
        :param password: of the URL's user, or of the default one.
        :param prefix: what all keys begin with.
        :param timeout: seconds that an answer may take.
        :param max_outstanding: unused tickets per subject, 0 for any number; a further one voids
            the oldest.
        :param ca_file: certificates of the only CAs to trust, as PEM; None for the system's.
        :raises ImportError: the extra ``redis`` is not installed.
        :raises ValueError: the URL is none, or names a user, and there is no password.
        """
        if isinstance(url, str):
            url = RedisURL.parse(url)
        self._redis = Redis(reactor, url, password=password, timeout=timeout, ca_file=ca_file)
        self._max_outstanding = max_outstanding
        self._tickets = f"{prefix}ticket:"
        self._used = f"{prefix}used:"
        self._users = f"{prefix}tickets-of:"

    def startService(self) -> None:
        """Connect, and again whenever the connection is lost."""
        super().startService()
        self._redis.start()

    def stopService(self) -> Deferred[None]:
        """End the connection.

        :return: fires when it is gone.
        """
        super().stopService()
        return self._redis.stop()

    def is_ready(self) -> bool:
        """Whether there is a connection. See :meth:`.IReadiness.is_ready`."""
        return self._redis.is_connected

    def issue(self, grant: TicketGrant, ttl: float) -> Deferred[str]:
        """Make a ticket. See :meth:`.ITicketStore.issue`."""
        return Deferred.fromCoroutine(self._issue(grant, ttl))

    async def _issue(self, grant: TicketGrant, ttl: float) -> str:
        ticket = token_urlsafe(TICKET_BYTES)
        name = digest(ticket).hex()
        # JSON, for a value that reads as a number is not to become one on any way (TK-8).
        is_new = await self._redis.evaluate(
            _ISSUE,
            [self._tickets + name, self._list_of(grant.user)],
            [
                json.dumps(asdict(grant)),
                max(int(ttl * 1000), 1),
                self._max_outstanding,
                self._tickets,
                name,
                _hash(grant.issuer),
            ],
        )
        if not is_new:
            raise Unavailable("a ticket of that hash exists")
        return ticket

    def redeem(self, ticket: str) -> Deferred[TicketGrant]:
        """Take a ticket, in one step over all processes. See :meth:`.ITicketStore.redeem`.

        After :exc:`.Unavailable` it may be taken or not.
        """
        return Deferred.fromCoroutine(self._redeem(ticket))

    async def _redeem(self, ticket: str) -> TicketGrant:
        name = digest(ticket).hex()
        taken = await self._redis.evaluate(_REDEEM, [self._tickets + name, self._used + name])
        if taken is None:
            raise TicketRefused("unknown or expired")
        is_first, kept = taken
        grant = _grant(kept)
        if not is_first:
            raise TicketReplayed(grant)
        return grant

    def revoke(self, issuer: str | None, user: str) -> Deferred[int]:
        """Void a user's tickets. See :meth:`.ITicketStore.revoke`.

        :raises Unavailable: by the Deferred: Redis cannot be reached.
        """
        return self._redis.evaluate(
            _REVOKE,
            [self._list_of(user)],
            [self._tickets, int(issuer is None), "" if issuer is None else _hash(issuer)],
        )

    def _list_of(self, user: str) -> str:
        return self._users + _hash(user)


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_FIELDS: Final = frozenset(field.name for field in fields(TicketGrant))


def _grant(kept: bytes) -> TicketGrant:
    """What is kept of a ticket, by a process of this version or of a later one.

    :raises TicketRefused: it is not what we keep.
    """
    try:
        values = json.loads(kept)
        return TicketGrant(**{name: values[name] for name in values if name in _FIELDS})
    except (ValueError, TypeError):
        raise TicketRefused("not kept by this program") from None
