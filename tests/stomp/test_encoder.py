"""The encoder: what goes out can be read back, or does not go out."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.errors import LocalProtocolError
from stompauth.stomp.decoder import DecoderLimits, FrameDecoder
from stompauth.stomp.encoder import MessageTemplate, _write_common, encode, is_text
from stompauth.stomp.frame import BODY_COMMANDS, COMMANDS, UNESCAPED_COMMANDS, VERSIONS, Frame

if TYPE_CHECKING:
    from collections.abc import Mapping

_ESCAPED_COMMANDS = COMMANDS - UNESCAPED_COMMANDS


def decode(chunks: list[bytes], version: str) -> list[Frame]:
    """Return the frames of the chunks, which must end with a frame."""
    decoder = FrameDecoder(DecoderLimits(0, 0, 0))
    decoder.version = version
    frames = []
    for chunk in chunks:
        decoder.feed(chunk)
        while (frame := decoder.next_frame()) is not None:
            frames.append(frame)
    assert not decoder.mid_frame
    return frames


def without_length(frame: Frame) -> Frame:
    """Return the frame as it was before its body was measured."""
    headers = {k: v for k, v in frame.headers.items() if k != "content-length"}
    return Frame(frame.command, headers, frame.body)


class EncodeTests(SynchronousTestCase):
    """One frame."""

    def test_layout(self) -> None:
        """Command, headers in their order, the length of the body, the body, NUL."""
        frame = Frame("SEND", {"destination": "/topic/a", "x": "1"}, b"hi\0")
        for version in VERSIONS:
            self.assertEqual(
                encode(frame, version),
                b"SEND\ndestination:/topic/a\nx:1\ncontent-length:3\n\nhi\0\0",
            )

    def test_no_body(self) -> None:
        """A frame without a body declares no length."""
        self.assertEqual(encode(Frame("SEND", {"a": "1"}), "1.2"), b"SEND\na:1\n\n\0")
        self.assertEqual(encode(Frame("DISCONNECT"), "1.2"), b"DISCONNECT\n\n\0")

    def test_content_length_is_ours(self) -> None:
        """ST-3: a length that the frame claims is never passed on, right or wrong."""
        for command in BODY_COMMANDS:
            data = encode(Frame(command, {"content-length": "1"}, b"abc"), "1.2")
            self.assertEqual(data.count(b"content-length"), 1)
            self.assertIn(b"content-length:3\n", data)
        self.assertEqual(encode(Frame("SEND", {"content-length": "9"}), "1.2"), b"SEND\n\n\0")
        self.assertEqual(encode(Frame("ACK", {"content-length": "9"}), "1.2"), b"ACK\n\n\0")

    def test_escapes(self) -> None:
        """ST-4: "Value Encoding" of each version, in names and values."""
        for version, written in (
            ("1.2", b"a\\c\\\\\\n\\rb:\\r\\n\\c\\\\\n"),
            ("1.1", b""),
            ("1.0", b""),
        ):
            data = encode(Frame("ERROR", {"a:\\\n\rb": "\r\n:\\"}), version)
            self.assertEqual(data, b"ERROR\n%b\n\0" % written)
        self.assertEqual(
            encode(Frame("ERROR", {"a:\n": ":\\\n"}), "1.1"), b"ERROR\na\\c\\n:\\c\\\\\\n\n\n\0"
        )
        self.assertEqual(encode(Frame("ERROR", {"a\\": ":\\n"}), "1.0"), b"ERROR\na\\::\\n\n\n\0")

    def test_what_a_version_cannot_express_is_left_out(self) -> None:
        """ST-5: the header goes, never raw, and the rest of the frame stays."""
        for version, headers in (
            ("1.0", ({"a": "\n"}, {"a": "x\ry"}, {"\n": "a"}, {"\r": "a"}, {"b:c": "a"})),
            ("1.1", ({"a": "\r"}, {"\r": "a"}, {"a\r\n": "a"})),
            ("1.2", ()),
        ):
            for header in (*headers, {"a": "\0"}, {"\0": "a"}, {"": "a"}, {"a ": "a"},
                           {"a": "\ud800"}, {"\udfff": "a"}):  # fmt: skip
                data = encode(Frame("ERROR", {"x": "1", **header, "y": "2"}), version)
                self.assertEqual(data, b"ERROR\nx:1\ny:2\n\n\0", (version, header))

    def test_handshake_is_refused_rather_than_mended(self) -> None:
        """ST-5: a subject or password with a line end is no way into another header."""
        for command in UNESCAPED_COMMANDS:
            for header in (
                {"user-name": "eve\nadmin:true"},
                {"user-name": "eve\r"},
                {"user-name": "eve\0"},
                {"user-name": "\ud800"},
                {"a\nb": "c"},
                {"a:b": "c"},
                {"": "c"},
                {"a ": "c"},
            ):
                for version in VERSIONS:
                    error = self.assertRaises(
                        LocalProtocolError, encode, Frame(command, header), version
                    )
                    self.assertNotIn("eve", str(error))

    def test_handshake_is_not_escaped(self) -> None:
        """ST-4: backslash and colon go out as they are."""
        for command in UNESCAPED_COMMANDS:
            for version in VERSIONS:
                self.assertEqual(
                    encode(Frame(command, {"passcode": "a\\n:b"}), version),
                    b"%b\npasscode:a\\n:b\n\n\0" % command.encode(),
                )

    def test_body_where_none_may_be(self) -> None:
        """STOMP 1.2, "Body": only SEND, MESSAGE and ERROR have one."""
        for command in COMMANDS - BODY_COMMANDS:
            self.assertRaises(LocalProtocolError, encode, Frame(command, {}, b"x"), "1.2")

    def test_unknown_command(self) -> None:
        """A command is one of STOMP's, so that none can bring lines of its own."""
        for command in ("", "send", "SEND\nx:1", "PUBLISH"):
            self.assertRaises(LocalProtocolError, encode, Frame(command), "1.2")


