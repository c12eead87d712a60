"""The configuration: TOML, read into values that the parts are built from.

Nothing is half right: :func:`load` returns a whole :class:`Config`, or raises a
:exc:`~stompauth.errors.ConfigError` with every mistake that there is.
"""

from __future__ import annotations

import difflib
import importlib
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from ipaddress import IPv6Address, ip_address, ip_network
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, TypeVar, cast, get_type_hints
from urllib.parse import urlsplit

from cryptography import x509

from stompauth.authorization.decision import OnDeny
from stompauth.authorization.pattern import Pattern
from stompauth.authorization.rules import COMMANDS, Rule, Rules, allow, deny
from stompauth.errors import ConfigError, Mistake
from stompauth.identity.bearer import read_secret_token
from stompauth.identity.keys import HMAC_ALGORITHMS, PUBLIC_KEY_ALGORITHMS, StaticKey
from stompauth.interfaces import IInterceptor
from stompauth.settings import Limits, TicketSettings, WebSocketSettings

#: The largest number that is believed to be meant; beyond it a float skips whole numbers.
_MOST: Final = 2**53


@dataclass(frozen=True, slots=True)
class JwtConfig:
    """Which tokens are good (``[jwt]``); times in seconds.

    :ivar secret_file: files of HMAC secrets, several while rotating.
    """

    algorithms: tuple[str, ...] = ()
    jwks_url: str = ""
    public_key_file: str = ""
    secret_file: tuple[str, ...] = ()
    jwks_ca_file: str = ""
    jwks_refresh: float = 3600
    jwks_cooldown: float = 30
    issuer: str = ""
    audience: str = ""
    typ: str = ""
    leeway: float = 10
    max_lifetime: float = 86400
    user_claim: str = "sub"
    authorities_claim: str = "scope"
    on_send: str = "optional"


@dataclass(frozen=True, slots=True)
class TicketsConfig(TicketSettings):
    """The ticket endpoint and its store (``[tickets]``)."""

    store: str = "memory"
    password_file: str = ""
    prefix: str = "stompauth:"
    timeout: float = 1
    max_outstanding: int = 5
    max_total: int = 100000


@dataclass(frozen=True, slots=True)
class WebSocketConfig(WebSocketSettings):
    """The handshake, and whose pages may make it (``[websocket]``)."""

    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Who delivers (``[broker]``)."""

    kind: str = "simple"
    endpoint: str = ""
    login: str = ""
    passcode_file: str = ""
    host: str = "/"
    receipt_timeout: float = 10
    bus: str = ""
    local_queues: bool = False
    stamp_sender: bool = False


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What the nodes tell each other by (``[cluster]``)."""

    url: str = ""


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """The HTTP control resource (``[control]``)."""

    listen: tuple[str, ...] = ()
    token_file: str = ""


@dataclass(frozen=True, slots=True)
class LogoutConfig:
    """OpenID Connect Back-Channel Logout (``[logout]``)."""

    path: str = ""


@dataclass(frozen=True, slots=True)
class OpsConfig:
    """Metrics, health and the orderly stop (``[ops]``)."""

    listen: tuple[str, ...] = ()
    drain_timeout: float = 30
    log_format: str = "text"


@dataclass(frozen=True, slots=True)
class AuthorizationConfig:
    """Who decides beside the rules, and what a denial by no rule does (``[authorization]``)."""

    on_deny: OnDeny = "close"
    http: str = ""
    timeout: float = 1
    cache: float = 0


