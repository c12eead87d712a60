"""Tests for :mod:`stompauth.authorization.destination`."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.destination import Destination, Kind, is_segment
from stompauth.errors import Refused
from tests.authorization.brute_force import WORLD, client_patterns, subscribed


def follows_grammar(text: str, pattern: bool) -> bool:
    """The grammar of destinations, character by character and rule by rule."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Zs", "Zl", "Zp"):
            return False
        if character in "?#>{}%\\;,":
            return False
    if len(text.encode()) > 255:
        return False
    before, *segments = text.split("/")
    if before or not 1 <= len(segments) <= 16:
        return False
    for position, segment in enumerate(segments, 1):
        if segment in ("", ".", ".."):
            return False
        if "*" in segment:
            is_last = position == len(segments)
            if not pattern or not (segment == "*" or (segment == "**" and is_last)):
                return False
    return True


def is_accepted(text: str, *, pattern: bool) -> bool:
    """Whether the parser accepts the text; it refuses with one code only."""
    try:
        parsed = Destination.parse(text, pattern=pattern)
    except Refused as refused:
        if refused.code != "bad-destination":
            raise
        return False
    return parsed.path == text and "/" + "/".join(parsed.segments) == text


class GrammarTests(SynchronousTestCase):
    """What is a destination, and what is not."""

    def test_accepted(self) -> None:
        """AZ-2: an ordinary destination is accepted, and kept byte for byte."""
        for text in (
            "/topic/a",
            "/a",
            "/topic/a.b-c_d~e:f@g!h$i&j'k(l)m+n=o|p^q`r\"s<t[u]",
            "/topic/...",
            "/topic/.a",
            "/topic/Straße/日本/🙂",
            "/topic/e\u0301",
            "/topic/\u0645\u06cc\u200c\u062e\u0648",
            "/" + "/".join("a" * 16),
            "/" + "a" * 254,
            "/" + "é" * 127,
        ):
            destination = Destination.parse(text)
            self.assertEqual((destination.path, destination.is_pattern), (text, False))

    def test_refused(self) -> None:
        """AZ-2: what is not of the grammar is refused, and nothing is mended."""
        for text in (
            "",
            "/",
            "topic/a",
            " /topic/a",
            "//topic/a",
            "/topic//a",
            "/topic/a/",
            "/topic/./a",
            "/topic/../queue",
            "/topic/..",
            "/topic/a b",
            "/topic/a\u00a0b",
            "/topic/a\u3000b",
            "/topic/a\n",
            "/topic/a\x00",
            "/topic/a\x7f",
            "/topic/a\x85",
            "/topic/a\u2028",
            "/topic/\ud800",
            "/topic/%61dmin",
            "/topic/admin;x",
            "/topic/a?b",
            "/topic/a#b",
            "/topic/>",
            "/topic/{a}",
            "/topic/a\\b",
            "/topic/a,b",
            "/topic/*",
            "/topic/**",
            "/topic/a*",
            "/" + "/".join("a" * 17),
            "/" + "a" * 255,
            "/" + "é" * 128,
            "/" + "a" * 100_000,
        ):
            self.assertFalse(is_accepted(text, pattern=False), ascii(text[:40]))

    def test_patterns(self) -> None:
        """AZ-3: a wildcard is a whole segment, ``**`` the last, and only where asked for."""
        for text in ("/*", "/**", "/topic/*", "/topic/*/a/*", "/topic/*/**"):
            self.assertTrue(Destination.parse(text, pattern=True).is_pattern)
            self.assertFalse(is_accepted(text, pattern=False), text)
        for text in ("/topic/a*", "/topic/***", "/topic/**/a", "/topic/**/**", "/topic/*.*"):
            self.assertFalse(is_accepted(text, pattern=True), text)
        self.assertFalse(Destination.parse("/topic/a", pattern=True).is_pattern)

    @given(
        st.one_of(
            st.text(max_size=30),
            st.text(max_size=30).map("/".__add__),
            st.text(alphabet="/ab.*", max_size=40).map("/".__add__),
            st.lists(
                st.sampled_from(["a", "*", "**", ".", "..", "…", "é", "", "x" * 60]), max_size=18
            ).map(lambda segments: "/" + "/".join(segments)),
        ),
        st.booleans(),
    )
    @example("/\ud800", False)
    @settings(deadline=None, max_examples=250)
    def test_like_the_grammar(self, text: str, pattern: bool) -> None:
        """AZ-2: the parser accepts exactly what the grammar's words say."""
        self.assertEqual(is_accepted(text, pattern=pattern), follows_grammar(text, pattern))

    def test_every_character(self) -> None:
        """AZ-2: of the Basic Multilingual Plane exactly the allowed characters are accepted."""
        differing = [
            hex(code)
            for code in range(0x10000)
            if is_segment("a" + chr(code)) != follows_grammar("/a" + chr(code), False)
            and chr(code) != "/"
        ]
        self.assertEqual(differing, [])

    def test_nothing_is_quoted(self) -> None:
        """AZ-2: the error says what is wrong in constant words, also for half a character."""
        for text in ("/topic/\ud800", "/topic/secret secret", "/secret/../a"):
            with self.assertRaises(Refused) as caught:
                Destination.parse(text)
            cause = caught.exception.__cause__
            self.assertIs(type(cause), ValueError)
            self.assertNotIn("secret", str(cause))

    def test_bounded_memory(self) -> None:
        """A repeated destination is parsed once, and is forgotten when clients send many."""
        first = Destination.parse("/topic/remembered")
        self.assertIs(Destination.parse("/topic/remembered"), first)
        for number in range(5000):
            Destination.parse(f"/topic/{number}")
        again = Destination.parse("/topic/remembered")
        self.assertIsNot(again, first)
        self.assertEqual((again, hash(again)), (first, hash(first)))

    def test_nothing_is_normalised(self) -> None:
        """AZ-2: destinations that look or sound the same are different ones."""
        for one, other in (("/topic/é", "/topic/e\u0301"), ("/topic/a", "/topic/A")):
            self.assertNotEqual(Destination.parse(one), Destination.parse(other))


