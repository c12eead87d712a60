"""Tests of stompauth.handlers.conversion."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.handlers.conversion import BodyMismatch, check_type, from_body, to_body


@dataclass
class Tree:
    children: list[Tree]


@dataclass
class Inner:
    name: str
    tags: list[str] = field(default_factory=list)


@dataclass
class Body:
    text: str
    size: int
    price: float = 0.0
    inner: Inner | None = None
    kind: Literal["a", "b"] = "a"
    extra: dict[str, int] = field(default_factory=dict)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class FromBodyTests(SynchronousTestCase):
    """A body becomes what the handler takes, or a clear error."""

    def assert_mismatch(self, value: Any, text: str, wanted: Any = Body) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        error = self.assertRaises(BodyMismatch, from_body, body, wanted)
        self.assertEqual(str(error), text)

    def test_plain(self) -> None:
        """Octets stay octets; text is UTF-8."""
        self.assertEqual(from_body(b"\xff", bytes), b"\xff")
        self.assertEqual(from_body("ä".encode(), str), "ä")
        self.assert_mismatch(b"\xff", "the body is not UTF-8", str)

    def test_dataclass(self) -> None:
        """An object becomes a dataclass, with those in it and the defaults of what is not there."""
        body = b'{"text": "x", "size": 1, "price": 2, "inner": {"name": "n", "tags": ["t"]}}'
        value = from_body(body, Body)
        self.assertEqual(value, Body("x", 1, 2.0, Inner("n", ["t"])))
        self.assertIs(type(value.price), float)
        self.assertEqual(from_body(b'{"text": "x", "size": 1}', Body), Body("x", 1))

    def test_mismatches(self) -> None:
        """What does not fit is told by where it is, without a word of what it was."""
        good = {"text": "x", "size": 1}
        self.assert_mismatch(b"{", "the body is not JSON")
        self.assert_mismatch(b"[" * 100_000, "the body is not JSON")
        self.assert_mismatch([], "the body is not an object")
        self.assert_mismatch({"text": "x"}, "the body: size is missing")
        self.assert_mismatch({**good, "size": "1"}, "the body: size is not an integer")
        self.assert_mismatch({**good, "size": True}, "the body: size is not an integer")
        self.assert_mismatch({**good, "size": 1.5}, "the body: size is not an integer")
        self.assert_mismatch({**good, "price": "1"}, "the body: price is not a number")
        self.assert_mismatch({**good, "secret": 1}, "the body has a member that is not known")
        self.assert_mismatch(
            {**good, "kind": "c"}, "the body: kind is none of the values that it may be"
        )
        self.assert_mismatch(
            {**good, "inner": 1}, "the body: inner is of none of the types that it may be"
        )
        self.assert_mismatch(
            {**good, "extra": {"a": "b"}}, "a member of the body: extra is not an integer"
        )
        self.assert_mismatch(["a", 1], "the body[1] is not a string", list[str])

    def test_refusing_dataclass(self) -> None:
        """A dataclass may refuse values by a ValueError of its own."""

        @dataclass
        class Even:
            n: int

            def __post_init__(self) -> None:
                if self.n % 2:
                    raise ValueError("secret")

        self.assert_mismatch({"n": 1}, "the body has values that do not go together", Even)

    @given(json_values)
    def test_any_json(self, value: Any) -> None:
        """Whatever JSON comes, it fits or is a mismatch."""
        body = json.dumps(value).encode()
        self.assertEqual(from_body(body, Any), value)
        for wanted in (Body, dict, list[int], str | int, dict[str, float], Literal[1, "a"]):
            try:
                from_body(body, wanted)
            except BodyMismatch:
                continue

    def test_types(self) -> None:
        """A type that no body can become is refused when the handler is added."""
        for good in (bytes, str, int, Body, list[Body], dict[str, int], int | None, Any, dict):
            check_type(good)

        @dataclass
        class Bad:
            data: bytes

        bytes_inside = (Bad, list[bytes], dict[str, bytes], bytes | None)
        for bad in (object, set[int], dict[int, str], list[object], Exception, Tree, *bytes_inside):
            with self.assertRaises(TypeError):
                check_type(bad)


class ToBodyTests(SynchronousTestCase):
    """What a handler returns becomes a body with its content type."""

    def test_results(self) -> None:
        """Octets, text, and everything that JSON has."""
        self.assertEqual(to_body(b"\xff"), (b"\xff", "application/octet-stream"))
        self.assertEqual(to_body("ä"), ("ä".encode(), "text/plain;charset=utf-8"))
        body, content_type = to_body([Inner("n"), {"a": 1}])
        self.assertEqual(json.loads(body), [{"name": "n", "tags": []}, {"a": 1}])
        self.assertEqual(content_type, "application/json")

    def test_nothing_that_json_has(self) -> None:
        """Anything else is the handler's mistake."""
        for result in (object(), {1, 2}, float("nan")):
            with self.assertRaises((TypeError, ValueError)):
                to_body(result)
