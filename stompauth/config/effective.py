"""A configuration as text, for ``--check`` to show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from stompauth.authorization.rules import Rule, Rules
from stompauth.config.values import Config
from stompauth.settings import Limits

#: Of these 0 means that there is no limit.
_LIMITS: Final = frozenset(
    {f"limits.{limit.name}" for limit in fields(Limits)} - {"limits.heartbeat"}
    | {"jwt.max_lifetime", "tickets.rate", "tickets.failures_per_address"}
    | {"tickets.max_outstanding", "tickets.max_total"}
)


def effective(config: Config, sources: Mapping[str, str] | None = None) -> str:
    """Write a configuration down, whole and in TOML, with a remark where a 0 means no limit.

    It holds no secret: of the interceptors' settings only the names are told.

    :param sources: where each key's value comes from, to be remarked too; see
        :attr:`.Given.sources`. What is not in it is a default.
    """
    lines = [*_settings("", config, sources)]
    chain = ["authenticate", *(entry.use for entry in config.interceptors), "authorize"]
    lines += ["", f"# interceptors, in order: {', '.join(chain)}"]
    for entry in config.interceptors:
        lines += ["[[interceptors]]", f"use = {_toml(entry.use)}"]
        if entry.settings:
            lines.append(f"# with {', '.join(entry.settings)}")
        lines.append("")
    never = Rules(config.rules).unreachable()
    lines += ["# rules, in order: the first that matches decides"]
    for rule in config.rules:
        lines += ["[[rules]]", *_rule_lines(rule)]
        if rule in never:
            lines.append("# never decides: earlier rules cover it")
        lines.append("")
    return "\n".join(lines)


def _settings(path: str, section: Any, sources: Mapping[str, str] | None) -> Iterator[str]:
    """The lines of a section's own keys, then those of the sections in it."""
    inner: list[str] = []
    for key in fields(section):
        value, where = getattr(section, key.name), f"{path}{key.name}"
        if is_dataclass(value):
            inner += ["", f"[{where}]", *_settings(f"{where}.", value, sources)]
        elif where not in ("interceptors", "rules"):
            remarks = ["none"] if where in _LIMITS and not value else []
            if sources is not None:
                remarks.append(sources.get(where, "default"))
            remark = f"  # {', '.join(remarks)}" if remarks else ""
            yield f"{key.name} = {_toml(value)}{remark}"
    yield from inner


def _rule_lines(rule: Rule) -> Iterator[str]:
    if rule.name:
        yield f"name = {_toml(rule.name)}"
    yield f"{'allow' if rule.allows else 'deny'} = {_toml(rule.commands)}"
    yield f"destination = {_toml(rule.pattern.text)}"
    if rule.authorities:
        yield f"authorities = {_toml(sorted(rule.authorities))}"
    if rule.claims:
        claims = (f"{_toml(claim.claim)} = {_toml(claim.value)}" for claim in rule.claims)
        yield f"claims = {{ {', '.join(claims)} }}"
    if rule.retain:
        yield "retain = true"
    if not rule.allows:
        yield f"on_deny = {_toml(rule.on_deny)}"


def _toml(value: object) -> str:
    # JSON has no other notation for these values than TOML has, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
