"""Distributed brokers, and nodes of them, on a real redis-server; and docs/howto/bus.md."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from stompauth import DistributedBroker, RedisBus, Refused
from stompauth.broker import inbox
from stompauth.config import load
from tests.broker.receiver import Receiver, message_to
from tests.integration.configured import ORIGIN, ConfiguredServer, configured, free_port
from tests.integration.pages import blocks
from tests.integration.processes import ROOT
from tests.integration.raw import CLOSE, RawWebSocket, status_of
from tests.integration.recording import recording
from tests.integration.redis_server import RedisServer, redis_server
from tests.integration.test_redis import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from stompauth.broker.subscription import Subscription

    StartNode = Callable[..., Any]

SECRET = b"7" * 64

CONTROL_TOKEN = "c" * 40

PAGE = ROOT / "docs" / "howto" / "bus.md"

BASE = """
[jwt]
algorithms = ["HS256"]
secret_file = "secret"
issuer = "https://id.example.com/"
audience = "chat"

[websocket]
origins = ["{origin}"]

[[rules]]
allow = ["subscribe", "send"]
destination = "/topic/**"

"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server."""
    with redis_server(tmp_path / "redis") as server:
        yield server


# Brokers in this process.


@pytest_twisted.async_yield_fixture
async def start_node() -> AsyncIterator[StartNode]:
    """Start brokers, wait until they are available, and stop them at the end."""
    brokers: list[DistributedBroker] = []

    async def start(server: RedisServer, **arguments: Any) -> DistributedBroker:
        bus = RedisBus(reactor, server.url, **arguments)
        broker = DistributedBroker(bus, clock=reactor)
        brokers.append(broker)
        broker.startService()
        await until(broker.is_ready)
        return broker

    yield start
    for broker in brokers:
        await broker.stopService()


async def subscribe(broker: DistributedBroker, receiver: Receiver, path: str) -> Subscription:
    """Subscribe, and wait until that is done."""
    subscription = receiver.subscription(path)
    waiting = broker.subscribe(subscription)
    if waiting is not None:
        await waiting
    return subscription


async def send(broker: DistributedBroker, path: str, body: bytes) -> None:
    """Send, and wait until the broker has accepted it."""
    waiting = broker.send(message_to(path, body, sender="carol"))
    assert waiting is not None
    await waiting


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("prefix", ["stompauth:", "a[b]*?\\^-é:", ""])
async def test_topics(server: RedisServer, start_node: StartNode, prefix: str) -> None:
    """What one node sends all get, once, whatever the names are; another prefix hears nothing."""
    first, second = [await start_node(server, prefix=prefix) for _ in range(2)]
    foreign = await start_node(server, prefix="a:")
    receivers = [Receiver() for _ in range(4)]
    await subscribe(first, receivers[0], "/topic/a[b]/é")
    await subscribe(second, receivers[1], "/topic/a[b]/é")
    await subscribe(second, receivers[2], "/topic/*/é")
    await subscribe(foreign, receivers[3], "/topic/**")
    await send(first, "/topic/a[b]/é", b"\0\xff\r\n")
    await send(first, "/topic/ab/é", b"2")
    await send(second, "/topic/a[b]/é", b"3")
    await until(lambda: len(receivers[2].bodies) == 3 and len(receivers[0].bodies) == 2)
    assert receivers[0].bodies == [b"\0\xff\r\n", b"3"]
    assert receivers[1].bodies == [b"\0\xff\r\n", b"3"]
    assert receivers[2].bodies == [b"\0\xff\r\n", b"2", b"3"]
    assert receivers[3].bodies == []


@pytest_twisted.ensureDeferred
async def test_wildcards_come_and_go(server: RedisServer, start_node: StartNode) -> None:
    """In mid-traffic patterns come and go beside an exact subscription, which misses nothing."""
    first, second = [await start_node(server) for _ in range(2)]
    receiver = Receiver()
    await subscribe(second, receiver, "/topic/x")
    under_way = []
    for number in range(2000):
        waiting = first.send(message_to("/topic/x", b"%d" % number))
        assert waiting is not None
        under_way.append(waiting)
        if number % 40 == 20:
            wild = Receiver()
            subscription = await subscribe(second, wild, "/topic/*")
        if number % 40 == 39:
            second.unsubscribe(subscription)
    for waiting in under_way:
        await waiting
    await until(lambda: receiver.bodies and receiver.bodies[-1] == b"1999")
    assert receiver.bodies == [b"%d" % number for number in range(2000)]