class IsTextTests(SynchronousTestCase):
    """What may go out in a WebSocket text message."""

    def test_is_text(self) -> None:
        """Valid UTF-8 is, anything else is not."""
        for data in (b"", b"plain", "Zo\u00eb".encode(), b"\0\x01"):
            self.assertTrue(is_text(data))
        for data in (b"\xff", b"\xed\xa0\x80", "\u00eb".encode()[:1]):
            self.assertFalse(is_text(data))


class MessageTemplateTests(SynchronousTestCase):
    """One MESSAGE for many subscriptions."""

    headers = {"destination": "/topic/a", "message-id": "m-1", "x": "1:2\n"}

    def template(
        self, body: bytes, forged: Mapping[str, str] = MappingProxyType({})
    ) -> MessageTemplate:
        """Return one with those headers."""
        others = {**self.headers, **forged}
        return MessageTemplate(others["destination"], others["message-id"], others, body)

    def decoded(self, data: bytes, version: str = "1.2") -> Frame:
        """Return the one frame that the data are."""
        (frame,) = decode([data], version)
        return frame

    def test_plain_delivery(self) -> None:
        """All headers, the subscription and the body, as each version writes them."""
        template = self.template(b"hello")
        for version in VERSIONS:
            frame = self.decoded(template.encode(version, "sub:0"), version)
            expected = {**self.headers, "subscription": "sub:0", "content-length": "5"}
            if version == "1.0":
                del expected["x"]
            self.assertEqual(frame, Frame("MESSAGE", expected, b"hello"))

    def test_same_bytes_as_a_frame(self) -> None:
        """Spliced or encoded, a delivery says the same."""
        template = self.template(b"hello")
        frame = Frame("MESSAGE", {**self.headers, "subscription": "s"}, b"hello")
        for version in VERSIONS:
            self.assertEqual(
                self.decoded(template.encode(version, "s"), version),
                self.decoded(encode(frame, version), version),
            )

    def test_same_object_for_the_same_subscription_id(self) -> None:
        """Sessions whose subscriptions have the same id share the bytes."""
        template = self.template(b"hello")
        first = template.encode("1.2", "sub-0")
        self.assertIs(template.encode("1.2", "sub-0"), first)
        other = template.encode("1.2", "sub-1")
        self.assertEqual(self.decoded(other).headers["subscription"], "sub-1")
        # "\\" is written differently in each version.
        self.assertEqual(
            self.decoded(template.encode("1.0", "a\\n"), "1.0").headers["subscription"], "a\\n"
        )
        self.assertEqual(
            self.decoded(template.encode("1.2", "a\\n"), "1.2").headers["subscription"], "a\\n"
        )

    def test_acknowledged_delivery(self) -> None:
        """The id to acknowledge by belongs to one delivery and sticks to no other."""
        template = self.template(b"hello")
        plain = template.encode("1.2", "s")
        first = self.decoded(template.encode("1.2", "s", ack="1:1")).headers
        self.assertEqual(first["ack"], "1:1")
        self.assertNotIn("redelivered", first)
        self.assertEqual(self.decoded(template.encode("1.2", "s", ack="2")).headers["ack"], "2")
        self.assertEqual(template.encode("1.2", "s"), plain)
        self.assertNotIn("ack", self.decoded(plain).headers)

    def test_redelivery(self) -> None:
        """From the second delivery on it says so, and how often."""
        template = self.template(b"hello")
        first = self.decoded(template.encode("1.2", "s", delivery_count=1)).headers
        self.assertNotIn("redelivered", first)
        self.assertNotIn("delivery-count", first)
        second = self.decoded(template.encode("1.2", "s", delivery_count=2)).headers
        self.assertEqual((second["redelivered"], second["delivery-count"]), ("true", "2"))

    def test_no_subscription_id(self) -> None:
        """A subscription of STOMP 1.0 need not have an id."""
        template = self.template(b"")
        self.assertNotIn("subscription", self.decoded(template.encode("1.0", None)).headers)

    def test_shared_headers_cannot_speak_for_a_delivery(self) -> None:
        """ST-10: what the server says of a delivery comes from nowhere else."""
        forged = dict.fromkeys(
            ("subscription", "ack", "redelivered", "delivery-count", "content-length"), "forged"
        )
        template = self.template(b"hello", forged)
        self.assertNotIn(b"forged", template.encode("1.2", "s"))

    def test_types(self) -> None:
        """RS-2: a content type is written like any header; of long ones nothing is kept."""
        kept = _write_common.cache_info().currsize
        for content_type in ("text/plain", "text/plain;x=1:2", "", "x" * 5000):
            others = {"content-type": content_type}
            for version in VERSIONS:
                template = MessageTemplate("/topic/types", "a1", others, b"x")
                headers = self.decoded(template.encode(version, "s"), version).headers
                self.assertEqual(headers["content-type"], content_type)
        self.assertLessEqual(_write_common.cache_info().currsize - kept, 6)

    def test_unwritable_ids(self) -> None:
        """ST-5: a delivery without its ids is of no use; it is refused, and nothing is raw."""
        template = self.template(b"hello")
        self.assertRaises(LocalProtocolError, template.encode, "1.0", "a\nb")
        self.assertRaises(LocalProtocolError, template.encode, "1.1", "a\rb")
        self.assertRaises(LocalProtocolError, template.encode, "1.2", "a\0b")
        self.assertRaises(LocalProtocolError, template.encode, "1.2", "a", ack="\0")

    def test_is_text(self) -> None:
        """Whether it can go out in a text message depends on the body alone."""
        self.assertTrue(self.template("\u00eb".encode(), {"a": "\u00eb"}).is_text)
        self.assertTrue(self.template(b"").is_text)
        template = self.template(b"\xff")
        self.assertFalse(template.is_text)
        self.assertFalse(template.is_text)