class FormTests(SynchronousTestCase):
    """What a destination says about itself."""

    def test_kind(self) -> None:
        """The kind is that of the first segment, when another one follows."""
        for text, kind in (
            ("/topic/a", Kind.TOPIC),
            ("/topic/**", Kind.TOPIC),
            ("/queue/a/b", Kind.QUEUE),
            ("/user/queue/a", Kind.USER),
            ("/temp-queue/a", Kind.TEMP_QUEUE),
            ("/app/a", Kind.APP),
            ("/session/token", Kind.SESSION),
            ("/topic", Kind.OTHER),
            ("/user", Kind.OTHER),
            ("/Topic/a", Kind.OTHER),
            ("/topics/a", Kind.OTHER),
            ("/*/a", Kind.OTHER),
        ):
            self.assertIs(Destination.parse(text, pattern=True).kind, kind, text)

    def test_user_destinations(self) -> None:
        """AZ-6: the own form and the other user's form are told apart, and from all others."""
        for text, name, path in (
            ("/user/queue/a", None, "/queue/a"),
            ("/user/queue/a/b", None, "/queue/a/b"),
            ("/user/queue/queue/a", None, "/queue/queue/a"),
            ("/user/queue/queue", None, "/queue/queue"),
            ("/user/bob/queue/a", "bob", "/queue/a"),
            ("/user/bob/queue/a/b", "bob", "/queue/a/b"),
            ("/user/user/queue/a", "user", "/queue/a"),
            ("/user", None, None),
            ("/user/queue", None, None),
            ("/user/bob", None, None),
            ("/user/bob/queue", None, None),
            ("/user/bob/topic/a", None, None),
            ("/queue/user/queue/a", None, None),
            ("/users/bob/queue/a", None, None),
        ):
            destination = Destination.parse(text)
            self.assertEqual((destination.user_name, destination.user_path), (name, path), text)


class MatchesTests(SynchronousTestCase):
    """Which destinations a SUBSCRIBE's pattern covers."""

    def test_examples(self) -> None:
        """AZ-3: wildcards cover whole segments, and nothing that has to be spelled."""
        for pattern, path, expected in (
            ("/topic/a", "/topic/a", True),
            ("/topic/a", "/topic/b", False),
            ("/topic/*", "/topic/a", True),
            ("/topic/*", "/topic/a/b", False),
            ("/topic/*", "/topic", False),
            ("/topic/*/c", "/topic/b/c", True),
            ("/topic/**", "/topic/a", True),
            ("/topic/**", "/topic/a/b/c", True),
            ("/topic/**", "/topic", False),
            ("/**", "/topic/a", True),
            ("/**", "/user/queue/a", False),
            ("/*/**", "/session/token", False),
            ("/*/a", "/app/a", False),
            ("/**", "/temp-queue/a", False),
            ("/user/**", "/user/queue/a", True),
            ("/user", "/user", True),
            ("/queue/*", "/queue/a", True),
            ("/queue/*", "/queue/dlq.a", False),
            ("/queue/**", "/queue/dlq.a", False),
            ("/queue/**", "/queue/dlq.a/b", False),
            ("/**", "/queue/dlq.a", False),
            ("/*/dlq.a", "/queue/dlq.a", True),
            ("/queue/dlq.a/*", "/queue/dlq.a/b", True),
            ("/topic/*", "/topic/dlq.a", True),
            ("/queue/*/dlq.a", "/queue/a/dlq.a", True),
            ("/queue/*", "/queue/dlqa", True),
        ):
            found = Destination.parse(pattern, pattern=True).matches(Destination.parse(path))
            self.assertIs(found, expected, (pattern, path))

    @given(client_patterns)
    @settings(deadline=None, max_examples=100)
    def test_like_brute_force(self, pattern: Destination) -> None:
        """AZ-3: a pattern covers what the specification's words say, and nothing else."""
        found = {destination for destination in WORLD if pattern.matches(destination)}
        self.assertEqual(found, subscribed(pattern.path))