@pytest_twisted.ensureDeferred
async def test_users(server: RedisServer, start_node: StartNode) -> None:
    """AZ-5: a user's tabs at two nodes get a message both; Redis is not told who he is."""
    first, second = [await start_node(server) for _ in range(2)]
    here, there = Receiver("a1", "alice@example.com"), Receiver("a2", "alice@example.com")
    await subscribe(first, here, "/user/queue/x")
    await subscribe(second, there, "/user/queue/x")
    channels = server.command("PUBSUB", "CHANNELS", "*")
    assert "stompauth:user:" in channels
    assert "alice" not in channels
    for node in (first, second):
        assert await node.send_to_user("alice@example.com", message_to("/queue/x", b"1")) == 2
        assert await node.send_to_user("bob", message_to("/queue/x", b"1")) == 0
    await until(lambda: len(there.bodies) == 2 and len(here.bodies) == 2)


@pytest_twisted.ensureDeferred
async def test_reply(server: RedisServer, start_node: StartNode) -> None:
    """A reply from another node finds the requester's temporary queue."""
    first, second = [await start_node(server) for _ in range(2)]
    requester = Receiver("a1", "alice")
    await subscribe(first, requester, "/temp-queue/t")
    await send(second, first.reply_name("a1", "/temp-queue/t"), b"1")
    await until(lambda: requester.bodies == [b"1"])


@pytest_twisted.ensureDeferred
async def test_nothing_is_left(server: RedisServer, start_node: StartNode) -> None:
    """When the last subscription has gone, Redis has no channel of ours but the nodes' own."""
    node = await start_node(server)
    receiver = Receiver()
    for path in ("/topic/x", "/topic/**", "/user/queue/x", "/temp-queue/t"):
        node.unsubscribe(await subscribe(node, receiver, path))
    await until(lambda: len(server.command("PUBSUB", "CHANNELS", "*").split()) == 1)
    assert server.command("PUBSUB", "NUMPAT") == "0"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("harm", ["kill", "freeze"])
async def test_away(server: RedisServer, start_node: StartNode, harm: str) -> None:
    """Redis dies, or hangs: subscribers are told, senders refused, and all is well after it."""
    first, second = [await start_node(server, timeout=0.5) for _ in range(2)]
    receivers = [Receiver("s1"), Receiver("s2")]
    subscriptions = [
        await subscribe(node, receiver, "/topic/x")
        for node, receiver in zip((first, second), receivers, strict=True)
    ]
    getattr(server, harm)()
    with pytest.raises(Refused, match="broker-unavailable"):
        await send(first, "/topic/x", b"lost")
    await until(lambda: all(receiver.ends for receiver in receivers))
    assert not first.is_ready()
    with pytest.raises(Refused):
        await subscribe(first, Receiver("s3"), "/topic/x")
    for node, subscription in zip((first, second), subscriptions, strict=True):
        node.session_ended(subscription.subscriber.session_id, [subscription])
    server.start() if harm == "kill" else server.thaw()
    await until(lambda: first.is_ready() and second.is_ready(), 20)
    again = Receiver("s4")
    await subscribe(second, again, "/topic/x")
    await send(first, "/topic/x", b"1")
    await until(lambda: b"1" in again.bodies)


@pytest_twisted.ensureDeferred
async def test_password(tmp_path: Path, start_node: StartNode) -> None:
    """A password is used, on both connections."""
    with redis_server(tmp_path / "redis", password="open sesame") as server:
        node = await start_node(server, password="open sesame")
        await send(node, "/topic/x", b"1")


