"""Settings from environment variables: ``STOMPAUTH_SECTION__KEY``, or ``STOMPAUTH_KEY``."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from stompauth.audit import printable
from stompauth.config.values import keys
from stompauth.errors import Mistake

PREFIX: Final = "STOMPAUTH_"

#: What the console script reads, and what container platforms set for a service of our name.
_FOREIGN: Final = re.compile(
    "STOMPAUTH_(?:URL=.*|TOKEN=.*|(?:[A-Z0-9]+_)*"
    "(?:SERVICE_HOST=.*|SERVICE_PORT(?:_[A-Z0-9_]+)?=[0-9]+|PORT=[a-z]+://.*"
    "|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?=.*))",
    re.DOTALL,
)

_NUMBER: Final = re.compile("-?[0-9]{1,18}(\\.[0-9]{1,18})?")


def variable(path: str) -> str:
    """The variable that sets a key: ``STOMPAUTH_JWT__ISSUER`` for ``jwt.issuer``."""
    return PREFIX + path.replace(".", "__").upper()


def from_environment(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[Mistake]]:
    """Read the variables that set a key.

    A value is written as in TOML, but for strings, which have no quotes, and lists, which are
    JSON. What is not written so is left a string, for the reader to refuse.

    :return: values by the path of their key; and a mistake for each variable that begins as ours
        do and is none of them.
    """
    known = {variable(path): (path, hint) for path, hint in keys()}
    values: dict[str, Any] = {}
    mistakes = []
    for name, text in sorted(environment.items()):
        if not name.startswith(PREFIX) or _FOREIGN.fullmatch(f"{name}={text}"):
            continue
        if name not in known:
            mistakes.append(Mistake(printable(name), _unknown(name, known)))
            continue
        path, hint = known[name]
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            mistakes.append(Mistake(name, "is not UTF-8"))
            continue
        values[path] = _value(hint, text)
    return values, mistakes


def _unknown(name: str, known: Iterable[str]) -> str:
    if name in (variable("rules"), variable("interceptors")):
        return "sets no key: rules and interceptors are in the file only"
    near = difflib.get_close_matches(name, known, 1, cutoff=0.8)
    return "sets no key" + (f"; did you mean {near[0]}?" if near else "")


def _value(hint: object, text: str) -> object:
    if hint is bool:
        return {"true": True, "false": False}.get(text, text)
    if hint in (int, float):
        number = _NUMBER.fullmatch(text)
        if number is not None:
            return float(text) if number[1] else int(text)
    elif hint is not str and text.startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    return text
