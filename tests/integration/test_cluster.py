"""Several processes that act together by a real Redis, and docs/howto/cluster.md."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from stompauth.cluster.redis_log import RedisRevocationLog
from stompauth.config import load
from stompauth.identity.revocation import Revocation
from stompauth.redis import Redis
from tests.integration.configured import ConfiguredServer, configured, free_port
from tests.integration.pages import blocks
from tests.integration.processes import ROOT
from tests.integration.raw import CLOSE, RawWebSocket, status_of
from tests.integration.recording import recording
from tests.integration.redis_server import RedisServer, redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = b"5" * 64
CONTROL_TOKEN = "b1bCa8LY1g2vNxhbWnT0cQmqS5kJcYxk"

#: Seconds for what a test waits for; none of it is measured.
PATIENCE = 20.0


def wait(condition: Callable[[], Any], what: str) -> Any:
    """Wait until the condition holds, and return what it gave."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return value


@dataclass
class ClusterNode:
    """A server process with a control resource."""

    server: ConfiguredServer
    control: int

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer of a control request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.control, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Authorization": f"Bearer {CONTROL_TOKEN}"},
            )
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def count(self, user: str) -> int:
        """How many sessions of a user there are, for all that this node knows."""
        status, answer = self.ask("GET", f"/sessions?user={user}")
        return len(answer["sessions"]) if status == 200 else -1

    def says(self, words: str, times: int = 1) -> bool:
        """Whether the node's log has these words so many times."""
        return self.server.log.read_text("utf-8").count(words) >= times

    def post(self, token: str) -> tuple[int, dict[str, Any]]:
        """Status and answer of a request for a ticket."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {token}"}
            connection.request("POST", "/authenticate/token", headers=headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def kill(self) -> None:
        """End the process as kill -9 does."""
        os.kill(self.server.pid, signal.SIGKILL)


@contextlib.contextmanager
def node(directory: Path, url: str, redis: str = "", **limits: Any) -> Iterator[ClusterNode]:
    """A node, once it is connected.

    :param redis: further lines wherever the URL is.
    """
    directory.mkdir()
    (directory / "control.token").write_text(CONTROL_TOKEN)
    control = free_port()
    more = (
        f'[control]\nlisten = ["tcp:{control}:interface=127.0.0.1"]\n'
        f'token_file = "control.token"\n[cluster]\nurl = "{url}"\n{redis}\n'
    )
    tickets = f'store = "{url}"\n{redis}'
    with configured(
        directory, port=free_port(), tickets=tickets, more=more, secret=SECRET, **limits
    ) as server:
        found = ClusterNode(server, control)
        wait(lambda: found.says("connected to the cluster"), "no cluster")
        yield found


class Client(RawWebSocket):
    """A tab of a user, connected."""

    def __init__(self, node: ClusterNode, user: str) -> None:
        token = node.server.token(user)
        super().__init__(node.server, token)
        self.connect(token)

    def assert_ends_with(self, code: str, status: int) -> None:
        """The next that comes is an ERROR with that code, and the close."""
        frame = self.frame()
        assert frame is not None
        assert f"\ncode:{code}\n" in frame[1].decode()
        close = self.frame()
        assert close is not None
        assert (close[0], status_of(close[1])) == (CLOSE, status)

    def assert_open(self) -> None:
        """Nothing has come, and the session still answers."""
        self.send_stomp("SEND", {"destination": "/topic/x", "receipt": "still"})
        frame = self.frame()
        assert frame is not None
        assert frame[1].startswith(b"RECEIPT\nreceipt-id:still\n"), frame


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server that keeps nothing on disk."""
    with redis_server(tmp_path / "redis") as server:
        yield server


def test_two_nodes(redis: RedisServer, tmp_path: Path) -> None:
    """JW-13: who is revoked on one node is gone from all nodes, and does not come in again."""
    with node(tmp_path / "a", redis.url) as one, node(tmp_path / "b", redis.url) as two:
        wait(lambda: one.says("has joined"), "they do not meet")
        with Client(one, "alice") as here, Client(two, "alice") as there, Client(two, "bob") as bob:
            wait(lambda: one.count("alice") == 2, "they do not know of the sessions")
            token = two.server.token("alice")
            assert one.ask("POST", "/revoke", {"user": "alice"}) == (
                200,
                {"sessions": 2, "tickets": 0},
            )
            for tab in (here, there):
                tab.assert_ends_with("revoked", 4403)
            for found in (one, two):
                assert found.post(token) == (403, {"error": "revoked"})
            bob.assert_open()


