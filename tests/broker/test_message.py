"""Tests of stompauth.broker.message."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.destination import Destination
from stompauth.broker.message import HEADER_OVERHEAD, MESSAGE_OVERHEAD
from stompauth.stomp.decoder import DecoderLimits, FrameDecoder
from stompauth.stomp.frame import VERSIONS, Frame
from tests.broker.receiver import message_to


def decoded(data: bytes, version: str) -> Frame | None:
    decoder = FrameDecoder(DecoderLimits(65536, 64, 8192))
    decoder.version = version
    decoder.feed(data)
    return decoder.next_frame()


class MessageIdTests(SynchronousTestCase):
    """ST-11: message ids are random."""

    def test_random(self) -> None:
        """ST-11: each message has 96 bits of its own, over the edge of the buffer as well."""
        ids = {message_to("/topic/x").message_id for _ in range(1000)}
        self.assertEqual(len(ids), 1000)
        for message_id in ids:
            self.assertEqual(len(message_id), 24)
            int(message_id, 16)

    def test_forked(self) -> None:
        """ST-11: two processes that were one do not use the same ids."""
        message_to("/topic/x")
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(writing, message_to("/topic/x").message_id.encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        theirs = os.read(reading, 100).decode()
        os.close(reading)
        os.close(writing)
        self.assertEqual(len(theirs), 24)
        self.assertNotEqual(theirs, message_to("/topic/x").message_id)


class MessageTests(SynchronousTestCase):
    """What a message becomes."""

    def test_frame(self) -> None:
        """A MESSAGE has our headers first, and then the sender's."""
        message = message_to("/topic/x", b"hi", headers={"content-type": "text/plain"})
        frame = message.frame("7", ack="a1", delivery_count=2)
        self.assertEqual(frame.command, "MESSAGE")
        self.assertEqual(
            list(frame.headers.items()),
            [
                ("destination", "/topic/x"),
                ("message-id", message.message_id),
                ("content-type", "text/plain"),
                ("subscription", "7"),
                ("ack", "a1"),
                ("redelivered", "true"),
                ("delivery-count", "2"),
            ],
        )
        self.assertEqual(frame.body, b"hi")

    def test_template(self) -> None:
        """The encoded frame says, in every version, what the frame says."""
        message = message_to("/topic/x", b"hi", headers={"a:b": "c\\d"} | {"e": "f"})
        for version in VERSIONS:
            for options in ({}, {"ack": "a1"}, {"delivery_count": 2}):
                encoded = decoded(message.template.encode(version, "7", **options), version)
                expected = message.frame("7", **options)
                if version == "1.0":
                    del expected.headers["a:b"]
                encoded.headers.pop("content-length")
                self.assertEqual(encoded, expected)

    def test_without_subscription(self) -> None:
        """A subscription of STOMP 1.0 may have no id, and the MESSAGE has none then."""
        self.assertNotIn("subscription", message_to("/topic/x").frame(None).headers)

    def test_encoded_once(self) -> None:
        """All receivers share one template, until it is forgotten."""
        message = message_to("/topic/x")
        template = message.template
        self.assertIs(message.template, template)
        message.forget_template()
        self.assertIsNot(message.template, template)

    def test_own_headers(self) -> None:
        """ST-10: nobody says under another's name where a message comes from, or what its id is."""
        forged = {"destination": "/topic/admin", "message-id": "1"}
        headers = message_to("/topic/x", headers=forged).frame("7").headers
        self.assertEqual(headers["destination"], "/topic/x")
        self.assertNotEqual(headers["message-id"], "1")

    def test_shown(self) -> None:
        """AZ-7: receivers see the destination that they are meant to see."""
        message = message_to("/user/bob/queue/x")
        message.shown = "/user/queue/x"
        self.assertEqual(message.frame("7").headers["destination"], "/user/queue/x")
        encoded = decoded(message.template.encode("1.2", "7"), "1.2")
        self.assertEqual(encoded.headers["destination"], "/user/queue/x")

    def test_expiry(self) -> None:
        """A message expires at the second that it names, and without one never."""
        self.assertFalse(message_to("/queue/x", expires=10.0).has_expired(lambda: 9.9))
        self.assertTrue(message_to("/queue/x", expires=10.0).has_expired(lambda: 10.0))
        self.assertFalse(message_to("/queue/x").has_expired(lambda: 1e12))

    def test_size(self) -> None:
        """RS-2: bodies, headers and an overhead count, so that empty messages do too."""
        self.assertEqual(message_to("/queue/x", b"").size, MESSAGE_OVERHEAD)
        message = message_to("/queue/x", b"12345", headers={"ab": "cde"})
        self.assertEqual(message.size, MESSAGE_OVERHEAD + HEADER_OVERHEAD + 10)

    def test_derived(self) -> None:
        """A derived message is the same one, elsewhere, and with more to say."""
        message = message_to("/queue/x", b"hi", headers={"a": "1", "b": "2"}, expires=5.0)
        message.sender_session = "s1"
        other = message.derived({"b": "3"}, destination=Destination.parse("/queue/y"))
        self.assertEqual(other.message_id, message.message_id)
        self.assertEqual(other.headers, {"a": "1", "b": "3"})
        self.assertEqual((other.body, other.sender_session), (b"hi", "s1"))
        self.assertEqual(other.shown, "/queue/y")
        self.assertIsNone(other.expires)
        self.assertEqual(message.headers, {"a": "1", "b": "2"})

    def test_repr(self) -> None:
        """No header and no body is in what logs may print."""
        message = message_to("/queue/x", b"body-s3cret", headers={"token": "head-s3cret"})
        self.assertNotIn("s3cret", repr(message))