def writable_frames(version: str, unwritable: str) -> st.SearchStrategy[Frame]:
    """Frames that the version can express, with characters that matter more often than not."""
    special = "".join(sorted(set("\\:\r\n rnc") - set(unwritable)))
    text = st.text(
        st.sampled_from(special + "ab\u00eb\U0001f600\x7f\x01\t")
        | st.characters(exclude_categories=["Cs"], exclude_characters=unwritable),
        max_size=6,
    )
    names = text.filter(
        lambda name: (
            name not in ("", "content-length")
            and name[-1] != " "
            and (version != "1.0" or ":" not in name)
        )
    )
    headers = st.dictionaries(names, text, max_size=3)
    bare = st.builds(Frame, st.sampled_from(sorted(_ESCAPED_COMMANDS)), headers)
    return bare | st.builds(
        Frame, st.sampled_from(sorted(BODY_COMMANDS)), headers, st.binary(max_size=9)
    )


_SESSIONS = st.one_of(
    [
        st.tuples(st.just(version), st.lists(writable_frames(version, unwritable), max_size=3))
        for version, unwritable in (("1.0", "\0\r\n"), ("1.1", "\0\r"), ("1.2", "\0"))
    ]
)


class RoundTripTests(SynchronousTestCase):
    """What is written is read."""

    @settings(deadline=None, max_examples=150)
    @given(session=_SESSIONS, size=st.integers(1, 40))
    def test_round_trip(self, session: tuple[str, list[Frame]], size: int) -> None:
        """ST-5: frames that a version can express come back as they were, in any pieces."""
        version, frames = session
        octets = b"".join(encode(frame, version) for frame in frames)
        chunks = [octets[at : at + size] for at in range(0, len(octets), size)]
        self.assertEqual([without_length(frame) for frame in decode(chunks, version)], frames)

    @settings(deadline=None, max_examples=100)
    @given(
        headers=st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=5),
        body=st.binary(max_size=20),
        version=st.sampled_from(VERSIONS),
    )
    def test_nothing_is_injected(self, headers: dict[str, str], body: bytes, version: str) -> None:
        """ST-5: whatever the headers hold, one frame comes out, with them or fewer."""
        (frame,) = decode([encode(Frame("SEND", headers, body), version)], version)
        frame = without_length(frame)
        self.assertEqual((frame.command, frame.body), ("SEND", body))
        self.assertLessEqual(frame.headers.items(), headers.items())

    @settings(deadline=None, max_examples=100)
    @given(
        headers=st.dictionaries(
            st.text(st.sampled_from("ab: \\\r\n\0\ud800"), max_size=3),
            st.text(st.sampled_from("ab: \\\r\n\0\ud800"), max_size=3),
            max_size=3,
        ),
        version=st.sampled_from(VERSIONS),
    )
    def test_nothing_is_injected_by_special_characters(
        self, headers: dict[str, str], version: str
    ) -> None:
        """ST-5: likewise where nearly every character is one that matters."""
        (frame,) = decode([encode(Frame("SEND", headers), version)], version)
        self.assertLessEqual(frame.headers.items(), headers.items())
        template = MessageTemplate("/a", "m", headers, b"")
        (frame,) = decode([template.encode(version, "s")], version)
        ours = {"destination": "/a", "message-id": "m", "subscription": "s"}
        self.assertLessEqual(frame.headers.items(), {**headers, **ours}.items())
