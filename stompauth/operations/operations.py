"""The operations page, and the small application that it is a client of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.web.resource import IResource, Resource
from zope.interface import implementer

from stompauth.application import StompAuth
from stompauth.authorization.rules import Rules, allow
from stompauth.broker.simple import SimpleBroker
from stompauth.errors import BadToken, Denied, Unavailable
from stompauth.handshake.origins import OriginPolicy
from stompauth.handshake.page import TYPES, Content, PageResource
from stompauth.handshake.responses import deny
from stompauth.identity.bearer import SecretToken
from stompauth.identity.principal import Principal
from stompauth.interfaces import ITokenVerifier
from stompauth.operations import tracing
from stompauth.operations.tracing import Tracing
from stompauth.operations.watch import Watch
from stompauth.session.session import Session
from stompauth.settings import Limits, TicketSettings, WebSocketSettings
from stompauth.tickets.memory import MemoryTicketStore
from stompauth.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from stompauth.application import StompAuthService
    from stompauth.broker.subscription import Subscription

#: An object of JSON. The handlers' annotations are read when they are added.
Answer: TypeAlias = dict[str, Any]

#: What an operator is called, and the issuer of his tokens.
OPERATOR: Final = "operator"
ISSUER: Final = "stompauth-control"

#: Seconds after which the token has to be shown anew.
LIFETIME: Final = 3600

#: Operators at a time.
MAX_OPERATORS: Final = 20

#: Sessions, queues, and subscriptions of a session, that are listed at most.
MAX_SESSIONS: Final = 100
MAX_QUEUES: Final = 50
MAX_SUBSCRIPTIONS: Final = 200

TICKET_PATH: Final = "/operations/ticket"
WEBSOCKET_PATH: Final = "/operations/stomp"
LIVE: Final = "/topic/ops/live"

_REPLY: Final = "/queue/ops/answers"
_TRACE: Final = "/queue/ops/trace"
_STATIC: Final = Path(__file__).with_name("static")

#: From here, and as text: with Trusted Types a browser makes no HTML of a string.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

RULES: Final = (
    allow("subscribe", LIVE),
    allow("subscribe", "/user/queue/ops/**"),
    allow("subscribe", "/app/ops/server"),
    allow("send", "/app/ops/**"),
)


@implementer(ITokenVerifier)
class ControlTokenVerifier:
    """Takes the control resource's token for that of an operator.

    :param token: as for :class:`.ControlResource`.
    """

    leeway = 0.0
    max_lifetime = LIFETIME

    def __init__(self, token: str, clock: IReactorTime) -> None:
        self._token = SecretToken(token)
        self._clock = clock

    def verify(self, token: str) -> Deferred[Principal]:
        """Give the operator, for an hour from now.

        :raises BadToken: by the Deferred: it is another token.
        """
        if not self._token.is_in([f"Bearer {token}".encode()]):
            return fail(BadToken("control-token"))
        now = self._clock.seconds()
        return succeed(Principal(OPERATOR, ISSUER, now + LIFETIME, now))


@dataclass(frozen=True, slots=True)
class SessionSearch:
    """Which sessions are asked for: those with that in their user's name, the first ones so."""

    text: str = ""
    order: Literal["newest", "buffer"] = "newest"


