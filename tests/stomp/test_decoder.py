"""The decoder; every case is fed whole, octet by octet, and with something behind it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.errors import RemoteProtocolError
from stompauth.stomp import decoder as decoder_module
from stompauth.stomp.decoder import DecoderLimits, FrameDecoder
from stompauth.stomp.frame import COMMANDS, UNESCAPED_COMMANDS, VERSIONS, Frame

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable

ROOMY = DecoderLimits(frame=65536, headers=64, header_line=8192)
NONE = DecoderLimits(frame=0, headers=0, header_line=0)

_NEXT = Frame("BEGIN")
_NEXT_BYTES = b"BEGIN\n\n\0"


def decode(
    chunks: Iterable[bytes], version: str | None = "1.2", limits: DecoderLimits = ROOMY
) -> tuple[list[Frame], RemoteProtocolError | None, FrameDecoder]:
    """Feed the chunks to a new decoder, and return the frames, the error that ended it, and it."""
    decoder = FrameDecoder(limits)
    decoder.version = version
    frames = []
    try:
        for chunk in chunks:
            decoder.feed(chunk)
            while (frame := decoder.next_frame()) is not None:
                frames.append(frame)
    except RemoteProtocolError as error:
        return frames, error, decoder
    return frames, None, decoder


def octets(data: bytes) -> list[bytes]:
    """Return the data in pieces of one octet."""
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return the data in pieces, cut at these places."""
    cuts = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(cuts)]


class DecoderTestCase(SynchronousTestCase):
    """Ways to say what bytes mean."""

    def assertDecodes(
        self,
        data: bytes,
        *expected: Frame,
        version: str | None = "1.2",
        limits: DecoderLimits = ROOMY,
    ) -> None:
        """The bytes are these frames, and nothing is left."""
        for chunks in ([data], octets(data)):
            frames, error, decoder = decode(chunks, version, limits)
            self.assertIsNone(error, data)
            self.assertEqual(frames, list(expected))
            self.assertFalse(decoder.mid_frame)
        frames, error, _ = decode([data + _NEXT_BYTES], version, limits)
        self.assertIsNone(error, data)
        self.assertEqual(frames, [*expected, _NEXT])

    def assertRefused(
        self,
        data: bytes,
        code: str,
        *,
        version: str | None = "1.2",
        limits: DecoderLimits = ROOMY,
        headers: dict[str, str] | None = None,
    ) -> None:
        """The bytes are refused with this code, and no frame comes of them."""
        for chunks in ([data], octets(data), [data + _NEXT_BYTES]):
            frames, error, _ = decode(chunks, version, limits)
            self.assertEqual(frames, [], data)
            self.assertIsNotNone(error, data)
            assert error is not None
            self.assertEqual(error.code, code, data)
            self.assertEqual(error.headers, headers or {})

    def assertWaits(
        self, data: bytes, *, version: str | None = "1.2", limits: DecoderLimits = ROOMY
    ) -> None:
        """The bytes may yet become a frame."""
        for chunks in ([data], octets(data)):
            frames, error, decoder = decode(chunks, version, limits)
            self.assertIsNone(error, data)
            self.assertEqual(frames, [])
            self.assertTrue(decoder.mid_frame)


