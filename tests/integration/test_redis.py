"""The Redis client against a real redis-server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from stompauth.errors import Unavailable
from stompauth.redis import ErrorReply, Redis, RedisSubscriber, RedisURL
from tests.integration.recording import recording
from tests.integration.redis_server import RedisServer, redis_server
from tests.integration.test_jwks import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server."""
    with redis_server(tmp_path / "redis") as server:
        yield server


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Wait until the condition holds."""
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        await deferLater(reactor, 0.02)
    raise AssertionError("it did not come about")


@pytest_twisted.async_yield_fixture
async def clients() -> AsyncIterator[list[Any]]:
    """Clients to stop at the end."""
    started: list[Any] = []
    yield started
    for client in started:
        await client.stop()


async def connected(clients: list[Any], server: RedisServer, **arguments: Any) -> Redis:
    """A client of the server, connected."""
    redis = Redis(reactor, server.redis_url, **arguments)
    clients.append(redis)
    redis.start()
    await until(lambda: redis.is_connected)
    return redis


class Receiver:
    """What a subscriber tells."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def received(self, *words: Any) -> None:
        self.told.append(words)

    def connected(self) -> None:
        self.told.append("connected")

    def lost(self) -> None:
        self.told.append("lost")


def subscriber(clients: list[Any], server: RedisServer, receiver: Receiver) -> RedisSubscriber:
    """A subscriber that was started."""
    client = RedisSubscriber(
        reactor,
        server.redis_url,
        received=receiver.received,
        received_pattern=receiver.received,
        connected=receiver.connected,
        lost=receiver.lost,
    )
    clients.append(client)
    client.start()
    return client


@pytest_twisted.ensureDeferred
async def test_replies(server: RedisServer, clients: list[Any]) -> None:
    """TK-8: replies come as Redis keeps them; what looks like a number stays as it is."""
    redis = await connected(clients, server)
    assert await redis.execute("SET", "a", "007", "PX", 60000) == b"OK"
    assert await redis.execute("GET", "a") == b"007"
    assert await redis.execute("GET", "nothing") is None
    assert await redis.execute("INCRBY", b"n", 5) == 5
    assert await redis.execute("MGET", "a", "nothing", "n") == [b"007", None, b"5"]
    assert await redis.execute("LRANGE", "nothing", 0, -1) == []
    large = bytes(range(256)) * 4000
    await redis.execute("SET", "large", large)
    answers = await gatherResults([redis.execute("GET", "large"), redis.execute("GET", "a")])
    assert answers == [large, b"007"]
    script = "return {KEYS[1], {ARGV[1], 2, {}}, false}"
    for _ in range(2):
        assert await redis.evaluate(script, ["k"], [1.5]) == [b"k", [b"1.5", 2, []], None]
    with pytest.raises(ErrorReply, match=r"error ERR$"):
        await redis.execute("NONSENSE", "secret")
    with pytest.raises(ErrorReply) as failure:
        await redis.execute("INCR", "large")
    assert failure.value.kind == "ERR"
    with pytest.raises(ErrorReply) as failure:
        await redis.execute("LLEN", "a")
    assert failure.value.kind == "WRONGTYPE"


@pytest_twisted.ensureDeferred
async def test_comes_back(server: RedisServer, clients: list[Any]) -> None:
    """TK-7: a killed server is noticed at once, and used again when it is back."""
    redis = await connected(clients, server)
    server.kill()
    await until(lambda: not redis.is_connected)
    with pytest.raises(Unavailable):
        await redis.execute("GET", "a")
    server.start()
    await until(lambda: redis.is_connected)
    assert await redis.execute("GET", "a") is None


@pytest_twisted.ensureDeferred
async def test_frozen(server: RedisServer, clients: list[Any]) -> None:
    """TK-8: a late reply is never another command's; the frozen server is used when it thaws."""
    redis = await connected(clients, server, timeout=0.3)
    await redis.execute("SET", "a", "first")
    await redis.execute("SET", "b", "second")
    server.freeze()
    with pytest.raises(Unavailable):
        await redis.execute("GET", "a")
    assert not redis.is_connected
    server.thaw()
    await until(lambda: redis.is_connected)
    assert await redis.execute("GET", "b") == b"second"


@pytest_twisted.ensureDeferred
async def test_frozen_while_idle(server: RedisServer, clients: list[Any]) -> None:
    """TK-7: a server that freezes is noticed within seconds by whom asks for nothing, too."""
    redis = await connected(clients, server)
    receiver = Receiver()
    listening = subscriber(clients, server, receiver)
    await until(lambda: listening.is_connected)
    server.freeze()
    await until(lambda: not redis.is_connected and not listening.is_connected, 5)
    assert receiver.told == ["connected", "lost"]
    server.thaw()
    await until(lambda: redis.is_connected and listening.is_connected, 15)


@pytest_twisted.ensureDeferred
async def test_read_only(tmp_path: Path, clients: list[Any]) -> None:
    """TK-7: a server that became a replica is left, in case that its name has moved on."""
    with redis_server(tmp_path / "a") as server:
        redis = await connected(clients, server)
        server.command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(ErrorReply) as failure:
            await redis.execute("SET", "a", "b")
        assert failure.value.kind == "READONLY"
        assert not redis.is_connected
        server.command("REPLICAOF", "NO", "ONE")
        await until(lambda: redis.is_connected)
        assert await redis.execute("SET", "a", "b") == b"OK"


