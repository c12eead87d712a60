"""Tests of stompauth.cluster.messages."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.cluster.messages import (
    MAX_NAME,
    MAX_PAYLOAD,
    Announcement,
    Answer,
    Delta,
    Page,
    Presence,
    Request,
    Revoked,
    Wanted,
    decode,
    encode,
)
from stompauth.identity.revocation import KINDS, Revocation

# As tokens can have them: no half of a surrogate pair.
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(0, 2**60)
TIMES = st.floats(0, 1e12)
PRESENCES = st.lists(st.builds(Presence, NAMES, NAMES, NAMES, NAMES, TIMES), max_size=3)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.one_of(
    st.builds(Delta, NUMBERS, PRESENCES, st.lists(NAMES, max_size=3)),
    st.builds(Announcement, NUMBERS),
    st.just(Wanted()),
    st.builds(Page, st.none() | NUMBERS, PRESENCES, st.booleans()),
    st.builds(
        Revoked, st.lists(st.builds(Revocation, st.sampled_from(KINDS), NAMES, TIMES), max_size=3)
    ),
    st.builds(Request, NUMBERS, NAMES, st.dictionaries(NAMES, NUMBERS | NAMES, max_size=3)),
    st.builds(Answer, NUMBERS, NAMES | NUMBERS | st.none()),
)


class MessagesTests(SynchronousTestCase):
    """What one node writes, another reads; and nothing else."""

    @given(MESSAGES)
    @settings(deadline=None, max_examples=200)
    def test_round_trip(self, message: object) -> None:
        """A message is read as it was written."""
        self.assertEqual(decode(encode(message)), message)  # type: ignore[arg-type]

    @given(st.binary(max_size=50) | JSON.map(lambda found: json.dumps([1, found]).encode()))
    @settings(deadline=None, max_examples=200)
    def test_anything(self, payload: bytes) -> None:
        """Whatever comes is read, or refused in words that do not repeat it."""
        try:
            decode(payload)
        except ValueError as error:
            self.assertIn(str(error), {"not JSON in UTF-8", "of another version", *FORMS})

    @given(
        st.sampled_from(["delta", "at", "wanted", "page", "revoked", "request", "answer"]),
        st.lists(JSON, max_size=3),
    )
    @settings(deadline=None, max_examples=300)
    def test_nearly(self, name: str, fields: list[object]) -> None:
        """Fields of other types are refused, not carried along."""
        try:
            message = decode(json.dumps([1, name, *fields]).encode())
        except ValueError as error:
            self.assertIn(str(error), FORMS)
        else:
            self.assertEqual(decode(encode(message)), message)

    def test_refused(self) -> None:
        """What nobody means is refused."""
        for text in (
            "",
            "[]",
            "{}",
            "null",
            '[2,"wanted"]',
            '["1","wanted"]',
            '[1,"wanted",1]',
            '[1,"at",-1]',
            '[1,"at",true]',
            '[1,"at",1.5]',
            '[1,"at",NaN]',
            '[1,"page",0,[],1]',
            '[1,"delta",1,[["a","b","c","d",Infinity]],[]]',
            '[1,"delta",1,[["a","b","c","d",1e999]],[]]',
            '[1,"delta",1,[["a","b","c","d",-1]],[]]',
            f'[1,"delta",1,[["a","b","c","d",1{"0" * 400}]],[]]',
            '[1,"delta",1,[["a","b","c","d"]],[]]',
            '[1,"delta",1,[],["\\ud800"]]',
            '[1,"delta",1,[],[1]]',
            f'[1,"delta",1,[],["{"x" * (MAX_NAME + 1)}"]]',
            '[1,"revoked",[["everybody","x",1]]]',
            '[1,"revoked",{}]',
            '[1,"request",1,"x",[]]',
            "[" * 100_000,
        ):
            with self.assertRaises(ValueError, msg=text):
                decode(text.encode())

    def test_too_long(self) -> None:
        """What is longer than a message may be is not sent."""
        with self.assertRaises(ValueError):
            encode(Answer(1, "x" * MAX_PAYLOAD))


FORMS = {
    "of no known form",
    "no revocation",
    "no session",
    "no list",
    "no name",
    "no number",
    "no time",
}
