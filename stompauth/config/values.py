"""What a configuration holds, section by section, with the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stompauth.authorization.decision import OnDeny
from stompauth.authorization.rules import Rule
from stompauth.interfaces import IInterceptor
from stompauth.settings import Limits, TicketSettings, WebSocketSettings


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
    """Who delivers (``[broker]``).

    :ivar bus: ``"redis://[user@]host[:port]"``, with TLS ``"rediss://..."``, carries topics and
        user destinations between nodes: see [how](howto/bus.md).
    :ivar bus_password_file: With a bus: the password, of the URL's user or the default one. A line
        end after it is not part of it.
    :ivar bus_prefix: With a bus: what all its channels begin with. Nodes with the same prefix hear
        one another.
    :ivar bus_timeout: (s) With a bus: how long an answer may take, 0.1 to 60.
    :ivar local_queues: With a bus: allow queues, each node's own.
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
    interceptor: IInterceptor = field(repr=False, compare=False)


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
