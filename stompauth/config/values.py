"""What a configuration holds, section by section, with the defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import get_type_hints

from stompauth.authorization.decision import OnDeny
from stompauth.authorization.rules import Rule
from stompauth.interfaces import IInterceptor
from stompauth.settings import Limits, TicketSettings, WebSocketSettings


@dataclass(frozen=True, slots=True)
class JwtConfig:
    """Which tokens are good (``[jwt]``); times in seconds.

    :ivar algorithms: Those that tokens may be signed with: RS, PS and ES with 256, 384 or 512,
        ``EdDSA``; or HS with these.
    :ivar jwks_url: Where the issuer publishes its keys; https only.
    :ivar public_key_file: The issuer's public key, as PEM; or a list of files, to rotate it. Each
        key serves all algorithms.
    :ivar secret_file: An HMAC secret; or a list of files, to rotate it. A line end after the secret
        is not part of it.
    :ivar jwks_ca_file: CA certificates for the JWKS host, as PEM, in place of the system's.
    :ivar jwks_refresh: (s) How often the keys are fetched, 30 to 86400. A key that was removed
        verifies for as long at most.
    :ivar jwks_cooldown: (s) The least time between two fetches, from 30 on, whatever ``kid`` comes.
    :ivar issuer: What ``iss`` must be, exactly.
    :ivar audience: What ``aud`` must be, or contain, exactly.
    :ivar typ: What the header's ``typ`` must be, such as ``at+jwt``; empty: ``JWT``, ``at+jwt`` or
        none.
    :ivar leeway: (s) By how much clocks may differ, 0 to 60.
    :ivar max_lifetime: (s) The most from ``iat`` to ``exp``; ``0``: any.
    :ivar user_claim: The claim with the user name.
    :ivar authorities_claim: The claim with the authorities: a list, or a string separated by
        spaces.
    :ivar on_send: A JWT on SEND frames is ``"required"``, ``"optional"`` (checked when there is
        one) or ``"ignored"`` (taken off unread).
    """

    algorithms: tuple[str, ...] = ()
    jwks_url: str = ""
    public_key_file: tuple[str, ...] = ()
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
    """The ticket endpoint and its store (``[tickets]``).

    :ivar store: ``"memory"``, or ``"redis://[user@]host[:port][/database]"``, with TLS
        ``"rediss://..."``, for several processes: see [how](howto/redis.md).
    :ivar password_file: With Redis: the password, of the URL's user or the default one. A line end
        after it is not part of it.
    :ivar prefix: With Redis: what all its keys begin with.
    :ivar timeout: (s) With Redis: how long an answer may take, 0.1 to 60.
    :ivar max_outstanding: (tickets) Per subject; a further one voids the oldest. ``0``: no limit.
    :ivar max_total: (tickets) In all, in memory; then 503. ``0``: no limit. With Redis its
        ``maxmemory`` is the bound.
    """

    store: str = "memory"
    password_file: str = ""
    prefix: str = "stompauth:"
    timeout: float = 1
    max_outstanding: int = 5
    max_total: int = 100000


@dataclass(frozen=True, slots=True)
class WebSocketConfig(WebSocketSettings):
    """The handshake, and whose pages may make it (``[websocket]``).

    :ivar origins: The pages that may connect, exactly as browsers send it:
        ``https://chat.example.com``, ``http://localhost:3000``.
    """

    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Who delivers (``[broker]``).

    :ivar kind: ``"simple"``: this process delivers. ``"relay"``: RabbitMQ does, for all nodes.
    :ivar endpoint: With a relay: the broker, as ``tls:rabbit.example.com:61614``; or ``tcp:``.
    :ivar login: With a relay: our login.
    :ivar passcode_file: With a relay: our passcode, the same on all nodes.
    :ivar host: With a relay: the virtual host.
    :ivar receipt_timeout: (s) With a relay: how long the broker may take to confirm, from 0.1 on.
    :ivar bus: ``"redis://[user@]host[:port]"``, with TLS ``"rediss://..."``, carries topics and
        user destinations between nodes: see [how](howto/bus.md).
    :ivar bus_password_file: With a bus: the password, of the URL's user or the default one. A line
        end after it is not part of it.
    :ivar bus_prefix: With a bus: what all its channels begin with. Nodes with the same prefix hear
        one another.
    :ivar bus_timeout: (s) With a bus: how long an answer may take, 0.1 to 60.
    :ivar local_queues: With a bus or several workers: allow queues, each process' own.
    :ivar stamp_sender: Name the sender in the header ``sender`` of a MESSAGE.
    """

    kind: str = "simple"
    endpoint: str = ""
    login: str = ""
    passcode_file: str = ""
    host: str = "/"
    receipt_timeout: float = 10
    bus: str = ""
    bus_password_file: str = ""
    bus_prefix: str = "stompauth:"
    bus_timeout: float = 1
    local_queues: bool = False
    stamp_sender: bool = False


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What the nodes tell each other by (``[cluster]``).

    :ivar url: ``"redis://..."`` or ``"rediss://..."``: the nodes with the same database and prefix
        act as one in revocation, rechecks, and limits per user. Empty: this process is alone.
    :ivar password_file: With a URL: the password, of the URL's user or the default one. A line end
        after it is not part of it.
    :ivar prefix: With a URL: what its key and channels begin with.
    :ivar timeout: (s) With a URL: how long an answer of Redis may take, 0.1 to 60.
    """

    url: str = ""
    password_file: str = ""
    prefix: str = "stompauth:"
    timeout: float = 1


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """The HTTP control resource (``[control]``).

    :ivar listen: Where the control resource listens, and its operations page; empty: nowhere.
    :ivar token_file: The token that its callers show: 32 characters or more.
    """

    listen: tuple[str, ...] = ()
    token_file: str = ""


@dataclass(frozen=True, slots=True)
class LogoutConfig:
    """OpenID Connect Back-Channel Logout (``[logout]``).

    :ivar path: Where OpenID Connect Back-Channel Logout is, on the public listeners; empty:
        nowhere.
    """

    path: str = ""


@dataclass(frozen=True, slots=True)
class OpsConfig:
    """Metrics, health and the orderly stop (``[ops]``).

    :ivar listen: Where ``/metrics``, ``/health`` and ``/ready`` are; empty: nowhere.
    :ivar token_file: The token that ``/metrics`` asks for: 32 characters or more; empty for none.
    :ivar drain_timeout: (s) How long sessions may take to end, a few at a time, when the server
        stops; ``0`` ends them all at once.
    :ivar log_format: ``"text"``, or ``"json"``: one object a line.
    """

    listen: tuple[str, ...] = ()
    token_file: str = ""
    drain_timeout: float = 30
    log_format: str = "text"


@dataclass(frozen=True, slots=True)
class AuthorizationConfig:
    """Who decides beside the rules, and what a denial by no rule does (``[authorization]``).

    :ivar on_deny: When no rule matches: ``"close"`` the session, or ``"notify"`` the client.
    :ivar http: Ask this URL as well as the rules; both have to allow.
    :ivar timeout: (s) With a URL: how long an answer may take, 0.1 to 60.
    :ivar cache: (s) With a URL: for how long an answer holds.
    """

    on_deny: OnDeny = "close"
    http: str = ""
    timeout: float = 1
    cache: float = 0


@dataclass(frozen=True, slots=True)
class InterceptorConfig:
    """An entry of ``[[interceptors]]``.

    :ivar use: The class, as ``package.module:Name``, or the name of an entry point of
        ``stompauth.interceptors``.
    :ivar settings: what the class was called with; it may hold secrets.
    :ivar interceptor: the provider of :class:`~stompauth.interfaces.IInterceptor` that it made.
    """

    use: str
    settings: Mapping[str, object] = field(repr=False)
    interceptor: IInterceptor = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration, without a mistake and without a secret.

    Names are those of the keys; an attribute whose name ends in ``_file`` has the path made
    absolute. ``docs/configuration.md`` says what each means.


    :ivar listen: Where to listen: Twisted's endpoint strings.
    :ivar behind_tls_proxy: A proxy in front of all listeners terminates TLS; allows plain listeners
        off loopback.
    :ivar trusted_proxies: Networks, as ``10.0.0.0/8``, whose ``X-Forwarded-For`` is believed.
    :ivar roles: What this process serves. One of the two alone needs a shared ``tickets.store``.
    :ivar fast_io: Read and write WebSockets the short way, which changes nothing but its cost.
    :ivar workers: (processes) How many share the listeners: see [how](howto/workers.md).
        Limits of this process are those of each worker.
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


def keys(section: type = Config, path: str = "") -> Iterator[tuple[str, object]]:
    """Every key by its path, with its annotation; entries of arrays of tables have none."""
    hints = get_type_hints(section)
    for key in fields(section):
        where, hint = f"{path}{key.name}", hints[key.name]
        if isinstance(hint, type) and is_dataclass(hint):
            yield from keys(hint, f"{where}.")
        elif where not in ("interceptors", "rules"):
            yield where, hint