class FramingTests(DecoderTestCase):
    """Where a frame begins and ends (STOMP 1.2, "STOMP Frames" and "Augmented BNF")."""

    def test_headers_and_body(self) -> None:
        """Headers keep their order, and the body is what stands before the NUL."""
        self.assertDecodes(
            b"SEND\ndestination:/topic/a\nb:2\na:1\n\nhello\0",
            Frame("SEND", {"destination": "/topic/a", "b": "2", "a": "1"}, b"hello"),
        )
        frames, _, _ = decode([b"SEND\nb:2\na:1\n\n\0"])
        self.assertEqual(list(frames[0].headers), ["b", "a"])

    def test_no_headers(self) -> None:
        """A command may stand alone."""
        self.assertDecodes(b"DISCONNECT\n\n\0", Frame("DISCONNECT"))

    def test_cr_lf(self) -> None:
        """Lines may end with CR LF, in every version and in any mixture."""
        frame = Frame("SEND", {"destination": "/topic/a", "x": "1"}, b"\r\n")
        for version in VERSIONS:
            for data in (
                b"SEND\r\ndestination:/topic/a\r\nx:1\r\n\r\n\r\n\0",
                b"SEND\ndestination:/topic/a\r\nx:1\n\r\n\r\n\0",
                b"SEND\r\ndestination:/topic/a\nx:1\r\n\n\r\n\0",
            ):
                self.assertDecodes(data, frame, version=version)
        self.assertDecodes(b"DISCONNECT\r\n\r\n\0", Frame("DISCONNECT"))

    def test_blank_line_of_the_next_frame_is_not_ours(self) -> None:
        """A head ends at its own blank line, also where a later frame ends its lines otherwise."""
        self.assertDecodes(
            b"SEND\r\na:1\r\n\r\nx\0SEND\na:2\n\ny\0SEND\r\na:3\r\n\r\nz\0",
            Frame("SEND", {"a": "1"}, b"x"),
            Frame("SEND", {"a": "2"}, b"y"),
            Frame("SEND", {"a": "3"}, b"z"),
        )

    def test_heartbeats_between_frames(self) -> None:
        """Ends of lines before, between and behind frames are no part of them."""
        self.assertDecodes(
            b"\n\r\n\nSEND\n\na\0\n\r\n\n\nSEND\n\nb\0\r\n\n",
            Frame("SEND", {}, b"a"),
            Frame("SEND", {}, b"b"),
        )
        self.assertDecodes(b"\n")
        self.assertDecodes(b"\r\n\r\n")

    def test_body_with_content_length(self) -> None:
        """A body of declared length may hold NUL, and what looks like a frame."""
        body = b"a\0SEND\n\n\0\n\n\xff"
        self.assertDecodes(
            b"SEND\ncontent-length:%d\n\n%b\0" % (len(body), body),
            Frame("SEND", {"content-length": str(len(body))}, body),
        )
        self.assertDecodes(b"SEND\ncontent-length:0\n\n\0", Frame("SEND", {"content-length": "0"}))

    def test_body_is_bytes(self) -> None:
        """A body is immutable, and its own copy, however it came."""
        data = b"SEND\n\nhello\0"
        for chunks in ([data], octets(data)):
            frames, _, _ = decode(chunks)
            self.assertIs(type(frames[0].body), bytes)

    def test_nul_must_follow_the_declared_body(self) -> None:
        """ST-3: right behind the declared octets stands the NUL; the receipt can be named."""
        self.assertRefused(b"SEND\ncontent-length:2\n\nabc\0", "malformed")
        self.assertRefused(
            b"SEND\nreceipt:r\ncontent-length:2\n\nabc\0",
            "malformed",
            headers={"receipt-id": "r"},
        )

    def test_unfinished(self) -> None:
        """ST-1: a frame may come in any pieces; until its end there is none."""
        whole = b"SEND\r\ncontent-length:3\r\n\r\na\0b\0"
        for length in range(1, len(whole)):
            self.assertWaits(whole[:length])
        self.assertDecodes(whole, Frame("SEND", {"content-length": "3"}, b"a\0b"))

    def test_clear(self) -> None:
        """What was held is gone after clear, and the next frame is read from its beginning."""
        for chunks in ([b"SEND\na:1"], octets(b"SEND\n\nbody"), [b"SEND\n\n\0SEND\na"]):
            _, _, decoder = decode(chunks)
            decoder.clear()
            self.assertFalse(decoder.mid_frame)
            decoder.feed(_NEXT_BYTES)
            self.assertEqual(decoder.next_frame(), _NEXT)

    def test_frames_are_decoded_one_at_a_time(self) -> None:
        """A frame is read when it is asked for, by the version and limits of then."""
        decoder = FrameDecoder(DecoderLimits(frame=20, headers=1, header_line=10))
        decoder.feed(b"CONNECT\n\n\0SEND\na:1\\n\nb:2\n\nmore than that\0")
        self.assertEqual(decoder.next_frame(), Frame("CONNECT"))
        decoder.version = "1.2"
        decoder.limits = ROOMY
        self.assertEqual(
            decoder.next_frame(), Frame("SEND", {"a": "1\n", "b": "2"}, b"more than that")
        )


class CommandTests(DecoderTestCase):
    """The first line."""

    def test_every_command(self) -> None:
        """The decoder knows all commands of both sides; who may send what is not its concern."""
        for command in COMMANDS:
            self.assertDecodes(b"%b\n\n\0" % command.encode(), Frame(command))

    def test_not_a_command(self) -> None:
        """Commands are compared exactly."""
        for command in (b"send", b"Send", b"SEND ", b" SEND", b"GET / HTTP/1.1", b"SENDS", b"\xff"):
            self.assertRefused(command + b"\n\n\0", "malformed")

    def test_endless_command(self) -> None:
        """ST-2: a first line that can be no command is refused before it ends."""
        self.assertWaits(b"S" * 16)
        self.assertRefused(b"S" * 17, "malformed")
        self.assertWaits(b"S" * 16 + b"\r")


