"""The configuration: what it reads, and what it refuses."""

from __future__ import annotations

import inspect
import sys
import tomllib
from dataclasses import fields, is_dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import endpoints
from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.rules import allow, deny
from stompauth.config import (
    Config,
    InterceptorConfig,
    JwtConfig,
    Listener,
    WebSocketConfig,
    effective,
    from_mapping,
    load,
    reader,
)
from stompauth.config.reference import sections
from stompauth.errors import ConfigError
from stompauth.interceptors.interceptor import Interceptor
from stompauth.settings import Limits, TicketSettings, WebSocketSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

DOCUMENTATION = Path(__file__).parents[1] / "docs" / "configuration.md"

#: The least that starts.
MINIMAL = """
[jwt]
algorithms = ["RS256"]
jwks_url = "https://id.example.com/jwks.json"
issuer = "https://id.example.com/"
audience = "chat"

[websocket]
origins = ["https://chat.example.com"]

[[rules]]
allow = ["subscribe", "send"]
destination = "/topic/rooms/{room}"
"""

#: Every key, each with its documented default where it has one.
EVERYTHING = """
listen = ["tcp:8080:interface=127.0.0.1"]
behind_tls_proxy = false
trusted_proxies = []
roles = ["tickets", "websocket"]
fast_io = true
workers = 1

[jwt]
algorithms = ["RS256"]
jwks_url = "https://id.example.com/jwks.json"
public_key_file = ""
secret_file = ""
jwks_ca_file = ""
jwks_refresh = 3600
jwks_cooldown = 30
issuer = "https://id.example.com/"
audience = "chat"
typ = ""
leeway = 10
max_lifetime = 86400
user_claim = "sub"
authorities_claim = "scope"
on_send = "optional"

[tickets]
path = "/authenticate/token"
ttl = 30
store = "memory"
max_outstanding = 5
max_total = 100000
rate = 5.0
failures_per_address = 20.0
bind_address = false
on_replay = "warn"

[websocket]
path = "/stomp"
origins = ["https://chat.example.com"]
require_origin = true
bearer = false
ping = 25

[limits]
frame = 65536
frame_before_connect = 16384
headers = 64
header_line = 8192
http_timeout = 10
handshake_timeout = 5
connect_timeout = 10
frame_timeout = 30
close_timeout = 5
send_buffer = 524288
send_timeout = 10
sessions = 50000
sessions_per_address = 1000
sessions_per_user = 10
subscriptions = 128
transactions = 8
transaction_bytes = 1048576
unacked = 1000
prefetch = 100
frames_per_second = 100
bytes_per_second = 1048576
inbound_waiting = 64
destinations = 100000
queue_messages = 10000
queue_bytes = 268435456
retained = 10000
max_deliveries = 5
heartbeat = [10, 10]

[broker]
kind = "simple"
bus = ""
local_queues = false
stamp_sender = false

[cluster]
url = ""

[control]
listen = []
token_file = ""

[logout]
path = ""

[ops]
listen = []
token_file = ""
drain_timeout = 30
log_format = "text"

[authorization]
on_deny = "close"
http = ""

[[interceptors]]
use = "tests.test_config:Audit"
topic = "/topic/audit"

[[rules]]
name = "room members"
allow = ["subscribe", "send"]
destination = "/topic/rooms/{room}"
authorities = ["chat"]
claims = { rooms = "{room}" }
on_deny = "close"

[[rules]]
deny = ["send"]
destination = "/topic/**"
on_deny = "notify"
"""


class Audit(Interceptor):
    """An interceptor with a setting."""

    def __init__(self, topic: str) -> None:
        if not topic.startswith("/"):
            raise ValueError(f"no topic:\n{topic}")
        self.topic = topic


def changed(**changes: object) -> dict[str, Any]:
    """MINIMAL with keys changed: ``jwt__leeway=3``; a key that becomes None is taken away."""
    data: dict[str, Any] = tomllib.loads(MINIMAL)
    for path, value in changes.items():
        *sections, key = path.split("__")
        table = data
        for section in sections:
            table = table.setdefault(section, {})
        if value is None:
            del table[key]
        else:
            table[key] = value
    return data


def rule(**keys: object) -> list[dict[str, object]]:
    """The ``[[rules]]`` with one rule, which is good but for these keys; None takes one away."""
    table: dict[str, object] = {"allow": ["send"], "destination": "/topic/a", **keys}
    return [{key: value for key, value in table.items() if value is not None}]


class ConfigCase(SynchronousTestCase):
    """Helps to look at mistakes."""

    def refused(self, data: Mapping[str, object]) -> dict[str, str]:
        """The mistakes of a configuration, text by path."""
        error = self.assertRaises(ConfigError, from_mapping, data, Path())
        found = {mistake.path: mistake.text for mistake in error.mistakes}
        self.assertEqual(len(found), len(error.mistakes), f"one key, several mistakes: {error}")
        return found

    def directory(self) -> Path:
        """A new directory."""
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        return directory.absolute()