@pytest_twisted.ensureDeferred
async def test_password(tmp_path: Path, clients: list[Any]) -> None:
    """A wrong password is no reason to give up: the next one to connect with it may be right."""
    with redis_server(tmp_path / "redis", password="first") as server:
        right = await connected(clients, server, password="first")
        wrong = Redis(reactor, server.redis_url, password="second")
        clients.append(wrong)
        wrong.start()
        await deferLater(reactor, 0.5)
        assert not wrong.is_connected
        assert await right.execute("CONFIG", "SET", "requirepass", "second") == b"OK"
        await until(lambda: wrong.is_connected)


@pytest_twisted.ensureDeferred
async def test_user_and_database(server: RedisServer, clients: list[Any]) -> None:
    """The URL says which user of the server, and which of its databases."""
    server.command("ACL", "SETUSER", "alice", "on", ">pass", "~app:*", "+@all")
    url = RedisURL.parse(f"redis://alice@localhost:{server.port}/3")
    redis = Redis(reactor, url, password="pass")
    clients.append(redis)
    redis.start()
    await until(lambda: redis.is_connected)
    await redis.execute("SET", "app:a", "b")
    with pytest.raises(ErrorReply) as failure:
        await redis.execute("SET", "else", "b")
    assert failure.value.kind == "NOPERM"
    assert server.command("-n", "3", "GET", "app:a") == "b"


@pytest_twisted.ensureDeferred
async def test_tls(tmp_path: Path, clients: list[Any]) -> None:
    """With rediss:// the server's certificate counts: its authority, and its name."""
    certificate, key, ca_file = Authority("the test's CA").write(tmp_path, "localhost")
    with redis_server(tmp_path / "redis", certificate=(certificate, key)) as server:
        by_name = RedisURL.parse(f"rediss://localhost:{server.port}")
        redis = Redis(reactor, by_name, ca_file=ca_file)
        unknown_authority = Redis(reactor, by_name)
        other_name = Redis(reactor, server.redis_url, ca_file=ca_file)
        clients += [redis, unknown_authority, other_name]
        for client in clients:
            client.start()
        await until(lambda: redis.is_connected)
        assert await redis.execute("SET", "a", "b") == b"OK"
        await deferLater(reactor, 0.5)
        assert not unknown_authority.is_connected
        assert not other_name.is_connected


@pytest_twisted.ensureDeferred
async def test_subscriber(server: RedisServer, clients: list[Any]) -> None:
    """Messages come by channel and by pattern, and again after a restart of the server."""
    redis = await connected(clients, server)
    receiver = Receiver()
    listening = subscriber(clients, server, receiver)
    with pytest.raises(Unavailable):
        await listening.subscribe("early")
    await until(lambda: listening.is_connected)
    await listening.subscribe("a", "b")
    await listening.psubscribe("p*")
    for channel in ("early", "a", "pq", "b", "unknown"):
        await redis.execute("PUBLISH", channel, channel.upper())
    await until(lambda: len(receiver.told) == 5)
    assert receiver.told == [
        "connected",
        ("early", b"EARLY"),
        ("a", b"A"),
        ("p*", "pq", b"PQ"),
        ("b", b"B"),
    ]
    await listening.unsubscribe("b")
    server.kill()
    await until(lambda: not redis.is_connected and not listening.is_connected)
    server.start()
    await until(lambda: redis.is_connected and listening.is_connected)
    assert receiver.told[5:] == ["lost", "connected"]
    assert await redis.execute("PUBLISH", "b", "B") == 0
    assert await redis.execute("PUBLISH", "a", "A") == 1
    assert await redis.execute("PUBLISH", "pp", "PP") == 1
    await listening.unsubscribe("early", "a")
    await listening.punsubscribe("p*")
    assert await redis.execute("PUBLISH", "pp", "PP") == 0


@pytest_twisted.ensureDeferred
async def test_many_channels(server: RedisServer, clients: list[Any]) -> None:
    """As many channels as a busy node has are subscribed to again, and messages flow meanwhile."""
    redis = await connected(clients, server)
    receiver = Receiver()
    listening = subscriber(clients, server, receiver)
    await until(lambda: listening.is_connected)
    names = [f"channel-{number}" for number in range(20_000)]
    for start in range(0, len(names), 500):
        await listening.subscribe(*names[start : start + 500])
    server.command("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: receiver.told[-1] == "connected" and len(receiver.told) == 3)
    counts = await gatherResults([redis.execute("PUBLISH", name, "x") for name in names[-2000:]])
    assert set(counts) == {1}
    await until(lambda: len(receiver.told) == 2003)


@pytest_twisted.ensureDeferred
async def test_cut(server: RedisServer, clients: list[Any]) -> None:
    """A connection that the network ends takes its commands with it, and another follows."""
    with recording(server.port) as proxy:
        redis = Redis(reactor, RedisURL.parse(f"redis://127.0.0.1:{proxy.port}"))
        clients.append(redis)
        redis.start()
        await until(lambda: redis.is_connected)
        blocked = redis.execute("BLPOP", "nothing", 0)
        await until(lambda: b"BLPOP" in proxy.sent)
        proxy.cut()
        with pytest.raises(Unavailable):
            await blocked
        await until(lambda: redis.is_connected)
        assert await redis.execute("PING") == b"PONG"
        assert b"+PONG" in proxy.received
