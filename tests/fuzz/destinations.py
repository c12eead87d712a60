"""Destinations, the patterns of rules, and the rules' decisions about them."""

from __future__ import annotations

from stompauth.authorization.destination import Destination, Kind
from stompauth.authorization.pattern import Pattern
from stompauth.authorization.rules import Rule, Rules, allow, deny
from stompauth.errors import Refused
from stompauth.identity.principal import Principal
from tests.fuzz.choices import Choices

_SEGMENTS = (
    "topic",
    "a",
    "*",
    "**",
    "queue",
    "user",
    "session",
    "app",
    "temp-queue",
    "dlq.x",
    "",
    ".",
    "..",
    "é",
    "e\N{COMBINING ACUTE ACCENT}",
    "%2F",
    "a b",
    "\N{NO-BREAK SPACE}",
    "\ud800",
    "x" * 90,
    "a*",
    "a\\",
    "{user}",
    "{claims.c}",
    "{room}",
    "{}",
    "{a",
)
_PLAIN = _SEGMENTS[:10]
_FORBIDDEN = set("?#>{}%\\;,")


def run(octets: bytes) -> None:
    """Parse, and ask rules; nothing but the promised errors comes of it."""
    choices = Choices(octets)
    text = _text(choices, _SEGMENTS)
    if choices.once_in(4):
        text = choices.mutated(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
    found = [_parse(text, pattern) for pattern in (False, True)]
    if found[0] is not None:
        assert found == [found[0], found[0]], "what is a destination is a pattern of itself"
    _rule(choices, text)
    rules = Rules(
        rule
        for _ in range(choices.number(5))
        if (rule := _rule(choices, _text(choices, _SEGMENTS)))
    )
    principal = Principal(
        name=choices.one_of(("a", "queue", "*", "user")),
        issuer="i",
        expires_at=0,
        issued_at=0,
        claims={"c": choices.one_of(("a", "*", "..", ["a", 1], None, "a/b", "\ud800"))},
    )
    for destination in found:
        if destination is not None:
            _ask(rules, principal, destination, choices)
    for _ in range(choices.number(3)):
        destination = _parse(_text(choices, _PLAIN), True)
        if destination is not None:
            _ask(rules, principal, destination, choices)
    rules.unreachable()


def _text(choices: Choices, segments: tuple[str, ...]) -> str:
    text = choices.one_of(("/", "/", "/", ""))
    return text + "/".join(
        choices.one_of(segments) for _ in range(choices.one_of((2, 1, 3, 4, 0, 16, 17)))
    )


def _parse(text: str, pattern: bool) -> Destination | None:
    try:
        destination = Destination.parse(text, pattern=pattern)
    except Refused as refused:
        if refused.code != "bad-destination":
            raise
        return None
    assert destination.path == text
    assert "/" + "/".join(destination.segments) == text
    assert len(text.encode()) <= 255
    assert len(destination.segments) <= 16
    assert not any(char.isspace() or char in _FORBIDDEN or not ord(char) & ~31 for char in text)
    for position, segment in enumerate(destination.segments, 1 - len(destination.segments)):
        assert segment not in ("", ".", "..")
        if "*" in segment:
            assert pattern
            assert segment == "*" or (segment == "**" and position == 0)
    return destination


def _rule(choices: Choices, text: str) -> Rule | None:
    make = choices.one_of((allow, deny))
    try:
        pattern = Pattern.parse(text)
        claims = choices.one_of(({}, {"c": "a"}, {"c": "{user}"}, {"c": "{room}"}))
        rule = make(*choices.one_of((("subscribe", "send"), ("subscribe",))), text, claims=claims)
    except ValueError:
        return None
    assert rule.pattern == pattern
    return rule


def _ask(rules: Rules, principal: Principal, destination: Destination, choices: Choices) -> None:
    for command in ("subscribe", "send"):
        decision = rules.check(principal, command, destination)
        rules.explain(principal, command, destination)
        if not decision.allowed:
            continue
        rule = next(rule for rule in rules.rules if rule.label == decision.rule)
        assert command in rule.commands
        if destination.kind in (Kind.USER, Kind.SESSION, Kind.APP, Kind.TEMP_QUEUE):
            assert rule.pattern.text.split("/")[1] == destination.segments[0], "a reserved segment"
        if destination.is_pattern:
            assert command == "subscribe"
            _check_covered(rules, principal, destination, choices)


def _check_covered(
    rules: Rules, principal: Principal, pattern: Destination, choices: Choices
) -> None:
    """An allowed pattern covers nothing that is not allowed by itself."""
    for _ in range(3):
        segments = [
            choices.one_of(("b", *_PLAIN)) if segment in ("*", "**") else segment
            for segment in pattern.segments
        ]
        if pattern.segments[-1] == "**":
            segments += ["b"] * choices.number(3)
        try:
            example = Destination.parse("/" + "/".join(segments))
        except Refused:
            continue
        if pattern.matches(example):
            assert rules.check(principal, "subscribe", example).allowed, (pattern, example)
