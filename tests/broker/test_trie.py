"""Tests of stompauth.broker.trie."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.destination import Destination
from stompauth.broker.trie import Trie

# Few and short, so that they meet.
segments = st.sampled_from(["a", "b", "c"])
names = st.lists(segments, min_size=1, max_size=4).map("/".join)
patterns = st.tuples(
    st.lists(segments | st.just("*"), max_size=3), st.sampled_from(["a", "b", "*", "**"])
).map(lambda parts: "/".join([*parts[0], parts[1]]))


def parse(text: str) -> Destination:
    return Destination.parse(f"/topic/{text}", pattern=True)


class TrieTests(SynchronousTestCase):
    """The index answers as asking each pattern in turn would."""

    @settings(deadline=None, max_examples=200)
    @given(st.sets(names | patterns), names)
    def test_matching(self, keys: set[str], name: str) -> None:
        """The patterns that match a name are exactly those that say so themselves."""
        trie: Trie[str] = Trie()
        for key in keys:
            trie.put(parse(key).segments, key)
        expected = [key for key in keys if parse(key).matches(parse(name))]
        self.assertEqual(sorted(trie.matching(parse(name).segments)), sorted(expected))

    @settings(deadline=None, max_examples=200)
    @given(st.sets(names), names | patterns)
    def test_covered(self, keys: set[str], pattern: str) -> None:
        """The names that a pattern matches are exactly those that it says it does."""
        trie: Trie[str] = Trie()
        for key in keys:
            trie.put(parse(key).segments, key)
        expected = [key for key in keys if parse(pattern).matches(parse(key))]
        self.assertEqual(sorted(trie.covered(parse(pattern).segments)), sorted(expected))

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.tuples(st.booleans(), names | patterns), max_size=30))
    def test_as_a_table(self, steps: list[tuple[bool, str]]) -> None:
        """Putting and removing keeps what a dictionary keeps, and no node beyond that."""
        trie: Trie[str] = Trie()
        table: dict[str, str] = {}
        for put, key in steps:
            if put:
                trie.put(parse(key).segments, key)
                table[key] = key
            else:
                trie.remove(parse(key).segments)
                table.pop(key, None)
            self.assertEqual(len(trie), len(table))
            self.assertEqual(sorted(trie.values()), sorted(table))
            self.assertEqual(trie.get(parse(key).segments), table.get(key))
        for key in table:
            trie.remove(parse(key).segments)
        self.assertEqual(trie._root.children, {})

    def test_replaced(self) -> None:
        """A key has one value, the last."""
        trie: Trie[str] = Trie()
        trie.put(("topic", "a"), "old")
        trie.put(("topic", "a"), "new")
        self.assertEqual((trie.values(), len(trie)), (["new"], 1))
