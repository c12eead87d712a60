"""Nodes that have RabbitMQ between them: the real one, real sockets, processes of their own."""

from __future__ import annotations

import contextlib
import itertools
import re
import resource
import secrets
import shlex
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import SSL4ServerEndpoint, clientFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from stompauth import BrokerRelay, Refused
from stompauth.client import ClientError, connect
from stompauth.config import load
from tests.broker.receiver import Receiver, message_to
from tests.integration.processes import ROOT
from tests.integration.rabbitmq_server import PROGRAMS, RabbitMQ, rabbitmq
from tests.integration.recording import RecordingProxy, recording
from tests.integration.test_client import serving, until
from tests.integration.test_jwks import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from stompauth.client import Disconnected, Message, StompClient
    from tests.integration.configured import ConfiguredServer

HOWTO = ROOT / "docs/howto/rabbitmq.md"

_BROKER = """
[broker]
kind = "relay"
endpoint = "tcp:127.0.0.1:{port}"
login = "chat"
passcode_file = "passcode"
host = "chat"
stamp_sender = true

[[rules]]
allow = ["subscribe", "send"]
destination = "/user/queue/**"

[[rules]]
allow = ["send"]
destination = "/user/{{name}}/queue/**"
"""


@dataclass(frozen=True)
class Broker:
    """RabbitMQ as the how-to sets it up.

    :ivar proxy: by which all nodes reach it, and which writes down what passes.
    """

    node: RabbitMQ
    passcode: str
    proxy: RecordingProxy

    def consumers_of_topic(self, key: str) -> int:
        """How many consumers there are of all queues that are bound to the topic."""
        bindings = self._listed("list_bindings", "source_name", "routing_key", "destination_name")
        queues = [row[2] for row in bindings if row[:2] == ["amq.topic", key]]
        consumers = self._listed("list_consumers", "queue_name", "ack_required")
        return len([row for row in consumers if row[0] in queues])

    def depth(self, queue: str) -> tuple[int, int]:
        """How many messages of a queue wait, and how many are with consumers."""
        columns = ("name", "messages_ready", "messages_unacknowledged")
        for name, ready, unacknowledged in self._listed("list_queues", *columns):
            if name == queue:
                return int(ready), int(unacknowledged)
        return 0, 0

    def _listed(self, *arguments: str) -> list[list[str]]:
        what, *columns = arguments
        lines = self.node.ctl(what, "-p", "chat", *columns).splitlines()
        return [line.split("\t") for line in lines[1:] if line]


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """RabbitMQ, set up by the how-to's own commands."""
    if not (PROGRAMS / "rabbitmq-server").exists():
        pytest.skip(f"there is no RabbitMQ in {PROGRAMS}; RABBITMQ_PROGRAMS names another place")
    passcode = secrets.token_urlsafe(16)
    with tempfile.TemporaryDirectory() as directory, rabbitmq(Path(directory)) as node:
        for command in re.findall(r"^\$ rabbitmqctl (.*)$", HOWTO.read_text("utf-8"), re.MULTILINE):
            node.ctl(*shlex.split(command.replace("PASSCODE", passcode)))
        with recording(node.port) as proxy:
            yield Broker(node, passcode, proxy)


@dataclass
class Client:
    """A client of a node, and how its session ended.

    :ivar messages: what has come, of all subscriptions.
    """

    stomp: StompClient
    messages: list[Message] = field(default_factory=list)
    ends: list[Disconnected] = field(default_factory=list)

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.messages]


async def client_of(server: ConfiguredServer, user: str) -> Client:
    """Make a session."""
    ends: list[Disconnected] = []
    stomp = await connect(
        reactor, server.origin, lambda: server.token(user), on_disconnect=ends.append
    )
    return Client(stomp, ends=ends)