class HeaderTests(DecoderTestCase):
    """ST-6, ST-7: header lines, strictly and without trimming."""

    def test_first_of_repeated_headers_wins(self) -> None:
        """ST-7: only the first entry exists for whoever looks at the frame."""
        self.assertDecodes(
            b"SEND\ndestination:/topic/a\ndestination:/topic/b\n\n\0",
            Frame("SEND", {"destination": "/topic/a"}),
        )

    def test_repeated_after_unescaping(self) -> None:
        """ST-7: two spellings of one name are one name."""
        self.assertDecodes(b"SEND\na\\cb:1\na\\cb:2\n\n\0", Frame("SEND", {"a:b": "1"}))

    def test_nothing_is_trimmed(self) -> None:
        """Spaces belong to names and values."""
        self.assertDecodes(
            b"SEND\n a: b \nc:\n\n\0",
            Frame("SEND", {" a": " b ", "c": ""}),
        )

    def test_colon_in_value(self) -> None:
        """A colon that was not escaped belongs to the value; so do spaces before it."""
        self.assertDecodes(
            b"SEND\nurl:http://a:80/ :\n\n\0", Frame("SEND", {"url": "http://a:80/ :"})
        )

    def test_malformed_lines(self) -> None:
        """ST-6: no colon, no name, a name with a space at its end, a CR or NUL inside."""
        for line in (
            b"nocolon",
            b":value",
            b":",
            b"name :value",
            b" :value",
            b"a\rb:c",
            b"a:b\rc",
            b"a:b\r\r",
            b"a:b\0c",
            b"a\0b:c",
        ):
            for data in (b"SEND\n%b\n\n\0" % line, b"SEND\nx:y\n%b\nz:1\n\n\0" % line):
                self.assertRefused(data, "malformed")

    def test_nul_in_unfinished_head(self) -> None:
        """ST-6: a head that a NUL cuts off is refused at once."""
        self.assertRefused(b"SEND\0", "malformed")
        self.assertRefused(b"SEND\na:1\0", "malformed")
        self.assertRefused(b"\0", "malformed")

    def test_bare_cr_between_frames(self) -> None:
        """ST-6: a CR without its LF is no heart-beat."""
        self.assertRefused(b"\rSEND\n\n\0", "malformed")
        self.assertRefused(b"\n\r\r\n", "malformed")
        self.assertWaits(b"\n\r")

    def test_utf8(self) -> None:
        """A head is strict UTF-8: no surrogates, no overlong forms; a body is any octets."""
        self.assertDecodes(
            "SEND\nname:Zo\u00eb \U0001f600\n\n".encode() + b"\xff\xfe\0",
            Frame("SEND", {"name": "Zo\u00eb \U0001f600"}, b"\xff\xfe"),
        )
        for octet in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"):
            self.assertRefused(b"SEND\na:%b\n\n\0" % octet, "malformed")

    def test_errors_hold_nothing_of_the_peer(self) -> None:
        """ST-12: neither the error nor what it was raised from quotes the frame."""
        for data in (b"SEND\nsecret\xff\n\n\0", b"SEND\nsecret:\\x\n\n\0", b"SEND\nsecret\n\n\0"):
            _, error, _ = decode([data])
            assert error is not None
            self.assertNotIn("secret", repr(error))
            self.assertTrue(error.__suppress_context__ or error.__context__ is None)


class EscapeTests(DecoderTestCase):
    """ST-4: "Value Encoding" of the session's version."""

    def assertUnescapes(self, version: str | None, raw: bytes, value: str) -> None:
        """The octets stand for that, in names and values."""
        data = b"MESSAGE\n%b:%b\n\n\0" % (raw, raw)
        self.assertDecodes(data, Frame("MESSAGE", {value: value}), version=version)

    def assertNoEscape(self, version: str | None, raw: bytes) -> None:
        """The octets are no escape of that version."""
        for line in (b"a:%b" % raw, b"%b:a" % raw, b"a:x%b" % raw):
            self.assertRefused(b"MESSAGE\n%b\n\n\0" % line, "malformed", version=version)

    def test_1_2(self) -> None:
        """CR, LF, colon and backslash."""
        self.assertUnescapes("1.2", b"a\\r\\n\\c\\\\b", "a\r\n:\\b")
        self.assertUnescapes("1.2", b"\\\\n", "\\n")
        for raw in (b"\\t", b"\\", b"\\\\\\", b"\\N", b"\\0", b"\\x41"):
            self.assertNoEscape("1.2", raw)

    def test_1_1(self) -> None:
        """LF, colon and backslash; CR has no escape."""
        self.assertUnescapes("1.1", b"a\\n\\c\\\\b", "a\n:\\b")
        for raw in (b"\\r", b"\\t", b"\\"):
            self.assertNoEscape("1.1", raw)

    def test_1_0(self) -> None:
        """A backslash is a backslash; likewise while no version is agreed upon."""
        for version in ("1.0", None):
            self.assertUnescapes(version, b"a\\n\\c\\\\\\t\\", "a\\n\\c\\\\\\t\\")

    def test_handshake_is_never_unescaped(self) -> None:
        """CONNECT, STOMP and CONNECTED are as 1.0 has them, in every version."""
        for command in UNESCAPED_COMMANDS:
            for version in (None, *VERSIONS):
                self.assertDecodes(
                    b"%b\npasscode:a\\nb\\\n\n\0" % command.encode(),
                    Frame(command, {"passcode": "a\\nb\\"}),
                    version=version,
                )

    def test_escapes_cannot_end_a_line(self) -> None:
        """An escaped LF is a character of the value; no header comes of it."""
        self.assertDecodes(b"SEND\na:1\\nadmin\\ctrue\n\n\0", Frame("SEND", {"a": "1\nadmin:true"}))