@dataclass(frozen=True, slots=True)
class InterceptorConfig:
    """An entry of ``[[interceptors]]``.

    :ivar use: where its class is, as ``package.module:Name``.
    :ivar settings: what the class was called with; it may hold secrets.
    :ivar interceptor: the provider of :class:`~stompauth.interfaces.IInterceptor` that it made.
    """

    use: str
    settings: Mapping[str, object] = field(repr=False)
    interceptor: Any = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration, without a mistake and without a secret.

    Names are those of the keys; an attribute whose name ends in ``_file`` has the path made
    absolute. ``docs/configuration.md`` says what each means.
    """

    listen: tuple[str, ...] = ("tcp:8080:interface=127.0.0.1",)
    behind_tls_proxy: bool = False
    trusted_proxies: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("tickets", "websocket")
    fast_io: bool = True
    workers: int = 1
    jwt: JwtConfig = JwtConfig()
    tickets: TicketsConfig = TicketsConfig()
    websocket: WebSocketConfig = WebSocketConfig()
    limits: Limits = field(default_factory=Limits)
    broker: BrokerConfig = BrokerConfig()
    cluster: ClusterConfig = ClusterConfig()
    control: ControlConfig = ControlConfig()
    logout: LogoutConfig = LogoutConfig()
    ops: OpsConfig = OpsConfig()
    authorization: AuthorizationConfig = AuthorizationConfig()
    interceptors: tuple[InterceptorConfig, ...] = ()
    rules: tuple[Rule, ...] = ()


_DEFAULTS: Final = Config()

#: What this version cannot do yet: the key, and which of its values ask for it.
NOT_YET: Final[dict[str, Callable[[Any], bool]]] = {
    "workers": lambda workers: workers > 1,
    "tickets.store": lambda store: store not in ("", "memory"),
    "broker.kind": lambda kind: kind == "relay",
    "broker.bus": bool,
    "cluster.url": bool,
    "ops.listen": bool,
    "ops.drain_timeout": lambda timeout: timeout != 30,
    "ops.log_format": lambda log_format: log_format != "text",
}

_REQUIRED: Final = (
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

_CHOICES: Final = {
    "roles": ("tickets", "websocket"),
    "jwt.algorithms": (*sorted(PUBLIC_KEY_ALGORITHMS), *HMAC_ALGORITHMS),
    "jwt.on_send": ("required", "optional", "ignored"),
    "tickets.on_replay": ("warn", "close"),
    "broker.kind": ("simple", "relay"),
    "ops.log_format": ("text", "json"),
    "authorization.on_deny": ("close", "notify"),
    "rules.allow": COMMANDS,
    "rules.deny": COMMANDS,
    "rules.on_deny": ("close", "notify"),
}

#: The least and the greatest value of numbers which may not be anything from 0 on.
_RANGES: Final[dict[str, tuple[float, float]]] = {
    "workers": (1, 1024),
    "jwt.jwks_refresh": (30, 86400),
    "jwt.jwks_cooldown": (30, 86400),
    "jwt.leeway": (0, 60),
    "tickets.ttl": (1, 60),
    "tickets.timeout": (0.1, 60),
    "websocket.ping": (1, _MOST),
    "broker.receipt_timeout": (0.1, _MOST),
    "authorization.timeout": (0.1, 60),
}

#: Of these 0 means that there is no limit.
_LIMITS: Final = frozenset(
    {f"limits.{limit.name}" for limit in fields(Limits)} - {"limits.heartbeat"}
    | {"jwt.max_lifetime", "tickets.rate", "tickets.failures_per_address"}
    | {"tickets.max_outstanding", "tickets.max_total"}
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
    "broker.bus": ("broker.local_queues",),
    "control.listen": ("control.token_file",),
    "control.token_file": ("control.listen",),
    "authorization.http": ("authorization.timeout", "authorization.cache"),
}

_REDIS: Final = 'tickets.store = "redis://..."'
_CHANGES: Final = {"tickets.store": _REDIS, "broker.kind": 'broker.kind = "relay"'}

_KEYS: Final = ("jwt.jwks_url", "jwt.public_key_file", "jwt.secret_file")
_LISTENERS: Final = ("listen", "control.listen", "ops.listen")
_PATHS: Final = ("tickets.path", "websocket.path", "logout.path")


def load(source: str | Path, overrides: Mapping[str, object] | None = None) -> Config:
    """Read a configuration.

    :param source: TOML as a string, or the path of a file of it. Paths in it are relative to the
        file's directory, or to the current one.
    :param overrides: values which replace those of the keys at the top, as the command line does.
    :raises ConfigError: there are mistakes; all of them.
    """
    try:
        text = source.read_text("utf-8") if isinstance(source, Path) else source
        data = tomllib.loads(text)
    except OSError as error:
        raise ConfigError([Mistake("", f"{source} cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Mistake("", f"{source} is not UTF-8")]) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError([Mistake("", f"this is not TOML: {error}")]) from error
    directory = source.parent if isinstance(source, Path) else Path()
    return from_mapping(data | dict(overrides or {}), directory)


def from_mapping(data: Mapping[str, object], directory: Path) -> Config:
    """Make a configuration of what a TOML parser made of the text.

    :param directory: what paths are relative to.
    :raises ConfigError: there are mistakes; all of them.
    """
    return _Reader(data, directory.absolute()).config()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list(value: object, fits: Callable[[object], bool]) -> bool:
    return isinstance(value, list) and all(map(fits, value))


def _is_string(value: object) -> bool:
    return isinstance(value, str)


_STRINGS: Final = tuple[str, ...]
_PAIR: Final = tuple[float, float]
_STRING_TABLE: Final = Mapping[str, str]

#: Whether a TOML value has the type that a dataclass annotates, and the type in words.
_TYPES: Final[dict[object, tuple[Callable[[object], bool], str]]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (lambda value: _is_number(value) and isinstance(value, int), "a whole number"),
    float: (_is_number, "a number"),
    str: (_is_string, "a string"),
    OnDeny: (_is_string, "a string"),
    _STRINGS: (lambda value: _is_list(value, _is_string), "a list of strings"),
    _PAIR: (
        lambda value: _is_list(value, _is_number) and len(value) == 2,  # type: ignore[arg-type]
        "a list of two numbers",
    ),
    _STRING_TABLE: (
        lambda value: isinstance(value, dict) and all(map(_is_string, value.values())),
        "a table of strings",
    ),
}


_ORIGIN: Final = re.compile(
    r"([a-z][a-z0-9+.-]*)://([a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:]+\])(?::([1-9][0-9]{0,4}))?"
)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_PATH: Final = re.compile(r"/|(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._~-]+)+")


def _check_origin(text: str) -> None:
    if text in ("null", "*"):
        raise ValueError("must be the origin of somebody: * and null never are")
    origin = _ORIGIN.fullmatch(text)
    scheme, host, port = origin.groups() if origin is not None else ("file", "", None)
    if (
        scheme in ("ws", "wss", "file")
        or (host.startswith("[") and not _is_ipv6(host[1:-1]))
        or (port is not None and (port == _DEFAULT_PORTS.get(scheme) or int(port) > 65535))
    ):
        raise ValueError(
            "must be an origin as browsers send it: https://host or https://host:port, in lower"
            " case, and no path, slash at the end, wildcard or default port"
        )


def _is_ipv6(text: str) -> bool:
    """Whether it is an IPv6 address in the one way that browsers write it."""
    try:
        return str(IPv6Address(text)) == text
    except ValueError:
        return False


def _check_network(text: str) -> None:
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError("must be a network such as 10.0.0.0/8, without host bits") from None
    if not network.prefixlen:
        raise ValueError("would believe everybody")


def _check_path(text: str) -> None:
    if not _PATH.fullmatch(text):
        raise ValueError("must be a path such as /a/b-c")


def _check_url(text: str, *schemes: str) -> None:
    try:
        url = urlsplit(text)
        is_url = bool(url.hostname) and url.port != 0 and re.fullmatch("[!-~]+", text)
    except ValueError:
        is_url = False
    if not is_url or url.scheme not in schemes:
        wanted = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"must be a URL that begins with {wanted}")
    if "@" in url.netloc:
        raise ValueError("must not name a user or a password: secrets come by files")
    if url.fragment:
        raise ValueError("must not have a fragment")


def _check_redis(text: str) -> None:
    _check_url(text, "redis", "rediss")
    url = urlsplit(text)
    if url.query or not re.fullmatch("(/[0-9]*)?", url.path):
        raise ValueError("must end with the number of a database, such as /0")


def _check_store(text: str) -> None:
    if text != "memory":
        _check_redis(text)


def _check_heartbeat(seconds: float) -> None:
    if 0 < seconds < 1:
        raise ValueError("must be 0, or at least 1")


#: Raise ValueError for a value, or one of a list, for all that can be seen of it alone.
_CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    **{path: lambda text: Listener.parse(text) for path in _LISTENERS},
    **dict.fromkeys(_PATHS, _check_path),
    "trusted_proxies": _check_network,
    "jwt.jwks_url": lambda url: _check_url(url, "https"),
    "tickets.store": _check_store,
    "websocket.origins": _check_origin,
    "limits.heartbeat": _check_heartbeat,
    "broker.bus": _check_redis,
    "cluster.url": _check_redis,
    "authorization.http": lambda url: _check_url(url, "https", "http"),
}


@dataclass(frozen=True, slots=True)
class _RuleTable:
    """An entry of ``[[rules]]`` as it is written."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    destination: str = ""
    authorities: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    on_deny: OnDeny = "close"
    retain: bool = False


