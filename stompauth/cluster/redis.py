"""A cluster whose nodes meet in Redis.

Who can write to that Redis can end any session: it is inside the trust boundary. Nothing that
passes through it, or is kept in it, is a secret of a user's.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from stompauth.cluster.cluster import Cluster
from stompauth.cluster.redis_bus import RedisNodeBus
from stompauth.cluster.redis_log import RedisRevocationLog
from stompauth.redis import Redis, RedisSubscriber, RedisURL

if TYPE_CHECKING:
    from os import PathLike


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
    bus = RedisNodeBus(reactor, redis, subscriber, f"{prefix}{parsed.database}:nodes")
    return Cluster(bus, reactor, RedisRevocationLog(reactor, redis, prefix))