class LoadTests(ConfigCase):
    """What is good is read."""

    def test_everything(self) -> None:
        """Every key of the contract is read, and has the default that the contract says."""
        self.assertEqual(
            load(EVERYTHING),
            Config(
                jwt=JwtConfig(
                    algorithms=("RS256",),
                    jwks_url="https://id.example.com/jwks.json",
                    issuer="https://id.example.com/",
                    audience="chat",
                ),
                websocket=WebSocketConfig(origins=("https://chat.example.com",)),
                interceptors=(
                    InterceptorConfig("tests.test_config:Audit", {"topic": "/topic/audit"}, None),
                ),
                rules=(
                    allow(
                        "subscribe",
                        "send",
                        "/topic/rooms/{room}",
                        authorities=["chat"],
                        claims={"rooms": "{room}"},
                        name="room members",
                    ),
                    deny("send", "/topic/**", on_deny="notify"),
                ),
            ),
        )

    def test_minimal(self) -> None:
        """The least that starts has all defaults, and the types that the parts are built from."""
        config = load(MINIMAL)
        self.assertEqual(config.listen, ("tcp:8080:interface=127.0.0.1",))
        self.assertEqual(config.limits, Limits())
        self.assertIsInstance(config.tickets, TicketSettings)
        self.assertIsInstance(config.websocket, WebSocketSettings)
        self.assertEqual(config.interceptors, ())

    def test_values(self) -> None:
        """Values of the text arrive; a whole number will do where a fraction may be."""
        config = from_mapping(
            changed(
                tickets__rate=2,
                tickets__ttl=1.5,
                limits__heartbeat=[0, 1.5],
                websocket__origins=["https://a.example", "http://localhost:3000"],
                behind_tls_proxy=True,
                trusted_proxies=["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"],
                listen=["tcp:80", "unix:/run/stompauth.sock"],
            ),
            Path(),
        )
        self.assertEqual((config.tickets.rate, config.tickets.ttl), (2, 1.5))
        self.assertEqual(config.limits.heartbeat, (0, 1.5))
        self.assertEqual(config.websocket.origins, ("https://a.example", "http://localhost:3000"))
        self.assertEqual(config.trusted_proxies, ("10.0.0.0/8", "192.0.2.1", "2001:db8::/32"))
        self.assertEqual(config.listen, ("tcp:80", "unix:/run/stompauth.sock"))

    def test_no_limits(self) -> None:
        """Every limit may be 0."""
        limits = {limit.name: 0 for limit in fields(Limits)} | {"heartbeat": [0, 0]}
        tickets = dict.fromkeys(("rate", "failures_per_address", "max_outstanding", "max_total"), 0)
        config = from_mapping(changed(limits=limits, tickets=tickets), Path())
        self.assertEqual(config.limits.sessions, 0)
        self.assertEqual(config.tickets.max_total, 0)

    def test_entry_point(self) -> None:
        """An interceptor may be named by the entry point of a package that is installed."""
        directory = self.directory()
        (directory / "offered.py").write_text("from tests.test_config import Audit as Offered\n")
        metadata = directory / "offered-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n")
        offer = "[stompauth.interceptors]\nmy-audit = offered:Offered\n"
        (metadata / "entry_points.txt").write_text(offer)
        self.patch(sys, "path", [*sys.path, str(directory)])
        config = from_mapping(changed(interceptors=[{"use": "my-audit", "topic": "/a"}]), Path())
        self.assertEqual(type(config.interceptors[0].interceptor).__name__, "Audit")
        found = self.refused(changed(interceptors=[{"use": "your-audit"}]))
        self.assertIn("0 entry points", found["interceptors[0].use"])

    def test_interceptors(self) -> None:
        """Interceptors are made, in order, with their settings."""
        entries = [{"use": "tests.test_config:Audit", "topic": topic} for topic in ("/a", "/b")]
        config = from_mapping(changed(interceptors=entries), Path())
        self.assertEqual([entry.interceptor.topic for entry in config.interceptors], ["/a", "/b"])

    def test_running(self) -> None:
        """Of a configuration in use, interceptors with the same entry are not made again."""
        entries = [{"use": "tests.test_config:Audit", "topic": topic} for topic in ("/a", "/b")]
        first = from_mapping(changed(interceptors=entries), Path())
        entries[1]["topic"] = "/c"
        second = from_mapping(changed(interceptors=entries), Path(), first)
        self.assertIs(second.interceptors[0].interceptor, first.interceptors[0].interceptor)
        self.assertEqual(second.interceptors[1].interceptor.topic, "/c")

    def test_overrides(self) -> None:
        """What the command line says replaces what the file says, and is checked with it."""
        config = load(MINIMAL, {"listen": ["tcp:0:interface=127.0.0.1"]})
        self.assertEqual(config.listen, ("tcp:0:interface=127.0.0.1",))
        error = self.assertRaises(ConfigError, load, MINIMAL, {"listen": ["tcp:0"]})
        self.assertEqual([mistake.path for mistake in error.mistakes], ["listen[0]"])

    def test_file(self) -> None:
        """Paths in a file are relative to its directory, and absolute in what is read."""
        directory = self.directory()
        (directory / "secret").write_bytes(b"0123456789abcdef" * 2)
        text = MINIMAL.replace("RS256", "HS256").replace(
            'jwks_url = "https://id.example.com/jwks.json"', 'secret_file = "secret"'
        )
        (directory / "stompauth.toml").write_text(text, "utf-8")
        config = load(directory / "stompauth.toml")
        self.assertEqual(config.jwt.secret_file, (str(directory / "secret"),))

    def test_no_file(self) -> None:
        """A file that is missing, binary or no TOML is a mistake like all others."""
        directory = self.directory()
        (directory / "binary").write_bytes(b"\xff")
        (directory / "other").write_text("<xml/>", "utf-8")
        for name, words in [
            ("missing", "No such file"),
            ("binary", "UTF-8"),
            ("other", "not TOML: .*line 1"),
        ]:
            error = self.assertRaises(ConfigError, load, directory / name)
            self.assertRegex(str(error), words)


