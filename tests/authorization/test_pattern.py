"""Tests for :mod:`stompauth.authorization.pattern`."""

from __future__ import annotations

from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.destination import Destination
from stompauth.authorization.pattern import Pattern
from stompauth.identity.principal import Principal
from tests.authorization.brute_force import (
    WORLD,
    client_patterns,
    covered,
    principals,
    rule_patterns,
    subscribed,
)


def bob(**claims: object) -> Principal:
    """A principal of that name."""
    return Principal("bob", "issuer", 0, 0, claims=claims)


class ParseTests(SynchronousTestCase):
    """What can stand in a rule, and how a mistake is named."""

    def test_mistakes(self) -> None:
        """AZ-4: a mistake in a pattern is a ValueError that names it."""
        for text, fault in (
            ("topic/a", "begins with a slash"),
            ("{a}", "begins with a slash"),
            ("", "begins with a slash"),
            ("/", "is empty"),
            ("/topic//{a}", "is empty"),
            ("/topic/../{a}", "'..'"),
            ("/topic/a b", "white space"),
            ("/topic/**/a", "'\\*\\*' is the last segment"),
            ("/topic/a*", "whole segments"),
            ("/topic/room-{a}", "'room-{a}' is no variable"),
            ("/topic/{a}{b}", "is no variable"),
            ("/topic/{a", "is no variable"),
            ("/topic/}", "is no variable"),
            ("/topic/{}", "is no variable"),
            ("/topic/{a:.*}", "is no variable"),
            ("/topic/{1}", "is no variable"),
            ("/topic/{token.x}", "is no variable"),
            ("/topic/{claims.}", "is no variable"),
            ("/topic/{claims.a.b}", "is no variable"),
            ("/topic/{claims}", "does not say which"),
            ("/topic/{a}/{a}", "{a} occurs twice"),
            ("/" + "/".join(["*"] * 17), "at most 16 segments"),
            ("/" + "a" * 255, "at most 255 bytes"),
        ):
            with self.assertRaisesRegex(ValueError, fault):
                Pattern.parse(text)

    def test_repeated_user(self) -> None:
        """``{user}`` and ``{claims.x}`` are values, and may occur more than once."""
        pattern = Pattern.parse("/topic/{user}/{claims.team}/{user}/{claims.team}")
        principal = bob(team="red")
        self.assertTrue(pattern.matches(Destination.parse("/topic/bob/red/bob/red"), principal))
        self.assertFalse(pattern.matches(Destination.parse("/topic/bob/red/bob/blue"), principal))


class MatchesTests(SynchronousTestCase):
    """Which destinations a rule's pattern covers."""

    def test_variables_are_whole_segments(self) -> None:
        """AZ-4: a variable is compared with the whole segment, and is never an expression."""
        for text, path, claims, expected in (
            ("/topic/{user}", "/topic/bob", {}, True),
            ("/topic/{user}", "/topic/bobby", {}, False),
            ("/topic/{user}", "/topic/Bob", {}, False),
            ("/topic/{claims.team}", "/topic/red", {"team": "red"}, True),
            ("/topic/{claims.team}", "/topic/red", {"team": "r.d"}, False),
            ("/topic/{claims.team}", "/topic/red", {"team": ".*"}, False),
            ("/topic/{claims.team}", "/topic/red", {"team": "*"}, False),
            ("/topic/{claims.team}", "/topic/red", {"team": "{a}"}, False),
            ("/topic/{claims.team}", "/topic/red/blue", {"team": "red/blue"}, False),
            ("/topic/{claims.team}", "/topic/red", {"team": ["red"]}, False),
            ("/topic/{claims.team}", "/topic/red", {}, False),
            ("/topic/{claims.team}", "/topic/None", {"team": None}, False),
            ("/topic/{claims.team}", "/topic/1", {"team": 1}, False),
            ("/topic/{claims.team}", "/topic/red", {"Team": "red"}, False),
        ):
            matches = Pattern.parse(text).matches(Destination.parse(path), bob(**claims))
            self.assertIs(matches, expected, (text, path, claims))

    def test_reserved(self) -> None:
        """AZ-5: what stands for any first segment stands for no reserved one."""
        for name in ("user", "session", "app", "temp-queue"):
            destination = Destination.parse(f"/{name}/queue/a")
            principal = Principal(name, "issuer", 0, 0, claims={"c": name})
            for text in ("/**", "/*/**", "/{a}/**", "/{user}/**", "/{claims.c}/**"):
                self.assertFalse(Pattern.parse(text).matches(destination, principal), text)
            self.assertTrue(Pattern.parse(f"/{name}/**").matches(destination, principal))

    def test_dead_letter_queues(self) -> None:
        """AZ-1: a dead-letter queue is covered only by a pattern that spells it."""
        destination = Destination.parse("/queue/dlq.a")
        principal = Principal("dlq.a", "issuer", 0, 0, claims={"c": "dlq.a"})
        for text in ("/**", "/queue/**", "/queue/*", "/queue/{a}", "/queue/{user}"):
            self.assertFalse(Pattern.parse(text).matches(destination, principal), text)
        self.assertFalse(Pattern.parse("/queue/{claims.c}").matches(destination, principal))
        self.assertTrue(Pattern.parse("/queue/dlq.a").matches(destination, principal))

    @given(rule_patterns(), principals)
    @settings(deadline=None, max_examples=100)
    def test_like_brute_force(self, text: str, principal: Principal) -> None:
        """AZ-4: a pattern covers what the specification's words say, and nothing else."""
        pattern = Pattern.parse(text)
        found = [destination for destination in WORLD if pattern.matches(destination, principal)]
        self.assertEqual(found, covered(text, principal))


class WildcardTests(SynchronousTestCase):
    """A rule's pattern beside the pattern of a SUBSCRIBE."""

    @given(rule_patterns(), client_patterns, principals)
    @settings(deadline=None, max_examples=150)
    def test_like_brute_force(
        self, text: str, wildcards: Destination, principal: Principal
    ) -> None:
        """AZ-3: patterns overlap, and cover each other, as the sets do that they stand for."""
        pattern = Pattern.parse(text)
        ours = set(covered(text, principal))
        theirs = subscribed(wildcards.path)
        self.assertIs(pattern.overlaps(wildcards, principal), bool(ours & theirs))
        self.assertIs(pattern.covers(wildcards, principal), theirs <= ours)

    def test_impossible_claims(self) -> None:
        """AZ-4: a claim that looks like a wildcard is none: its rule covers nothing at all."""
        pattern = Pattern.parse("/topic/{claims.room}")
        for text in ("/topic/*", "/topic/**", "/*/**"):
            wildcards = Destination.parse(text, pattern=True)
            for claim in ("*", "**", "", "..", "a/b", "a b", None, ["a"]):
                self.assertFalse(pattern.overlaps(wildcards, bob(room=claim)), (text, claim))
                self.assertFalse(pattern.covers(wildcards, bob(room=claim)), (text, claim))
            self.assertTrue(pattern.overlaps(wildcards, bob(room="a")), text)

    def test_longest(self) -> None:
        """AZ-3: at the limit of sixteen segments ``**`` is one segment."""
        start = "/topic" + "/a" * 14
        wildcards = Destination.parse(f"{start}/**", pattern=True)
        for text in (f"{start}/*", f"{start}/**", "/topic/**"):
            self.assertTrue(Pattern.parse(text).covers(wildcards, bob()), text)
        self.assertFalse(Pattern.parse(f"{start}/a").covers(wildcards, bob()))
