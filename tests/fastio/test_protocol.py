"""Tests of stompauth.fastio.protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from stompauth.settings import WebSocketSettings
from tests.applications import Application
from tests.wire import client_frame

if TYPE_CHECKING:
    from stompauth.fastio.protocol import FastWebSocketProtocol


class IdleTests(SynchronousTestCase):
    """A connection that has nothing to do holds what it cannot do without, and no more."""

    def setUp(self) -> None:
        self.application = Application(websocket=WebSocketSettings(ping=25), fast_io=True)
        self.client = self.application.connect()
        self.websocket = self.client.websocket
        self.protocol: FastWebSocketProtocol = self.websocket.socket.transport.protocol

    def assert_idle(self) -> None:
        self.assertEqual(vars(self.protocol), {})

    def test_open(self) -> None:
        """Of the handshake nothing is left; STOMP frames leave nothing behind."""
        self.assert_idle()
        self.client.send("SUBSCRIBE", id="0", destination="/topic/rooms/lobby", receipt="r")
        self.assertEqual([frame.command for frame in self.client.frames()], ["RECEIPT"])
        self.assert_idle()

    def test_pings(self) -> None:
        """Nor do pings, however many there were; the last one that is not answered ends it."""
        for number in range(1, 4):
            self.application.clock.advance(25)
            self.websocket.read()
            self.assertEqual(len(self.websocket.pings), number)
            self.websocket.socket.send(client_frame(10, self.websocket.pings[-1]))
            self.assert_idle()
        self.application.clock.advance(25)
        self.application.clock.advance(10)
        self.websocket.socket.settle()
        self.assertTrue(self.websocket.socket.lost)

    def test_full_transport(self) -> None:
        """RS-1: a transport that is no plain socket tells when it is full: then frames are kept."""
        self.client.send("SUBSCRIBE", id="0", destination="/topic/rooms/lobby")
        producer = self.websocket.socket.transport.producer
        producer.pauseProducing()
        sent = self.application.stompauth.publish("/topic/rooms/lobby", "x" * 100)
        self.successResultOf(sent)
        (session,) = self.application.stompauth.sessions
        self.assertGreater(session.outbound_size, 100)
        self.assertEqual(self.client.frames(), [])
        producer.resumeProducing()
        self.assertEqual([frame.body for frame in self.client.frames()], [b"x" * 100])

    def test_messages_for_autobahn(self) -> None:
        """Nor do messages in fragments, or in pieces, of any length; and they are all read."""
        head = b"SEND\ndestination:/topic/rooms/lobby\nreceipt:r\n\n"
        for body in (b"short\0", "w\u00f6rter".encode() + b"\0", b"x" * 60000 + b"\0"):
            self.websocket.socket.send(client_frame(1, head, fin=False))
            self.websocket.socket.send(client_frame(0, body))
            data = client_frame(2, head + body)
            for start in range(0, len(data), 7919):
                self.websocket.socket.send(data[start : start + 7919])
            self.websocket.read()
            self.assertEqual([frame.command for frame in self.client.frames()], ["RECEIPT"] * 2)
            self.assert_idle()

    def test_in_the_middle(self) -> None:
        """What has begun is kept, beside a ping that is to be answered meanwhile."""
        self.application.clock.advance(25)
        self.websocket.read()
        head = b"SEND\ndestination:/topic/rooms/lobby\nreceipt:r\n\n"
        self.websocket.socket.send(client_frame(1, head, fin=False))
        self.websocket.socket.send(client_frame(10, self.websocket.pings[-1]))
        self.websocket.socket.send(client_frame(0, b"body\0"))
        self.assertEqual([frame.command for frame in self.client.frames()], ["RECEIPT"])
        self.assert_idle()
        self.application.clock.advance(24)
        self.assertFalse(self.websocket.socket.lost)
