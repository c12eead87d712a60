"""From TOML to values.

Nothing is half right: :func:`from_mapping` returns a whole :class:`.Config`, or raises a
:exc:`.ConfigError` with every mistake that there is.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, TypeVar, cast, get_type_hints

from cryptography import x509

from stompauth.authorization.rules import Rule
from stompauth.config.checks import LISTENERS, PATHS, TYPES, check, readable
from stompauth.config.entries import RuleTable, make_interceptor, make_rule
from stompauth.config.listener import Listener
from stompauth.config.values import Config, InterceptorConfig, JwtConfig
from stompauth.errors import ConfigError, Mistake
from stompauth.identity.bearer import read_secret_token
from stompauth.identity.keys import HMAC_ALGORITHMS, PUBLIC_KEY_ALGORITHMS, StaticKey
from stompauth.redis import RedisURL, is_installed, read_password

_DEFAULTS: Final = Config()

#: What cannot be empty. Where it has a default, leaving it out is fine.
REQUIRED: Final = (
    "listen",
    "roles",
    "jwt.algorithms",
    "jwt.issuer",
    "jwt.audience",
    "jwt.user_claim",
    "jwt.authorities_claim",
    "tickets.path",
    "tickets.store",
    "websocket.path",
    "websocket.origins",
    "rules",
)

#: Who changes one of the keys on the right has to change that on the left.
_NEEDED_BY: Final = {
    "jwt.jwks_url": ("jwt.jwks_ca_file", "jwt.jwks_refresh", "jwt.jwks_cooldown"),
    "tickets.store": ("tickets.password_file", "tickets.prefix", "tickets.timeout"),
    "broker.kind": (
        "broker.endpoint",
        "broker.login",
        "broker.passcode_file",
        "broker.host",
        "broker.receipt_timeout",
    ),
    "broker.endpoint": ("broker.kind",),
    "broker.login": ("broker.kind",),
    "broker.passcode_file": ("broker.kind",),
    "broker.bus": (
        "broker.bus_password_file",
        "broker.bus_prefix",
        "broker.bus_timeout",
    ),
    "cluster.url": ("cluster.password_file", "cluster.prefix", "cluster.timeout"),
    "control.listen": ("control.token_file",),
    "control.token_file": ("control.listen",),
    "ops.listen": ("ops.token_file",),
    "authorization.http": ("authorization.timeout", "authorization.cache"),
}

_REDIS: Final = 'tickets.store = "redis://..."'
_CHANGES: Final = {"tickets.store": _REDIS, "broker.kind": 'broker.kind = "relay"'}

#: Keys of files of which there may be one, or a list.
FILE_OR_FILES: Final = ("jwt.public_key_file", "jwt.secret_file")

_KEYS: Final = ("jwt.jwks_url", "jwt.public_key_file", "jwt.secret_file")


def from_mapping(
    data: Mapping[str, object], directory: Path, running: Config = _DEFAULTS
) -> Config:
    """Make a configuration of what a TOML parser made of the text.

    :param directory: what paths are relative to.
    :param running: the configuration in use, if there is one: its interceptors are used again where
        their entries are the same.
    :raises ConfigError: there are mistakes; all of them.
    """
    return _Reader(data, directory.absolute(), running).config()


_T = TypeVar("_T")


class _Reader:
    """Makes one configuration, and gathers what is wrong with it.

    A key that could not be read has its default in the meantime: what concerns several keys is
    looked at only where all of them were read.
    """

    def __init__(self, data: Mapping[str, object], directory: Path, running: Config) -> None:
        self._running = running
        self._data = data
        self._directory = directory
        self._mistakes: list[Mistake] = []
        self._unread: list[str] = []

    def config(self) -> Config:
        """Make it.

        :raises ConfigError: there are mistakes.
        """
        interceptors = self._entries("interceptors", self._interceptor)
        rules = self._entries("rules", self._rule)
        rest = {key: self._data[key] for key in self._data if key not in ("interceptors", "rules")}
        config = replace(self._section("", rest, Config), interceptors=interceptors, rules=rules)
        self._unread = [mistake.path for mistake in self._mistakes]
        self._check_presence(config)
        self._check_keys(config.jwt)
        self._check_tokens(config)
        self._check_redis("tickets.store", "tickets.password_file", config)
        self._check_redis("broker.bus", "broker.bus_password_file", config)
        self._check_redis("cluster.url", "cluster.password_file", config)
        self._check_bus(config)
        self._check_paths(config)
        self._check_listeners(config)
        if self._mistakes:
            order = {path: number for number, path in enumerate(_paths("", self._data))}
            raise ConfigError(sorted(self._mistakes, key=lambda found: _place(found.path, order)))
        return config

    def _mistake(self, path: str, text: str) -> None:
        self._mistakes.append(Mistake(path, text))

    def _expect(self, is_fine: object, path: str, text: str, *others: str) -> None:
        """Note a mistake unless something is fine, which follows from these keys."""
        if not is_fine and self._is_read(path, *others):
            self._mistake(path, text)

    def _is_read(self, *paths: str) -> bool:
        return not any(
            unread == path
            or unread.startswith((f"{path}.", f"{path}["))
            or path.startswith(f"{unread}.")
            for path in paths
            for unread in self._unread
        )

    def _section(self, path: str, table: Mapping[str, object], section: type[_T]) -> _T:
        hints = get_type_hints(section)
        values = {}
        for key, value in table.items():
            where = _join(path, key)
            if key not in hints:
                near = difflib.get_close_matches(key, hints, 1)
                self._mistake(where, "is no key" + (f"; did you mean {near[0]}?" if near else ""))
                continue
            count = len(self._mistakes)
            read = self._value(where, value, hints[key])
            if is_dataclass(read) or len(self._mistakes) == count:
                values[key] = read
        return section(**values)

    def _value(self, where: str, value: Any, hint: Any) -> object:
        """Read a value as its annotation wants it; means nothing if a mistake was noted."""
        if is_dataclass(hint):
            if isinstance(value, dict):
                return self._section(where, value, cast("type[object]", hint))
            self._mistake(where, "must be a table")
            return None
        if where in FILE_OR_FILES and isinstance(value, str):
            return (self._item(where, where, value),) if value else ()
        fits, words = TYPES[hint]
        if not fits(value):
            self._mistake(where, f"must be {words}")
            return None
        if isinstance(value, list):
            return tuple(self._item(f"{where}[{n}]", where, item) for n, item in enumerate(value))
        return self._item(where, where, value)

    def _item(self, where: str, key: str, item: Any) -> object:
        """Look at a value by itself, or at one of a list; outside of lists, empty is not given."""
        is_given = bool(item) or where != key
        key = re.sub(r"\[[0-9]+\]", "", key)
        try:
            check(key, item, is_given=is_given)
            if is_given and key.endswith("_file"):
                return readable(self._directory / item)
        except ValueError as error:
            self._mistake(where, str(error))
        return item

    def _entries(self, path: str, read: Callable[[str, Any], _T]) -> tuple[_T, ...]:
        """Read an array of tables; those with mistakes are left out."""
        tables: Any = self._data.get(path, [])
        if not (isinstance(tables, list) and all(isinstance(table, dict) for table in tables)):
            self._mistake(path, f"must be tables, each under [[{path}]]")
            return ()
        entries = []
        for index, table in enumerate(tables):
            try:
                entries.append(read(f"{path}[{index}]", table))
            except ConfigError as error:
                self._mistakes += error.mistakes
        return tuple(entries)

    def _interceptor(self, where: str, table: dict[str, object]) -> InterceptorConfig:
        for entry in self._running.interceptors:
            if {"use": entry.use, **entry.settings} == table:
                return entry
        return make_interceptor(where, table)

    def _rule(self, where: str, table: dict[str, object]) -> Rule:
        count = len(self._mistakes)
        written = self._section(where, table, RuleTable)
        if len(self._mistakes) > count:
            raise ConfigError([])  # the mistakes are noted
        return make_rule(where, written)

    def _check_presence(self, config: Config) -> None:
        for path in REQUIRED:
            self._expect(_at(config, path), path, "is required, and not empty")
        for needed, paths in _NEEDED_BY.items():
            for path in paths:
                is_alone = _is_changed(config, path) and not _is_changed(config, needed)
                self._expect(not is_alone, path, f"needs {_CHANGES.get(needed, needed)}", needed)
        self._expect(
            len(set(config.roles)) != 1 or _is_changed(config, "tickets.store"),
            "roles",
            f"alone needs {_REDIS}",
            "tickets.store",
        )

    def _check_keys(self, jwt: JwtConfig) -> None:
        """JW-1, JW-2: keys and algorithms fit one another."""
        self._expect(
            jwt.jwks_cooldown <= jwt.jwks_refresh,
            "jwt.jwks_cooldown",
            "must not be more than jwt.jwks_refresh",
            "jwt.jwks_refresh",
        )
        if jwt.jwks_ca_file:
            try:
                x509.load_pem_x509_certificates(Path(jwt.jwks_ca_file).read_bytes())
            except (OSError, ValueError):
                self._mistake("jwt.jwks_ca_file", f"{jwt.jwks_ca_file!r} holds no certificate")
        if not self._is_read("jwt.algorithms", *_KEYS):
            return
        given = [path for path in _KEYS if getattr(jwt, path.removeprefix("jwt."))]
        if len(given) != 1:
            words = "only one of" if given else "one of"
            self._mistake("jwt", f"needs {words} jwks_url, public_key_file and secret_file")
        algorithms = set(jwt.algorithms)
        uses_hmac = not algorithms.isdisjoint(HMAC_ALGORITHMS)
        if uses_hmac and not algorithms.isdisjoint(PUBLIC_KEY_ALGORITHMS):
            self._mistake(
                "jwt.algorithms",
                "must not mix HMAC with public keys: whoever had the public key could sign",
            )
            return
        for path in given:
            if algorithms and uses_hmac != (path == "jwt.secret_file"):
                kind = "public-key" if uses_hmac else "HMAC"
                self._mistake(path, f"goes with {kind} algorithms only")
            elif path != "jwt.jwks_url":
                self._check_key_files(path, jwt)

    def _check_key_files(self, path: str, jwt: JwtConfig) -> None:
        is_secret = path == "jwt.secret_file"
        for name in jwt.secret_file if is_secret else jwt.public_key_file:
            try:
                if is_secret:
                    keys = StaticKey.from_secret_files(name)
                else:
                    keys = StaticKey.from_public_key_files(name)
                keys.check_algorithms(jwt.algorithms)
            except (OSError, ValueError) as error:
                self._mistake(path, f"{name!r}: {error}")

    def _check_tokens(self, config: Config) -> None:
        """OP-1: what callers are asked for cannot be guessed."""
        for section in ("control", "ops"):
            path = f"{section}.token_file"
            listeners, token_file = _at(config, f"{section}.listen"), _at(config, path)
            if listeners and token_file and self._is_read(path):
                try:
                    read_secret_token(token_file)
                except (OSError, ValueError) as error:
                    self._mistake(path, f"{token_file!r}: {error}")

    def _check_bus(self, config: Config) -> None:
        """With several processes, what they do not share is not promised by a rule."""
        broker = config.broker
        is_simple = broker.kind == "simple"
        self._expect(
            not broker.bus or is_simple,
            "broker.bus",
            'goes with broker.kind = "simple"',
            "broker.kind",
        )
        is_shared = broker.bus or (is_simple and config.workers > 1)
        self._expect(
            is_shared or not broker.local_queues,
            "broker.local_queues",
            "needs broker.bus, or several workers",
            "broker.bus",
            "workers",
        )
        if not is_shared or not self._is_read("broker.bus", "broker.kind", "workers"):
            return
        for index, rule in enumerate(config.rules):
            where = f"rules[{index}]"
            self._expect(
                not rule.allows or rule.pattern.first != "queue" or broker.local_queues,
                f"{where}.destination",
                "is of queues, which nodes and workers do not share; broker.local_queues = true"
                " gives each its own",
                "rules",
                "broker.local_queues",
            )
            self._expect(
                not rule.retain,
                f"{where}.retain",
                "goes without broker.bus and workers only: several processes retain nothing",
                "rules",
            )

    def _check_redis(self, path: str, password_path: str, config: Config) -> None:
        """TK-7: whatever keeps Redis from being used is known before anything listens."""
        url, password_file = _at(config, path), _at(config, password_path)
        if not self._is_read(path) or url in ("", "memory"):
            return
        self._expect(is_installed(), path, "needs pip install 'stompauth[redis]'")
        self._expect(
            RedisURL.parse(url).user is None or password_file,
            path,
            f"names a user, and needs {password_path}",
            password_path,
        )
        if password_file and self._is_read(password_path):
            try:
                read_password(password_file)
            except (OSError, ValueError):
                self._mistake(password_path, f"{password_file!r} does not hold one line")

    def _check_paths(self, config: Config) -> None:
        taken: dict[str, str] = {}
        for path in PATHS:
            value = _at(config, path)
            self._expect(value not in taken, path, f"is that of {taken.get(value)}")
            if value:
                taken[value] = path

    def _check_listeners(self, config: Config) -> None:
        """HS-5: nothing is heard in plain on a network; and clients are told apart."""
        for path in LISTENERS:
            for index, description in enumerate(_at(config, path)):
                self._expect(
                    config.behind_tls_proxy or not Listener.parse(description).is_plain,
                    f"{path}[{index}]",
                    "is plain, and not bound to loopback: needs TLS, or behind_tls_proxy = true",
                    "behind_tls_proxy",
                )
        self._expect(
            not config.behind_tls_proxy
            or config.trusted_proxies
            or not config.limits.sessions_per_address
            or all(Listener.parse(description).is_haproxy for description in config.listen),
            "behind_tls_proxy",
            "makes one address of all clients: needs trusted_proxies, haproxy: listeners, or"
            " limits.sessions_per_address = 0",
            "listen",
            "trusted_proxies",
            "limits.sessions_per_address",
        )


def _join(path: str, key: str) -> str:
    shown = key if re.fullmatch("[A-Za-z0-9_-]+", key) else json.dumps(key)
    return f"{path}.{shown}" if path else shown


def _at(config: Config, path: str) -> Any:
    return attrgetter(path)(config)


def _is_changed(config: Config, path: str) -> bool:
    return bool(_at(config, path) != _at(_DEFAULTS, path))


def _paths(path: str, value: object, depth: int = 4) -> Iterator[str]:
    """The paths of the keys in a table, in the order of the text, as deep as any key of ours."""
    if not depth:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield _join(path, key)
            yield from _paths(_join(path, key), inner, depth - 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield f"{path}[{index}]"
            yield from _paths(f"{path}[{index}]", inner, depth - 1)


def _place(path: str, order: Mapping[str, int]) -> int:
    """Where a path is in the text, or the table that it is missing from; else after everything."""
    while path and path not in order:
        path = path.rpartition(".")[0]
    return order.get(path, len(order))