class ContentLengthTests(DecoderTestCase):
    """ST-3: the length of a body."""

    def test_only_digits(self) -> None:
        """ST-3: what Python's int() would take besides is refused."""
        for value in ("+1", "-1", " 1", "1 ", "1_0", "\u0661", "\u00b2", "0x1", "", "1.0", "x"):
            self.assertRefused(
                f"SEND\ncontent-length:{value}\n\na\0".encode(), "bad-header", limits=NONE
            )

    def test_at_most_ten_digits(self) -> None:
        """ST-3: ten digits are a number, eleven are refused whatever they say."""
        self.assertDecodes(
            b"SEND\ncontent-length:0000000001\n\na\0",
            Frame("SEND", {"content-length": "0000000001"}, b"a"),
        )
        self.assertRefused(b"SEND\ncontent-length:00000000001\n\na\0", "bad-header")

    def test_duplicates(self) -> None:
        """ST-3: equal duplicates are one; differing ones are refused."""
        self.assertDecodes(
            b"SEND\ncontent-length:1\ncontent-length:1\n\na\0",
            Frame("SEND", {"content-length": "1"}, b"a"),
        )
        self.assertRefused(b"SEND\ncontent-length:1\ncontent-length:2\n\na\0", "bad-header")
        self.assertRefused(b"SEND\ncontent-length:1\ncontent-length:01\n\na\0", "bad-header")

    def test_receipt_is_known(self) -> None:
        """ST-12: a frame whose head was read can have its receipt named in the ERROR."""
        self.assertRefused(
            b"SEND\ncontent-length:x\nreceipt:r\n\n\0", "bad-header", headers={"receipt-id": "r"}
        )