@contextlib.asynccontextmanager
async def node_of(
    broker: Broker, directory: Path, name: str, *, port: int = 0, **limits: Any
) -> AsyncIterator[ConfiguredServer]:
    """A node in a process of its own."""
    home = directory / name
    home.mkdir()
    (home / "passcode").write_text(broker.passcode + "\n")
    more = _BROKER.format(port=port or broker.proxy.port)
    async with serving(
        home, more=more, bytes_per_second=0, frames_per_second=0, **limits
    ) as server:
        await until(lambda: server.log.read_text("utf-8").count("the broker is there") == 2, 30)
        yield server
        assert broker.passcode not in server.log.read_text("utf-8")


@contextlib.asynccontextmanager
async def relay_of(broker: Broker, receipt_timeout: float = 10) -> AsyncIterator[BrokerRelay]:
    """A relay in this process."""
    relay = BrokerRelay(
        clientFromString(reactor, broker.node.endpoint),
        login="chat",
        passcode=broker.passcode,
        host="chat",
        receipt_timeout=receipt_timeout,
        clock=reactor,
    )
    relay.startService()
    try:
        await until(relay.is_ready, 30)
        yield relay
    finally:
        await relay.stopService()


@pytest_twisted.ensureDeferred
async def test_two_nodes(broker: Broker, tmp_path: Path) -> None:
    """Topics, user destinations, queues, requests and transactions cross nodes; no secret does.

    RL-1, RL-2, LG-1: neither a token nor a ticket, nor the header that carries one, is on the wire
    to the broker, whatever else is.
    """
    async with (
        node_of(broker, tmp_path, "a") as a,
        node_of(broker, tmp_path, "b") as b,
    ):
        alice, bob, tab = [
            await client_of(*each) for each in ((a, "alice"), (b, "bob"), (a, "bob"))
        ]

        # Topics, by name and by pattern; what is no text, and what a header cannot hold as it is.
        await bob.stomp.subscribe("/topic/rooms/v1.5", bob.messages.append)
        await tab.stomp.subscribe("/topic/rooms/**", tab.messages.append)
        headers = {
            "content-type": "application/x",
            "Kind": "a:b\nc\\",
            "ü": "ß",
            "x-queue-name": "y",
            "Authorization": "Bearer " + a.token("alice"),
        }
        await alice.stomp.send("/topic/rooms/v1.5", b"\xff\0\n", headers)
        await alice.stomp.send("/topic/rooms", b"not for them")
        await until(lambda: bob.messages and tab.messages)
        for client in (bob, tab):
            (message,) = client.messages
            assert (message.destination, message.body) == ("/topic/rooms/v1.5", b"\xff\0\n")
            seen = {name: message.headers.get(name) for name in headers}
            assert seen == {**headers, "Authorization": None}
            assert message.headers["sender"] == "alice"
            assert "receipt" not in message.headers
            client.messages.clear()

        # A user with a tab on each node.
        for client in (bob, tab):
            await client.stomp.subscribe("/user/queue/news", client.messages.append)
        await alice.stomp.send("/user/bob/queue/news", b"for bob")
        await until(lambda: bob.messages and tab.messages)
        assert bob.bodies == tab.bodies == [b"for bob"]
        assert {message.destination for message in bob.messages} == {"/user/queue/news"}
        bob.messages.clear()

        # A request that is answered on the other node.
        await bob.stomp.subscribe(
            "/queue/requests",
            lambda request: bob.stomp.send(request.headers["reply-to"], request.body[::-1]),
        )
        await alice.stomp.subscribe("/temp-queue/answers", alice.messages.append)
        await alice.stomp.send("/queue/requests", b"abc", {"reply-to": "/temp-queue/answers"})
        await until(lambda: alice.messages)
        assert (alice.messages[0].destination, alice.bodies) == ("/temp-queue/answers", [b"cba"])

        # A transaction takes effect at COMMIT, here and there.
        await bob.stomp.subscribe("/queue/done", bob.messages.append)
        await alice.stomp.begin("t")
        for body in (b"1", b"2"):
            await alice.stomp.send("/queue/done", body, {"transaction": "t"})
        assert bob.messages == []
        await alice.stomp.commit("t")
        await until(lambda: len(bob.messages) == 2)
        assert bob.bodies == [b"1", b"2"]

        handed_out = [*a.handed_out, *b.handed_out]
        for client in (alice, bob, tab):
            assert client.ends == []
            await client.stomp.disconnect()
    passed = bytes(broker.proxy.sent + broker.proxy.received)
    assert b"for bob" in passed
    assert b"authorization" not in passed.lower()
    for secret in handed_out:
        assert secret.encode() not in passed


