"""The entries of ``[[interceptors]]`` and ``[[rules]]``, and what is made of them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from operator import attrgetter
from typing import Any, Final

from stompauth.authorization.decision import OnDeny
from stompauth.authorization.pattern import Pattern
from stompauth.authorization.rules import Rule, allow, deny
from stompauth.config.values import InterceptorConfig
from stompauth.errors import ConfigError, Mistake
from stompauth.interfaces import IInterceptor

#: The group of entry points that packages offer interceptors by.
INTERCEPTORS: Final = "stompauth.interceptors"


@dataclass(frozen=True, slots=True)
class RuleTable:
    """An entry of ``[[rules]]`` as it is written.

    :ivar allow: ``"subscribe"``, ``"send"`` or both. A rule has either this or ``deny``.
    :ivar deny: Likewise.
    :ivar destination: A pattern: ``*`` is one segment, ``**`` at the end one or more, ``{name}``
        one that it captures, ``{user}`` the user's name, ``{claims.x}`` a claim.
    :ivar authorities: The user needs one of these.
    :ivar claims: Each claim equals the text, or is a list that has it. The text may be ``{user}``,
        or a ``{name}`` of the pattern.
    :ivar name: What the rule is called in logs.
    :ivar on_deny: Of a rule with ``deny``: ``"close"`` the session, or ``"notify"`` the client.
    :ivar retain: Of a rule with ``allow`` for SEND: a message may be retained for later
        subscribers.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    destination: str = ""
    authorities: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    on_deny: OnDeny = "close"
    retain: bool = False


def make_interceptor(where: str, table: dict[str, object]) -> InterceptorConfig:
    settings = dict(table)
    use = settings.pop("use", None)
    if not isinstance(use, str) or not re.fullmatch(r"[\w.]+:[\w.]+|[\w-]+", use):
        raise _mistaken(
            f"{where}.use", "must be a string such as package.module:Name, or an entry point's name"
        )
    try:
        factory = _imported(use)
    except Exception as error:
        raise _mistaken(f"{where}.use", f"cannot be imported: {_told(error)}") from error
    try:
        interceptor = factory(**settings)
    except Exception as error:
        raise _mistaken(where, f"cannot be made: {_told(error)}") from error
    if not IInterceptor.providedBy(interceptor):
        raise _mistaken(f"{where}.use", "makes nothing that provides IInterceptor")
    return InterceptorConfig(use, settings, interceptor)


def _imported(use: str) -> Callable[..., Any]:
    """What ``package.module:Name``, or the name of an entry point, stands for.

    :raises Exception: it cannot be imported.
    """
    factory: Callable[..., Any]
    if ":" in use:
        module, _, name = use.partition(":")
        factory = attrgetter(name)(importlib.import_module(module))
    else:
        found = entry_points(group=INTERCEPTORS, name=use)
        if len(found) != 1:
            raise LookupError(f"{len(found)} entry points of {INTERCEPTORS} have that name")
        (entry_point,) = found
        factory = entry_point.load()
    return factory


def make_rule(where: str, written: RuleTable) -> Rule:
    if bool(written.allow) == bool(written.deny):
        raise _mistaken(where, "needs either allow or deny")
    if written.deny and written.retain:
        raise _mistaken(f"{where}.retain", "goes with allow only")
    if written.allow and written.on_deny != "close":
        raise _mistaken(f"{where}.on_deny", "goes with deny only")
    try:
        Pattern.parse(written.destination)
    except ValueError as error:
        raise _mistaken(f"{where}.destination", str(error)) from error
    make = (
        partial(allow, *written.allow, written.destination, retain=written.retain)
        if written.allow
        else partial(deny, *written.deny, written.destination, on_deny=written.on_deny)
    )
    try:
        return make(authorities=written.authorities, claims=written.claims, name=written.name)
    except ValueError as error:
        raise _mistaken(where, str(error)) from error


def _mistaken(path: str, text: str) -> ConfigError:
    return ConfigError([Mistake(path, text)])


def _told(error: Exception) -> str:
    """What an exception says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
