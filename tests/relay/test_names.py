"""Tests of stompauth.relay.names."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.destination import MAX_BYTES, Destination, is_segment
from stompauth.errors import Refused
from stompauth.relay.names import (
    queue_address,
    reply_address,
    topic_address,
    topic_of,
    user_address,
)

KEYS = "/exchange/amq.topic/"

SEGMENTS = st.one_of(
    st.sampled_from(["a", "b", "a.b", ".a", "a.", "...", "*a".strip("*"), "ü", "x:y", "=2E", "~"]),
    st.text(min_size=1, max_size=12).filter(is_segment),
)
NAMES = st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join)


def parse(kind: str, name: str) -> Destination:
    return Destination.parse(f"/{kind}/{name}", pattern=True)


def binds(binding: str, key: str) -> bool:
    """How RabbitMQ's topic exchange matches: ``*`` one word, ``#`` none or more."""

    def match(pattern: list[str], words: list[str]) -> bool:
        if not pattern:
            return not words
        if pattern[0] == "#":
            return match(pattern[1:], words) or (bool(words) and match(pattern, words[1:]))
        return bool(words) and pattern[0] in ("*", words[0]) and match(pattern[1:], words[1:])

    return match(binding.split("."), key.split("."))


def as_rabbitmq_writes(address: str) -> str:
    """The ``destination`` of a MESSAGE."""
    key = address.removeprefix(KEYS)
    return "/topic/" + quote(
        key, safe="".join(map(chr, range(32, 128))).replace("%", "").replace("/", "")
    )


class TopicTests(SynchronousTestCase):
    """Topics are routing keys of amq.topic."""

    def test_table(self) -> None:
        """Segments are words; a dot in a segment is no end of a word."""
        for name, key in [
            ("news", "news"),
            ("rooms/lobby", "rooms.lobby"),
            ("v1.5/x", "v1,5.x"),
            ("rooms/*", "rooms.*"),
            ("rooms/**", "rooms.*.#"),
            ("**", "*.#"),
            ("*/x", "*.x"),
            ("räume", "räume"),
        ]:
            self.assertEqual(topic_address(parse("topic", name)), KEYS + key)

    @settings(deadline=None, max_examples=200)
    @given(NAMES)
    def test_there_and_back(self, name: str) -> None:
        """RL-2: every topic comes back as itself, however RabbitMQ writes it."""
        destination = parse("topic", name)
        address = topic_address(destination)
        self.assertEqual(topic_of(as_rabbitmq_writes(address)), destination)
        self.assertEqual(topic_of(address), destination)
        self.assertLessEqual(len(address.removeprefix(KEYS).encode()), MAX_BYTES)
        self.assertFalse(set("*#%/") & set(address.removeprefix(KEYS)))

    @settings(deadline=None, max_examples=200)
    @given(NAMES, NAMES)
    def test_injective(self, one: str, other: str) -> None:
        """Two topics never have one key, nor two queues one name."""
        self.assertEqual(
            one == other, topic_address(parse("topic", one)) == topic_address(parse("topic", other))
        )
        self.assertEqual(one == other, _queue(one) == _queue(other) and _queue(one) is not None)

    @settings(deadline=None, max_examples=200)
    @given(st.text(max_size=30))
    def test_foreign_keys(self, key: str) -> None:
        """What another application publishes is a topic of ours only if we would call it so."""
        found = topic_of("/topic/" + quote(key))
        if found is not None:
            self.assertEqual(topic_address(found), KEYS + key)

    def test_foreign(self) -> None:
        """What is not ours has no topic."""
        for address in [
            "/queue/x",
            "/topic/",
            "/topic/a..b",
            "/topic/%FF",
            "/topic/a%2Fb",
            "/topic/%23",
            "/exchange/amq.direct/user;00",
            "/topic/a%20b",
            "/topic/*",
            "/topic/*.%23",
        ]:
            self.assertIsNone(topic_of(address), address)

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(st.sampled_from(["a", "b.c", "*"]), min_size=1, max_size=3),
        st.booleans(),
        st.lists(st.sampled_from(["a", "b.c", "b", "c"]), min_size=1, max_size=4),
    )
    def test_patterns(self, pattern: list[str], rest: bool, name: list[str]) -> None:
        """RabbitMQ matches a pattern to exactly the topics that it covers here."""
        wanted = parse("topic", "/".join([*pattern, "**"] if rest else pattern))
        topic = parse("topic", "/".join(name))
        binding = topic_address(wanted).removeprefix(KEYS)
        key = topic_address(topic).removeprefix(KEYS)
        self.assertEqual(binds(binding, key), wanted.matches(topic))


class QueueTests(SynchronousTestCase):
    """Queues have their names."""

    def test_table(self) -> None:
        """The slash of a name is written as RabbitMQ reads it."""
        for name, address in [
            ("orders", "/queue/orders"),
            ("orders/eu.west", "/queue/orders%2Feu.west"),
            ("dlq.orders", "/queue/dlq.orders"),
        ]:
            self.assertEqual(queue_address(parse("queue", name)), address)

    def test_reserved(self) -> None:
        """RL-2: the names of the broker's own queues are nobody's destinations."""
        for name in ("amq.gen-x", "amq.x/y", "stomp-subscription-x"):
            refused = self.assertRaises(Refused, queue_address, parse("queue", name))
            self.assertEqual(refused.code, "no-such-destination")


class PrivateTests(SynchronousTestCase):
    """RL-2: what is one user's, or one session's, is nothing that a client can name."""

    def test_users(self) -> None:
        """Names depend on user, path and secret; none tells any of them."""
        args = [
            (b"s", "alice", "/queue/x"),
            (b"s", "bob", "/queue/x"),
            (b"s", "alice", "/queue/y"),
            (b"t", "alice", "/queue/x"),
        ]
        names = {user_address(*each) for each in args}
        self.assertEqual(len(names), len(args))
        self.assertEqual(user_address(*args[0]), user_address(*args[0]))
        self.assertFalse([name for name in names if "alice" in name])

    @settings(deadline=None)
    @given(NAMES)
    def test_apart(self, name: str) -> None:
        """No topic and no queue has such a name."""
        self.assertNotIn(";", topic_address(parse("topic", name)))
        self.assertNotIn(";", _queue(name) or "")

    def test_replies(self) -> None:
        """To send to a temporary queue does not make one."""
        name = "/temp-queue/reply." + "0" * 32
        self.assertEqual(reply_address(name), "/amq/queue/temp;" + "0" * 32)
        self.assertEqual(reply_address(name, subscribe=True), "/queue/temp;" + "0" * 32)


def _queue(name: str) -> str | None:
    try:
        return queue_address(parse("queue", name))
    except Refused:
        return None