class LimitTests(DecoderTestCase):
    """ST-2: limits hold while the bytes arrive, to the octet."""

    def test_frame(self) -> None:
        """The whole frame counts, from command to NUL."""
        for data in (
            b"SEND\na:1\n\nbody\0",
            b"SEND\r\na:1\r\n\r\nbody\0",
            b"SEND\ncontent-length:4\n\nb\0dy\0",
            b"SEND\n\n\0",
        ):
            exact = DecoderLimits(len(data), 0, 0)
            for prefix in (b"", b"\n\r\n\n"):
                frames, error, _ = decode([prefix + data], limits=exact)
                self.assertEqual((len(frames), error), (1, None))
                frames, error, _ = decode(octets(prefix + data), limits=exact)
                self.assertEqual((len(frames), error), (1, None))
            self.assertRefused(data, "too-large", limits=DecoderLimits(len(data) - 1, 0, 0))

    def test_unfinished_frame(self) -> None:
        """As many octets as the limit, and no NUL among them, are too many already."""
        limits = DecoderLimits(20, 0, 0)
        for start in (b"SEND\na:", b"SEND\n\n", b"SEND\r\n\r\n"):
            data = start.ljust(20, b"x")
            self.assertWaits(data[:-1], limits=limits)
            self.assertRefused(data, "too-large", limits=limits)

    def test_declared_length_is_refused_at_once(self) -> None:
        """ST-3: a body that cannot fit is refused before its first octet."""
        head = b"SEND\nreceipt:r\ncontent-length:10\n\n"
        self.assertWaits(head, limits=DecoderLimits(len(head) + 11, 0, 0))
        self.assertRefused(
            head,
            "too-large",
            limits=DecoderLimits(len(head) + 10, 0, 0),
            headers={"receipt-id": "r"},
        )
        self.assertRefused(b"SEND\ncontent-length:9999999999\n\n", "too-large")

    def test_header_count(self) -> None:
        """Repeated headers count too."""
        limits = DecoderLimits(0, 3, 0)
        for eol in (b"\n", b"\r\n"):
            lines = [b"SEND", b"a:1", b"a:2", b"b:3"]
            self.assertDecodes(
                eol.join([*lines, b"", b"\0"]),
                Frame("SEND", {"a": "1", "b": "3"}),
                limits=limits,
            )
            self.assertRefused(eol.join([*lines, b"c:4", b"", b"\0"]), "too-large", limits=limits)
            self.assertWaits(eol.join([*lines, b"\r"]), limits=limits)
            self.assertRefused(eol.join([*lines, b"c"]), "too-large", limits=limits)

    def test_header_line(self) -> None:
        """A line counts without its end, whichever that is."""
        limits = DecoderLimits(0, 0, 10)
        for eol in (b"\n", b"\r\n"):
            self.assertDecodes(
                eol.join([b"SEND", b"a:34567890", b"b:3456789" + b"0", b"", b"\0"]),
                Frame("SEND", {"a": "34567890", "b": "34567890"}),
                limits=limits,
            )
            for lines in (
                [b"SEND", b"a:345678901", b"b:1"],
                [b"SEND", b"b:1", b"a:345678901"],
            ):
                self.assertRefused(eol.join([*lines, b"", b"\0"]), "too-large", limits=limits)
        self.assertWaits(b"SEND\na:34567890\r", limits=limits)
        self.assertRefused(b"SEND\na:345678901", "too-large", limits=limits)

    def test_header_line_counts_octets(self) -> None:
        """Characters of more than one octet count as such."""
        limits = DecoderLimits(0, 0, 10)
        self.assertRefused(
            "SEND\na:\u00e9\u00e9\u00e9\u00e9x\n\n\0".encode(), "too-large", limits=limits
        )
        self.assertDecodes(
            "SEND\na:\u00e9\u00e9\u00e9\u00e9\n\n\0".encode(),
            Frame("SEND", {"a": "\u00e9" * 4}),
            limits=DecoderLimits(0, 0, 22),
        )

    def test_all_limits_at_their_edge(self) -> None:
        """A frame that just keeps every limit passes, also when its end comes alone."""
        data = b"SEND\r\na:34567890\r\nb:34567890\r\n\r\n\0"
        limits = DecoderLimits(len(data), 2, 10)
        frame = Frame("SEND", {"a": "34567890", "b": "34567890"})
        for at in range(len(data)):
            frames, error, _ = decode(cut(data, [at]), limits=limits)
            self.assertEqual((frames, error), ([frame], None))

    def test_every_frame_is_measured_by_itself(self) -> None:
        """What came before a frame does not count, and loosens no limit either."""
        data = b"SEND\r\na:34567890\r\nb:34567890\r\n\r\n\0"
        limits = DecoderLimits(len(data), 2, 10)
        frames, error, _ = decode(octets(data * 3), limits=limits)
        self.assertEqual((len(frames), error), (3, None))
        for bad, code in ((b"S" * 17, "malformed"), (b"SEND\na:345678901", "too-large")):
            for chunks in (octets(data + bad), [data + bad]):
                frames, error, _ = decode(chunks, limits=limits)
                self.assertEqual((len(frames), error and error.code), (1, code))

    def test_none(self) -> None:
        """0 means no limit."""
        data = b"SEND\n" + b"a:%b\n" % (b"x" * 9000) * 100 + b"\n" + b"y" * 100000 + b"\0"
        frames, error, _ = decode([data], limits=NONE)
        self.assertIsNone(error)
        self.assertEqual(len(frames[0].body), 100000)
        _, error, _ = decode([data], limits=ROOMY)
        self.assertEqual(error and error.code, "too-large")


class _CountingBuffer(bytearray):
    """A buffer that counts the octets that are looked at, copied or moved."""

    work = 0

    def find(self, sub: Any, *span: int) -> int:  # type: ignore[override]
        start, stop = (*span, len(self))[:2] if span else (0, len(self))
        found = super().find(sub, *span)
        self.work += (found + 1 if found >= 0 else stop) - start
        return found

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.work += len(found) if isinstance(key, slice) else 1
        return found

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        self.work += len(self)

    def __iadd__(self, data: Any) -> Self:  # type: ignore[misc]
        self.work += len(data)
        return super().__iadd__(data)


