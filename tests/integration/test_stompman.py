"""stompman against a running server, over the WebSocket connection that it has.

Two things it cannot do: it sends every frame as a text message, so that a body can be UTF-8 only;
and it acknowledges outside of transactions only. It gets whatever others send.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING, Any

import pytest
import stompman
from stompman.connection_ws import WebSocketConnection

from tests.integration.configured import FOR_CLIENTS, ConfiguredServer, configured
from tests.integration.raw import RawWebSocket

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

    from stompman import AckableMessageFrame

#: Seconds that the client and the server have for a test.
PATIENCE = 20.0

TOPIC = "/topic/room"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    """A server for clients."""
    with configured(tmp_path_factory.mktemp("stompman"), **FOR_CLIENTS) as server:
        yield server


def asynchronous(
    test: Callable[[ConfiguredServer], Awaitable[None]],
) -> Callable[[ConfiguredServer], None]:
    """Run a test on an event loop, in time."""

    @functools.wraps(test)
    def run(server: ConfiguredServer) -> None:
        async def in_time() -> None:
            await asyncio.wait_for(test(server), PATIENCE)

        asyncio.run(in_time())

    return run


class Wire:
    """What went over the connections of a client.

    :ivar frames: what the server has sent.
    :ivar closes: the close codes, as the connections are closed.
    """

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.closes: asyncio.Queue[int | None] = asyncio.Queue()

    def count(self, kind: type) -> int:
        """How many frames of a kind have come."""
        return sum(isinstance(frame, kind) for frame in self.frames)


def connect(
    server: ConfiguredServer, wire: Wire, *lifetimes: float, heartbeat: int = 60000
) -> stompman.Client:
    """A client; each of its connections has a fresh ticket and a token of the next lifetime."""
    remaining = iter(lifetimes or (600,))
    parameters = stompman.ConnectionParameters("127.0.0.1", server.port, "", "")

    class Connection(WebSocketConnection):
        @classmethod
        async def connect(cls, **settings: Any) -> Any:
            token = server.token("stompman", next(remaining))
            parameters.connect_headers["Authorization"] = f"Bearer {token}"
            ticket = await asyncio.to_thread(server.ticket, token)
            return await super().connect(**settings | {"ws_uri_path": f"/stomp?ticket={ticket}"})

        async def read_frames(self) -> AsyncGenerator[Any, None]:
            async for frame in super().read_frames():
                wire.frames.append(frame)
                yield frame

        async def close(self) -> None:
            await super().close()
            wire.closes.put_nowait(self.websocket.close_code)

    return stompman.Client(
        [parameters],
        heartbeat=stompman.Heartbeat(heartbeat, heartbeat),
        read_max_chunk_size=4 << 20,
        connection_class=Connection,
    )


class Subscription:
    """A subscription whose receipt has come.

    :ivar messages: what it got, in order.
    """

    def __init__(self) -> None:
        self.messages: asyncio.Queue[AckableMessageFrame] = asyncio.Queue()
        self._subscription: stompman.ManualAckSubscription

    @classmethod
    async def begin(
        cls, client: stompman.Client, destination: str, ack: stompman.AckMode = "auto"
    ) -> Subscription:
        """Subscribe, and wait for the receipt."""
        subscription = cls()
        subscription._subscription = await client.subscribe_with_manual_ack(
            destination, subscription.messages.put, ack=ack, receipt_timeout=PATIENCE
        )
        return subscription

    async def take(self, count: int) -> list[AckableMessageFrame]:
        """The next messages."""
        return [await self.messages.get() for _ in range(count)]

    async def end(self) -> None:
        """Unsubscribe."""
        await self._subscription.unsubscribe()


async def send(client: stompman.Client, destination: str, body: bytes) -> None:
    """Send, and wait for the receipt."""
    await client.send(body, destination, receipt_timeout=PATIENCE)


async def settle(client: stompman.Client) -> None:
    """Wait until the server has done all that it was asked for."""
    await send(client, "/topic/nobody", b"settle")


def bodies(messages: list[AckableMessageFrame]) -> list[bytes]:
    """The bodies of messages."""
    return [message.body for message in messages]


@asynchronous
async def test_receipts(server: ConfiguredServer) -> None:
    """Everything is done when its receipt comes; the last is that of DISCONNECT."""
    wire = Wire()
    async with connect(server, wire) as client:
        subscription = await Subscription.begin(client, TOPIC)
        await send(client, TOPIC, "grüße".encode())
        assert bodies(await subscription.take(1)) == ["grüße".encode()]
        await subscription.end()
        await settle(client)
        await send(client, TOPIC, b"to nobody")
        assert wire.count(stompman.ReceiptFrame) == 4
        assert wire.count(stompman.MessageFrame) == 1
    assert wire.count(stompman.ReceiptFrame) == 5
    assert await wire.closes.get() == 1000


@asynchronous
async def test_client_acks(server: ConfiguredServer) -> None:
    """An ACK, and a NACK, is for all messages of the subscription up to that one."""
    async with connect(server, Wire()) as client:
        for body in (b"1", b"2", b"3"):
            await send(client, "/queue/client", body)
        subscription = await Subscription.begin(client, "/queue/client", "client")
        messages = await subscription.take(3)
        assert bodies(messages) == [b"1", b"2", b"3"]
        await messages[1].ack()
        await subscription.end()
        subscription = await Subscription.begin(client, "/queue/client", "client")
        (third,) = await subscription.take(1)
        assert third.body == b"3"
        await send(client, "/queue/client", b"4")
        (fourth,) = await subscription.take(1)
        await fourth.nack()
        messages = await subscription.take(2)
        assert bodies(messages) == [b"3", b"4"]
        await messages[1].ack()
        await settle(client)
        assert subscription.messages.empty()
        await subscription.end()


@asynchronous
async def test_individual_acks(server: ConfiguredServer) -> None:
    """An ACK, and a NACK, is for one message; what is left goes back to its queue."""
    async with connect(server, Wire()) as client:
        for body in (b"1", b"2", b"3"):
            await send(client, "/queue/individual", body)
        subscription = await Subscription.begin(client, "/queue/individual", "client-individual")
        first, second, _ = await subscription.take(3)
        await second.ack()
        await first.nack()
        (again,) = await subscription.take(1)
        assert again.body == b"1"
        assert again.headers.get("delivery-count") == "2"
        await again.ack()
        await subscription.end()
        subscription = await Subscription.begin(client, "/queue/individual", "client-individual")
        (third,) = await subscription.take(1)
        assert third.body == b"3"
        await third.ack()
        await settle(client)
        assert subscription.messages.empty()
        await subscription.end()


@asynchronous
async def test_transactions(server: ConfiguredServer) -> None:
    """What is sent in a transaction comes at its commit, or never."""
    async with connect(server, Wire()) as client:
        subscription = await Subscription.begin(client, "/queue/transactions")
        async with client.begin() as transaction:
            await transaction.send(b"1", "/queue/transactions")
            await transaction.send(b"2", "/queue/transactions")
            await settle(client)
            assert subscription.messages.empty()
        assert bodies(await subscription.take(2)) == [b"1", b"2"]
        with contextlib.suppress(LookupError):
            async with client.begin() as transaction:
                await transaction.send(b"3", "/queue/transactions")
                raise LookupError
        await settle(client)
        assert subscription.messages.empty()
        await subscription.end()


@asynchronous
async def test_binary(server: ConfiguredServer) -> None:
    """It gets all octets, which somebody else has sent."""
    async with connect(server, Wire()) as client:
        subscription = await Subscription.begin(client, TOPIC)
        token = server.token("somebody")
        with RawWebSocket(server, token) as other:
            other.connect(token)
            headers = {"destination": TOPIC, "content-length": "256"}
            other.send_stomp("SEND", headers, bytes(range(256)))
            assert bodies(await subscription.take(1)) == [bytes(range(256))]
        await subscription.end()


@asynchronous
async def test_large(server: ConfiguredServer) -> None:
    """A body of 1 MiB comes through."""
    async with connect(server, Wire()) as client:
        subscription = await Subscription.begin(client, TOPIC)
        body = b"0123456789abcde\n" * 65536
        await send(client, TOPIC, body)
        assert bodies(await subscription.take(1)) == [body]
        await subscription.end()


@asynchronous
async def test_heartbeats(server: ConfiguredServer) -> None:
    """The session outlives a silence that neither side would put up with."""
    wire = Wire()
    async with connect(server, wire, heartbeat=1000) as client:
        subscription = await Subscription.begin(client, TOPIC)
        await asyncio.sleep(3)
        assert client.is_alive()
        assert wire.count(stompman.HeartbeatFrame) >= 2
        await send(client, TOPIC, b"alive")
        assert bodies(await subscription.take(1)) == [b"alive"]
        assert wire.closes.empty()
        await subscription.end()


@asynchronous
async def test_reconnect(server: ConfiguredServer) -> None:
    """When the session has ended with its token, it comes back, and subscribes again."""
    wire = Wire()
    async with connect(server, wire, 3, 600) as client:
        subscription = await Subscription.begin(client, TOPIC)
        assert await wire.closes.get() == 4401
        await send(client, TOPIC, b"after")
        assert bodies(await subscription.take(1)) == [b"after"]
        await subscription.end()