def _check_range(number: float, low: float, high: float) -> None:
    if not number >= low:
        raise ValueError(f"must be at least {low}")
    if number > high:
        raise ValueError(f"must be at most {high}")


def _readable(path: Path) -> str:
    """The path of a file that is there, and has something in it."""
    try:
        with path.open("rb") as file:
            is_empty = not file.read(4096).strip()
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    if is_empty:
        raise ValueError(f"{str(path)!r} is empty")
    return str(path)


def _make_interceptor(where: str, table: dict[str, object]) -> InterceptorConfig:
    settings = dict(table)
    use = settings.pop("use", None)
    if not isinstance(use, str) or not re.fullmatch(r"[\w.]+:[\w.]+", use):
        raise _mistaken(f"{where}.use", "must be a string such as package.module:Name")
    module, _, name = use.partition(":")
    try:
        factory = attrgetter(name)(importlib.import_module(module))
    except Exception as error:
        raise _mistaken(f"{where}.use", f"cannot be imported: {_told(error)}") from error
    try:
        interceptor = factory(**settings)
    except Exception as error:
        raise _mistaken(where, f"cannot be made: {_told(error)}") from error
    if not IInterceptor.providedBy(interceptor):
        raise _mistaken(f"{where}.use", "makes nothing that provides IInterceptor")
    return InterceptorConfig(use, settings, interceptor)


