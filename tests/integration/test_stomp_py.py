"""stomp.py against a running server, over the WebSocket transport that it has."""

from __future__ import annotations

import itertools
import queue
import threading
from typing import TYPE_CHECKING

import pytest
from stomp import ConnectionListener
from stomp.adapter.ws import WSStompConnection

from tests.integration.configured import FOR_CLIENTS, ConfiguredServer, configured, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stomp.utils import Frame

#: Seconds that the client and the server have for anything.
PATIENCE = 20.0

TOPIC = "/topic/room"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    """A server that knows its port beforehand.

    The WebSocket under stomp.py has an Origin that it cannot be talked out of: the server's own.
    """
    directory = tmp_path_factory.mktemp("stomp.py")
    with configured(directory, port=free_port(), **FOR_CLIENTS) as server:
        yield server


class Client(ConnectionListener):
    """A connection, and what it has told its listener.

    :ivar messages: MESSAGEs, in their order.
    :ivar beats: how often the server's heart was heard.
    """

    def __init__(self, server: ConfiguredServer, *, heartbeat: int = 0, binary: bool = False):
        self._server = server
        self._receipts: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ids = itertools.count()
        self._disconnected = threading.Event()
        self.messages: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self.beats = 0
        self.stomp = WSStompConnection(
            [("127.0.0.1", server.port)],
            heartbeats=(heartbeat, heartbeat),
            auto_decode=False,
            binary_mode=binary,
        )
        self.stomp.set_listener("client", self)

    def on_message(self, frame: Frame) -> None:
        self.messages.put(frame)

    def on_receipt(self, frame: Frame) -> None:
        self._receipts.put(frame.headers["receipt-id"])

    def on_heartbeat(self) -> None:
        self.beats += 1

    def on_disconnected(self) -> None:
        self._disconnected.set()

    def connect(self, lifetime: float = 600) -> None:
        """Connect with a fresh token and a fresh ticket; it says STOMP where others say CONNECT."""
        token = self._server.token("stomp.py", lifetime)
        self._disconnected.clear()
        self.stomp.transport.ws_path = f"/stomp?ticket={self._server.ticket(token)}"
        self.stomp.connect(wait=True, headers={"Authorization": f"Bearer {token}"})

    def receipt(self) -> dict[str, str]:
        """A header that asks for a receipt."""
        return {"receipt": str(next(self._ids))}

    def await_receipt(self, headers: dict[str, str]) -> None:
        """Wait for the receipt that the headers asked for, which is the next one."""
        assert self._receipts.get(timeout=PATIENCE) == headers["receipt"]

    def await_drop(self) -> None:
        """Wait until there is no connection."""
        assert self._disconnected.wait(PATIENCE)

    def is_dropped_within(self, seconds: float) -> bool:
        """Whether the connection ends in that time."""
        return self._disconnected.wait(seconds)

    def subscribe(self, destination: str, ack: str = "auto") -> str:
        """Subscribe, and return the id once the receipt has come."""
        headers = self.receipt()
        self.stomp.subscribe(destination, headers["receipt"], ack, headers)
        self.await_receipt(headers)
        return headers["receipt"]

    def unsubscribe(self, subscription: str) -> None:
        """Unsubscribe, and wait for the receipt."""
        headers = self.receipt()
        self.stomp.unsubscribe(subscription, headers)
        self.await_receipt(headers)

    def send(self, destination: str, body: str | bytes) -> None:
        """Send, and wait for the receipt."""
        headers = self.receipt()
        self.stomp.send(destination, body, headers=headers)
        self.await_receipt(headers)

    def settle(self) -> None:
        """Wait until the server has done all that it was asked for."""
        self.send("/topic/nobody", "settle")

    def take(self, count: int) -> list[Frame]:
        """The next messages."""
        return [self.messages.get(timeout=PATIENCE) for _ in range(count)]

    def disconnect(self) -> None:
        """Disconnect, and wait for the receipt and the end."""
        headers = self.receipt()
        self.stomp.disconnect(headers["receipt"])
        self.await_receipt(headers)
        self.await_drop()


def bodies(frames: list[Frame]) -> list[bytes]:
    """The bodies of messages."""
    return [frame.body for frame in frames]


@pytest.fixture
def client(server: ConfiguredServer) -> Iterator[Client]:
    """A connected client; at its end it disconnects, and has no message left."""
    client = Client(server)
    client.connect()
    yield client
    client.disconnect()
    assert client.messages.empty()


def test_receipts(client: Client) -> None:
    """Everything is done when its receipt comes."""
    subscription = client.subscribe(TOPIC)
    client.send(TOPIC, "grüße")
    assert bodies(client.take(1)) == ["grüße".encode()]
    client.unsubscribe(subscription)
    client.send(TOPIC, "to nobody")
    assert client.messages.empty()