class RefusalTests(ConfigCase):
    """What is wrong, unsafe or impossible is refused, and no other key is blamed for it."""

    def assert_refused(self, changes: Mapping[str, object], *paths: str) -> None:
        """MINIMAL with these changes has mistakes at exactly these paths."""
        found = self.refused(changed(**changes))
        self.assertEqual(sorted(found), sorted(paths), f"{changes}: {found}")

    def assert_all_refused(self, rows: Mapping[str, list[object]]) -> None:
        """Each value, at its key, is the one mistake; the key of a list is that of its item."""
        for key, values in rows.items():
            for value in values:
                path = key.replace("__", ".")
                if isinstance(value, list) and value:
                    path = f"{path}[0]"
                self.assert_refused({key: value}, path)

    def test_required(self) -> None:
        """JW-19: without algorithms, issuer, audience, origins and rules it does not start."""
        for path in [
            "jwt__algorithms",
            "jwt__issuer",
            "jwt__audience",
            "websocket__origins",
            "rules",
        ]:
            self.assert_refused({path: None}, path.replace("__", "."))
        self.assert_all_refused(
            {
                "listen": [[]],
                "roles": [[]],
                "jwt__algorithms": [[]],
                "jwt__issuer": [""],
                "jwt__audience": [""],
                "jwt__user_claim": [""],
                "jwt__authorities_claim": [""],
                "tickets__path": [""],
                "tickets__store": [""],
                "websocket__path": [""],
                "websocket__origins": [[]],
                "rules": [[]],
            }
        )

    def test_empty(self) -> None:
        """An empty file says all that is missing."""
        self.assertEqual(
            set(self.refused({})),
            {
                "jwt",
                "jwt.algorithms",
                "jwt.issuer",
                "jwt.audience",
                "websocket.origins",
                "rules",
            },
        )

    def test_unknown_keys(self) -> None:
        """A key that is unknown is a mistake, with the nearest known one."""
        found = self.refused(changed(listn=1, jwt__leway=3, zzz={"a": 1}, limits__qqq=1))
        self.assertEqual(set(found), {"listn", "jwt.leway", "zzz", "limits.qqq"})
        self.assertIn("listen", found["listn"])
        self.assertIn("leeway", found["jwt.leway"])
        self.assertNotIn("mean", found["limits.qqq"])

    def test_unknown_keys_of_rules(self) -> None:
        """In a rule, too."""
        found = self.refused(changed(rules=rule(destinations="x")))
        self.assertIn("destination?", found["rules[0].destinations"])

    def test_strange_keys(self) -> None:
        """A key with a line end does not make two lines of its mistake."""
        error = self.assertRaises(ConfigError, from_mapping, changed(**{"a\nb": 1}), Path())
        self.assertEqual(str(error).splitlines(), ['"a\\nb": is no key'])

    def test_types(self) -> None:
        """A value of another type is refused; a truth value is no number."""
        for key, value in [
            ("listen", "tcp:8080"),
            ("listen", [1]),
            ("behind_tls_proxy", 1),
            ("behind_tls_proxy", "true"),
            ("workers", True),
            ("workers", 1.0),
            ("workers", "1"),
            ("jwt__issuer", 1),
            ("jwt__leeway", "10"),
            ("jwt__leeway", False),
            ("jwt__leeway", date(2026, 1, 1)),
            ("jwt__secret_file", [1]),
            ("jwt", "HS256"),
            ("limits", []),
            ("limits__frame", 1.5),
            ("limits__heartbeat", 10),
            ("limits__heartbeat", [10]),
            ("limits__heartbeat", [10, "10"]),
            ("limits__heartbeat", [10, True]),
            ("rules", {"allow": ["send"]}),
            ("rules", [1]),
            ("interceptors", "a:B"),
        ]:
            self.assert_refused({key: value}, key.replace("__", "."))
        for key, value in [
            ("allow", "send"),
            ("destination", ["/topic/a"]),
            ("authorities", "chat"),
            ("claims", ["a"]),
            ("claims", {"a": 1}),
            ("retain", 1),
        ]:
            self.assert_refused({"rules": rule(**{key: value})}, f"rules[0].{key}")

    def test_numbers(self) -> None:
        """A number is finite, not negative, and within the range of its key."""
        self.assert_all_refused(
            {
                "workers": [0, -1],
                "jwt__jwks_refresh": [29, 86401],
                "jwt__jwks_cooldown": [0, 29],
                "jwt__leeway": [-1, 60.5, float("nan"), float("inf")],
                "jwt__max_lifetime": [-1, float("inf")],
                "tickets__ttl": [0, 0.5, 61, float("nan")],
                "tickets__rate": [-0.1, float("inf")],
                "tickets__max_total": [-1, 10**400],
                "websocket__ping": [0],
                "limits__frame": [-1],
                "limits__connect_timeout": [-1.0, float("inf"), float("nan")],
                "limits__heartbeat": [[0.5, 10], [-1, 10]],
                "ops__drain_timeout": [-1],
            }
        )
        self.assert_refused({"limits__heartbeat": [10, 0.999]}, "limits.heartbeat[1]")

    def test_words(self) -> None:
        """Where there are a few words to choose from, others are refused."""
        self.assert_all_refused(
            {
                "roles": [["ticket"]],
                "jwt__on_send": ["always", ""],
                "tickets__on_replay": ["ignore"],
                "broker__kind": ["complex", ""],
                "ops__log_format": ["xml"],
                "authorization__on_deny": ["allow"],
            }
        )

    def test_algorithms(self) -> None:
        """JW-1: no `none`, in any case of it; nothing unknown; HMAC and public keys apart."""
        self.assert_all_refused(
            {"jwt__algorithms": [["none"], ["None"], ["NONE"], [""], ["rs256"], ["HS1"]]}
        )
        self.assert_refused({"jwt__algorithms": ["RS256", "HS256"]}, "jwt.algorithms")

    def test_key_sources(self) -> None:
        """JW-1: one source of keys, of the kind that the algorithms are for."""
        directory = self.directory()
        secret = directory / "secret"
        secret.write_bytes(b"s" * 64)
        public = self.public_key(directory, ec.generate_private_key(ec.SECP256R1()).public_key())
        sources = {"secret_file": [str(secret)], "public_key_file": public}
        self.assert_refused({"jwt__jwks_url": None}, "jwt")
        for algorithm, source, path in [
            ("HS256", {"jwks_url": "https://id.example.com/"}, "jwt.jwks_url"),
            ("HS256", {"public_key_file": public}, "jwt.public_key_file"),
            ("ES256", {"secret_file": [str(secret)]}, "jwt.secret_file"),
            ("ES256", {"public_key_file": public, "jwks_url": "https://id.example.com/"}, "jwt"),
        ]:
            keys = {"jwt__jwks_url": None, **{f"jwt__{name}": source[name] for name in source}}
            self.assert_refused({"jwt__algorithms": [algorithm], **keys}, path)
        everything = {f"jwt__{name}": value for name, value in sources.items()}
        self.assert_refused({"jwt__algorithms": ["ES256"], **everything}, "jwt", "jwt.secret_file")

    def test_jwks(self) -> None:
        """JW-16, JW-17: a JWK Set comes by https, from a URL without a password."""
        self.assert_all_refused(
            {
                "jwt__jwks_url": [
                    "http://id.example.com/jwks.json",
                    "file:///etc/passwd",
                    "id.example.com",
                    "https://",
                    "https:///jwks.json",
                    "https://id.example.com:x/",
                    "https://id.example.com:99999/",
                    "https://[::1/",
                    "https://id.example.com/\n",
                    "https://id.example.com/ ",
                    "https://id.example.com/#keys",
                    "https://user@id.example.com/",
                    "https://ïd.example.com/",
                ]
            }
        )
        self.assert_refused(
            {"jwt__jwks_cooldown": 60, "jwt__jwks_refresh": 59}, "jwt.jwks_cooldown"
        )

    def public_key(self, directory: Path, key: PublicKeyTypes) -> str:
        """Write the key into a file, and return its name."""
        path = directory / "public.pem"
        path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return str(path)

    def test_public_key(self) -> None:
        """JW-2: the public key is one, is strong, and fits the algorithms."""
        directory = self.directory()
        keys = {"jwt__jwks_url": None, "jwt__algorithms": ["ES256"]}
        good = self.public_key(directory, ec.generate_private_key(ec.SECP256R1()).public_key())
        config = from_mapping(changed(**keys, jwt__public_key_file=good), Path())
        self.assertEqual(config.jwt.public_key_file, (good,))
        config = from_mapping(changed(**keys, jwt__public_key_file=[good, good]), Path())
        self.assertEqual(config.jwt.public_key_file, (good, good))
        self.assert_refused(
            {**keys, "jwt__public_key_file": good, "jwt__algorithms": ["ES384"]},
            "jwt.public_key_file",
        )
        weak = self.public_key(directory, rsa.generate_private_key(65537, 1024).public_key())
        self.assert_refused(
            {**keys, "jwt__public_key_file": weak, "jwt__algorithms": ["RS256"]},
            "jwt.public_key_file",
        )
        (directory / "public.pem").write_text("chat", "utf-8")
        self.assert_refused({**keys, "jwt__public_key_file": good}, "jwt.public_key_file")

    def test_secrets(self) -> None:
        """JW-2: an HMAC secret is as long as its hash, each of them, and its line end is none."""
        path = self.directory() / "secret"
        keys: dict[str, Any] = {"jwt__jwks_url": None, "jwt__secret_file": str(path)}
        for algorithms, least in [(["HS256"], 32), (["HS384"], 48), (["HS256", "HS512"], 64)]:
            keys["jwt__algorithms"] = algorithms
            for end in (b"", b"\n", b"\r\n"):
                path.write_bytes(b"k" * least + end)
                self.assertEqual(
                    from_mapping(changed(**keys), Path()).jwt.secret_file, (str(path),)
                )
                path.write_bytes(b"k" * (least - 1) + end)
                self.assert_refused(keys, "jwt.secret_file")
        other = path.with_name("other")
        other.write_bytes(b"k" * 64)
        self.assert_refused(
            {**keys, "jwt__secret_file": [str(other), str(path)]}, "jwt.secret_file"
        )

    def test_ops_token(self) -> None:
        """OP-1: who may read the metrics may have to show such a token, too."""
        path = self.directory() / "token"
        path.write_bytes(b"k" * 31)
        keys = {"ops__listen": ["tcp:9090:interface=127.0.0.1"], "ops__token_file": str(path)}
        self.assert_refused(keys, "ops.token_file")
        path.write_bytes(b"k" * 32)
        self.assertEqual(from_mapping(changed(**keys), Path()).ops.token_file, str(path))
        del keys["ops__listen"]
        self.assert_refused(keys, "ops.token_file")

    def test_control(self) -> None:
        """OP-1: who may control the server shows a token that can be sent and not be guessed."""
        path = self.directory() / "token"
        keys = {
            "control__listen": ["tcp:8081:interface=127.0.0.1"],
            "control__token_file": str(path),
        }
        for good in (b"0123456789abcdef" * 2, b"Az09-._~+/" * 4 + b"==\r\n"):
            path.write_bytes(good)
            config = from_mapping(changed(**keys), Path())
            self.assertEqual(config.control.token_file, str(path))
        for bad in (b"k" * 31 + b"\n", b"k" * 8001, b"two words " * 4, b"k" * 32 + b"\xfc"):
            path.write_bytes(bad)
            self.assert_refused(keys, "control.token_file")
        del keys["control__token_file"]
        self.assert_refused(keys, "control.listen")

    def test_files(self) -> None:
        """JW-19: a file that is named is there, can be read, and is not empty."""
        directory = self.directory()
        (directory / "empty").write_bytes(b"\n")
        (directory / "text").write_bytes(b"no certificate")
        keys: dict[str, Any] = {"jwt__jwks_url": None, "jwt__algorithms": ["HS256"]}
        for name in (directory / "missing", directory, directory / "empty", "nul\0"):
            self.assert_refused({**keys, "jwt__secret_file": str(name)}, "jwt.secret_file")
            self.assert_refused({**keys, "jwt__secret_file": [str(name)]}, "jwt.secret_file[0]")
            self.assert_refused({"jwt__jwks_ca_file": str(name)}, "jwt.jwks_ca_file")
        self.assert_refused({"jwt__jwks_ca_file": str(directory / "text")}, "jwt.jwks_ca_file")

    def test_origins(self) -> None:
        """HS-4: an origin is spelled as a browser spells it, or it would never be met."""
        self.assert_all_refused(
            {
                "websocket__origins": [
                    [text]
                    for text in [
                        "",
                        "*",
                        "null",
                        "chat.example.com",
                        "https://",
                        "https://*.example.com",
                        "https://chat.example.com/",
                        "https://chat.example.com/page",
                        "https://chat.example.com?a",
                        "https://Chat.example.com",
                        "HTTPS://chat.example.com",
                        "https://chat.example.com:443",
                        "http://chat.example.com:80",
                        "https://chat.example.com:",
                        "https://chat.example.com:0",
                        "https://chat.example.com:08443",
                        "https://chat.example.com:65536",
                        "https://user@chat.example.com",
                        "https://ch\u00e4t.example.com",
                        "https://chat..example.com",
                        "https://chat.example.com\n",
                        " https://chat.example.com",
                        "wss://chat.example.com",
                        "file://",
                        "https://[0:0::1]",
                        "https://[::zz]",
                        "https://::1",
                    ]
                ]
            }
        )

    def test_good_origins(self) -> None:
        """And so it may be spelled."""
        origins = [
            "https://chat.example.com",
            "https://chat.example.com:8443",
            "http://chat.example.com:443",
            "http://localhost:3000",
            "https://192.0.2.1",
            "http://[2001:db8::1]:8080",
            "https://xn--cht-qla.example.com",
            "capacitor://localhost",
            "chrome-extension://abcdefgh",
        ]
        config = from_mapping(changed(websocket__origins=origins), Path())
        self.assertEqual(list(config.websocket.origins), origins)

    def test_networks(self) -> None:
        """HS-12: trusted proxies are networks, and not all the world."""
        self.assert_all_refused(
            {
                "trusted_proxies": [
                    [text]
                    for text in ("", "proxy", "10.0.0.0/33", "10.0.0.1/8", "0.0.0.0/0", "::/0")
                    if text
                ]
            }
        )

    def test_paths(self) -> None:
        """The paths are absolute, plain and not one."""
        for key in ("tickets__path", "websocket__path"):
            self.assert_all_refused(
                {key: ["stomp", "/stomp/", "//a", "/a?b", "/a b", "/%61", "/a/../b", "/.", "/ä"]}
            )
        self.assert_refused({"tickets__path": "/a", "websocket__path": "/a"}, "websocket.path")

    def test_plain_listeners(self) -> None:
        """HS-5: nothing listens in plain off loopback without a proxy that does TLS."""
        self.assert_all_refused(
            {
                "listen": [
                    [text]
                    for text in [
                        "tcp:8080",
                        "tcp:8080:interface=",
                        "tcp:8080:interface=0.0.0.0",
                        "tcp:8080:interface=10.0.0.1",
                        "tcp:8080:interface=localhost.example.com",
                        r"tcp:8080:interface=\:\:",
                        "tcp:8080:0.0.0.0",
                        "tcp:port=8080:interface=127.0.0.1:interface=0.0.0.0",
                        "tcp6:8080",
                        "haproxy:tcp:8080",
                        "systemd:domain=INET:index=0",
                    ]
                ]
            }
        )

    def test_safe_listeners(self) -> None:
        """TLS, loopback and Unix sockets need no proxy."""
        listen = [
            "tcp:8080:interface=127.0.0.1",
            "tcp:8080:127.0.0.2",
            "tcp:interface=127.0.0.1:port=0",
            r"tcp:8080:interface=\:\:1",
            r"tcp6:8080:interface=\:\:1",
            "tls:certificates:443",
            "ssl:443:privateKey=key.pem",
            "unix:/run/stompauth.sock:mode=660",
            "systemd:domain=UNIX:index=0",
            "haproxy:tcp:8080:interface=127.0.0.1",
        ]
        self.assertEqual(from_mapping(changed(listen=listen), Path()).listen, tuple(listen))

    def test_bad_listeners(self) -> None:
        """What is no endpoint string is refused before anything listens."""
        for key in ("listen", "ops__listen"):
            self.assert_bad_listeners(key)

    def assert_bad_listeners(self, key: str) -> None:
        for text in [
            "tcp",
            "tcp:",
            "tcp:x",
            "tcp:65536",
            "tcp:-1",
            "tcp:8080:127.0.0.1:50:9",
            "tcp:8080:port=8080",
            "tcp:8080:interfaces=127.0.0.1",
            "tpc:8080",
            "TCP:8080",
            "8080",
            ":",
            "haproxy:",
            "haproxy:haproxy:tcp:80",
            "systemd:domain=UNIX",
            "tcp:8080:interface=127.0.0.1:backlog=x",
            "stdio:",
        ]:
            found = self.refused(changed(**{key: [text]}))
            self.assertIn(f"{key.replace('__', '.')}[0]", found)

    def test_behind_proxy(self) -> None:
        """Behind a proxy all clients would have one address, unless something tells them apart."""
        behind = {"behind_tls_proxy": True, "listen": ["tcp:8080", "unix:/s"]}
        self.assert_refused(behind, "behind_tls_proxy")
        mixed = ["haproxy:tcp:8080", "tcp:8081"]
        self.assert_refused({"behind_tls_proxy": True, "listen": mixed}, "behind_tls_proxy")
        for more in [
            {"trusted_proxies": ["10.0.0.0/8"]},
            {"limits__sessions_per_address": 0},
            {"listen": ["haproxy:tcp:8080", "haproxy:unix:/s"]},
        ]:
            self.assertTrue(from_mapping(changed(**behind | more), Path()).behind_tls_proxy)

    def test_alone(self) -> None:
        """A setting that has no effect without another is a mistake, and so is half a pair."""
        path = self.directory() / "file"
        path.write_bytes(b"something")
        jwt = {
            "jwt__jwks_url": None,
            "jwt__algorithms": ["ES256"],
            "jwt__public_key_file": self.public_key(
                path.parent, ec.generate_private_key(ec.SECP256R1()).public_key()
            ),
        }
        self.assert_refused({**jwt, "jwt__jwks_refresh": 60}, "jwt.jwks_refresh")
        for key, value in [
            ("tickets__password_file", str(path)),
            ("tickets__prefix", "chat:"),
            ("tickets__timeout", 2),
            ("broker__endpoint", "tcp:127.0.0.1:61613"),
            ("broker__login", "chat"),
            ("broker__passcode_file", str(path)),
            ("broker__host", "chat"),
            ("broker__receipt_timeout", 2),
            ("broker__bus_password_file", str(path)),
            ("broker__bus_prefix", "chat:"),
            ("broker__bus_timeout", 2),
            ("broker__local_queues", True),
            ("control__token_file", str(path)),
            ("authorization__timeout", 2),
            ("authorization__cache", 2),
            ("roles", ["tickets"]),
            ("roles", ["websocket", "websocket"]),
        ]:
            self.assert_refused({key: value}, key.replace("__", "."))
        from_mapping(changed(roles=["websocket", "tickets"]), Path())

    def test_bus(self) -> None:
        """A bus carries neither queues nor retained values: to allow them is a mistake."""
        bus = {"broker__bus": "redis://127.0.0.1"}
        topics = {"allow": ["subscribe", "send"], "destination": "/topic/**"}
        queues = {"allow": ["send"], "destination": "/queue/work"}
        denied = {"deny": ["send"], "destination": "/queue/**"}
        retained = {**topics, "retain": True}
        rules: list[dict[str, object]] = [topics, denied, queues, retained]
        found = self.refused(changed(**bus, rules=rules))
        self.assertEqual(list(found), ["rules[2].destination", "rules[3].retain"])
        self.assertIn("broker.local_queues = true", found["rules[2].destination"])
        config = from_mapping(
            changed(**bus, broker__local_queues=True, rules=[topics, denied, queues]), Path()
        )
        self.assertTrue(config.broker.local_queues)
        self.assertEqual(config.broker.bus_prefix, "stompauth:")
        path = self.directory() / "file"
        path.write_bytes(b"one\ntwo")
        for more, where in [
            ({"broker__bus_password_file": str(path)}, "broker.bus_password_file"),
            ({"broker__bus_timeout": 0}, "broker.bus_timeout"),
            ({"broker__bus": "redis://chat@127.0.0.1"}, "broker.bus"),
        ]:
            self.assert_refused({**bus, **more}, where)

    def test_relay(self) -> None:
        """RL-6: a broker is reached by an endpoint that checks whom it speaks to, or says so."""
        path = self.directory() / "file"
        path.write_bytes(b"something")
        relay: dict[str, object] = {
            "broker__kind": "relay",
            "broker__endpoint": "tls:rabbit.example.com:61614",
            "broker__login": "chat",
            "broker__passcode_file": str(path),
        }
        self.assertEqual(from_mapping(changed(**relay), Path()).broker.kind, "relay")
        self.assert_refused({**relay, "broker__bus": "redis://127.0.0.1"}, "broker.bus")
        for endpoint in ("rabbit.example.com:61614", "ssl:rabbit.example.com:61614", "tls:", "tls"):
            self.assert_refused({**relay, "broker__endpoint": endpoint}, "broker.endpoint")

    def test_workers(self) -> None:
        """Nor do workers share these, unless they have a relay for that."""
        queues = {"allow": ["send"], "destination": "/queue/work"}
        retained = {"allow": ["send"], "destination": "/topic/**", "retain": True}
        found = self.refused(changed(workers=2, rules=[queues, retained]))
        self.assertEqual(list(found), ["rules[0].destination", "rules[1].retain"])
        config = from_mapping(changed(workers=2, broker__local_queues=True, rules=[queues]), Path())
        self.assertTrue(config.broker.local_queues)
        found = self.refused(changed(broker__local_queues=True, rules=[queues]))
        self.assertEqual(found, {"broker.local_queues": "needs broker.bus, or several workers"})
        path = self.directory() / "file"
        path.write_bytes(b"something")
        relay = {
            "broker__kind": "relay",
            "broker__endpoint": "tls:rabbit.example.com:61614",
            "broker__login": "chat",
            "broker__passcode_file": str(path),
        }
        config = from_mapping(changed(workers=2, rules=[queues], **relay), Path())
        self.assertEqual(config.workers, 2)

    def test_redis(self) -> None:
        """OP-2: a password does not belong into a URL, and is not repeated when it is there."""
        for key in ("tickets__store", "broker__bus", "cluster__url"):
            for text in [
                "redis",
                "http://127.0.0.1",
                "redis://",
                "redis://127.0.0.1/x",
                "redis://127.0.0.1/0?a=b",
                "redis://:hunter2@127.0.0.1/0",
            ]:
                self.assert_refused({key: text}, key.replace("__", "."))
                self.assertNotIn("hunter2", str(self.refused(changed(**{key: text}))))

    def test_redis_store(self) -> None:
        """A store in Redis has a password file if it has a user, and then it holds a password."""
        path = self.directory() / "password"
        for text in (b"open sesame", b"open sesame\r\n", "s\u00e9same\n".encode()):
            path.write_bytes(text)
            for store in ("redis://redis.example.com", "rediss://alice@redis.example.com:1/2"):
                keys = {"tickets__store": store, "tickets__password_file": str(path)}
                config = from_mapping(changed(**keys, roles=["tickets"]), Path())
                self.assertEqual(config.tickets.store, store)
                self.assertNotIn("same", effective(config).replace(str(path), ""))
        for bad in (b"two\nlines\n", b"\xff"):
            path.write_bytes(bad)
            found = self.refused(changed(**keys))
            self.assertEqual(list(found), ["tickets.password_file"])
        found = self.refused(changed(tickets__store="redis://alice@redis.example.com"))
        self.assertIn("password_file", found["tickets.store"])
        from_mapping(changed(tickets__store="redis://redis.example.com"), Path())

    def test_redis_cluster(self) -> None:
        """The same goes for the Redis of a cluster; its keys need a URL."""
        path = self.directory() / "password"
        path.write_bytes(b"open sesame\n")
        url, file = "rediss://alice@redis.example.com", str(path)
        keys = {"cluster__url": url, "cluster__password_file": file, "cluster__timeout": 0.5}
        config = from_mapping(changed(**keys), Path())
        self.assertEqual((config.cluster.url, config.cluster.prefix), (url, "stompauth:"))
        self.assertNotIn("sesame", effective(config))
        path.write_bytes(b"two\nlines\n")
        self.assertEqual(list(self.refused(changed(**keys))), ["cluster.password_file"])
        self.assertEqual(list(self.refused(changed(cluster__url=url))), ["cluster.url"])
        for key, value in (("password_file", file), ("prefix", "x:"), ("timeout", 2)):
            found = self.refused(changed(**{f"cluster__{key}": value}))
            self.assertEqual(found, {f"cluster.{key}": "needs cluster.url"})

    def test_redis_extra(self) -> None:
        """Without the extra that Redis needs, the report says how to install it."""
        self.patch(reader, "is_installed", lambda: False)
        found = self.refused(changed(cluster__url="redis://redis.example.com"))
        self.assertIn("stompauth[redis]", found["cluster.url"])
        found = self.refused(changed(tickets__store="redis://redis.example.com"))
        self.assertIn("stompauth[redis]", found["tickets.store"])

    def test_interceptors(self) -> None:
        """An interceptor that cannot be had is a mistake, and tells why in one line."""
        for entry, path, words in [
            ({}, ".use", "package.module:Name"),
            ({"use": 1}, ".use", "package.module:Name"),
            ({"use": "tests.test_config.Audit"}, ".use", "package.module:Name"),
            ({"use": "tests.no_such_module:Audit"}, ".use", "ModuleNotFoundError"),
            ({"use": "..x:Audit"}, ".use", "cannot be imported"),
            ({"use": "tests.test_config:NoSuchClass"}, ".use", "AttributeError"),
            ({"use": "tests.test_config:MINIMAL"}, "", "not callable"),
            ({"use": "builtins:dict"}, ".use", "IInterceptor"),
            ({"use": "tests.test_config:Audit"}, "", "topic"),
            ({"use": "tests.test_config:Audit", "topics": "/a"}, "", "topics"),
            ({"use": "tests.test_config:Audit", "topic": "a"}, "", "ValueError: no topic: a"),
        ]:
            found = self.refused(changed(interceptors=[entry]))
            self.assertEqual(list(found), [f"interceptors[0]{path}"])
            self.assertIn(words, *found.values())

    def test_rules(self) -> None:
        """A rule with a mistake is named by its place."""
        for keys, path in [
            ({"allow": ["send", "read"]}, ".allow[1]"),
            ({"allow": None}, ""),
            ({"allow": []}, ""),
            ({"deny": ["send"]}, ""),
            ({"destination": None}, ".destination"),
            ({"destination": "topic/a"}, ".destination"),
            ({"destination": "/topic/../a"}, ".destination"),
            ({"destination": "/topic/{a}/{a}"}, ".destination"),
            ({"claims": {"rooms": "{room}"}}, ""),
            ({"on_deny": "notify"}, ".on_deny"),
            ({"on_deny": "ignore"}, ".on_deny"),
            ({"allow": ["subscribe"], "retain": True}, ""),
            ({"allow": None, "deny": ["send"], "retain": True}, ".retain"),
        ]:
            rules = rule() + rule(**keys)
            self.assert_refused({"rules": rules}, f"rules[1]{path}")

    def test_all_at_once(self) -> None:
        """Every mistake is told, in the order of the file, each in a line with its key."""
        error = self.assertRaises(
            ConfigError,
            load,
            """
            wrokers = 2
            listen = ["tcp:80", "tpc:80"]
            [websocket]
            origins = ["*"]
            [jwt]
            leeway = 61
            algorithms = ["none"]
            jwks_url = "http://id.example.com"
            issuer = "me"
            [[rules]]
            allow = ["send"]
            [[interceptors]]
            use = "none"
            """,
        )
        paths = [line.partition(": ")[0] for line in str(error).splitlines()]
        self.assertEqual(
            paths,
            [
                "wrokers",
                "listen[1]",
                "websocket.origins[0]",
                "jwt.audience",
                "jwt.leeway",
                "jwt.algorithms[0]",
                "jwt.jwks_url",
                "rules[0].destination",
                "interceptors[0].use",
            ],
        )