@dataclass(frozen=True, slots=True)
class QueueSearch:
    """Which queues are asked for: those with that in their path."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class OneSession:
    """The session that is meant, by its id."""

    session: str


@dataclass(frozen=True, slots=True)
class OneUser:
    """The user that is meant, by name."""

    user: str


class Operations:
    """Shows operators what goes on in an application, and does what they say.

    Operators come in by a ticket, a WebSocket and STOMP like all clients, to an application of
    their own beside the one that they look at; what they show for a ticket is the token of the
    control resource. Nothing is watched, and nothing costs, while no operator looks on.

    :param application: what is operated.
    :param token: as for :class:`.ControlResource`.
    :param trusted_proxies: networks whose ``X-Forwarded-For`` is believed.
    :ivar operators: the application of the operators.
    """

    _log = Logger()

    def __init__(
        self,
        application: StompAuth,
        *,
        token: str,
        clock: IReactorTime,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self._application = application
        limits = Limits(
            frame=8192,
            frame_before_connect=16384,
            sessions=MAX_OPERATORS,
            sessions_per_address=MAX_OPERATORS,
            sessions_per_user=MAX_OPERATORS,
            subscriptions=8,
            frames_per_second=20,
            destinations=1000,
        )
        self.operators = StompAuth(
            verifier=ControlTokenVerifier(token, clock),
            tickets=MemoryTicketStore(clock, MAX_OPERATORS, 2 * MAX_OPERATORS),
            broker=SimpleBroker(limits=limits, clock=clock),
            rules=Rules(RULES),
            origins=_AnyOnePage(),
            clock=clock,
            limits=limits,
            ticket=TicketSettings(path=TICKET_PATH),
            websocket=WebSocketSettings(path=WEBSOCKET_PATH),
            trusted_proxies=trusted_proxies,
        )
        self._watch = Watch(application, clock, self._tell)
        self._tracing = Tracing(clock, self._tell_traced)
        self._watching: set[Subscription] = set()
        self.operators.on("subscribed")(self._subscribed)
        self.operators.on("unsubscribed")(self._unsubscribed)
        self.operators.on("disconnected")(self._left)
        self.operators.on_subscribe("/app/ops/server")(self._show_server)
        handlers: dict[str, Callable[..., Any]] = {
            "sessions": self._list_sessions,
            "session": self._show_session,
            "queues": self._list_queues,
            "end": self._end,
            "revoke": self._revoke,
            "recheck": self._recheck,
            "trace": self._trace,
            "untrace": self._untrace,
        }
        for name, handler in handlers.items():
            self.operators.on_send(f"/app/ops/{name}", reply=_REPLY)(handler)

    def resources(self) -> dict[bytes, IResource]:
        """What the page consists of, by path: for a :class:`.PathRouter`, beside the control."""
        files: dict[bytes, IResource] = {
            f"/operations/{file.name}".encode(): PageResource(
                partial(Content.of, file), CONTENT_SECURITY_POLICY
            )
            for file in sorted(_STATIC.iterdir())
            if file.suffix in TYPES
        }
        own = {path: SameOrigin(found) for path, found in self.operators.resources().items()}
        return {b"/": files.pop(b"/operations/index.html"), **files, **own}

    def service(self) -> StompAuthService:
        """What has to run beside the resources, and to stop in good order."""
        return self.operators.service()

    # Who looks on.

    def _subscribed(self, session: Session, subscription: Subscription) -> None:
        if subscription.destination.path == LIVE:
            self._watching.add(subscription)
            self._watch.start()

    def _unsubscribed(self, session: Session, subscription: Subscription) -> None:
        self._watching.discard(subscription)
        if not self._watching:
            self._watch.stop()

    def _left(self, session: Session, reason: str) -> None:
        self._tracing.stop(session.session_id)

    def _tell(self, report: Answer) -> None:
        sent = self.operators.publish(LIVE, json.dumps(report))
        sent.addErrback(lambda failure: self._log.failure("operators were not told", failure))

    def _tell_traced(self, operator: str, report: Answer) -> None:
        sent = self.operators.send_to_session(operator, _TRACE, json.dumps(report))
        sent.addErrback(lambda failure: self._log.failure("an operator was not told", failure))

    # What operators ask for.

    def _show_server(self) -> Answer:
        return {
            "version": __version__,
            "now": self._watch.now(),
            "bounds": {
                "sessions": MAX_SESSIONS,
                "queues": MAX_QUEUES,
                "trace_frames": tracing.MAX_FRAMES,
                "trace_seconds": tracing.MAX_SECONDS,
            },
        }

    def _list_sessions(self, body: SessionSearch) -> Answer:
        sessions = list(self._application.sessions)
        sessions.reverse()
        if body.text:
            sessions = [session for session in sessions if body.text in session.user]
        shown: Iterable[Session] = islice(sessions, MAX_SESSIONS)
        if body.order == "buffer":
            shown = nlargest(MAX_SESSIONS, sessions, key=lambda session: session.outbound_size)
        return {
            "sessions": [_row(session) for session in shown],
            "matching": len(sessions),
            "total": len(self._application.sessions),
        }

    def _show_session(self, body: OneSession) -> Answer:
        session = self._application.sessions.get(body.session)
        if session is None:
            return _UNKNOWN_SESSION
        return {
            **_row(session),
            "destinations": [
                {
                    "id": subscription.client_id,
                    "destination": subscription.destination.path,
                    "ack": subscription.ack,
                    "unacked": len(subscription.unacked),
                }
                for subscription in session.subscriptions[:MAX_SUBSCRIPTIONS]
            ],
        }

    def _list_queues(self, body: QueueSearch) -> Answer:
        return {
            "queues": self._application.deepest_queues(MAX_QUEUES, body.text),
            "total": self._application.broker_counts().get("queues"),
        }

    async def _end(self, body: OneSession, operator: Session) -> Answer:
        return await self._revoked(operator, session=body.session)

    async def _revoke(self, body: OneUser, operator: Session) -> Answer:
        return await self._revoked(operator, user=body.user)

    async def _revoked(self, operator: Session, **what: str) -> Answer:
        reason = f"by an operator at {operator.address}"
        try:
            revoked = await self._application.revoke(reason=reason, **what)
        except Unavailable:
            # The sessions here have ended all the same.
            return _UNAVAILABLE
        return {"sessions": revoked.sessions, "tickets": revoked.tickets}

    async def _recheck(self, body: OneUser) -> Answer:
        try:
            return {"sessions": await self._application.recheck(body.user)}
        except Unavailable:
            return _UNAVAILABLE

    def _trace(self, body: OneSession, operator: Session) -> Answer:
        session = self._application.sessions.get(body.session)
        if session is None:
            return _UNKNOWN_SESSION
        self._tracing.start(operator.session_id, session)
        return {"session": session.session_id, "user": session.user}

    def _untrace(self, operator: Session) -> Answer:
        self._tracing.stop(operator.session_id)
        return {}


_UNKNOWN_SESSION: Final = {"error": "unknown-session"}
_UNAVAILABLE: Final = {"error": "unavailable"}


def _row(session: Session) -> Answer:
    """What the list says of a session; of its token only when it ends."""
    return {
        "id": session.session_id,
        "user": session.user,
        "issuer": session.grant.issuer,
        "address": session.address,
        "version": session.version,
        "opened_at": session.opened_at,
        "expires_at": session.require_principal().expires_at,
        "subscriptions": len(session.subscriptions),
        "buffer": session.outbound_size,
    }


class _AnyOnePage(OriginPolicy):
    """Any origin, once: :class:`SameOrigin` has compared it with the host that was asked."""

    def __init__(self) -> None:
        super().__init__([])

    def allows(self, headers: Sequence[bytes]) -> bool:
        """Whether there is not more than one."""
        return len(headers) <= 1


class SameOrigin(Resource):
    """Turns requests of other pages down: their Origin is not the host that was asked.

    Which name the listener has, through tunnels and proxies, nobody knows beforehand; so there is
    no list. Nothing depends on it: what counts is the token, which no browser sends by itself.

    :param inner: what the others get to.
    """

    isLeaf = True

    def __init__(self, inner: IResource) -> None:
        super().__init__()
        self._inner = inner

    def render(self, request: Request) -> Any:
        """Answer any request."""
        headers = request.requestHeaders
        origins = headers.getRawHeaders(b"Origin", [])
        hosts = headers.getRawHeaders(b"Host", [])
        for origin in origins:
            if not origin.isascii() or [origin.partition(b"://")[2]] != hosts:
                return deny(request, Denied(403, "origin"))
        return self._inner.render(request)
