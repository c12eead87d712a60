"""One client's life: bytes in, frames out, deadlines, and the end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from stompauth.audit import audit
from stompauth.counters import Counters
from stompauth.errors import LocalProtocolError, Refused, RemoteProtocolError
from stompauth.interceptors.authenticate import RENEWAL
from stompauth.session.commands import Commands
from stompauth.session.deadlines import Deadlines
from stompauth.session.events import Events
from stompauth.session.outbound import websocket_frame
from stompauth.session.refusals import error_frame, notice_frame
from stompauth.session.registry import SessionRegistry
from stompauth.session.throttle import Throttle
from stompauth.session.wheel import TimerWheel
from stompauth.settings import Limits
from stompauth.stomp.connection import ServerConnection
from stompauth.stomp.decoder import DecoderLimits
from stompauth.stomp.encoder import is_text
from stompauth.stomp.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from stompauth.broker.subscription import Delivery, Subscription
    from stompauth.identity.principal import Principal
    from stompauth.interceptors.chain import Chain
    from stompauth.interfaces import IBroker
    from stompauth.session.outbound import Outbound, WebSocketTransport
    from stompauth.tickets.grant import TicketGrant

#: Seconds before its token's end at which a session is said to be expiring.
EXPIRING_BEFORE = 60

#: Where a session's notices go when they are not about a SUBSCRIBE.
ERRORS_DESTINATION = "/user/queue/errors"


class ApplicationHandlers(Protocol):
    """What answers ``/app/**``. Both methods raise, or have their awaitable raise, Refused."""

    def send(self, frame: Frame, session: Session) -> Awaitable[None] | None:
        """Answer a SEND; None when that is done."""

    def subscribe(
        self, frame: Frame, session: Session, subscription: Subscription
    ) -> Awaitable[None] | None:
        """Answer a SUBSCRIBE, once; None when that is done."""


class _NoHandlers:
    """An application without handlers."""

    def send(self, frame: Frame, session: Session) -> None:
        raise Refused("no-such-destination")

    def subscribe(self, frame: Frame, session: Session, subscription: Subscription) -> None:
        raise Refused("no-such-destination")


class SessionObserver(Protocol):
    """Hears of every session, also of those that never send CONNECT."""

    def opened(self, session: Session) -> None:
        """It begins."""

    def closed(self, session: Session) -> None:
        """It is over."""


@dataclass(slots=True)
class SessionFactory:
    """What the sessions of one application share.

    :ivar chain: the interceptors, with authentication first and authorization last.
    :ivar authorize: asks the rules about one frame, outside of the chain.
    :ivar broker: provider of :class:`.IBroker`.
    :ivar handlers: what answers ``/app/**``.
    :ivar events: who hears of the sessions.
    :ivar counters: what has happened so far.
    :ivar leeway: seconds for which a session goes on after its token's ``exp``.
    :ivar server: what CONNECTED says in ``server``.
    :ivar stamp_sender: whether MESSAGEs say who sent them.
    :ivar registry: the connected sessions.
    :ivar open_sessions: those too that have not sent CONNECT.
    :ivar observer: hears of each of them.
    :ivar wheel: the timer of all of them.
    :ivar decoder_limits: what the limits say of frames in a session.
    :ivar decoder_limits_before_connect: and of the one that begins it.
    """

    chain: Chain
    authorize: Callable[[Frame, Session], Awaitable[None] | None]
    broker: IBroker
    clock: IReactorTime
    limits: Limits = field(default_factory=Limits)
    handlers: ApplicationHandlers = field(default_factory=_NoHandlers)
    events: Events = field(default_factory=Events)
    counters: Counters = field(default_factory=Counters)
    leeway: float = 0
    server: str = "stompauth"
    stamp_sender: bool = False
    registry: SessionRegistry = field(default_factory=SessionRegistry)
    open_sessions: set[Session] = field(default_factory=set)
    observer: SessionObserver | None = None
    wheel: TimerWheel = field(init=False)
    decoder_limits: DecoderLimits = field(init=False)
    decoder_limits_before_connect: DecoderLimits = field(init=False)

    def __post_init__(self) -> None:
        self.wheel = TimerWheel(self.clock)
        self.replace_limits(self.limits)

    def replace_limits(self, limits: Limits) -> None:
        """Take other limits; sessions that are open keep some of theirs."""
        self.limits = limits
        self.decoder_limits = DecoderLimits(limits.frame, limits.headers, limits.header_line)
        self.decoder_limits_before_connect = replace(
            self.decoder_limits, frame=limits.frame_before_connect
        )

    def open(
        self,
        grant: TicketGrant,
        address: str,
        transport: WebSocketTransport,
        attributes: dict[str, Any] | None = None,
    ) -> Session:
        """Begin the session of a WebSocket that has just opened.

        :param attributes: what the handshake gives it.
        """
        self.counters.sockets += 1
        session = Session(self, grant, address, transport)
        if attributes:
            session.attributes.update(attributes)
        self.open_sessions.add(session)
        if self.observer is not None:
            self.observer.opened(session)
        return session

    def end_where(self, chosen: Callable[[Session], bool], code: str) -> int:
        """End those sessions, also before their CONNECT, and say how many."""
        sessions = [session for session in self.open_sessions if chosen(session)]
        for session in sessions:
            session.end(code)
        return len(sessions)


class SessionDeadlines(Deadlines):
    """What a session waits for."""

    __slots__ = names = (
        "connect",
        "expiring",
        "expiry",
        "frame",
        "heartbeat",
        "message",
        "send",
        "throttle",
    )


class Session:
    """One client, from the open WebSocket to its end.

    Frames are handled strictly one after another; while one waits, the later ones do.

    :ivar session_id: random; CONNECTED tells it to the client.
    :ivar grant: what the handshake established; the subject never changes.
    :ivar address: the client's network address.
    :ivar principal: from the latest token; None before CONNECT was accepted.
    :ivar opened_at: when it began, in seconds since the epoch.
    :ivar chain: the interceptors that its frames pass, as a rule those of all sessions.
    :ivar outbound: what its client has not taken yet.
    :ivar rechecks: how many have begun: what was allowed before one of them may not be any more.
    """

    _log = Logger()

    __slots__ = (
        "__weakref__",
        "_attributes",
        "_commands",
        "_connection",
        "_deadlines",
        "_end_when_idle",
        "_ended",
        "_factory",
        "_held",
        "_held_bytes",
        "_is_mid_frame",
        "_is_paused",
        "_running",
        "_throttle",
        "_transport",
        "_unfinished",
        "_waiting",
        "address",
        "chain",
        "grant",
        "opened_at",
        "outbound",
        "principal",
        "rechecks",
        "session_id",
    )

    def __init__(
        self,
        factory: SessionFactory,
        grant: TicketGrant,
        address: str,
        transport: WebSocketTransport,
    ) -> None:
        limits = factory.limits
        self._factory = factory
        self._transport = transport
        self.session_id = token_urlsafe(16)
        self.grant = grant
        self.address = address
        self.principal: Principal | None = None
        self._attributes: dict[str, Any] | None = None
        self.opened_at = factory.clock.seconds()
        self.chain = factory.chain
        self.rechecks = 0
        self._connection = ServerConnection(
            factory.decoder_limits, factory.decoder_limits_before_connect, limits.heartbeat
        )
        self.outbound: Outbound = transport.outbound(limits.send_buffer, self)
        self._deadlines = SessionDeadlines(factory.wheel, self)
        self._commands = Commands(self, factory)
        self._waiting: Deferred[None] | None = None
        self._running = False
        self._ended = False
        self._end_when_idle: str | None = None
        self._throttle = Throttle(limits, factory.clock.seconds())
        self._is_paused = False
        self._is_mid_frame = False
        self._held = 0
        self._held_bytes = 0
        self._unfinished = 0
        self._set_deadline("connect", limits.connect_timeout)

    @property
    def user(self) -> str:
        """The user name."""
        return self.grant.user

    @property
    def version(self) -> str:
        """The version of STOMP that is spoken; ``"1.0"`` until CONNECT has settled it."""
        return self._connection.version or "1.0"

    @property
    def attributes(self) -> dict[str, Any]:
        """Whatever interceptors keep here."""
        if self._attributes is None:
            self._attributes = {}
        return self._attributes

    @property
    def token_ids(self) -> set[str | None]:
        """``jti`` of the tokens that the session is from: the ticket's, and the latest."""
        return {self.grant.token_id, self.principal.token_id if self.principal else None}

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self._ended

    @property
    def is_connected(self) -> bool:
        """Whether CONNECTED was sent and the session has not ended."""
        return not self._ended and self._factory.registry.get(self.session_id) is self

    @property
    def subscriptions(self) -> list[Subscription]:
        """The subscriptions as they are now."""
        return list(self._commands.subscriptions.values())

    @property
    def outbound_size(self) -> int:
        """Octets that its client has not taken yet, as far as they wait here."""
        return self.outbound.size

    def require_principal(self) -> Principal:
        """The principal of a connected session.

        :raises LocalProtocolError: CONNECT was not accepted yet.
        """
        if self.principal is None:
            raise LocalProtocolError("the session is not authenticated")
        return self.principal

    def use_chain(self, chain: Chain) -> None:
        """Take frames through other interceptors than all sessions do, from the next one on."""
        self.chain = chain
        self._commands.chain_changed()

    def authorize(self, frame: Frame) -> Awaitable[None] | None:
        """Ask the rules about a SEND or SUBSCRIBE, as for a frame that comes in."""
        return self._factory.authorize(frame, self)

    def tell(self, event: str, *facts: Any) -> None:
        """Tell the application's observers of an event of this session."""
        self._factory.events.fire(event, self, *facts)

    # What the WebSocket tells.

    def data_received(self, data: bytes, overhead: int = 0) -> None:
        """Take a WebSocket message: part of a frame, or one, or several.

        :param overhead: octets that it counts for beside its own.
        """
        if self._ended:
            return
        factory = self._factory
        connection = self._connection
        size = len(data)
        factory.counters.bytes_received += size
        self._throttle.octets -= size + overhead
        now = factory.clock.seconds()
        if connection.heartbeat is not None:
            connection.heartbeat.received(now)
        connection.receive_data(data)
        # While it waits for the throttle, reading is paused.
        if self._waiting is None and not (self._is_paused and self._deadlines.is_set("throttle")):
            self._run(now)
            return
        self._held += 1
        self._held_bytes += size
        limits = factory.limits
        if (limits.inbound_waiting and self._held >= limits.inbound_waiting) or (
            limits.frame and self._held_bytes >= limits.frame
        ):
            self._pause_reading()

    def received(self, octets: int, unfinished: int) -> None:
        """Take note of what the WebSocket has received beside whole messages.

        :param octets: what its frames count for.
        :param unfinished: a number for the message that has begun and not ended; 0 for none.
        """
        self._throttle.octets -= octets
        if self._ended:
            # The closing handshake is bounded in time; this bounds the work of it.
            if self._throttle.delay(self._factory.clock.seconds()):
                self._pause_reading()
            return
        if unfinished != self._unfinished:
            self._unfinished = unfinished
            if unfinished:
                self._set_deadline("message", self._factory.limits.frame_timeout)
            else:
                self._deadlines.clear("message")
        if not self._deadlines.is_set("throttle"):
            now = self._factory.clock.seconds()
            delay = self._throttle.delay(now)
            if delay:
                self._wait(delay, now)

    def blocked(self) -> None:
        """The WebSocket takes no more output for now."""
        self.outbound.block()
        if not self._ended:
            self._set_deadline("send", self._factory.limits.send_timeout)
            self._factory.broker.pause(self.subscriptions)

    def unblocked(self) -> None:
        """The WebSocket takes output again."""
        self._deadlines.clear("send")
        self.outbound.unblock()
        if not self.outbound.is_blocked:
            self._factory.broker.resume(self.subscriptions)

    def closing(self) -> None:
        """The WebSocket is about to begin, or to answer, the closing handshake."""
        self.outbound.end()
        self.connection_lost()

    def connection_lost(self) -> None:
        """The WebSocket is gone, or closes for another reason than the session's."""
        if not self._ended:
            self._ended = True
            self._finish("connection lost")

    # What comes in.

    def _run(self, now: float) -> None:
        if self._running:
            return
        self._running = True
        throttle = self._throttle
        connection = self._connection
        completed = unfinished = False
        try:
            while self._waiting is None and not self._ended:
                if throttle.frames < 0 or throttle.octets < 0 or now >= throttle.refill_at:
                    delay = throttle.delay(now)
                    if delay:
                        self._wait(delay, now)
                        return
                try:
                    frame = connection.next_frame()
                except RemoteProtocolError as error:
                    self.end(error)
                    return
                if frame is not None:
                    completed = True
                    self._factory.counters.frames_received += 1
                    throttle.frames -= 1
                    self._take(frame)
                unfinished = connection.mid_frame
                if frame is None or not unfinished:
                    break
        finally:
            self._running = False
        if self._ended or self._waiting is not None:
            return
        if not unfinished:
            if self._is_mid_frame:
                self._is_mid_frame = False
                self._deadlines.clear("frame")
        elif completed or not self._deadlines.is_set("frame"):
            self._is_mid_frame = True
            self._set_deadline("frame", self._factory.limits.frame_timeout)

    def _take(self, frame: Frame) -> None:
        receipt = None if self.principal is None else frame.headers.get("receipt")
        try:
            waiting = self.chain.inbound(frame, self, self._carry_out)
        except Exception as failure:
            self._failed(failure, frame, receipt)
            return
        if waiting is None:
            if receipt is None and frame.command == "SEND":
                self._factory.counters.messages_received += 1
            else:
                self._done(frame, receipt)
            return
        self._waiting = waiting
        self._deadlines.clear("frame")

        def done(_: None) -> None:
            self._waiting = None
            self._done(frame, receipt)

        def failed(failure: Failure) -> None:
            self._waiting = None
            error = failure.value
            self._failed(error if isinstance(error, Exception) else Exception(), frame, receipt)

        waiting.addCallbacks(done, failed)
        waiting.addCallback(lambda _: self._go_on())
        waiting.addErrback(self._broke)

    def _wait(self, delay: float, now: float) -> None:
        if self._throttle.is_out_of_patience(now):
            self.end("limit")
        else:
            # Debts that round to no time at all would keep the reactor busy.
            self._deadlines.set("throttle", max(delay, 0.01))
            self._deadlines.clear("frame")
            self._pause_reading()

    def _pause_reading(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def _broke(self, failure: Failure) -> None:
        self._log.failure("a session failed", failure)
        self.end("internal")

    def _go_on(self) -> None:
        if self._ended or self._running:
            # What is held counts until all of it was looked at.
            return
        if self._end_when_idle is not None:
            if self._waiting is None:
                self.end(self._end_when_idle)
            return
        self._run(self._factory.clock.seconds())
        if self._ended or self._waiting is not None or self._deadlines.is_set("throttle"):
            return
        self._held = self._held_bytes = 0
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def _carry_out(self, frame: Frame) -> Awaitable[None] | None:
        if self._ended:
            # The session ended while an interceptor waited.
            raise CancelledError
        if frame.command in ("CONNECT", "STOMP"):
            self._connect()
            return None
        return self._commands.carry_out(frame)

    def _connect(self) -> None:
        principal = self.require_principal()
        factory = self._factory
        # The session can be found from before the client can know of it.
        factory.registry.add(self)
        self._deadlines.clear("connect")
        self._expire_with(principal)
        self._write(
            self._connection.accept(
                factory.clock.seconds(),
                {
                    "session": self.session_id,
                    "server": factory.server,
                    "user-name": self.user,
                    "session-expires": str(int(principal.expires_at)),
                },
            )
        )
        self._check_heartbeat()
        self._audit("connected")
        self.tell("connected")

    def _done(self, frame: Frame, receipt: str | None) -> None:
        if frame.command == "SEND":
            self._factory.counters.messages_received += 1
        if self._ended:
            return
        if receipt is not None:
            if frame.headers.get("destination") == RENEWAL:
                expires = str(int(self.require_principal().expires_at))
                self.send(Frame("RECEIPT", {"receipt-id": receipt, "session-expires": expires}))
            else:
                self._write(self._connection.receipt(receipt))
        if frame.command == "DISCONNECT":
            self._close(1000, "")

    def _failed(self, failure: Exception, frame: Frame, receipt: str | None) -> None:
        if self._ended:
            return
        if not isinstance(failure, Refused):
            self._log.failure(
                "{command} of {user} failed",
                Failure(failure),
                command=frame.command,
                user=self.user,
            )
            failure = Refused("internal")
        if not failure.notify or not self._notify(failure, frame, receipt):
            self.end(failure, receipt)

    # Renewal.

    async def renew(self, principal: Principal) -> None:
        """Go on with a fresh token of the same subject, and without what it no longer allows.

        A subscription that the rules refuse now is dropped, and its id told so by a notice.
        """
        self.principal = principal
        self._expire_with(principal)
        await self.recheck()

    async def recheck(self) -> None:
        """Ask the rules again about every subscription; drop and tell those that are refused."""
        self.rechecks += 1
        for subscription in self.subscriptions:
            path = subscription.destination.path
            try:
                waiting = self.authorize(Frame("SUBSCRIBE", {"destination": path}))
                if waiting is not None:
                    await waiting
            except Refused as refused:
                if self._commands.subscriptions.get(subscription.id) is subscription:
                    ended = self._commands.drop(subscription)
                    self.send(notice_frame(refused, subscription.id, path))
                    if ended is not None:
                        await ended

    def _expire_with(self, principal: Principal) -> None:
        rest = principal.expires_at - self._factory.clock.seconds()
        self._deadlines.set("expiry", max(0.0, rest + self._factory.leeway))
        self._deadlines.clear("expiring")
        if rest > EXPIRING_BEFORE:
            self._deadlines.set("expiring", rest - EXPIRING_BEFORE)

    # What goes out.

    def deliver(self, subscription: Subscription, delivery: Delivery) -> None:
        """Send a MESSAGE to one of the session's subscriptions."""
        if self._ended:
            return
        message = delivery.message
        count = delivery.count
        ack = None
        if subscription.ack != "auto":
            ack = self._commands.acknowledgement(subscription, delivery)
        if self.chain.has_outbound:
            shown = message.frame(subscription.client_id, ack=ack, delivery_count=count)
            self.chain.outbound(shown, self, self.send)
            return
        template = message.template
        data = template.encode(self.version, subscription.client_id, ack=ack, delivery_count=count)
        frame = websocket_frame(data, binary=not template.is_text)
        if subscription.audience is not None and count == 1:
            message.framed, message.framed_for = frame, subscription.audience
        self._factory.counters.messages_delivered += 1
        self.outbound.write(frame)

    def handed_on(self, count: int) -> None:
        """Count deliveries that went out by their outlets."""
        self._factory.counters.messages_delivered += count

    def overflow(self, subscription: Subscription) -> None:
        """A subscription holds more unacknowledged messages than it may."""
        self.end("slow-consumer")

    def send(self, frame: Frame) -> None:
        """Send a frame of the server's."""
        if not self._ended:
            data = self._connection.encode(frame)
            if frame.command == "MESSAGE":
                self._factory.counters.messages_delivered += 1
            self._write(data, binary=not is_text(frame.body))

    def _write(self, data: bytes, *, binary: bool = False) -> None:
        self.outbound.write(websocket_frame(data, binary=binary))

    def _notify(self, refused: Refused, frame: Frame, receipt: str | None) -> bool:
        """Tell of a refused frame without ending the session, if there is somebody to tell."""
        destination = frame.headers.get("destination", "")
        if frame.command == "SUBSCRIBE" and "id" in frame.headers:
            subscription_id = frame.headers["id"]
            self._commands.note_refused(subscription_id)
        else:
            errors = self._commands.subscription_of(ERRORS_DESTINATION)
            if errors is None:
                return False
            subscription_id = errors.id
            destination = ERRORS_DESTINATION
        self.send(notice_frame(refused, subscription_id, destination, receipt))
        return True

    # Deadlines.

    def _set_deadline(self, name: str, delay: float) -> None:
        if delay:
            self._deadlines.set(name, delay)

    def deadline_passed(self, name: str) -> None:
        """See :meth:`.Waiting.deadline_passed`."""
        if name == "heartbeat":
            self._check_heartbeat()
        elif name == "throttle":
            try:
                self._go_on()
            except Exception:
                self._broke(Failure())
        elif name == "expiring":
            self.tell("expiring", EXPIRING_BEFORE)
        elif name == "message" and self._is_paused:
            # While we do not read, the delay is not the client's.
            self._set_deadline("message", self._factory.limits.frame_timeout)
        else:
            self.end(_DEADLINE_CODES[name])

    def _check_heartbeat(self) -> None:
        heartbeat = self._connection.heartbeat
        if heartbeat is None:
            return
        now = self._factory.clock.seconds()
        # While we do not read, or look at what came, silence is not the client's.
        if heartbeat.is_dead(now) and not self._held and not self._is_paused:
            self.end("heartbeat-timeout")
            return
        heartbeat.sent(self.outbound.written_at)
        if heartbeat.send_due(now):
            self._write(b"\n")
            heartbeat.sent(now)
        delay = heartbeat.next_check(now)
        if delay is not None:
            self._deadlines.set("heartbeat", max(delay, 0.05))

    # The end.

    def end(self, reason: Refused | str, receipt: str | None = None) -> None:
        """Send an ERROR, and close with the status that goes with its code.

        :param reason: a code, or what was raised.
        :param receipt: the ``receipt`` of the frame that is to blame.
        """
        if self._ended:
            return
        refused = Refused(reason) if isinstance(reason, str) else reason
        if refused.code == "slow-consumer":
            self.outbound.discard()
        self.outbound.end()
        frame = error_frame(refused, receipt)
        self._write(self._connection.error(frame.headers, frame.body))
        self._close(refused.consequence.close, refused.code)

    def end_when_idle(self, code: str) -> None:
        """End as soon as no frame is being carried out, and read nothing more until then."""
        if self._waiting is None:
            self.end(code)
        elif not self._ended:
            self._end_when_idle = code
            self._pause_reading()

    def overflowed(self) -> None:
        """See :meth:`.Bounded.overflowed`."""
        self.end("slow-consumer")

    def _close(self, status: int, reason: str) -> None:
        self._ended = True
        self.outbound.end()
        self._transport.close(status, reason)
        self._finish(reason or "disconnected")

    def _audit(self, event: str, **facts: str) -> None:
        audit(event, session=self.session_id, user=self.user, address=self.address, **facts)

    def _finish(self, reason: str) -> None:
        if self not in self._factory.open_sessions:
            return
        self._factory.open_sessions.remove(self)
        if self._factory.observer is not None:
            self._factory.observer.closed(self)
        self._deadlines.clear_all()
        self.outbound.discard()
        if self._waiting is not None:
            self._waiting.cancel()
        if self._factory.registry.get(self.session_id) is self:
            self._commands.finish()
            self._factory.registry.remove(self)
            self._audit("ended", reason=reason)
            self.tell("disconnected", reason)
        else:
            self._audit("connect-refused", reason=reason)


_DEADLINE_CODES = {
    "connect": "connect-timeout",
    "expiry": "token-expired",
    "frame": "frame-timeout",
    "message": "frame-timeout",
    "send": "slow-consumer",
}
