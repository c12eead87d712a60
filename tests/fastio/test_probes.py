"""Tests of stompauth.fastio.probes."""

from __future__ import annotations

from dis import get_instructions
from typing import Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.abstract import FileDescriptor
from twisted.logger import globalLogPublisher
from twisted.test.proto_helpers import EventLoggingObserver
from twisted.trial.unittest import SynchronousTestCase

from stompauth.fastio import probes
from stompauth.fastio.probes import missing, websocket_factory
from stompauth.fastio.protocol import UNUSED, FastWebSocketFactory
from stompauth.handshake.websocket import StompWebSocketFactory


class ProbesTests(SynchronousTestCase):
    """Fast I/O is for libraries that are as it knows them."""

    def test_all_there(self) -> None:
        """With the versions that are installed nothing is missing."""
        self.assertEqual(list(missing()), [])
        self.assertIs(websocket_factory(True), FastWebSocketFactory)

    def test_off(self) -> None:
        """Who does not want it does not get it."""
        self.assertIs(websocket_factory(False), StompWebSocketFactory)

    def test_changed(self) -> None:
        """A change below us is told in one line, and the plain way is taken."""
        logged = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)

        def processData(protocol: WebSocketProtocol) -> bool:
            return False

        self.patch(WebSocketProtocol, "processData", processData)
        self.patch(FileDescriptor, "dataBuffer", None)
        self.assertIs(websocket_factory(True), StompWebSocketFactory)
        (event,) = logged
        self.assertEqual(
            event["missing"], "Autobahn's processData, the buffers of Twisted's transports"
        )

    def test_new_attribute(self) -> None:
        """What Autobahn gives a connection, and ours would lack, is found."""

        def succeedHandshake(protocol: Any, result: object) -> None:
            protocol.state = result
            protocol.novelty = result

        self.patch(WebSocketServerProtocol, "succeedHandshake", succeedHandshake)
        self.assertEqual(list(missing()), ["Autobahn's novelty"])

    def test_attributes_are_known(self) -> None:
        """Those that ours do without are Autobahn's still: none is on the list for nothing."""
        given = {
            instruction.argval
            for owner, name in probes._SETTING_UP
            for instruction in get_instructions(getattr(owner, name))
        }
        self.assertEqual(UNUSED - given, set())

    def test_gone(self) -> None:
        """A method that is no more is found, too."""
        self.patch(probes, "_AUTOBAHN", ((WebSocketProtocol, "noSuchMethod", frozenset()),))
        self.assertEqual(list(missing()), ["Autobahn's noSuchMethod"])
