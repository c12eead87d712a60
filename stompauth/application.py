"""The whole of stompauth, put together for one application."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from twisted.application.service import IService, Service
from twisted.internet import defer
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from stompauth.audit import audit
from stompauth.authorization.destination import Destination
from stompauth.broker.message import Message
from stompauth.cluster.all_nodes import AllNodes
from stompauth.cluster.cluster import both
from stompauth.cluster.node import Node
from stompauth.counters import Counters
from stompauth.errors import Unavailable
from stompauth.fastio.probes import websocket_factory
from stompauth.handlers.handlers import Handlers
from stompauth.handshake.address import ClientAddress
from stompauth.handshake.admission import AdmissionPolicy
from stompauth.handshake.connections import Connections
from stompauth.handshake.logout_resource import LogoutResource
from stompauth.handshake.origins import OriginPolicy
from stompauth.handshake.rate import TokenBuckets
from stompauth.handshake.ticket_resource import TicketResource
from stompauth.handshake.websocket import StompWebSocketFactory, WebSocketResource
from stompauth.identity.keys import JWKSet
from stompauth.identity.revocation import RevocableVerifier, Revocations
from stompauth.interceptors.authenticate import Authenticate
from stompauth.interceptors.authorize import Authorize
from stompauth.interceptors.chain import Chain
from stompauth.interfaces import (
    IAuthorizer,
    IBroker,
    IHandshakeInterceptor,
    IInterceptor,
    IReadiness,
    ITicketStore,
    ITokenVerifier,
)
from stompauth.session.drain import Drain
from stompauth.session.firewall import pass_headers
from stompauth.session.session import SessionFactory
from stompauth.settings import Limits, TicketSettings, WebSocketSettings
from stompauth.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from twisted.internet.interfaces import IReactorTime
    from twisted.web.resource import IResource

    from stompauth.broker.queues import QueueDepth
    from stompauth.cluster.cluster import Cluster
    from stompauth.identity.logout import Logout, LogoutVerifier
    from stompauth.session.registry import SessionRegistry
    from stompauth.tickets.grant import TicketGrant


F = TypeVar("F", bound="Callable[..., Any]")


class StompAuth:
    """STOMP over WebSocket for one application: two resources and a service.

    Put the resources into a :class:`twisted.web.server.Site` of your own, at the paths that
    ``ticket`` and ``websocket`` name, and give the service a parent.

    A verifier's ``keys``, a ticket store, a broker or a cluster that is a Twisted service
    (:class:`twisted.application.service.IService`) starts and stops with this application's.

    :param verifier: provider of :class:`.ITokenVerifier`.
    :param tickets: provider of :class:`.ITicketStore`.
    :param broker: provider of :class:`.IBroker`.
    :param rules: provider of :class:`.IAuthorizer`, or several of them, which all have to allow.
    :param origins: the origins of the pages that may connect, exact, such as
        ``https://chat.example.com``; or an :class:`.OriginPolicy`.
    :param clock: what time it is; the reactor.
    :param interceptors: providers of :class:`.IInterceptor`, in this order between authentication
        and authorization.
    :param handshake_interceptors: providers of :class:`.IHandshakeInterceptor`, in this order.
    :param limits: what clients can make the server hold.
    :param ticket: how the ticket endpoint behaves.
    :param websocket: how the handshake behaves.
    :param on_send: ``"required"``, ``"optional"`` or ``"ignored"``: a JWT on SEND.
    :param stamp_sender: whether MESSAGEs say in ``sender`` who sent them.
    :param drain_timeout: seconds that the service's stop gives sessions to end in, a few at a
        time, with ``drain``. 0 ends them all at once, with ``shutdown``.
    :param trusted_proxies: networks whose ``X-Forwarded-For`` is believed.
    :param cluster: lets it act together with the same application on other nodes.
    :param fast_io: whether WebSockets may use ``stompauth.fastio``.
    :raises TypeError: a part does not provide its interface.

    :ivar sessions: who is here.
    :ivar origins: the origin policy; its origins may be replaced.
    :ivar limits: what clients can make the server hold.
    :ivar counters: what has happened so far.
    :ivar chain: the interceptors in their order, authentication and authorization among them.
    :ivar fast_io: whether ``stompauth.fastio`` is used.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        verifier: ITokenVerifier,
        tickets: ITicketStore,
        broker: IBroker,
        rules: IAuthorizer | Sequence[IAuthorizer],
        origins: Sequence[str] | OriginPolicy,
        clock: IReactorTime,
        interceptors: Sequence[IInterceptor] = (),
        handshake_interceptors: Sequence[IHandshakeInterceptor] = (),
        limits: Limits | None = None,
        ticket: TicketSettings | None = None,
        websocket: WebSocketSettings | None = None,
        on_send: str = "optional",
        stamp_sender: bool = False,
        trusted_proxies: Sequence[str] = (),
        drain_timeout: float = 0,
        cluster: Cluster | None = None,
        fast_io: bool = True,
    ) -> None:
        parts: list[tuple[Any, object]] = [
            (ITokenVerifier, verifier),
            (ITicketStore, tickets),
            (IBroker, broker),
            *((IHandshakeInterceptor, interceptor) for interceptor in handshake_interceptors),
        ]
        for interface, part in parts:
            _check_provides(interface, part)
        authorizers = _authorizers(rules)
        # A token may be issued ahead of our clock by the leeway, and be taken after its end.
        lifetime = getattr(verifier, "max_lifetime", 86400) + 2 * verifier.leeway
        self.counters = Counters()
        self._revocations = Revocations(clock, lifetime)
        keys = getattr(verifier, "keys", None)
        self._keys = keys if isinstance(keys, JWKSet) else None
        verifier = self._verifier = RevocableVerifier(
            verifier, self._revocations, clock, self.counters
        )
        self._tickets = tickets
        self._broker = broker
        borrower: Any = broker
        if getattr(borrower, "clock", clock) is None:
            borrower.clock = clock
        self._clock = clock
        self.limits = limits or Limits()
        self._ticket_settings = ticket or TicketSettings()
        self._websocket_settings = websocket or WebSocketSettings()
        self.origins = (
            origins
            if isinstance(origins, OriginPolicy)
            else OriginPolicy(origins, require=self._websocket_settings.require_origin)
        )
        self._factories: list[StompWebSocketFactory] = []
        self._websocket_factory = websocket_factory(fast_io)
        self.fast_io = self._websocket_factory is not StompWebSocketFactory
        self._handshake_interceptors = tuple(handshake_interceptors)
        self._drain_timeout = drain_timeout
        self._addresses = ClientAddress(trusted_proxies)
        self._connections = Connections(self.limits, cluster)
        authorize = self._authorize = Authorize(authorizers)
        self.chain = Chain([Authenticate(verifier, on_send), *interceptors, authorize])
        self._handlers = Handlers(broker)
        self._sessions = SessionFactory(
            chain=self.chain,
            handlers=self._handlers,
            authorize=authorize.check,
            broker=broker,
            clock=clock,
            limits=self.limits,
            counters=self.counters,
            leeway=verifier.leeway,
            server=f"stompauth/{__version__}",
            stamp_sender=stamp_sender,
            observer=cluster,
        )
        self._node = Node(self._sessions, self._revocations)
        self._nodes = AllNodes(self._node, cluster)
        self._parts: dict[str, Any] = {
            "tickets": tickets,
            "keys": keys,
            "broker": broker,
            "cluster": cluster,
        }
        if cluster is not None:
            cluster.attach(self._node)

    @property
    def sessions(self) -> SessionRegistry:
        """The connected sessions."""
        return self._sessions.registry

    def readiness(self) -> dict[str, bool]:
        """Whether each part that the server depends on can do its work now, and the server itself.

        ``serving`` is False while it stops.
        """
        ready = {
            name: part.is_ready()
            for name, part in self._parts.items()
            if IReadiness.providedBy(part)
        }
        return {"serving": not self._connections.is_stopping, **ready}

    def key_fetches(self) -> Mapping[str, int]:
        """How often the JWK Set was fetched, by outcome; empty where there is none."""
        return self._keys.fetches if self._keys is not None else {}

    def tickets_expired(self) -> int | None:
        """How many tickets nobody took in time; None where the store does not know."""
        return getattr(self._tickets, "expired", None)

    def broker_counts(self) -> Mapping[str, int]:
        """What the broker holds, by name, as far as it tells."""
        counts: Callable[[], Mapping[str, int]] = getattr(self._broker, "counts", dict)
        return counts()

    def deepest_queues(self, limit: int, containing: str = "") -> list[QueueDepth]:
        """The queues that hold most, the deepest first, as far as the broker tells.

        :param limit: how many at most.
        :param containing: only those with this in their path.
        """
        deepest: Callable[[int, str], list[QueueDepth]] | None
        deepest = getattr(self._broker, "deepest_queues", None)
        return [] if deepest is None else deepest(limit, containing)

    def ticket_resource(self) -> TicketResource:
        """The ticket endpoint, for any path."""
        return TicketResource(
            verifier=self._verifier,
            tickets=self._tickets,
            origins=self.origins,
            connections=self._connections,
            addresses=self._addresses,
            clock=self._clock,
            settings=self._ticket_settings,
            websocket_path=self._websocket_settings.path,
        )

    def websocket_resource(self) -> WebSocketResource:
        """The WebSocket, for exactly the path of its settings; ``/stomp`` by default."""
        settings = self._websocket_settings
        failures = self._ticket_settings.failures_per_address
        factory = self._websocket_factory(
            admission=AdmissionPolicy(
                tickets=self._tickets,
                verifier=self._verifier,
                origins=self.origins,
                connections=self._connections,
                revocations=self._revocations,
                counters=self.counters,
                failures=TokenBuckets(self._clock, failures / 60, failures),
                replayed=self._replayed,
                was_replayed=self._node.was_replayed,
                interceptors=self._handshake_interceptors,
                settings=settings,
            ),
            sessions=self._sessions,
            clock=self._clock,
            limits=self.limits,
            settings=settings,
        )
        self._factories.append(factory)
        return WebSocketResource(factory, self._addresses, settings)

    def logout_resource(self, verifier: LogoutVerifier) -> LogoutResource:
        """OpenID Connect Back-Channel Logout, for any path.

        :param verifier: verifies the logout tokens.
        """
        return LogoutResource(
            verifier=verifier,
            log_out=self._log_out,
            addresses=self._addresses,
            clock=self._clock,
            failures_per_address=self._ticket_settings.failures_per_address,
        )

    def resources(
        self, roles: Collection[str] = ("tickets", "websocket")
    ) -> dict[bytes, IResource]:
        """The resources by the paths of their settings, for a :class:`.PathRouter`.

        :param roles: which of the two.
        """
        resources: dict[bytes, IResource] = {}
        if "tickets" in roles:
            resources[self._ticket_settings.path.encode("ascii")] = self.ticket_resource()
        if "websocket" in roles:
            resources[self._websocket_settings.path.encode("ascii")] = self.websocket_resource()
        return resources

    def service(self) -> StompAuthService:
        """What has to run beside the resources, and to stop in good order."""
        return StompAuthService(self)

    def on_send(
        self, destination: str, *, send_to: str | None = None, reply: str | None = None
    ) -> Callable[[F], F]:
        """Decorate a function that answers SENDs to ``/app/**``.

        Its parameters get what their names and annotations ask for; see
        :class:`stompauth.handlers.arguments.Arguments`. What it returns goes to ``send_to``, or
        back to the sender's session by ``reply``, or both; without them, or if it is None, nowhere.
        It is ``bytes``, ``str``, or anything that JSON has, dataclasses included.

        An exception is told to the client by a notice; :exc:`Refused` as it says.

        :param destination: such as ``/app/rooms/{room}``. It needs a rule, as all do.
        :param send_to: such as ``/topic/rooms/{room}``.
        :param reply: such as ``/queue/answers``, which the client knows as ``/user/queue/answers``.
        :raises TypeError: a parameter asks for nothing that there is.
        :raises ValueError: one of the destinations is none.
        """

        def decorate(function: F) -> F:
            self._handlers.add("SEND", destination, function, send_to, reply)
            return function

        return decorate

    def on_subscribe(self, destination: str) -> Callable[[F], F]:
        """Decorate a function that answers a SUBSCRIBE to ``/app/**``, once.

        What it returns goes to the subscription; None is no answer. It has the parameters of
        :meth:`on_send`, but no body; it may raise :exc:`Refused`.
        """

        def decorate(function: F) -> F:
            self._handlers.add("SUBSCRIBE", destination, function)
            return function

        return decorate

    def on_error(self, error: type[Exception], code: str = "internal") -> Callable[[F], F]:
        """Decorate a function that turns a handler's exception into the text of a notice.

        It is called with the exception, and with whatever else its parameters ask for by their
        names and annotations, as those of :meth:`on_send` do: all but variables and body.

        :param error: the class; the first that fits is asked.
        :param code: the notice's ``code``.
        :raises TypeError: a parameter asks for nothing that there is.
        """

        def decorate(function: F) -> F:
            self._handlers.add_error(error, code, function)
            return function

        return decorate

    def on(self, event: str) -> Callable[[F], F]:
        """Decorate a function that is called at every event of a kind, after the fact.

        :param event: one of :data:`stompauth.session.events.EVENTS`, which says what it is called
            with: ``connected``, ``subscribed``, ``unsubscribed``, ``disconnected``, ``denied``,
            ``expiring``.
        :raises ValueError: there is no such event.
        """

        def decorate(function: F) -> F:
            self._sessions.events.add(event, function)
            return function

        return decorate

    def publish(
        self,
        destination: str,
        body: bytes | str,
        headers: Mapping[str, str] | None = None,
    ) -> Deferred[None]:
        """Send a message to a topic or queue, in the server's own name and past the rules.

        :param body: octets, or text that goes out as UTF-8.
        :param headers: custom headers; what the server says of a MESSAGE is not among them.
        :return: fires when the broker has accepted it.
        :raises Refused: by the Deferred: ``bad-destination``, ``no-such-destination``,
            ``queue-full`` or ``limit``.
        """
        return Deferred.fromCoroutine(self._publish(destination, body, headers))

    async def _publish(
        self, destination: str, body: bytes | str, headers: Mapping[str, str] | None
    ) -> None:
        accepted = self._broker.send(_message(destination, body, headers))
        if accepted is not None:
            await accepted

    def send_to_user(
        self,
        user: str,
        destination: str,
        body: bytes | str,
        headers: Mapping[str, str] | None = None,
    ) -> Deferred[int]:
        """Send to a user's subscriptions of ``/user`` + destination, in all of his sessions.

        :param destination: such as ``/queue/notifications``.
        :return: fires with how many sessions it went to. With the relay, those of other nodes are
            counted if there is a cluster, and all of its nodes answer.
        :raises Refused: by the Deferred: ``bad-destination`` or ``no-such-destination``.
        """

        async def send() -> int:
            message = _message(destination, body, headers)
            sent = self._broker.send_to_user(user, message)
            if isinstance(sent, int):
                return sent
            sessions = await sent
            if self._broker.counts_here_only:
                with suppress(Unavailable):
                    sessions += await self._nodes.count_elsewhere(user, message.destination.path)
            return sessions

        return Deferred.fromCoroutine(send())

    def send_to_session(
        self,
        session_id: str,
        destination: str,
        body: bytes | str,
        headers: Mapping[str, str] | None = None,
    ) -> Deferred[bool]:
        """Send to one session's subscriptions of ``/user`` + destination.

        :return: fires with whether it went to the session; it does not if there is none, or has
            not subscribed.
        :raises Refused: by the Deferred: ``bad-destination`` or ``no-such-destination``; or
            ``too-large`` for another node.
        :raises Unavailable: by the Deferred: the session's node did not answer.
        """

        async def send() -> bool:
            return await self._nodes.send(session_id, _message(destination, body, headers))

        return Deferred.fromCoroutine(send())

    def revoke(
        self,
        *,
        user: str | None = None,
        session: str | None = None,
        token_id: str | None = None,
        reason: str = "",
    ) -> Deferred[Revoked]:
        """Withdraw access, of exactly one of the three, now.

        The sessions end with ``revoked``. Of a user, tokens issued up to now are refused from here
        on, and his tickets are void; of a token, all that it opened or would open is.

        :param user: the user name, of any issuer.
        :param session: a session's id.
        :param token_id: a token's ``jti``.
        :param reason: for the log.
        :return: fires with what there was to withdraw, on all nodes.
        :raises ValueError: none of the three was given, or several.
        :raises Unavailable: by the Deferred: the tickets cannot be had, or other nodes did not
            confirm; all else is done, and they will learn of it when they can be reached.
        """
        if sum(value is not None for value in (user, session, token_id)) != 1:
            raise ValueError("revoke one of user, session and token_id")
        for what, name in (("user", user), ("session", session), ("token", token_id)):
            if name is not None:
                audit("revoked", what=what, name=name, reason=reason or "no reason given")
        if session is not None:
            ended = self._nodes.end(session)
        elif token_id is not None:
            ended = self._nodes.revoke([self._revocations.revoke_token(token_id)])
        else:
            ended = self._nodes.revoke([self._revocations.revoke_user(cast("str", user))])

        async def count() -> Revoked:
            void = Deferred.fromCoroutine(self._void_tickets(user))
            tickets, sessions = await both(void, ended)
            return Revoked(sessions, tickets)

        return Deferred.fromCoroutine(count())

    async def _void_tickets(self, user: str | None) -> int:
        return 0 if user is None else await self._tickets.revoke(None, user)

    async def _log_out(self, logout: Logout) -> None:
        """End what the identity provider has logged out, and take its tokens no more."""
        reason = "logged out by the identity provider"
        if logout.user is not None:
            await self.revoke(user=logout.user, reason=reason)
            return
        what = "sub" if logout.session is None else "sid"
        audit("revoked", what=what, name=logout.session or logout.subject or "", reason=reason)
        await self._nodes.revoke(self._revocations.log_out(logout))

    def recheck(self, user: str | None = None) -> Deferred[int]:
        """Ask the rules again about every subscription of a user, or of all.

        What is refused now is dropped, with a notice. A session for which they cannot be asked
        ends with ``internal``.

        :return: fires with how many sessions were looked at; those of other nodes are counted, and
            looked at on their own time.
        :raises Unavailable: by the Deferred: other nodes did not confirm; those here were looked
            at.
        """
        return self._nodes.recheck(user)

    def recheck_here(self) -> Deferred[int]:
        """Do so for all sessions of this node, as when only its own rules have changed."""
        return self._node.recheck()

    def describe(
        self, *, user: str | None = None, session: str | None = None
    ) -> Deferred[list[dict[str, object]]]:
        """Describe connected sessions, on all nodes, as ``GET /sessions`` shows them.

        :param user: all of this user name.
        :param session: or the one with this id.
        :return: fires with what there is.
        :raises ValueError: none of the two was given, or both.
        :raises Unavailable: by the Deferred: another node did not answer.
        """
        if (user is None) == (session is None):
            raise ValueError("describe a user or a session")
        if user is not None:
            return self._nodes.describe_user(user)
        return self._nodes.describe(cast("str", session))

    def replace_rules(self, rules: IAuthorizer | Sequence[IAuthorizer]) -> None:
        """Have other rules from now on; :meth:`recheck` asks them about what is subscribed.

        :param rules: as for the class.
        :raises TypeError: a part does not provide its interface; then nothing changes.
        """
        self._authorize.authorizers = _authorizers(rules)

    def replace_limits(self, limits: Limits) -> None:
        """Have other limits from now on.

        How many sessions, subscriptions and frames in waiting there may be is asked each time; what
        is there already stays. Sizes, rates, times and heart-beats are those of the time when the
        session began. The limits of a broker, and of a Site, are their own.
        """
        self.limits = self._connections.limits = limits
        self._sessions.replace_limits(limits)
        for factory in self._factories:
            factory.replace_limits(limits)

    def _replayed(self, grant: TicketGrant) -> None:
        if self._ticket_settings.on_replay != "close" or not grant.grant_id:
            return
        # Whose session has ended already, and comes on and on with the ticket, is no more work.
        if not self._node.was_replayed(grant):
            self._nodes.replayed(grant.grant_id)

    def drain(self, timeout: float | None = None) -> Deferred[None]:
        """Let nobody in any more, and end the sessions with ``drain``, a few at a time.

        Tickets and handshakes get 503 from here on, with a ``Retry-After`` spread over the time. A
        session that has a frame in hand ends when that is done.

        :param timeout: seconds that it may take; ``drain_timeout`` if None.
        :return: fires when no session is left.
        """
        timeout = self._drain_timeout if timeout is None else timeout
        self._connections.back_in = timeout
        self._connections.is_stopping = True
        if not timeout:
            self._sessions.end_where(lambda session: True, "shutdown")
            return succeed(None)
        sessions = list(self._sessions.open_sessions)
        drain = Drain(sessions, timeout, self._clock)
        if sessions:
            self._log.info(
                "{count} sessions end, {rate} of them per second",
                count=len(sessions),
                rate=math.ceil(drain.rate),
            )
        return drain.run()

    def _services(self) -> list[IService]:
        return [part for part in self._parts.values() if IService.providedBy(part)]

    def _start(self) -> None:
        self._connections.is_stopping = False
        for service in self._services():
            service.startService()

    async def _stop(self) -> None:
        """Tell every client, wait for the sockets to close, and stop what they needed."""
        await self.drain()
        # Whoever came in at the last moment.
        self._sessions.end_where(lambda session: True, "shutdown")
        gone = self._connections.when_none()
        # One second more than Autobahn gives a client for the closing handshake.
        gone.addTimeout(self.limits.close_timeout + 1, self._clock)
        with suppress(defer.TimeoutError):
            await gone
        stopping = [defer.maybeDeferred(service.stopService) for service in self._services()]
        for has_stopped, result in await defer.DeferredList(stopping, consumeErrors=True):
            if not has_stopped:
                self._log.failure("a part could not be stopped", result)