@pytest_twisted.ensureDeferred
async def test_flood(
    server: RedisServer, start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that gets more than it delivers stops to read, goes on, and loses nothing of it."""
    paused = []
    pause = RedisBus.pause
    monkeypatch.setattr(RedisBus, "pause", lambda bus: paused.append(bus) or pause(bus))
    monkeypatch.setattr(inbox, "MAX_BYTES", 50_000)
    first, second = [await start_node(server, timeout=10) for _ in range(2)]
    receiver = Receiver()
    await subscribe(second, receiver, "/topic/x")
    body = 20_000 * b"x"
    waiting: list[Deferred[None]] = []
    for _ in range(1000):
        sending = first.send(message_to("/topic/x", body))
        assert sending is not None
        waiting.append(sending)
        if len(waiting) == 300:
            for each in waiting:
                await each
            waiting.clear()
    await until(lambda: len(receiver.deliveries) == 1000, 30)
    assert receiver.ends == []
    assert paused


# Nodes in processes of their own.


@contextlib.contextmanager
def node(
    directory: Path, url: str, *, control: int = 0, bus: str = ""
) -> Iterator[ConfiguredServer]:
    """A node, once its broker is there."""
    directory.mkdir()
    (directory / "password").write_text("opensesame\n")
    more = f"""
[[rules]]
allow = ["subscribe", "send"]
destination = "/user/queue/**"

[broker]
bus = "{url}"
bus_timeout = 0.5
{bus}
local_queues = true
"""
    if control:
        (directory / "control-token").write_text(CONTROL_TOKEN)
        more += f"""
[control]
listen = ["tcp:{control}:interface=127.0.0.1"]
token_file = "control-token"
"""
    with configured(directory, more=more, secret=SECRET, close_timeout=1) as server:
        wait_for(server, 1)
        yield server


def wait_for(server: ConfiguredServer, times: int) -> None:
    """Wait until the node has connected so often; each time twice, to publish and to listen."""
    end = time.monotonic() + 20
    while server.log.read_text("utf-8").count("connected to redis") < 2 * times:
        assert time.monotonic() < end, server.log.read_text("utf-8")
        time.sleep(0.05)


class Tab(RawWebSocket):
    """A tab of a user, connected and subscribed."""

    def __init__(self, server: ConfiguredServer, user: str, *paths: str) -> None:
        token = server.token(user)
        super().__init__(server, token)
        self.connect(token)
        for number, path in enumerate(paths):
            headers = {"id": str(number), "destination": path, "receipt": path}
            self.send_stomp("SUBSCRIBE", headers)
            frame = self.frame()
            assert frame is not None
            assert b"RECEIPT" in frame[1], frame

    def publish(self, path: str, body: bytes) -> None:
        """Send, and wait for the receipt, behind whatever comes before it."""
        self.send_stomp("SEND", {"destination": path, "receipt": "sent"}, body)


def connected_tab(server: ConfiguredServer, user: str, *paths: str) -> Tab:
    """A tab that comes back until it is let in."""
    end = time.monotonic() + 20
    while True:
        try:
            return Tab(server, user, *paths)
        except AssertionError:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_two_nodes(server: RedisServer, tmp_path: Path) -> None:
    """A message sent on A reaches subscribers on B, and a user's tabs on both; TK-8 on the wire."""
    control = free_port()
    with (
        recording(server.port) as proxy,
        node(tmp_path / "a", f"redis://127.0.0.1:{proxy.port}/0", control=control) as a,
        node(tmp_path / "b", f"redis://127.0.0.1:{proxy.port}/0") as b,
        Tab(a, "alice", "/topic/x", "/user/queue/n") as here,
        Tab(b, "alice", "/topic/x", "/user/queue/n") as there,
    ):
        # Neither RECEIPT nor MESSAGE is first for certain.
        here.publish("/topic/x", b"hello")
        frames = [here.frame(), here.frame()]
        assert {frame[1].split(b"\n")[0] for frame in frames if frame} == {b"RECEIPT", b"MESSAGE"}
        frame = there.frame()
        assert frame is not None
        assert b"destination:/topic/x\n" in frame[1]
        assert frame[1].endswith(b"\n\nhello\0")
        connection = http.client.HTTPConnection("127.0.0.1", control, timeout=10)
        with contextlib.closing(connection):
            body = json.dumps({"destination": "/queue/n", "body": "news"})
            headers = {"Authorization": f"Bearer {CONTROL_TOKEN}"}
            connection.request("POST", "/users/alice/send", body, headers)
            assert json.loads(connection.getresponse().read()) == {"sessions": 2}
        for tab in (here, there):
            frame = tab.frame()
            assert frame is not None
            assert b"destination:/user/queue/n\n" in frame[1]
            assert frame[1].endswith(b"\n\nnews\0")
        wire = bytes(proxy.sent + proxy.received)
        assert b"hello" in wire
        for handed_out in (*a.handed_out, *b.handed_out, CONTROL_TOKEN):
            assert handed_out.encode() not in wire
        assert b"uthorization" not in wire


@pytest.mark.parametrize("harm", ["kill", "freeze"])
def test_redis_goes(server: RedisServer, tmp_path: Path, harm: str) -> None:
    """Redis dies or hangs in mid-traffic: clients are told with 1013, and can come back."""
    with node(tmp_path / "a", server.url) as a, node(tmp_path / "b", server.url) as b:
        listener = Tab(b, "bob", "/topic/x")
        sender = Tab(a, "alice")
        bystander = Tab(a, "carol", "/queue/x")
        for number in range(20):
            sender.publish("/topic/x", b"%d" % number)
        getattr(server, harm)()
        # Frames of before, then ERROR and the close; of the sender too, for he sends.
        with contextlib.suppress(OSError):
            for number in range(20, 40):
                sender.publish("/topic/x", b"%d" % number)
        for tab in (listener, sender):
            *_, (_, error), (opcode, close) = tab.rest()
            assert error.startswith(b"ERROR\n"), error
            assert b"code:broker-unavailable\n" in error
            assert re.search(rb"\nretry-after:([2-9]|10)\n", error)
            assert (opcode, status_of(close)) == (CLOSE, 1013)
        bystander.publish("/queue/x", b"still here")
        frames = [bystander.frame(), bystander.frame()]
        assert any(frame and frame[1].endswith(b"still here\0") for frame in frames)
        server.start() if harm == "kill" else server.thaw()
        with (
            connected_tab(b, "bob", "/topic/x") as listener,
            connected_tab(a, "alice", "/topic/y") as sender,
        ):
            for number in itertools.count():
                sender.publish("/topic/x", b"again %d" % number)
                assert sender.frame() is not None
                if listener.is_answered() or number > 100:
                    break
            frame = listener.frame()
            assert frame is not None
            assert b"again" in frame[1]


def test_page(tmp_path: Path) -> None:
    """The page's configuration is good, and its program makes a broker."""
    (tmp_path / "redis-password").write_text("open sesame\n")
    (tmp_path / "secret").write_bytes(SECRET)
    found = blocks(PAGE)
    (tmp_path / "stompauth.toml").write_text(
        BASE.format(origin=ORIGIN) + "".join(found["toml"]), "utf-8"
    )
    config = load(tmp_path / "stompauth.toml")
    assert config.broker.bus.startswith("rediss://stompauth@")
    assert config.broker.bus_prefix == "chat:"
    names: dict[str, Any] = {}
    exec(found["python"][0], names)
    assert isinstance(names["broker"], DistributedBroker)


def test_page_users(tmp_path: Path) -> None:
    """The page's user of Redis may do what a node does, on its own channels, and nothing else."""
    (tmp_path / "redis-password").write_text("opensesame")
    subprocess.run(["sh", "-eu"], input=blocks(PAGE)["sh"][0], cwd=tmp_path, check=True, text=True)
    users = tmp_path / "users.acl"
    with redis_server(tmp_path / "redis", "--aclfile", str(users)) as server:
        url = server.url.replace("//", "//stompauth@")
        directory = tmp_path / "a"
        bus = 'bus_password_file = "password"\nbus_prefix = "chat:"'
        with (
            node(directory, url, bus=bus) as a,
            Tab(a, "alice", "/topic/x", "/topic/*", "/user/queue/x") as tab,
        ):
            tab.publish("/topic/x", b"hello")
            frames = [tab.frame() for _ in range(3)]
            commands = sorted(frame[1].split(b"\n")[0] for frame in frames if frame)
            assert commands == [b"MESSAGE", b"MESSAGE", b"RECEIPT"]
        foreign = ["redis-cli", "-p", str(server.port), "--user", "stompauth", "--pass"]
        refused = subprocess.run(
            [*foreign, "opensesame", "--no-auth-warning", "publish", "other:x", "y"],
            check=False,
            capture_output=True,
            text=True,
        )
        assert "NOPERM" in refused.stdout + refused.stderr
