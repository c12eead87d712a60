"""From a configuration to the service that ``twistd`` runs, with its listeners."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import MultiService, Service
from twisted.logger import Logger

from stompauth.application import StompAuth
from stompauth.config.checks import LISTENERS
from stompauth.control import MAX_BODY, ControlResource
from stompauth.fastio.front import FrontSite
from stompauth.fastio.transport import slim_transports
from stompauth.garbage import FreezeService
from stompauth.handshake.address import ClientAddress
from stompauth.handshake.site import PathRouter, StrictSite
from stompauth.identity.bearer import read_secret_token
from stompauth.identity.keys import StaticKey
from stompauth.identity.logout import LogoutVerifier
from stompauth.identity.verifier import JWTVerifier
from stompauth.listening import BesideService, ListeningService, describe
from stompauth.operations.operations import Operations
from stompauth.ops.resource import OpsSite
from stompauth.parts import (
    make_authorizers,
    make_broker,
    make_cluster,
    make_static_key,
    make_tickets,
    make_verifier,
)
from stompauth.reload import Reload, ReloadOnSignal
from stompauth.workers.parent import WorkersService
from stompauth.workers.worker import WorkerService

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import (
        IProtocolFactory,
    )

    from stompauth.config import Config
    from stompauth.interfaces import IBroker
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
        signals are left alone, and so is the garbage collector.
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
    site = FrontSite(
        resources, reactor, fast_io=application.fast_io, trusted_proxies=config.trusted_proxies
    )
    limit_site(site, config)

    def listen(key: str, factory: IProtocolFactory, inner: Service, **options: Any) -> Service:
        if worker is None:
            return ListeningService(attrgetter(key)(config), factory, inner, reactor, **options)
        endpoints = worker.endpoints(key)
        return ListeningService(endpoints, factory, inner, reactor, announces=False, **options)

    opened = slim_transports if application.fast_io else None
    service: Service = listen("listen", site, application.service(), opened=opened)
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
    # It takes a moment, in which nobody may wait yet.
    FreezeService().setServiceParent(both)
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
