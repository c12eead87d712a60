"""The parts that the sections of a configuration ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import clientFromString
from twisted.logger import Logger
from twisted.web.client import Agent, HTTPConnectionPool

from stompauth.authorization.http import HTTPAuthorizer
from stompauth.authorization.rules import Rules
from stompauth.broker.distributed import DistributedBroker
from stompauth.broker.redis_bus import RedisBus
from stompauth.broker.simple import SimpleBroker
from stompauth.cluster.cluster import Cluster
from stompauth.cluster.redis import redis_cluster
from stompauth.identity.keys import JWKSet, StaticKey, jwks_agent
from stompauth.identity.verifier import JWTVerifier
from stompauth.redis import read_password
from stompauth.relay.broker import BrokerRelay
from stompauth.tickets.memory import MemoryTicketStore
from stompauth.tickets.redis import RedisTicketStore
from stompauth.workers.message_bus import MeshMessageBus
from stompauth.workers.node_bus import MeshNodeBus
from stompauth.workers.tickets import MeshTicketStore

if TYPE_CHECKING:
    from stompauth.broker.bus import MessageBus
    from stompauth.config import BrokerConfig, ClusterConfig, Config, JwtConfig, TicketsConfig
    from stompauth.interfaces import IAuthorizer, ITicketStore
    from stompauth.settings import Limits
    from stompauth.workers.mesh import Mesh


_log = Logger()


def make_cluster(cluster: ClusterConfig, reactor: Any, mesh: Mesh | None = None) -> Cluster | None:
    """Make what a ``[cluster]`` section asks for; None for a process that is alone."""
    if not cluster.url:
        return None if mesh is None else Cluster(MeshNodeBus(mesh), reactor)
    return redis_cluster(
        reactor,
        cluster.url,
        password=_password(cluster.password_file),
        prefix=cluster.prefix,
        timeout=cluster.timeout,
    )


def make_broker(
    broker: BrokerConfig, limits: Limits, reactor: Any, mesh: Mesh | None = None
) -> SimpleBroker | DistributedBroker | BrokerRelay:
    """Make the broker of a ``[broker]`` section.

    :raises OSError: the file of a password has gone.
    :raises ValueError: it does not hold one line.
    """
    if broker.kind == "relay":
        return BrokerRelay(
            clientFromString(reactor, broker.endpoint),
            login=broker.login,
            passcode=read_password(broker.passcode_file),
            host=broker.host,
            receipt_timeout=broker.receipt_timeout,
            limits=limits,
            clock=reactor,
        )
    bus: MessageBus
    if broker.bus:
        bus = RedisBus(
            reactor,
            broker.bus,
            password=_password(broker.bus_password_file),
            prefix=broker.bus_prefix,
            timeout=broker.bus_timeout,
        )
    elif mesh is not None:
        bus = MeshMessageBus(mesh, reactor)
    else:
        return SimpleBroker(limits=limits, clock=reactor)
    return DistributedBroker(bus, clock=reactor, limits=limits, local_queues=broker.local_queues)


def make_tickets(tickets: TicketsConfig, reactor: Any, mesh: Mesh | None = None) -> ITicketStore:
    """Make the store of a ``[tickets]`` section."""
    if tickets.store == "memory":
        own = MemoryTicketStore(reactor, tickets.max_outstanding, tickets.max_total)
        return own if mesh is None else MeshTicketStore(own, mesh, reactor)
    return RedisTicketStore(
        reactor,
        tickets.store,
        password=_password(tickets.password_file),
        prefix=tickets.prefix,
        timeout=tickets.timeout,
        max_outstanding=tickets.max_outstanding,
    )


def make_authorizers(config: Config, reactor: Any) -> list[IAuthorizer]:
    """Make the rules, and what else is asked; a rule that can never decide is logged."""
    authorization = config.authorization
    rules = Rules(config.rules, on_deny=authorization.on_deny)
    for rule in rules.unreachable():
        _log.warn("the rule {rule} never decides: earlier ones cover it", rule=rule.label)
    authorizers: list[IAuthorizer] = [rules]
    if authorization.http:
        authorizers.append(
            HTTPAuthorizer(
                Agent(reactor, pool=HTTPConnectionPool(reactor)),
                authorization.http,
                clock=reactor,
                timeout=authorization.timeout,
                cache=authorization.cache,
            )
        )
    return authorizers


def make_verifier(jwt: JwtConfig, reactor: Any) -> JWTVerifier:
    """Make the verifier of a ``[jwt]`` section."""
    static = make_static_key(jwt)
    keys: StaticKey | JWKSet
    if static is None:
        keys = JWKSet(
            jwks_agent(reactor, jwt.jwks_ca_file or None),
            jwt.jwks_url,
            clock=reactor,
            refresh=jwt.jwks_refresh,
            cooldown=jwt.jwks_cooldown,
        )
    else:
        keys = static
    return JWTVerifier(
        keys,
        algorithms=jwt.algorithms,
        issuer=jwt.issuer,
        audience=jwt.audience,
        clock=reactor,
        typ=jwt.typ,
        leeway=jwt.leeway,
        max_lifetime=jwt.max_lifetime,
        user_claim=jwt.user_claim,
        authorities_claim=jwt.authorities_claim,
    )


def make_static_key(jwt: JwtConfig) -> StaticKey | None:
    """Read the key files of a ``[jwt]`` section; None if the keys are fetched."""
    if jwt.public_key_file:
        return StaticKey.from_public_key_files(*jwt.public_key_file)
    if jwt.secret_file:
        return StaticKey.from_secret_files(*jwt.secret_file)
    return None


def _password(file: str) -> str | None:
    return read_password(file) if file else None