def test_control(redis: RedisServer, tmp_path: Path) -> None:
    """A session on another node is shown, rechecked and ended as one here; limits count both."""
    limits = {"sessions_per_user": 2}
    with (
        node(tmp_path / "a", redis.url, **limits) as one,
        node(tmp_path / "b", redis.url, **limits) as two,
        Client(one, "alice"),
        Client(two, "alice") as there,
    ):
        wait(lambda: one.count("alice") == 2, "they do not know of the sessions")
        wait(lambda: two.count("alice") == 2, "they do not know of the sessions")
        for found in (one, two):
            assert found.post(found.server.token("alice")) == (429, {"error": "sessions"})
        # Those of the node that is asked come first.
        _, shown = one.ask("GET", "/sessions?user=alice")[1]["sessions"]
        assert one.ask("GET", f"/sessions/{shown['id']}") == (200, shown)
        assert one.ask("POST", "/recheck", {"user": "alice"}) == (200, {"sessions": 2})
        ended = one.ask("DELETE", f"/sessions/{shown['id']}")
        assert ended == (200, {"sessions": 1, "tickets": 0})
        there.assert_ends_with("revoked", 4403)


def test_node_killed(redis: RedisServer, tmp_path: Path) -> None:
    """The sessions of a node that is killed vanish from the others; who stays notices nothing."""
    with node(tmp_path / "a", redis.url) as one, Client(one, "alice") as alice:
        with node(tmp_path / "b", redis.url, sessions_per_user=1) as two:
            client = Client(two, "bob")
            wait(lambda: one.count("bob") == 1, "it does not know of the session")
            two.kill()
            client._socket.close()
            wait(lambda: one.says("has left the cluster"), "it does not notice")
            assert one.count("bob") == 0
            assert one.ask("POST", "/revoke", {"user": "bob"})[0] == 200
        alice.assert_open()


def test_redis_killed(redis: RedisServer, tmp_path: Path) -> None:
    """JW-13: Redis is lost with all it had; sessions go on, and what was revoked still is.

    What was revoked meanwhile on one node is carried out on the other when Redis is back.
    """
    with node(tmp_path / "a", redis.url) as one, node(tmp_path / "b", redis.url) as two:
        old = one.server.token("carol")
        with Client(one, "alice") as alice, Client(two, "bob") as bob, Client(two, "eve") as eve:
            wait(lambda: one.count("bob") == 1, "it does not know of the session")
            assert one.ask("POST", "/revoke", {"user": "carol"})[0] == 200
            redis.kill()
            wait(lambda: one.says("cut off") and two.says("cut off"), "they do not notice")
            for tab in (alice, bob, eve):
                tab.assert_open()
            assert one.ask("POST", "/revoke", {"user": "eve"})[0] == 503
            redis.start()
            for found in (one, two):
                wait(lambda found=found: found.says("connected to the cluster", 2), "no cluster")
            eve.assert_ends_with("revoked", 4403)
            wait(lambda: one.count("bob") == 1, "the state was not rebuilt")
            wait(lambda: two.count("alice") == 1, "the state was not rebuilt")
            for tab in (alice, bob):
                tab.assert_open()
        with node(tmp_path / "c", redis.url) as three:
            assert three.post(old) == (403, {"error": "revoked"})


def test_all_restarted(redis: RedisServer, tmp_path: Path) -> None:
    """JW-13: a revocation outlives all nodes."""
    with node(tmp_path / "a", redis.url) as one:
        token = one.server.token("alice")
        assert one.ask("POST", "/revoke", {"user": "alice"})[0] == 200
    with node(tmp_path / "b", redis.url) as two:
        assert two.post(token) == (403, {"error": "revoked"})


def test_redis_hangs(redis: RedisServer, tmp_path: Path) -> None:
    """A Redis that hangs is noticed, and said to the caller of a revocation."""
    with node(tmp_path / "a", redis.url) as one, Client(one, "alice") as alice:
        redis.freeze()
        try:
            assert one.ask("POST", "/revoke", {"user": "alice"})[0] == 503
            alice.assert_ends_with("revoked", 4403)
            wait(lambda: one.says("cut off"), "it is not noticed")
        finally:
            redis.thaw()
        wait(lambda: one.says("connected to the cluster", 2), "no cluster")