def _make_rule(where: str, written: _RuleTable) -> Rule:
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


_T = TypeVar("_T")


class _Reader:
    """Makes one configuration, and gathers what is wrong with it.

    A key that could not be read has its default in the meantime: what concerns several keys is
    looked at only where all of them were read.
    """

    def __init__(self, data: Mapping[str, object], directory: Path) -> None:
        self._data = data
        self._directory = directory
        self._mistakes: list[Mistake] = []
        self._unread: list[str] = []

    def config(self) -> Config:
        """Make it.

        :raises ConfigError: there are mistakes.
        """
        interceptors = self._entries("interceptors", _make_interceptor)
        rules = self._entries("rules", self._rule)
        rest = {key: self._data[key] for key in self._data if key not in ("interceptors", "rules")}
        config = replace(self._section("", rest, Config), interceptors=interceptors, rules=rules)
        self._unread = [mistake.path for mistake in self._mistakes]
        self._check_presence(config)
        self._check_keys(config.jwt)
        self._check_control(config.control)
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
        if where == "jwt.secret_file" and isinstance(value, str):
            return (self._item(where, where, value),) if value else ()
        fits, words = _TYPES[hint]
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
            if _is_number(item):
                _check_range(item, *_RANGES.get(key, (0, _MOST)))
            if key in _CHOICES and item not in _CHOICES[key]:
                raise ValueError(f"must be one of {', '.join(_CHOICES[key])}")
            if is_given and key in _CHECKS:
                _CHECKS[key](item)
            if is_given and key.endswith("_file"):
                return _readable(self._directory / item)
        except ValueError as error:
            self._mistake(where, str(error))
        return item

    def _entries(self, path: str, read: Callable[[str, Any], _T]) -> tuple[_T, ...]:
        """Read an array of tables; those with mistakes are left out."""
        tables: Any = self._data.get(path, [])
        if not _is_list(tables, lambda table: isinstance(table, dict)):
            self._mistake(path, f"must be tables, each under [[{path}]]")
            return ()
        entries = []
        for index, table in enumerate(tables):
            try:
                entries.append(read(f"{path}[{index}]", table))
            except ConfigError as error:
                self._mistakes += error.mistakes
        return tuple(entries)

    def _rule(self, where: str, table: dict[str, object]) -> Rule:
        count = len(self._mistakes)
        written = self._section(where, table, _RuleTable)
        if len(self._mistakes) > count:
            raise ConfigError([])  # the mistakes are noted
        return _make_rule(where, written)

    def _check_presence(self, config: Config) -> None:
        for path in _REQUIRED:
            self._expect(_at(config, path), path, "is required, and not empty")
        for path, asks_for_it in NOT_YET.items():
            asked = asks_for_it(_at(config, path))
            self._expect(not asked, path, "is not available in this version")
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
        for name in jwt.secret_file if is_secret else [jwt.public_key_file]:
            try:
                if is_secret:
                    keys = StaticKey.from_secret_files(name)
                else:
                    keys = StaticKey.from_public_key_file(name)
                keys.check_algorithms(jwt.algorithms)
            except (OSError, ValueError) as error:
                self._mistake(path, f"{name!r}: {error}")

    def _check_control(self, control: ControlConfig) -> None:
        """OP-1: what the control resource asks its callers for cannot be guessed."""
        if control.listen and control.token_file and self._is_read("control.token_file"):
            try:
                read_secret_token(control.token_file)
            except (OSError, ValueError) as error:
                self._mistake("control.token_file", f"{control.token_file!r}: {error}")

    def _check_paths(self, config: Config) -> None:
        taken: dict[str, str] = {}
        for path in _PATHS:
            value = _at(config, path)
            self._expect(value not in taken, path, f"is that of {taken.get(value)}")
            if value:
                taken[value] = path

    def _check_listeners(self, config: Config) -> None:
        """HS-5: nothing is heard in plain on a network; and clients are told apart."""
        for path in _LISTENERS:
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


