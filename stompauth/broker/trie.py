"""An index of destinations and patterns, by their segments."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class _Node(Generic[T]):
    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.value: T | None = None


class Trie(Generic[T]):
    """A table keyed by the segments of destinations, which may be patterns.

    It is looked into from both sides: which patterns match this name, and which names does this
    pattern match. ``*`` is one segment, ``**`` one or more, last.
    """

    __slots__ = ("_length", "_root")

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def get(self, key: tuple[str, ...]) -> T | None:
        """The value of exactly that key, wildcards being nothing special."""
        node: _Node[T] | None = self._root
        for segment in key:
            if node is None:
                return None
            node = node.children.get(segment)
        return node.value if node is not None else None

    def put(self, key: tuple[str, ...], value: T) -> None:
        """Set the value of the key."""
        node = self._root
        for segment in key:
            child = node.children.get(segment)
            if child is None:
                child = node.children[segment] = _Node()
            node = child
        if node.value is None:
            self._length += 1
        node.value = value

    def remove(self, key: tuple[str, ...]) -> None:
        """Take the key out, if it is there, and every node that nothing else needs."""
        path = [self._root]
        for segment in key:
            child = path[-1].children.get(segment)
            if child is None:
                return
            path.append(child)
        if path[-1].value is None:
            return
        path[-1].value = None
        self._length -= 1
        for parent, segment in zip(reversed(path[:-1]), reversed(key), strict=True):
            child = parent.children[segment]
            if child.children or child.value is not None:
                return
            del parent.children[segment]

    def values(self) -> list[T]:
        """All values."""
        return _values_below([self._root])

    def matching(self, name: tuple[str, ...]) -> list[T]:
        """The values of the patterns that match the name; a key without wildcards is one too."""
        found: list[T] = []
        nodes = [self._root]
        for segment in name:
            onward = []
            for node in nodes:
                children = node.children
                rest = children.get("**")
                if rest is not None and rest.value is not None:
                    found.append(rest.value)
                for step in (segment, "*"):
                    child = children.get(step)
                    if child is not None:
                        onward.append(child)
            nodes = onward
        found += [node.value for node in nodes if node.value is not None]
        return found

    def covered(self, pattern: tuple[str, ...]) -> list[T]:
        """The values of the names that the pattern matches."""
        nodes = [self._root]
        for segment in pattern:
            if segment == "**":
                return _values_below(nodes)
            if segment == "*":
                nodes = [child for node in nodes for child in node.children.values()]
            else:
                nodes = [node.children[segment] for node in nodes if segment in node.children]
        return [node.value for node in nodes if node.value is not None]


def _values_below(nodes: list[_Node[T]]) -> list[T]:
    found = []
    while nodes:
        nodes = [child for node in nodes for child in node.children.values()]
        found += [node.value for node in nodes if node.value is not None]
    return found