class SecrecyTests(ConfigCase):
    """OP-2: no secret is shown."""

    def test_nowhere(self) -> None:
        """Neither the values, nor what is printed, nor a mistake holds a secret of a file."""
        path = self.directory() / "secret"
        keys = {
            "jwt__jwks_url": None,
            "jwt__algorithms": ["HS256"],
            "jwt__secret_file": str(path),
            "interceptors": [{"use": "tests.test_config:Audit", "topic": "/hunter2"}],
        }
        path.write_bytes(b"hunter2" * 8)
        config = from_mapping(changed(**keys), Path())
        self.assertNotIn("hunter2", repr(config))
        self.assertNotIn("hunter2", effective(config))
        path.write_bytes(b"hunter2")
        self.assertNotIn("hunter2", str(self.refused(changed(**keys))))


class EffectiveTests(ConfigCase):
    """What ``--check`` prints."""

    def test_round_trip(self) -> None:
        """It is a configuration itself, and the same one."""
        odd = 'a"\\\x7f\n\u00e4\U0001f511'
        rules = [
            *rule(name=odd, claims={odd: odd}, authorities=["b", "a"], retain=True),
            *rule(allow=None, deny=["subscribe"], on_deny="notify"),
        ]
        interceptors = [{"use": "stompauth.interceptors.interceptor:Interceptor"}]
        config = from_mapping(
            changed(rules=rules, interceptors=interceptors, tickets__rate=0.5), Path()
        )
        self.assertEqual(load(effective(config)), config)

    def test_every_key(self) -> None:
        """Every setting is there, not only what the file says."""
        printed = tomllib.loads(effective(load(MINIMAL)))
        self.assertEqual(
            {(section, key) for section, key, _ in settings_of(Config())},
            {
                (section, key)
                for section, table in printed.items()
                for key in (table if isinstance(table, dict) else [""])
            }
            - {("rules", "")},
        )

    def test_no_limit(self) -> None:
        """A limit that is 0 is said to be none; another 0 is not."""
        data = changed(limits__sessions=0, tickets__rate=0, jwt__leeway=0)
        lines = effective(from_mapping(data, Path())).splitlines()
        self.assertIn("sessions = 0  # none", lines)
        self.assertIn("rate = 0  # none", lines)
        self.assertIn("leeway = 0", lines)
        self.assertEqual(sum("none" in line for line in lines), 2)

    def test_chain(self) -> None:
        """The interceptors are told in order, with those that are there by themselves."""
        self.assertIn(
            "authenticate, tests.test_config:Audit, authorize", effective(load(EVERYTHING))
        )

    def test_unreachable_rules(self) -> None:
        """A rule that an earlier one covers is marked."""
        rules = rule(destination="/topic/**") + rule(destination="/topic/a")
        lines = effective(from_mapping(changed(rules=rules), Path())).splitlines()
        marks = [number for number, line in enumerate(lines) if line.startswith("# never")]
        self.assertEqual(len(marks), 1)
        self.assertIn('destination = "/topic/a"', lines[: marks[0]])


