"""Tests of stompauth.cluster.redis_log, with a Redis that is a few lines of Python."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from stompauth.cluster.redis_log import RedisRevocationLog
from stompauth.errors import Unavailable
from stompauth.identity.revocation import Revocation
from stompauth.redis import Redis


class Store:
    """Answers commands with what it was given."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.commands: list[tuple[Any, ...]] = []

    def execute(self, *command: Any) -> Deferred[Any]:
        self.commands.append(command)
        reply = self.replies.pop(0)
        return fail(reply) if isinstance(reply, Exception) else succeed(reply)


class RedisRevocationLogTests(SynchronousTestCase):
    """What is kept, and read; tests.integration.test_cluster asks a real Redis."""

    def log(self, *replies: Any) -> RedisRevocationLog:
        self.store = Store(*replies)
        return RedisRevocationLog(Clock(), cast("Redis", self.store))

    def test_load(self) -> None:
        """What is no revocation is passed over, with one line for all of it."""
        log = self.log(
            [b"7", [b'["user","alice"]', b"5.25", b"nonsense", b"1", b'["nobody","x"]', b"1"]],
            [b"0", [b'["jti","j"]', b"6", b'["user","x"]', b"nan", b"7", b"1"]],
        )
        with capturedLogs() as events:
            found = self.successResultOf(log.load())
        self.assertEqual(found, [Revocation("user", "alice", 5.25), Revocation("jti", "j", 6)])
        self.assertEqual([event.get("count") for event in events], [4])
        self.assertEqual([command[2] for command in self.store.commands], [0, b"7"])

    def test_away(self) -> None:
        """A Redis that cannot be reached is said to be so, also in the middle."""
        log = self.log(Unavailable("away"), Unavailable("away"), None)
        self.failureResultOf(log.load(), Unavailable)
        many = [Revocation("user", f"user-{number}", 5) for number in range(201)]
        self.failureResultOf(log.add(many, 60, 0), Unavailable)
        self.assertEqual(len(self.store.commands), 3)