class _CountingPattern:
    """A pattern that adds what it looks at to the work of the buffer."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern

    def search(self, buffer: _CountingBuffer, start: int) -> re.Match[bytes] | None:
        found = self._pattern.search(buffer, start)
        buffer.work += (found.end() if found else len(buffer)) - start
        return found

    def match(self, buffer: _CountingBuffer, start: int) -> re.Match[bytes] | None:
        found = self._pattern.match(buffer, start)
        buffer.work += (found.end() if found else start) - start
        return found


class KnownHeadTests(SynchronousTestCase):
    """What has been read once need not be read again, and reads the same."""

    def limits(self, **changes: int) -> DecoderLimits:
        """Limits of their own, under which nothing was read yet."""
        return DecoderLimits(**{"frame": 100, "headers": 64, "header_line": 64, **changes})

    def test_same(self) -> None:
        """The same head with another body, with and without a length, is another good frame."""
        for length in (b"", b"content-length:3\n"):
            limits = self.limits()
            head = b"SEND\ndestination:/topic/x\n%b\n" % length
            for body in (b"abc", b"xyz"):
                (frame,), error, decoder = decode([head + body + b"\0"], limits=limits)
                self.assertEqual((frame.body, error, decoder.mid_frame), (body, None, False))
                self.assertEqual(frame.headers["destination"], "/topic/x")
            self.assertEqual(len(limits.heads), 1)

    def test_own_headers(self) -> None:
        """What an interceptor does to one frame's headers, no other frame has."""
        limits = self.limits()
        data = b"SEND\ndestination:/topic/x\n\n\0"
        for _ in range(3):
            (frame,), _, _ = decode([data], limits=limits)
            self.assertEqual(frame.headers, {"destination": "/topic/x"})
            frame.headers["destination"] = "/topic/y"

    def test_no_secrets(self) -> None:
        """LG-1: nothing is kept of a frame that could hold a credential."""
        limits = self.limits()
        for command, line in (
            ("CONNECT", "Authorization:Bearer t"),
            ("SEND", "authorization:Bearer t"),
            ("SEND", "AUTHORIZATION:Bearer t"),
            ("SEND", "passcode:t"),
            ("SEND", "x-api-key:t"),
            ("SEND", "transaction:t"),
        ):
            data = f"{command}\ndestination:/topic/x\n{line}\n\n\0".encode()
            self.assertEqual(len(decode([data], limits=limits)[0]), 1)
        self.assertEqual(limits.heads, {})

    def test_receipt(self) -> None:
        """A receipt, which is another one each time, is not kept; wherever it stands it is read."""
        limits = self.limits(frame=1000, header_line=600)
        before, after = b"SEND\ndestination:/topic/x\n", b"content-type:text/plain\n"
        for receipt in ("a", "b-2", "c.d_e"):
            line = f"receipt:{receipt}\n".encode()
            for head in (before + line + after, before + after + line):
                (frame,), error, _ = decode([head + b"\nabc\0"], limits=limits)
                self.assertEqual(
                    frame.headers,
                    {
                        "destination": "/topic/x",
                        "content-type": "text/plain",
                        "receipt": receipt,
                    },
                )
                self.assertEqual((frame.body, error), (b"abc", None))
        self.assertEqual(list(limits.heads), [(before + after).rstrip(b"\n")])

    def test_receipts_that_are_read(self) -> None:
        """What a receipt could hide is read as if no head were known: escapes, limits, repeats."""
        limits = self.limits(frame=1000, headers=3, header_line=600)
        head = b"SEND\ndestination:/topic/x\n"
        decode([head + b"\n\0"], limits=limits)
        for line, receipt in ((b"a\\cb", "a:b"), (b"\xc3\xa4", "\u00e4"), (b"a\r", "a"), (b"", "")):
            (frame,), error, _ = decode([head + b"receipt:%b\n\n\0" % line], limits=limits)
            self.assertEqual((frame.headers["receipt"], error), (receipt, None))
        (frame,), error, _ = decode([head + b"receipt:a\nreceipt:b\n\n\0"], limits=limits)
        self.assertEqual((frame.headers["receipt"], error), ("a", None))
        (frame,), error, _ = decode([head + b"receipt:b\n\n\0"], limits=limits)
        self.assertEqual((frame.headers["receipt"], error), ("b", None))
        for line in (b"receipt:" + b"x" * 593, b"receipt:\\x", b"receipt:\xff"):
            frames, error, _ = decode([head + line + b"\n\n\0"], limits=limits)
            self.assertEqual((frames, error is None), ([], False), line)
        full = head + b"content-type:text/plain\ncontent-length:1\n"
        decode([full + b"\nx\0"], limits=limits)
        frames, error, _ = decode([full + b"receipt:a\n\nx\0"], limits=limits)
        self.assertEqual((frames, error and error.code), ([], "too-large"))

    @settings(deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    "destination:/topic/x",
                    "destination:/topic/y",
                    "content-type:a",
                    "content-length:2",
                    "receipt:a",
                    "receipt:b-",
                    "receipt:\\c",
                    "receipt:\\",
                    "receipt",
                    " receipt:a",
                    "Receipt:a",
                    "passcode:p",
                    "id:1-2-a",
                    "id:\\c",
                    "message-id:1",
                ]
            ),
            max_size=4,
        ),
        st.sampled_from([b"", b"", b"ab", b"abc"]),
        st.sampled_from(["SEND", "SEND", "ACK", "NACK"]),
        st.fixed_dictionaries(
            {
                "frame": st.sampled_from([0, 40, 80, 1000]),
                "headers": st.sampled_from([0, 1, 2, 3, 10]),
                "header_line": st.sampled_from([0, 20, 600]),
            }
        ),
    )
    def test_as_if_unknown(
        self, lines: list[str], body: bytes, command: str, limits: dict[str, int]
    ) -> None:
        """Under limits that know much, a frame reads as under those that know nothing."""
        known = DecoderLimits(**limits)
        for path in "xy":
            for rest in ("", "content-type:a\n", "content-length:2\n", "receipt:b\n"):
                head = f"SEND\ndestination:/topic/{path}\n{rest}\n".encode()
                decode([head + b"ab\0"], limits=known)
        data = "\n".join([command, *lines, "", ""]).encode() + body + b"\0"
        outcomes = []
        for each in (known, DecoderLimits(**limits)):
            frames, error, decoder = decode([data + data], limits=each)
            outcomes.append((frames, error and error.code, decoder.mid_frame))
        self.assertEqual(outcomes[0], outcomes[1])

    def test_short_frames(self) -> None:
        """RS-1: an ACK, or a receipt, is held against every limit, and ends where it has to."""
        send = b"SEND\ndestination:/topic/x\n"
        sized = b"SEND\ndestination:/topic/x\ncontent-length:940\n"
        receipt = b"receipt:" + b"r" * 30 + b"\n"
        for changes, data, code in (
            ({"headers": 1}, b"ACK\nid:1-2-a\nreceipt:a\n\n\0", "too-large"),
            ({"header_line": 20}, b"ACK\nid:" + b"x" * 30 + b"\n\n\0", "too-large"),
            ({"header_line": 30}, send + receipt + b"\n\0", "too-large"),
            ({"frame": 60}, b"NACK\nid:" + b"x" * 60 + b"\n\n\0", "too-large"),
            ({}, sized + receipt + b"\n" + b"x" * 940 + b"\0", "too-large"),
            ({}, b"ACK\nid:1-2-a\n\nab\0", None),
            ({}, b"ACK\nid:1-2-a\n\n", None),
            ({}, b"ACK\nid:1-2-a\n\n\0", None),
        ):
            limits = DecoderLimits(**{"frame": 1000, "headers": 3, "header_line": 600, **changes})
            for known in (send + b"\n\0", sized + b"\n" + b"x" * 940 + b"\0"):
                decode([known], limits=limits)
            frames, error, decoder = decode([data], limits=limits)
            self.assertEqual(error and error.code, code, data)
            if code is None:
                frame = Frame("ACK", {"id": "1-2-a"}, data[14:-1])
                ended = data.endswith(b"\0")
                self.assertEqual((frames, decoder.mid_frame), ([frame] * ended, not ended))

    def test_limits(self) -> None:
        """A known head does not make a frame good that is too large, unfinished or has no end."""
        limits = self.limits()
        head = b"SEND\ndestination:/topic/x\n"
        decode([head + b"\n\0", head + b"content-length:2\n\nab\0"], limits=limits)
        self.assertEqual(len(limits.heads), 2)
        for data, code in (
            (head + b"\n" + b"x" * 100 + b"\0", "too-large"),
            (head + b"\n" + b"x" * (100 - len(head) - 1) + b"\0", "too-large"),
            (head + b"content-length:2\n\nabc\0", "malformed"),
        ):
            frames, error, _ = decode([data], limits=limits)
            self.assertEqual((frames, error and error.code), ([], code))
        (_good,), error, _ = decode(
            [head + b"\n" + b"x" * (100 - len(head) - 2) + b"\0"], limits=limits
        )
        self.assertIsNone(error)
        for data in (head, head + b"\n", head + b"\nx", head + b"content-length:2\n\na"):
            frames, error, decoder = decode([data], limits=limits)
            self.assertEqual((frames, error, decoder.mid_frame), ([], None, True))

    def test_escapes(self) -> None:
        """What the session's version decides about is not kept."""
        limits = self.limits()
        for version, path in (("1.2", "a\rb"), ("1.0", "a\\rb")):
            (frame,), _, _ = decode([b"SEND\ndestination:a\\rb\n\n\0"], version, limits)
            self.assertEqual(frame.headers, {"destination": path})
        self.assertEqual(limits.heads, {})

    def test_bound(self) -> None:
        """What is kept has a bound, in number and in size."""
        limits = self.limits(frame=10_000, header_line=2000)
        decode([b"SEND\ndestination:%b\n\n\0" % (b"x" * 1000)], limits=limits)
        self.assertEqual(limits.heads, {})
        for number in range(3000):
            decode([b"SEND\ndestination:%d\n\n\0" % number], limits=limits)
            self.assertLessEqual(len(limits.heads), 1024)