class ListenerTests(SynchronousTestCase):
    """Endpoint strings are understood as Twisted understands them."""

    @settings(deadline=None, max_examples=200)
    @given(st.sampled_from(["", "address="]), st.text(r"a1:=\ ", max_size=20))
    def test_split(self, name: str, text: str) -> None:
        """Parameters are told apart, and backslashes taken, as Twisted does it."""
        description = f"unix:{name}{text}:mode=660"
        positional, named = endpoints._parse(description)
        try:
            bound = inspect.signature(endpoints._parseUNIX).bind(None, *positional[1:], **named)
        except TypeError:
            self.assertRaises(ValueError, Listener.parse, description)
        else:
            del bound.arguments["factory"]
            self.assertEqual(Listener.parse(description).arguments, bound.arguments)

    def test_parameters(self) -> None:
        """The order of the parameters is that of Twisted's own parsers."""
        parsers: dict[str, Callable[..., object]] = {
            "tcp": endpoints._parseTCP,
            "ssl": endpoints._parseSSL,
            "unix": endpoints._parseUNIX,
            "tcp6": endpoints._TCP6ServerParser._parseServer,
            "systemd": endpoints._SystemdParser._parseServer,
            "tls": endpoints._TLSServerEndpointParser._actualParseStreamServer,
        }
        for kind, parser in parsers.items():
            names = [
                name
                for name in inspect.signature(parser).parameters
                if name not in ("self", "factory", "reactor")
            ]
            for count in range(1, len(names) + 1):
                values = ["7"] * count
                if kind == "systemd" and count != 2:
                    continue
                listener = Listener.parse(":".join([kind, *values]))
                self.assertEqual(list(listener.arguments), names[:count])
            self.assertRaises(ValueError, Listener.parse, kind + ":7" * (len(names) + 1))

    def test_haproxy(self) -> None:
        """Of haproxy: it is the inside that counts."""
        listener = Listener.parse("haproxy:tcp:80:interface=127.0.0.1")
        self.assertEqual((listener.kind, listener.is_haproxy), ("tcp", True))
        self.assertTrue(listener.is_loopback)


