"""From a configuration to the service that ``twistd`` runs, with its listeners."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import MultiService, Service
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool

from stompauth.application import StompAuth
from stompauth.authorization.http import HTTPAuthorizer
from stompauth.authorization.rules import Rules
from stompauth.broker.distributed import DistributedBroker
from stompauth.broker.redis_bus import RedisBus
from stompauth.broker.simple import SimpleBroker
from stompauth.cluster.cluster import Cluster
from stompauth.cluster.redis import redis_cluster
from stompauth.config.checks import LISTENERS
from stompauth.control import MAX_BODY, ControlResource
from stompauth.handshake.address import ClientAddress
from stompauth.handshake.site import PathRouter, StrictSite
from stompauth.identity.bearer import read_secret_token
from stompauth.identity.keys import JWKSet, StaticKey, jwks_agent
from stompauth.identity.logout import LogoutVerifier
from stompauth.identity.verifier import JWTVerifier
from stompauth.operations.operations import Operations
from stompauth.ops.resource import OpsSite
from stompauth.redis import read_password
from stompauth.relay.broker import BrokerRelay
from stompauth.reload import Reload, ReloadOnSignal
from stompauth.tickets.memory import MemoryTicketStore
from stompauth.tickets.redis import RedisTicketStore
from stompauth.workers.message_bus import MeshMessageBus
from stompauth.workers.node_bus import MeshNodeBus
from stompauth.workers.parent import WorkersService
from stompauth.workers.tickets import MeshTicketStore
from stompauth.workers.worker import WorkerService

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import (
        IAddress,
        IListeningPort,
        IProtocolFactory,
        IStreamServerEndpoint,
    )

    from stompauth.broker.bus import MessageBus
    from stompauth.config import BrokerConfig, ClusterConfig, Config, JwtConfig, TicketsConfig
    from stompauth.interfaces import IAuthorizer, IBroker, ITicketStore
    from stompauth.settings import Limits
    from stompauth.workers.mesh import Mesh
    from stompauth.workers.worker import Worker


#: Seconds that a worker has for its end, beside those for draining and for closing sockets.
STOP_SLACK: Final = 5.0

_log = Logger()


def make_service(
    config: Config,
    reactor: Any,
    read: Callable[[Config], Config] | None = None,
    worker: Worker | None = None,
) -> IService:
    """Make all that a configuration asks for, for one process.

    :param read: reads the configuration again, at every SIGHUP; see :class:`.Reload`. Without it
        signals are left alone.
    :param worker: of several processes the one that it is for; see :func:`make_workers`.
    :raises OSError: a file of a key or a token has gone since the configuration was read.
    :raises ValueError: it has changed for the worse.
    """
    verifier = make_verifier(config.jwt, reactor)
    mesh = None if worker is None else worker.mesh
    broker = make_broker(config.broker, config.limits, reactor, mesh)
    application = make_application(config, verifier, broker, reactor, mesh)
    resources = application.resources(config.roles)
    if config.logout.path:
        logout = application.logout_resource(LogoutVerifier(verifier, reactor))
        resources[config.logout.path.encode("ascii")] = logout
    site = StrictSite(PathRouter(resources), reactor, trusted_proxies=config.trusted_proxies)
    limit_site(site, config)

    def listen(key: str, factory: IProtocolFactory, inner: Service, **options: Any) -> Service:
        if worker is None:
            return ListeningService(attrgetter(key)(config), factory, inner, reactor, **options)
        endpoints = worker.endpoints(key)
        return ListeningService(endpoints, factory, inner, reactor, announces=False, **options)

    service: Service = listen("listen", site, application.service())
    if config.control.listen:
        operations = make_operations(config, application, reactor)
        stop_all = reactor.stop if worker is None else worker.stop_all
        # As SIGTERM does: then the service stops, and drains first.
        stop = partial(reactor.callLater, 0, stop_all)
        control_site = make_control_site(config, application, operations, reactor, stop)
        service = BesideService(service, operations.service())
        service = listen("control.listen", control_site, service, to_the_end=True)
    if config.ops.listen:
        ops_site = make_ops_site(config, application, reactor)
        service = listen("ops.listen", ops_site, service, to_the_end=True)
    if worker is not None:
        service = WorkerService(worker, service, reactor)
    if read is None:
        return service

    def prepare(changed: Config) -> Callable[[], None]:
        authorizers = make_authorizers(changed, reactor)
        keys = make_static_key(changed.jwt)

        def take_over() -> None:
            application.replace_rules(authorizers)
            websocket = changed.websocket
            application.origins.replace(websocket.origins, require=websocket.require_origin)
            application.replace_limits(changed.limits)
            broker.replace_limits(changed.limits)
            limit_site(site, changed)
            if keys is not None and isinstance(verifier.keys, StaticKey):
                verifier.keys.replace(keys)

        return take_over

    reload = Reload(config, read=read, prepare=prepare, recheck=application.recheck_here)
    both = MultiService()
    service.setServiceParent(both)
    ReloadOnSignal(reload, reactor).setServiceParent(both)
    return both


def make_workers(config: Config, reactor: Any, command: Sequence[str]) -> IService:
    """Make the parent of several processes, each of which runs what :func:`make_service` makes.

    :param command: what starts one of them.
    """
    parent = WorkersService(
        reactor,
        command,
        config.workers,
        {key: attrgetter(key)(config) for key in LISTENERS},
        stop_timeout=config.ops.drain_timeout + config.limits.close_timeout + STOP_SLACK,
        listening=lambda address: _log.info("listening on {address}", address=describe(address)),
    )
    both = MultiService()
    parent.setServiceParent(both)
    ReloadOnSignal(partial(parent.signal, "HUP"), reactor).setServiceParent(both)
    return both


def limit_site(site: StrictSite, config: Config) -> None:
    """Have the site of ``listen`` keep the limits of a configuration."""
    limits = config.limits
    # At accept, everybody behind such a listener still has the proxy's address.
    is_proxied = any(description.startswith("haproxy:") for description in config.listen)
    per_address = 0 if is_proxied else limits.sessions_per_address
    site.replace_limits(limits.http_timeout, limits.sessions, per_address)


def make_operations(config: Config, application: StompAuth, reactor: Any) -> Operations:
    """Make the operations page, which ``control.listen`` serves too."""
    return Operations(
        application,
        token=read_secret_token(config.control.token_file),
        clock=reactor,
        trusted_proxies=config.trusted_proxies,
    )


def make_control_site(
    config: Config,
    application: StompAuth,
    operations: Operations,
    reactor: Any,
    stop: Callable[[], object],
) -> StrictSite:
    """Make what listens at ``control.listen``."""
    control = ControlResource(
        application,
        token=read_secret_token(config.control.token_file),
        clock=reactor,
        addresses=ClientAddress(config.trusted_proxies),
        stop=stop,
    )
    root = PathRouter(operations.resources(), control)
    return StrictSite(root, reactor, config.limits.http_timeout, MAX_BODY)


def make_ops_site(config: Config, application: StompAuth, reactor: Any) -> OpsSite:
    """Make what listens at ``ops.listen``; without prometheus-client it has no metrics."""
    token = read_secret_token(config.ops.token_file) if config.ops.token_file else ""
    try:
        from stompauth.ops.metrics import Metrics
    except ImportError:
        _log.warn("there are no metrics: stompauth[metrics] is not installed")
        metrics = None
    else:
        metrics = Metrics(application, reactor)
    return OpsSite(application, reactor, metrics, token, config.limits.http_timeout)


def make_application(
    config: Config,
    verifier: JWTVerifier,
    broker: IBroker,
    reactor: Any,
    mesh: Mesh | None = None,
) -> StompAuth:
    """Make the application of a configuration, without listeners.

    :param mesh: connects it to others on this machine, in all that has no Redis for that.
    """
    tickets = config.tickets
    return StompAuth(
        verifier=verifier,
        tickets=make_tickets(tickets, reactor, mesh),
        broker=broker,
        rules=make_authorizers(config, reactor),
        origins=config.websocket.origins,
        clock=reactor,
        interceptors=[interceptor.interceptor for interceptor in config.interceptors],
        limits=config.limits,
        ticket=tickets,
        websocket=config.websocket,
        on_send=config.jwt.on_send,
        stamp_sender=config.broker.stamp_sender,
        trusted_proxies=config.trusted_proxies,
        drain_timeout=config.ops.drain_timeout,
        cluster=make_cluster(config.cluster, reactor, mesh),
        fast_io=config.fast_io,
    )


def make_cluster(cluster: ClusterConfig, reactor: Any, mesh: Mesh | None = None) -> Cluster | None:
    """Make what a ``[cluster]`` section asks for; None for a process that is alone."""
    if not cluster.url:
        return None if mesh is None else Cluster(MeshNodeBus(mesh), reactor)
    return redis_cluster(
        reactor,
        cluster.url,
        password=read_password(cluster.password_file) if cluster.password_file else None,
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
            password=read_password(broker.bus_password_file) if broker.bus_password_file else None,
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
        password=read_password(tickets.password_file) if tickets.password_file else None,
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


class ListeningService(Service):
    """Listens on endpoints, and runs a service behind them.

    It stops in order: first it takes no more connections, then the service stops; or the other way
    round, for what has to be asked until the end. A listener that cannot be had is an error at
    start, not a line in the log.

    :param endpoints: endpoints, or Twisted's descriptions of them, such as
        ``tcp:8080:interface=127.0.0.1``.
    :param factory: what listens.
    :param inner: the service; one that listens itself stops to do so after this one.
    :param to_the_end: whether to listen from after the service's start until after its stop.
    :param listening: called with the address of each listener as it is there.
    :param announces: whether to log the address, too.
    """

    _log = Logger()

    def __init__(
        self,
        endpoints: Sequence[str | IStreamServerEndpoint],
        factory: IProtocolFactory,
        inner: Service,
        reactor: Any,
        listening: Callable[[IAddress], None] | None = None,
        *,
        to_the_end: bool = False,
        announces: bool = True,
    ) -> None:
        self._endpoints = [
            serverFromString(reactor, endpoint) if isinstance(endpoint, str) else endpoint
            for endpoint in endpoints
        ]
        self._announces = announces
        self._factory = factory
        self._inner = inner
        self._listening = listening
        self._to_the_end = to_the_end
        self._ports: list[IListeningPort] = []
        self._begun = False

    def privilegedStartService(self) -> None:
        """Listen while the process still may: before twistd gives up its privileges."""
        super().privilegedStartService()
        if self._to_the_end:
            self._inner.privilegedStartService()
        self._listen()
        if not self._to_the_end:
            self._inner.privilegedStartService()

    def startService(self) -> None:
        """Listen, unless that is done, and start the service."""
        super().startService()
        if self._to_the_end:
            self._inner.startService()
        self._listen()
        if not self._to_the_end:
            self._inner.startService()

    def _listen(self) -> None:
        if self._begun:
            return
        self._begun = True
        for endpoint in self._endpoints:
            failures: list[Failure] = []
            listening = endpoint.listen(self._factory)
            listening.addCallback(self._is_listening)
            listening.addErrback(failures.append)
            if failures:
                failures[0].raiseException()

    def _is_listening(self, port: IListeningPort) -> None:
        self._ports.append(port)
        address = port.getHost()
        if self._listening is not None:
            self._listening(address)
        if self._announces:
            self._log.info("listening on {address}", address=describe(address))

    def stopService(self) -> Deferred[None]:
        """Stop in order.

        :return: fires when the listeners are closed and the service has stopped.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if not self._to_the_end:
            await self._stop_listening()
        stopped = self._inner.stopService()
        if stopped is not None:
            await stopped
        await self._stop_listening()
        self._begun = False

    async def _stop_listening(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            closed = port.stopListening()
            if closed is not None:
                await closed


class BesideService(Service):
    """Runs a service, and another one that is there from before its start until after its stop.

    :param inner: the service.
    :param beside: the other one.
    """

    def __init__(self, inner: Service, beside: Service) -> None:
        self._inner = inner
        self._beside = beside

    def privilegedStartService(self) -> None:
        """Let them do what has to be done before twistd gives up its privileges."""
        super().privilegedStartService()
        self._beside.privilegedStartService()
        self._inner.privilegedStartService()

    def startService(self) -> None:
        """Start them."""
        super().startService()
        self._beside.startService()
        self._inner.startService()

    def stopService(self) -> Deferred[None]:
        """Stop the service, and then the other one.

        :return: fires when both have stopped.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in (self._inner, self._beside):
            stopped = service.stopService()
            if stopped is not None:
                await stopped


def describe(address: IAddress) -> str:
    """An address as people write it: ``127.0.0.1:8080``, ``[::1]:8080``, a path."""
    if isinstance(address, UNIXAddress):
        return str(address.name, "utf-8") if isinstance(address.name, bytes) else str(address.name)
    host, port = getattr(address, "host", "unknown"), getattr(address, "port", 0)
    return f"[{host}]:{port}" if isinstance(address, IPv6Address) else f"{host}:{port}"