class WorkTests(SynchronousTestCase):
    """The work is linear, whatever the sizes of frames and chunks.

    An octet is copied in, searched for the head's end, a NUL and the end of a line, copied out, and
    perhaps moved; two octets of overlap are searched again for each chunk. Eight looks per octet
    are enough for all that; a second look at each octet for each chunk is thousands.
    """

    def setUp(self) -> None:
        """Count what is done to the buffer."""
        for name in ("_HEAD_END", "_EOLS"):
            self.patch(decoder_module, name, _CountingPattern(getattr(decoder_module, name)))

    def assertLinear(self, chunks: list[bytes], expected: int) -> None:
        """So many frames come of the chunks, with work in proportion to their octets."""
        decoder = FrameDecoder(ROOMY)
        decoder.version = "1.2"
        # The buffer must survive: a first octet is there from the start, and the last never comes.
        buffer = _CountingBuffer(chunks[0][:1])
        decoder._buffer = buffer
        frames = 0
        for chunk in (chunks[0][1:], *chunks[1:], b"S"):
            decoder.feed(chunk)
            while decoder.next_frame() is not None:
                frames += 1
        self.assertEqual(frames, expected)
        self.assertIs(decoder._buffer, buffer)
        self.assertLess(buffer.work, 8 * sum(map(len, chunks)))

    def test_head_octet_by_octet(self) -> None:
        """ST-1: a long head in the smallest pieces."""
        head = b"SEND\r\n" + b"name:%b\r\n" % (b"v" * 1000) * 20
        self.assertLinear([*octets(head), b"\r\n\0S"], 1)

    def test_body_octet_by_octet(self) -> None:
        """ST-1: long bodies in the smallest pieces, with and without a declared length."""
        body = b"v" * 20000
        self.assertLinear([*octets(b"SEND\n\n" + body), b"\0S"], 1)
        self.assertLinear([*octets(b"SEND\ncontent-length:20000\n\n" + body), b"\0S"], 1)

    def test_many_small_frames_in_one_chunk(self) -> None:
        """A chunk of many frames is not searched to its end, nor moved, for each."""
        for frame in (b"SEND\na:b\n\nx\0", b"SEND\r\na:b\r\n\r\nx\0\r\n\n", b"BEGIN\n\n\0"):
            self.assertLinear([frame * 5000 + b"S"], 5000)

    def test_frames_that_straddle_chunks(self) -> None:
        """Every chunk ends one frame and begins the next."""
        frame = b"SEND\ncontent-length:50\n\n" + b"x" * 50 + b"\0"
        self.assertLinear([frame[:30], *[frame[30:] + frame[:30]] * 500, frame[30:] + b"S"], 501)

    def test_heartbeats(self) -> None:
        """Nothing but heart-beats, and a frame at last."""
        self.assertLinear([b"\n\r\n" * 10000 + b"BEGIN\n\n\0S"], 1)