@pytest_twisted.ensureDeferred
async def test_redelivery(broker: Broker, tmp_path: Path) -> None:
    """What a client has not acknowledged when it breaks off comes to another, marked, same id."""
    async with node_of(broker, tmp_path, "a") as a, node_of(broker, tmp_path, "b") as b:
        worker, other, sender = [
            await client_of(*each) for each in ((a, "worker"), (b, "other"), (b, "sender"))
        ]
        taken: list[Message] = []
        few = {"prefetch-count": "3"}
        await worker.stomp.subscribe(
            "/queue/work", taken.append, ack="client-individual", headers=few
        )
        bodies = [b"%d" % number for number in range(8)]
        for body in bodies:
            await sender.stomp.send("/queue/work", body)
        await until(lambda: len(taken) == 3)
        await taken[1].ack()
        await until(lambda: len(taken) == 4)
        assert await deferToThread(broker.depth, "work") == (4, 3)
        worker.stomp.drop()
        await other.stomp.subscribe("/queue/work", other.messages.append, ack="client")
        await until(lambda: len(other.messages) == 7)
        assert sorted(other.bodies) == sorted(set(bodies) - {b"1"})
        again = {message.headers["message-id"]: message.headers for message in other.messages}
        for message in (taken[0], *taken[2:]):
            headers = again[message.headers["message-id"]]
            assert (headers["redelivered"], headers["delivery-count"]) == ("true", "2")
            assert "redelivered" not in message.headers
        # An ACK covers all before it, and UNSUBSCRIBE gives back what is left.
        await other.messages[4].ack()
        assert await deferToThread(broker.depth, "work") == (0, 2)
        await next(iter(other.stomp._subscriptions.values())).unsubscribe()
        await until_thread(lambda: broker.depth("work") == (2, 0))
        assert other.ends == []


@pytest_twisted.ensureDeferred
async def test_thousand(broker: Broker) -> None:
    """A thousand sessions of a node on one topic are one consumer at RabbitMQ, and then none."""
    async with relay_of(broker) as relay:
        receivers = [Receiver(f"s{number}", f"u{number}") for number in range(1000)]
        subscriptions = [receiver.subscription("/topic/all") for receiver in receivers]
        for confirmed in [relay.subscribe(subscription) for subscription in subscriptions]:
            if confirmed is not None:
                await confirmed
        assert await deferToThread(broker.consumers_of_topic, "all") == 1
        for body in (b"1", b"2"):
            await relay.send(message_to("/topic/all", body))
        await until(lambda: receivers[-1].bodies == [b"1", b"2"])
        assert all(receiver.bodies == [b"1", b"2"] for receiver in receivers)
        for receiver, subscription in zip(receivers, subscriptions, strict=True):
            relay.session_ended(receiver.session_id, [subscription])
        await until_thread(lambda: broker.consumers_of_topic("all") == 0)