def test_client_acks(client: Client) -> None:
    """An ACK, and a NACK, is for all messages of the subscription up to that one."""
    for body in ("1", "2", "3"):
        client.send("/queue/client", body)
    subscription = client.subscribe("/queue/client", "client")
    messages = client.take(3)
    assert bodies(messages) == [b"1", b"2", b"3"]
    client.stomp.ack(messages[1].headers["ack"])
    client.unsubscribe(subscription)
    client.subscribe("/queue/client", "client")
    (third,) = client.take(1)
    assert (third.body, third.headers["redelivered"]) == (b"3", "true")
    client.send("/queue/client", "4")
    (fourth,) = client.take(1)
    client.stomp.nack(fourth.headers["ack"])
    messages = client.take(2)
    assert bodies(messages) == [b"3", b"4"]
    client.stomp.ack(messages[1].headers["ack"])
    client.settle()


def test_individual_acks(client: Client) -> None:
    """An ACK, and a NACK, is for one message; what is left goes back to its queue."""
    for body in ("1", "2", "3"):
        client.send("/queue/individual", body)
    subscription = client.subscribe("/queue/individual", "client-individual")
    first, second, _ = client.take(3)
    client.stomp.ack(second.headers["ack"])
    client.stomp.nack(first.headers["ack"])
    (again,) = client.take(1)
    assert again.body == b"1"
    assert (again.headers["redelivered"], again.headers["delivery-count"]) == ("true", "2")
    client.stomp.ack(again.headers["ack"])
    client.unsubscribe(subscription)
    client.subscribe("/queue/individual", "client-individual")
    (third,) = client.take(1)
    assert third.body == b"3"
    client.stomp.ack(third.headers["ack"])
    client.settle()


def test_transactions(client: Client) -> None:
    """What is sent in a transaction comes at its commit, or never."""
    client.subscribe("/queue/transactions")
    committed = client.stomp.begin()
    client.stomp.send("/queue/transactions", "1", transaction=committed)
    client.stomp.send("/queue/transactions", "2", transaction=committed)
    client.settle()
    assert client.messages.empty()
    client.stomp.commit(committed)
    assert bodies(client.take(2)) == [b"1", b"2"]
    aborted = client.stomp.begin()
    client.stomp.send("/queue/transactions", "3", transaction=aborted)
    client.stomp.abort(aborted)
    client.settle()


def test_transacted_acks(client: Client) -> None:
    """An ACK in a transaction is one at its commit, and none after an abort."""
    for body in ("1", "2"):
        client.send("/queue/transacted", body)
    subscription = client.subscribe("/queue/transacted", "client-individual")
    first, second = client.take(2)
    committed, aborted = client.stomp.begin(), client.stomp.begin()
    client.stomp.ack(first.headers["ack"], committed)
    client.stomp.ack(second.headers["ack"], aborted)
    client.stomp.commit(committed)
    client.stomp.abort(aborted)
    client.unsubscribe(subscription)
    client.subscribe("/queue/transacted", "client-individual")
    (again,) = client.take(1)
    assert again.body == b"2"
    client.stomp.ack(again.headers["ack"])
    client.settle()


def test_binary(server: ConfiguredServer) -> None:
    """All octets come through, both ways, when it sends binary messages."""
    client = Client(server, binary=True)
    client.connect()
    client.subscribe(TOPIC)
    client.send(TOPIC, bytes(range(256)))
    assert bodies(client.take(1)) == [bytes(range(256))]
    client.disconnect()


def test_large(client: Client) -> None:
    """A body of 1 MiB comes through."""
    client.subscribe(TOPIC)
    body = "0123456789abcde\n" * 65536
    client.send(TOPIC, body)
    assert bodies(client.take(1)) == [body.encode()]


def test_heartbeats(server: ConfiguredServer) -> None:
    """The session outlives a silence that neither side would put up with."""
    client = Client(server, heartbeat=1000)
    client.connect()
    client.subscribe(TOPIC)
    assert not client.is_dropped_within(3)
    assert client.beats >= 2
    client.send(TOPIC, "alive")
    assert bodies(client.take(1)) == [b"alive"]
    client.disconnect()


def test_reconnect(server: ConfiguredServer) -> None:
    """When the session has ended with its token, the same object connects with a fresh ticket."""
    client = Client(server)
    client.connect(lifetime=3)
    client.await_drop()
    client.connect()
    client.subscribe(TOPIC)
    client.send(TOPIC, "after")
    assert bodies(client.take(1)) == [b"after"]
    client.disconnect()