#: Bytes that look like STOMP here and there.
_NEARLY_STOMP = st.lists(
    st.binary(max_size=5)
    | st.sampled_from(
        [
            b"SEND\n",
            b"SEND\r\n",
            b"CONNECT\n",
            b"a:b\n",
            b"a:b\r\n",
            b"receipt:1\n",
            b"content-length:3\n",
            b"content-length:x\n",
            b"\n",
            b"\r\n",
            b"\r",
            b"\0",
            b":",
            b" ",
            b"\\n",
            b"\\",
            b"xyz",
            b"xyz\0",
        ]
    ),
    max_size=20,
).map(b"".join)


class PropertyTests(SynchronousTestCase):
    """What holds for any bytes."""

    @settings(deadline=None, max_examples=200)
    @given(
        data=_NEARLY_STOMP,
        cuts=st.lists(st.integers(0, 120), max_size=20),
        version=st.sampled_from([None, *VERSIONS]),
        limits=st.sampled_from([ROOMY, NONE, DecoderLimits(30, 2, 8)]),
    )
    def test_chunks_make_no_difference(
        self, data: bytes, cuts: list[int], version: str | None, limits: DecoderLimits
    ) -> None:
        """ST-1: any bytes, in any pieces, give the same frames, and an error or none."""
        whole, error, _ = decode([data], version, limits)
        frames, other, _ = decode(cut(data, cuts), version, limits)
        self.assertEqual(frames, whole)
        self.assertEqual(other is None, error is None)