def settings_of(config: Config) -> Iterator[tuple[str, str, object]]:
    """Section, key and value of all settings; the sections' names, as keys, are empty."""
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            for key in fields(value):
                yield entry.name, key.name, getattr(value, key.name)
        elif entry.name not in ("interceptors", "rules"):
            yield entry.name, "", value


class DocumentationTests(ConfigCase):
    """The reference says what the code does."""

    def test_required(self) -> None:
        """What is said to be required is what an empty configuration lacks."""
        required = {
            key.path
            for section, keys in sections().items()
            for key in keys
            if key.is_required and section not in ("interceptors", "rules")
        }
        self.assertEqual(required, set(self.refused({})) - {"jwt", "rules"})

    def test_example(self) -> None:
        """The example starts."""
        text = DOCUMENTATION.read_text("utf-8")
        example = text[text.index("## An example") :].split("```toml\n")[1].split("```")[0]
        config = load(example)
        self.assertEqual(
            [rule.name for rule in config.rules], ["room members", "own notifications"]
        )
        self.assertEqual(config.limits.sessions_per_user, 4)


SCALARS = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.dates(),
    st.sampled_from(
        ["memory", "redis://h", "tcp:80", "relay", "none", "HS256", "https://a", "/a", "send"]
    ),
)
LISTS = st.lists(SCALARS, max_size=3)
VALUES = SCALARS | LISTS | st.dictionaries(st.text(max_size=5), SCALARS | LISTS, max_size=2)
SECTIONS = {entry.name for entry in fields(Config)}
KEYS = {key for _, key, _ in settings_of(Config())} | {
    *("use", "allow", "deny", "destination", "authorities", "claims", "name", "on_deny", "retain")
}
TABLES = st.dictionaries(st.sampled_from(sorted(KEYS)) | st.text(max_size=5), VALUES, max_size=4)
CONFIGS = st.dictionaries(
    st.sampled_from(sorted(SECTIONS)) | st.text(max_size=5),
    TABLES | st.lists(TABLES, max_size=2) | VALUES,
    max_size=5,
)


