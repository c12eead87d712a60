"""What can be said of one value, without looking at the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from stompauth.authorization.decision import OnDeny
from stompauth.authorization.rules import COMMANDS
from stompauth.config.listener import Listener
from stompauth.identity.keys import HMAC_ALGORITHMS, PUBLIC_KEY_ALGORITHMS
from stompauth.redis import RedisURL

#: The keys of endpoints to listen at, and those of paths in URLs.
LISTENERS: Final = ("listen", "control.listen", "ops.listen")
PATHS: Final = ("tickets.path", "websocket.path", "logout.path")

#: The largest number that is believed to be meant; beyond it a float skips whole numbers.
_MOST: Final = 2**53

#: The words that a key, or each item of its list, may be.
CHOICES: Final[dict[str, tuple[str, ...]]] = {
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
    "broker.bus_timeout": (0.1, 60),
    "cluster.timeout": (0.1, 60),
    "authorization.timeout": (0.1, 60),
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_string(value: object) -> bool:
    return isinstance(value, str)


_STRINGS: Final = tuple[str, ...]
_PAIR: Final = tuple[float, float]
_STRING_TABLE: Final = Mapping[str, str]

#: Whether a TOML value has the type that a dataclass annotates, and the type in words.
TYPES: Final[dict[object, tuple[Callable[[object], bool], str]]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (lambda value: _is_number(value) and isinstance(value, int), "a whole number"),
    float: (_is_number, "a number"),
    str: (_is_string, "a string"),
    OnDeny: (_is_string, "a string"),
    _STRINGS: (
        lambda value: isinstance(value, list) and all(map(_is_string, value)),
        'a list of strings, as ["a", "b"]',
    ),
    _PAIR: (
        lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)),
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


def _check_store(text: str) -> None:
    if text != "memory":
        RedisURL.parse(text)


def _check_upstream(text: str) -> None:
    kind, _, rest = text.partition(":")
    if kind not in ("tls", "tcp", "unix") or not rest:
        # ssl: would be one, too, but it believes every certificate.
        raise ValueError("must be an endpoint that begins with tls:, tcp: or unix:")


def _check_heartbeat(seconds: float) -> None:
    if 0 < seconds < 1:
        raise ValueError("must be 0, or at least 1")


#: Raise ValueError for a value, or one of a list, for all that can be seen of it alone.
_CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    **dict.fromkeys(LISTENERS, Listener.parse),
    **dict.fromkeys(PATHS, _check_path),
    "trusted_proxies": _check_network,
    "jwt.jwks_url": lambda url: _check_url(url, "https"),
    "tickets.store": _check_store,
    "websocket.origins": _check_origin,
    "limits.heartbeat": _check_heartbeat,
    "broker.endpoint": _check_upstream,
    "broker.bus": RedisURL.parse,
    "cluster.url": RedisURL.parse,
    "authorization.http": lambda url: _check_url(url, "https", "http"),
}


def check(key: str, value: Any, *, is_given: bool) -> None:
    """Look at a value, or at one of a list.

    :param key: such as ``jwt.issuer``.
    :param is_given: whether it says something; an empty text outside of lists does not.
    :raises ValueError: it cannot be meant; the text says why.
    """
    if _is_number(value):
        _check_range(value, *range_of(key))
    if key in CHOICES and value not in CHOICES[key]:
        raise ValueError(f"must be one of {', '.join(CHOICES[key])}")
    if is_given and key in _CHECKS:
        _CHECKS[key](value)


def range_of(key: str) -> tuple[float, float]:
    """The least and the greatest value of a key with numbers."""
    return _RANGES.get(key, (0, _MOST))


def _check_range(number: float, low: float, high: float) -> None:
    if not number >= low:
        raise ValueError(f"must be at least {low}")
    if number > high:
        raise ValueError(f"must be at most {high}")


def readable(path: Path) -> str:
    """The path of a file that is there, and has something in it."""
    try:
        with path.open("rb") as file:
            is_empty = not file.read(4096).strip()
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    if is_empty:
        raise ValueError(f"{str(path)!r} is empty")
    return str(path)
