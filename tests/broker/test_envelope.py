"""Tests of stompauth.broker.envelope."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.destination import Destination
from stompauth.broker import envelope
from stompauth.broker.envelope import Answer, Envelope, decode
from stompauth.broker.message import Message
from stompauth.errors import Refused
from tests.broker.receiver import message_to

TEXTS = st.text(max_size=20)
MESSAGES = st.builds(
    Message,
    st.sampled_from(["/topic/a", "/topic/é/b", "/queue/x"]).map(Destination.parse),
    st.dictionaries(TEXTS, TEXTS, max_size=4),
    st.binary(max_size=50),
    sender_user=st.none() | TEXTS,
    sender_session=st.none() | TEXTS,
    expires=st.none() | st.floats(0, 1e12) | st.integers(0, 10**12),
)
ENVELOPES = st.builds(
    Envelope,
    MESSAGES,
    st.none() | TEXTS,
    st.none() | st.tuples(TEXTS, st.integers(0, 2**53)),
)

FIELDS = (
    "destination",
    "headers",
    "body",
    "message_id",
    "sender_user",
    "sender_session",
    "expires",
)


def facts(found: Envelope | Answer) -> object:
    """What an envelope says, to be compared."""
    if isinstance(found, Answer):
        return found
    said = [getattr(found.message, name) for name in FIELDS]
    return said, found.user, found.answer_to


class EnvelopeTests(SynchronousTestCase):
    """Our encoding of messages."""

    @settings(deadline=None)
    @given(ENVELOPES)
    def test_round_trip(self, sent: Envelope) -> None:
        """What was encoded is decoded to the same, whatever is in it."""
        self.assertEqual(facts(decode(sent.encode())), facts(sent))

    @settings(deadline=None)
    @given(st.integers(0, 2**53), st.integers(0, 2**53))
    def test_answer(self, question: int, sessions: int) -> None:
        """So is an answer."""
        answer = Answer(question, sessions)
        self.assertEqual(decode(answer.encode()), answer)

    @settings(deadline=None, max_examples=300)
    @given(ENVELOPES, st.data())
    def test_broken(self, sent: Envelope, data: st.DataObject) -> None:
        """Octets that were changed are read as something, or a ValueError: nothing else."""
        payload = bytearray(sent.encode())
        for _ in range(data.draw(st.integers(1, 3))):
            position = data.draw(st.integers(0, len(payload) - 1))
            payload[position] = data.draw(st.integers(0, 255))
        try:
            decode(bytes(payload))
        except ValueError:
            return

    @settings(deadline=None, max_examples=300)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | TEXTS,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        ),
        st.sampled_from("vdihfseuaqn"),
    )
    def test_strange_field(self, value: Any, key: str) -> None:
        """A field may hold anything, and then it is read or refused."""
        head = json.loads(Envelope(message_to("/topic/x"), "u", ("n", 1)).encode().split(b"\n")[0])
        head[key] = value
        try:
            found = decode(json.dumps(head).encode() + b"\n")
        except ValueError:
            return
        if isinstance(found, Envelope):
            found.message.frame("7")

    def test_not_read(self) -> None:
        """What is none of ours, or of a later version, is refused."""
        for payload in (
            b"",
            b"\n",
            b"[]\n",
            b"{}\n",
            b'{"v":1}\n',
            b'{"v":2,"q":1,"n":1}\n',
            b'{"v":true,"q":1,"n":1}\n',
            b'{"v":1,"q":1,"n":1}',
            b'{"v":1,"q":-1,"n":1}\n',
            b"[" * 100_000 + b"\n",
            b"\xff\n",
        ):
            self.assertRaises(ValueError, decode, payload)

    def test_destination(self) -> None:
        """A destination that follows no grammar is refused, and so is a pattern."""
        for path in ("topic", "/topic/*", "/topic/a b", "/" + "x" * 300):
            head = json.dumps({"v": 1, "d": path, "i": "1", "h": {}}).encode()
            self.assertRaises(ValueError, decode, head + b"\n")

    def test_size(self) -> None:
        """What is too large is neither sent nor read."""
        self.patch(envelope, "MAX_PAYLOAD", 1000)
        payload = Envelope(message_to("/topic/x", 900 * b"x")).encode()
        self.assertIsInstance(decode(payload), Envelope)
        refused = self.assertRaises(Refused, Envelope(message_to("/topic/x", 1000 * b"x")).encode)
        self.assertEqual(refused.code, "too-large")
        self.assertRaises(ValueError, decode, payload + 1000 * b"x")