@dataclass(frozen=True, slots=True)
class Listener:
    """What a server endpoint string of Twisted's says about who can reach it.

    :ivar kind: the word at its beginning; that of what is inside, for ``haproxy:``.
    :ivar arguments: its parameters by name.
    :ivar is_haproxy: whether each connection begins with a PROXY line.
    """

    kind: str
    arguments: Mapping[str, str]
    is_haproxy: bool

    @classmethod
    def parse(cls, description: str) -> Listener:
        """Read an endpoint string.

        :raises ValueError: it is none, or none of the kinds that we know; the text says why.
        """
        positional: list[str] = []
        arguments: dict[str, str] = {}
        for parts in _split_endpoint(description):
            if len(parts) == 1:
                positional.append(parts[0])
            else:
                arguments[parts[0]] = parts[1]
        is_haproxy = positional[:1] == ["haproxy"]
        kind, *values = positional[is_haproxy:] or [""]
        names = _ENDPOINTS.get(kind)
        if names is None:
            raise ValueError(f"must begin with {':, '.join(_ENDPOINTS)}: or haproxy:")
        if len(values) > len(names):
            raise ValueError(f"has too many parameters for {kind}:")
        if unknown := arguments.keys() - set(names[len(values) :]):
            raise ValueError(f"{kind}: cannot take {', '.join(sorted(map(repr, unknown)))} here")
        arguments |= zip(names, values, strict=False)
        if names[0] not in arguments:
            raise ValueError(f"{kind}: needs its {names[0]}")
        if kind == "systemd" and ("index" in arguments) == ("name" in arguments):
            raise ValueError("systemd: needs its index, or its name")
        for name in ("port", "backlog"):
            number = arguments.get(name, "0")
            if not re.fullmatch("[0-9]{1,5}", number) or int(number) > 65535:
                raise ValueError(f"has no {name} from 0 to 65535")
        return cls(kind, arguments, is_haproxy)

    @property
    def is_loopback(self) -> bool:
        """Whether it is bound to an address of the loopback interface, for all that it says."""
        try:
            return ip_address(self.arguments.get("interface", "")).is_loopback
        except ValueError:
            return False

    @property
    def is_plain(self) -> bool:
        """Whether bytes that nobody encrypted may come to it over a network."""
        match self.kind:
            case "tcp" | "tcp6":
                return not self.is_loopback
            case "systemd":
                return self.arguments["domain"] != "UNIX"
        return False


#: Kinds of endpoints, with their parameters in the order in which they may go without a name.
_ENDPOINTS: Final = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "tls": ("path", "port", "backlog", "interface"),
    "ssl": (
        *("port", "privateKey", "certKey", "sslmethod", "interface", "backlog"),
        *("extraCertChain", "dhParameters"),
    ),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}


def _split_endpoint(description: str) -> list[list[str]]:
    """Split at colons, and each part at its first equals sign; a backslash takes what follows."""
    parts = [[""]]
    characters = iter(description)
    for character in characters:
        if character == ":":
            parts.append([""])
        elif character == "=" and len(parts[-1]) == 1:
            parts[-1].append("")
        else:
            parts[-1][-1] += next(characters, "") if character == "\\" else character
    return parts


def effective(config: Config) -> str:
    """Write a configuration down, whole and in TOML, with a remark where a 0 means no limit.

    It holds no secret: of the interceptors' settings only the names are told.
    """
    lines = [*_settings("", config)]
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


def _settings(path: str, section: object) -> Iterator[str]:
    """The lines of a section's own keys, then those of the sections in it."""
    inner: list[str] = []
    for key in fields(section):  # type: ignore[arg-type]
        value, where = getattr(section, key.name), f"{path}{key.name}"
        if is_dataclass(value):
            inner += ["", f"[{where}]", *_settings(f"{where}.", value)]
        elif where not in ("interceptors", "rules"):
            remark = "  # none" if where in _LIMITS and not value else ""
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