def test_secrets(redis: RedisServer, tmp_path: Path) -> None:
    """LG-1: no token and no ticket is on the wire to Redis."""
    with recording(redis.port) as wire:
        url = f"redis://127.0.0.1:{wire.port}/0"
        with (
            node(tmp_path / "a", url) as one,
            node(tmp_path / "b", url) as two,
            Client(one, "alice"),
            Client(two, "alice"),
        ):
            wait(lambda: one.count("alice") == 2, "they do not know of the sessions")
            assert one.ask("POST", "/recheck", {"user": "alice"})[0] == 200
            assert two.ask("POST", "/revoke", {"user": "alice"})[0] == 200
        handed_out = one.server.handed_out + two.server.handed_out
        octets = bytes(wire.sent + wire.received)
        assert b"alice" in octets
        for secret in handed_out:
            for part in secret.split("."):
                assert part.encode() not in octets
        assert b"Bearer" not in octets


# The parts, without processes around them.


async def until(condition: Callable[[], Any]) -> None:
    """Wait until the condition holds."""
    for _ in range(int(PATIENCE / 0.02)):
        if condition():
            return
        await deferLater(reactor, 0.02)
    raise AssertionError("it did not come about")


@pytest_twisted.ensureDeferred
async def test_log(redis: RedisServer) -> None:
    """The latest time counts, the old goes, and what is too much gives way to a floor."""
    client = Redis(reactor, redis.redis_url)
    client.start()
    await until(lambda: client.is_connected)
    try:
        log = RedisRevocationLog(reactor, client, "x:")
        now = reactor.seconds()  # type: ignore[attr-defined]
        assert await log.load() == []
        many = [Revocation("user", f"user-{number}", now + number) for number in range(450)]
        await log.add(many, 3600, 1000)
        await log.add([Revocation("user", "user-1", now - 5)], 3600, 1000)
        await log.add([Revocation("user", "user-2", now + 500.25)], 3600, 1000)
        await log.add([Revocation("jti", 'über\n"x"', now)], 3600, 1000)
        await log.add([Revocation("user", "long ago", now - 3601)], 3600, 1000)
        expected = {*many, Revocation("user", "user-2", now + 500.25)}
        expected -= {Revocation("user", "user-2", now + 2)}
        assert set(await log.load()) == expected | {Revocation("jti", 'über\n"x"', now)}
        assert 3590 < int(redis.command("TTL", "x:revocations")) <= 3600
        for _ in range(2):
            await log.add([Revocation("user", "one more", now + 600)], 3600, 10)
        kept = sorted(await log.load(), key=lambda entry: entry.revoked_at)
        assert len(kept) == 10
        assert kept[0].kind == "floor"
        assert kept[0].revoked_at in {entry.revoked_at for entry in many}
        assert kept[1].revoked_at > kept[0].revoked_at
        await log.add([Revocation("user", "for ever", now)], float("inf"), 0)
        assert len(await log.load()) == 11
    finally:
        await client.stop()


def test_page(tmp_path: Path) -> None:
    """The page's configuration is right, and its user of Redis may do what a node has to."""
    page = blocks(ROOT / "docs" / "howto" / "cluster.md")
    password = tmp_path / "redis-password"
    password.write_text("open-sesame\n")
    (text,) = page["toml"]
    (tmp_path / "whole.toml").write_text(text)
    assert load(tmp_path / "whole.toml").cluster.password_file == str(password)
    (user,) = page["text"]
    acl = tmp_path / "users.acl"
    acl.write_text(f"user default off\n{user.replace('PASSWORD', 'open-sesame')}")
    with redis_server(tmp_path / "redis", "--aclfile", str(acl)) as server:
        url = f"redis://stompauth@127.0.0.1:{server.port}/0"
        one, two = tmp_path / "a", tmp_path / "b"
        secret = f'password_file = "{password}"'
        with node(one, url, secret) as first, node(two, url, secret) as second:
            wait(lambda: first.says("has joined"), "they do not meet")
            token = second.server.token("alice")
            assert first.ask("POST", "/revoke", {"user": "alice"})[0] == 200
            assert second.post(token) == (403, {"error": "revoked"})