@pytest_twisted.ensureDeferred
async def test_thousand_sockets(broker: Broker, tmp_path: Path) -> None:
    """So are a thousand WebSockets of a node in a process of its own."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    async with node_of(broker, tmp_path, "a", sessions_per_user=0, sessions_per_address=0) as a:
        clients: list[Client] = []
        # He may have five tickets at a time.
        for _ in range(200):
            connecting = [Deferred.fromCoroutine(client_of(a, "alice")) for _ in range(5)]
            clients += await gatherResults(connecting)
        await gatherResults(
            client.stomp.subscribe("/topic/all", client.messages.append) for client in clients
        )
        assert await deferToThread(broker.consumers_of_topic, "all") == 1
        await clients[0].stomp.send("/topic/all", b"1")
        await until(lambda: all(client.bodies == [b"1"] for client in clients))
        for client in clients:
            client.stomp.drop()
        await until_thread(lambda: broker.consumers_of_topic("all") == 0)


@pytest_twisted.ensureDeferred
async def test_unsubscribing_in_the_middle(broker: Broker) -> None:
    """UNSUBSCRIBE under load loses nothing and hides nothing, and is no harm to others."""
    async with relay_of(broker) as relay:
        session, source = Receiver("s1"), Receiver("s2", "bob")
        keeps = session.subscription("/queue/other", "client")
        await relay.subscribe(keeps)
        is_over: list[bool] = []

        async def flood(destination: str) -> int:
            number = 0
            while not is_over:
                message = message_to(destination, b"%d" % number)
                message.sender_session = source.session_id
                await relay.send(message)
                number += 1
            return number

        floods = [Deferred.fromCoroutine(flood(f"/queue/flood.{n}")) for n in range(4)]
        floods.append(Deferred.fromCoroutine(flood("/topic/flood")))
        for number in range(20):
            some = [
                session.subscription("/topic/flood"),
                session.subscription(
                    f"/queue/flood.{number % 4}", ("auto", "client")[number % 2], 20
                ),
            ]
            await gatherResults(relay.subscribe(each) for each in some)
            await until(lambda: session.deliveries)
            session.deliveries.clear()
            for each in some:
                ended = relay.unsubscribe(each)
                if ended is not None:
                    await ended
        is_over.append(True)
        await gatherResults(floods)
        assert session.ends == []
        for number in range(4):
            await until_thread(lambda number=number: broker.depth(f"flood.{number}")[1] == 0)
        relay.session_ended("s1", [keeps])


@pytest_twisted.ensureDeferred
async def test_dead_letters(broker: Broker) -> None:
    """By the how-to's policy, what expires in a queue comes to its dead-letter queue."""
    async with relay_of(broker) as relay:
        receiver = Receiver()
        subscription = receiver.subscription("/queue/dlq.orders")
        await relay.subscribe(subscription)
        await relay.send(message_to("/queue/orders", b"1", expires=time.time() + 0.2))
        await until(lambda: receiver.bodies == [b"1"])
        headers = receiver.last.message.headers
        assert (headers["dlq-reason"], headers["dlq-origin"]) == ("expired", "/queue/orders")
        relay.session_ended("s1", [subscription])


@pytest_twisted.ensureDeferred
async def test_alarm(broker: Broker) -> None:
    """RL-6: RabbitMQ short of memory takes nothing: SENDs are refused in time, topics still come.

    RabbitMQ stops to read from whom it takes messages; what only listens is not concerned.
    """
    async with relay_of(broker, receipt_timeout=1.5) as relay:
        receiver = Receiver()
        await relay.subscribe(receiver.subscription("/topic/before"))
        await relay.send(message_to("/topic/before", b"1"))
        await deferToThread(broker.node.ctl, "set_vm_memory_high_watermark", "0.000001")
        try:
            # It looks at its memory every few seconds.
            accepted = 0
            refused = None
            while refused is None and accepted < 300:
                try:
                    await relay.send(message_to("/queue/alarm", b"1"))
                    accepted += 1
                    await deferLater(reactor, 0.1)
                except Refused as error:
                    refused = error.code
            assert refused == "broker-unavailable"
            # To subscribe is another connection's business.
            await relay.subscribe(receiver.subscription("/topic/after"))
        finally:
            await deferToThread(broker.node.ctl, "set_vm_memory_high_watermark", "0.4")
        await relay.send(message_to("/topic/after", b"2"))
        await until(lambda: receiver.bodies == [b"1", b"2"])
        # It was not taken back: the broker has it, now that it reads again.
        await until_thread(lambda: broker.depth("alarm") == (accepted + 1, 0))


