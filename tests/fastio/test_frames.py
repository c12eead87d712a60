"""Tests of stompauth.fastio.frames."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.fastio.frames import read_close, read_message
from tests.applications import Application
from tests.wire import client_frame

MASK = b"\x01\x02\x03\x04"


class ReadMessageTests(SynchronousTestCase):
    """Only what is right in every point is read; all else is left to Autobahn."""

    @settings(deadline=None)
    @given(st.binary(max_size=3000), st.binary(min_size=4, max_size=4))
    def test_unmask(self, payload: bytes, mask: bytes) -> None:
        """RFC 6455 section 5.3: octet i is masked with octet i modulo 4 of the key."""
        masked = bytes(octet ^ mask[i % 4] for i, octet in enumerate(payload))
        length = len(payload)
        size = bytes([0x80 | length]) if length < 126 else struct.pack("!BH", 0xFE, length)
        frame = b"\x82" + size + mask + masked
        self.assertEqual(read_message(frame, 0, 0), (payload, len(frame)))

    @settings(deadline=None)
    @given(st.lists(st.text(max_size=200) | st.binary(max_size=200), max_size=5))
    def test_messages(self, messages: list[str | bytes]) -> None:
        """Whole messages behind one another come out as they went in."""
        data = b"".join(
            client_frame(1, m.encode()) if isinstance(m, str) else client_frame(2, m)
            for m in messages
        )
        place, read = 0, []
        while (message := read_message(data, place, 0)) is not None:
            payload, place = message
            read.append(payload)
        sent = [m.encode() if isinstance(m, str) else m for m in messages]
        self.assertEqual((read, place), (sent, len(data)))

    def test_lengths(self) -> None:
        """Each length in its shortest form is read, up to 65,535 octets."""
        for length in (0, 1, 125, 126, 1024, 1025, 65535):
            frame = client_frame(2, b"x" * length)
            self.assertEqual(read_message(frame, 0, 0), (b"x" * length, len(frame)))
        self.assertIsNone(read_message(client_frame(2, b"x" * 65536), 0, 0))

    def test_left_to_autobahn(self) -> None:
        """WS-1: what is unfinished, or in any way unusual, is not read at all."""
        whole = client_frame(1, b"x" * 200)
        for cut in range(len(whole)):
            self.assertIsNone(read_message(whole[:cut], 0, 0), cut)
        for first in range(256):
            frame = bytes([first]) + whole[1:]
            self.assertEqual(read_message(frame, 0, 0) is None, first not in (0x81, 0x82), first)
        unmasked = b"\x81\x05hello" + bytes(10)
        long_form = struct.pack("!BBH", 0x81, 0xFE, 125) + MASK + bytes(125)
        longer_form = struct.pack("!BBQ", 0x81, 0xFF, 200) + MASK + bytes(200)
        not_utf8 = client_frame(1, b"\xed\xa0\x80")
        for frame in (unmasked, long_form, longer_form, not_utf8):
            self.assertIsNone(read_message(frame, 0, 0), frame)

    def test_limit(self) -> None:
        """WS-1: a message over the limit is not ours, and one of just that length is."""
        frame = client_frame(2, b"x" * 100)
        self.assertIsNone(read_message(frame, 0, 99))
        self.assertIsNotNone(read_message(frame, 0, 100))


class ReadCloseTests(SynchronousTestCase):
    """A close frame is read if there is nothing to it but a code that a peer may send."""

    def test_codes(self) -> None:
        """RFC 6455 section 7.4: the others are for Autobahn to complain about."""
        for code in range(65536):
            frame = client_frame(8, struct.pack("!H", code))
            is_plain = code in (1000, 1001) or 3000 <= code <= 4999
            self.assertEqual(read_close(frame), code if is_plain else None)

    def test_left_to_autobahn(self) -> None:
        """So are frames with a reason or without a code, parts of one, and what has more behind."""
        whole = client_frame(8, struct.pack("!H", 1000))
        for cut in range(len(whole)):
            self.assertIsNone(read_close(whole[:cut]), cut)
        for first in range(256):
            frame = bytes([first]) + whole[1:]
            self.assertEqual(read_close(frame) is None, first != 0x88, first)
        for frame in (
            whole + b"x",
            client_frame(8, b""),
            client_frame(8, struct.pack("!H", 1000) + b"bye"),
            b"\x88\x02\x03\xe8" + bytes(4),
        ):
            self.assertIsNone(read_close(frame), frame)

    def test_closing(self) -> None:
        """The closing handshake ends the same, however the peer answers it."""
        for answer in (
            client_frame(8, struct.pack("!H", 1000)),
            client_frame(8, struct.pack("!H", 1000) + b"bye"),
            client_frame(9, b"x") + client_frame(8, struct.pack("!H", 4000)),
        ):
            application = Application()
            client = application.connect()
            client.send("DISCONNECT", receipt="1")
            client.websocket.read()
            self.assertEqual(client.websocket.close_code, 1000)
            self.assertFalse(client.websocket.socket.lost)
            client.websocket.socket.send(answer)
            self.assertTrue(client.websocket.socket.lost)
            self.assertEqual(application.stompauth._connections.total, 0)
            self.assertEqual(application.clock.getDelayedCalls(), [])


class SameTests(SynchronousTestCase):
    """Both ways give a session the same, and count the same for its throttle."""

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([0, 1, 1, 1, 2, 2, 8, 9, 10, 3]),
                st.sampled_from([b"", b"\n", b"\n" * 200, b"SEND\n", b"\xc3", b"\xa4", b"\xff"]),
                st.sampled_from([True, True, True, False]),
            ),
            max_size=8,
        ),
        st.lists(st.integers(0, 600), max_size=3),
    )
    def test_same(self, frames: list[tuple[int, bytes, bool]], cuts: list[int]) -> None:
        """Any frames, cut anywhere, have the same effect with fast I/O and without it."""
        data = b"".join(client_frame(opcode, payload, fin) for opcode, payload, fin in frames)
        places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        outcomes = []
        for fast_io in (True, False):
            application = Application(fast_io=fast_io)
            client = application.connect()
            (session,) = application.stompauth.sessions
            for start, stop in pairwise(places):
                if start < stop:
                    client.websocket.socket.send(data[start:stop])
            throttle = session._throttle
            outcomes.append(
                (
                    [(frame.command, frame.headers) for frame in client.frames()],
                    client.close_code,
                    client.websocket.close_reason,
                    client.websocket.pongs,
                    throttle.frames,
                    throttle.octets,
                    session._unfinished,
                )
            )
        self.assertEqual(outcomes[0], outcomes[1])
