"""Tests of stompauth.cluster.redis."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.cluster.redis import redis_cluster


class RedisClusterTests(SynchronousTestCase):
    """A cluster is made of a URL."""

    def test_url(self) -> None:
        """A URL that is none is refused."""
        with self.assertRaises(ValueError):
            redis_cluster(Clock(), "http://127.0.0.1")