class RandomTests(SynchronousTestCase):
    """Whatever a file says, the answer is a report."""

    @settings(deadline=None, max_examples=150)
    @given(CONFIGS)
    def test_nothing_but_mistakes(self, data: dict[str, Any]) -> None:
        """No shape of TOML raises anything but ConfigError, or gets by without its rules."""
        error = self.assertRaises(ConfigError, from_mapping, data, Path())
        self.assertTrue(error.mistakes)

    @settings(deadline=None, max_examples=150)
    @given(st.sampled_from([(s, k) for s, k, _ in settings_of(Config())]), VALUES)
    def test_one_key(self, place: tuple[str, str], value: object) -> None:
        """Any value of any key is read, or is a mistake of that key or of one it belongs with."""
        section, key = place
        data = changed(**{f"{section}__{key}" if key else section: value})
        try:
            config = from_mapping(data, Path())
        except ConfigError as error:
            self.assertTrue(error.mistakes)
        else:
            self.assertEqual(load(effective(config)), config)

    @settings(deadline=None, max_examples=200)
    @given(st.text(max_size=30))
    def test_text(self, text: str) -> None:
        """Nor does any text."""
        self.assertRaises(ConfigError, load, text)

    def test_depth(self) -> None:
        """However deep it goes."""
        for text in ("[" * 5000, ".".join(["a"] * 5000) + "=1", "a=" + "{a=" * 5000):
            self.assertRaises(ConfigError, load, text)