@dataclass(frozen=True, slots=True)
class Revoked:
    """What a revocation has ended.

    :ivar sessions: how many sessions.
    :ivar tickets: how many tickets that had not been used.
    """

    sessions: int
    tickets: int


class StompAuthService(Service):
    """Runs what an application has to run; its stop ends the sessions in good order.

    Those parts that are services (:class:`twisted.application.service.IService`) start with it, and
    stop when the sessions have ended.

    :ivar application: whose it is.
    """

    def __init__(self, application: StompAuth) -> None:
        self.application = application

    def startService(self) -> None:
        """Start the parts, and let clients in."""
        super().startService()
        self.application._start()

    def stopService(self) -> Deferred[None]:
        """End every session: with ``drain`` where there is time for that, else with ``shutdown``.

        :return: fires when all sockets are closed, or after ``limits.close_timeout``, and then the
            parts have stopped.
        """
        super().stopService()
        return Deferred.fromCoroutine(self.application._stop())


def _authorizers(rules: IAuthorizer | Sequence[IAuthorizer]) -> tuple[IAuthorizer, ...]:
    authorizers = cast(
        "tuple[IAuthorizer, ...]", (rules,) if IAuthorizer.providedBy(rules) else tuple(rules)
    )
    for authorizer in authorizers:
        _check_provides(IAuthorizer, authorizer)
    return authorizers


def _check_provides(interface: Any, part: object) -> None:
    if not interface.providedBy(part):
        raise TypeError(f"{type(part).__qualname__} does not provide {interface.__name__}")


def _message(destination: str, body: bytes | str, headers: Mapping[str, str] | None) -> Message:
    return Message(
        destination=Destination.parse(destination),
        headers=pass_headers(headers or {}, None),
        body=body.encode() if isinstance(body, str) else body,
    )
