"""Callbacks for messages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail

from tests.client.servers import ClientCase

if TYPE_CHECKING:
    from stompauth.client.subscription import Message


class CallbackTests(ClientCase):
    """Callbacks that wait, and those that fail."""

    def setUp(self) -> None:
        super().setUp()
        self.client = self.connect()
        self.begun: list[str] = []
        self.waiting: list[Deferred[None]] = []

    async def slow(self, message: Message) -> None:
        """Wait for the test."""
        self.begun.append(message.text)
        self.waiting.append(Deferred())
        await self.waiting[-1]

    def publish(self, *bodies: str | bytes) -> None:
        """Send to the lobby."""
        for body in bodies:
            self.application.publish("/topic/rooms/lobby", body)
        self.server.flush()

    def test_one_after_another(self) -> None:
        """The next message of a subscription waits for the callback; others do not."""
        self.server.result_of(self.client.subscribe("/topic/rooms/lobby", self.slow))
        others: list[Message] = []
        self.server.result_of(self.client.subscribe("/topic/rooms/lobby", others.append))
        self.publish("1", "2", "3")
        self.assertEqual(self.begun, ["1"])
        self.assertEqual(len(others), 3)
        self.waiting[0].callback(None)
        self.waiting[1].callback(None)
        self.assertEqual(self.begun, ["1", "2", "3"])

    def test_failure(self) -> None:
        """A callback that fails, at once or later, is logged, and gets the next message."""

        def bad(message: Message) -> Any:
            self.begun.append(message.text)
            if message.text == "1":
                raise ZeroDivisionError
            return fail(ZeroDivisionError())

        self.server.result_of(self.client.subscribe("/topic/rooms/lobby", bad))
        self.publish("1", "2", "3")
        self.assertEqual(self.begun, ["1", "2", "3"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)

    def test_result(self) -> None:
        """What a callback returns and cannot be awaited is passed over."""

        def count(message: Message) -> int:
            self.begun.append(message.text)
            return len(self.begun)

        self.server.result_of(self.client.subscribe("/topic/rooms/lobby", count))
        self.publish("1", "2")
        self.assertEqual(self.begun, ["1", "2"])

    def test_too_slow(self) -> None:
        """Messages that wait for a callback are bounded; beyond that the session ends."""
        self.settings = replace(self.settings, receive_buffer=10_000)
        client = self.connect()
        self.server.result_of(client.subscribe("/topic/rooms/lobby", self.slow))
        self.publish(b"x", *[bytes(2000)] * 3)
        self.assertTrue(client.is_connected)
        self.publish(bytes(2000))
        self.assertEqual([reason.code for reason in self.ends], ["slow-consumer"])
        self.waiting[0].callback(None)
        self.assertEqual(self.begun, ["x"])

    def test_unsubscribed_meanwhile(self) -> None:
        """What waits for a callback is dropped when the subscription ends."""
        subscription = self.server.result_of(self.client.subscribe("/topic/rooms/lobby", self.slow))
        self.publish("1", "2")
        subscription.unsubscribe()
        self.waiting[0].callback(None)
        self.assertEqual(self.begun, ["1"])