@pytest_twisted.ensureDeferred
async def test_crash(broker: Broker, tmp_path: Path) -> None:
    """RL-5: RabbitMQ is killed in the middle: who had to do with it is told, nothing is lost.

    Every message that got its RECEIPT is there afterwards, and a node needs no help to go on.
    """
    async with node_of(broker, tmp_path, "a", port=broker.node.port) as a:
        listener = await client_of(a, "listener")
        await listener.stomp.subscribe("/topic/news", listener.messages.append)
        senders = [await client_of(a, f"sender{number}") for number in range(5)]
        confirmed: list[bytes] = []
        numbers = itertools.count()

        async def send(sender: Client) -> None:
            with contextlib.suppress(ClientError):
                while True:
                    body = b"%d" % next(numbers)
                    await sender.stomp.send("/queue/kept", body)
                    confirmed.append(body)

        sending = [Deferred.fromCoroutine(send(sender)) for sender in senders]
        await until(lambda: len(confirmed) > 100)
        broker.node.kill()
        await gatherResults(sending)
        await until(lambda: all(client.ends for client in (listener, *senders)))
        for client in (listener, *senders):
            (end,) = client.ends
            assert (end.code, end.close_code) == ("broker-unavailable", 1013)
            assert end.retry_after is not None
            assert 1 <= end.retry_after <= 10
        # A client of ours wants notices before all else, which come by way of the broker.
        early = await client_of(a, "early")
        await until(lambda: early.ends)
        assert early.ends[0].code == "broker-unavailable"

        await deferToThread(broker.node.start)
        await until(lambda: a.log.read_text("utf-8").count("the broker is there") == 4, 60)
        again = await client_of(a, "listener")
        await again.stomp.subscribe("/topic/news", again.messages.append)
        kept = await client_of(a, "reader")
        await kept.stomp.subscribe("/queue/kept", kept.messages.append)
        await kept.stomp.send("/topic/news", b"it goes on")
        await until(lambda: again.messages and set(confirmed) <= set(kept.bodies), 30)
        assert len(confirmed) > 100


@pytest.mark.parametrize(("name", "speaks"), [("localhost", True), ("elsewhere.example", False)])
@pytest_twisted.ensureDeferred
async def test_tls(tmp_path: Path, name: str, speaks: bool) -> None:
    """RL-6: over TLS the passcode goes to whoever the host's certificate is of, and no other."""
    authority = Authority("tests")
    pem = authority.certificate.public_bytes(Encoding.PEM)
    (tmp_path / "ca.pem").write_bytes(pem)
    heard: list[bytes] = []
    connections: list[Any] = []

    class Listening(Protocol):
        def connectionMade(self) -> None:
            connections.append(self)

        def dataReceived(self, data: bytes) -> None:
            heard.append(data)

    endpoint = SSL4ServerEndpoint(reactor, 0, authority.certify(name), interface="127.0.0.1")
    port = await endpoint.listen(Factory.forProtocol(Listening))
    number = port.getHost().port
    relay = BrokerRelay(
        clientFromString(reactor, f"tls:localhost:{number}:trustRoots={tmp_path}"),
        login="chat",
        passcode="correct horse",
        clock=reactor,
    )
    relay.startService()
    try:
        if speaks:
            await until(lambda: b"passcode:correct horse" in b"".join(heard))
        else:
            await until(lambda: len(connections) >= 4)
            assert heard == []
    finally:
        await relay.stopService()
        await port.stopListening()


def test_configuration(tmp_path: Path) -> None:
    """The how-to's configuration is one."""
    (tmp_path / "rabbitmq-passcode").write_text("x")
    text = HOWTO.read_text("utf-8")
    section = text.split("```toml\n")[1].split("```")[0]
    example = (ROOT / "docs/configuration.md").read_text("utf-8")
    whole = example[example.index("## An example") :].split("```toml\n")[1].split("```")[0]
    path = tmp_path / "stompauth.toml"
    path.write_text(whole + section)
    assert load(path).broker.kind == "relay"


async def until_thread(condition: Any, patience: float = 20) -> None:
    """Wait until something is so that takes its time to find out."""
    end = time.monotonic() + patience
    while not await deferToThread(condition):
        assert time.monotonic() < end, "that did not come to be"
