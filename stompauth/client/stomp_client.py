"""A client's STOMP session, from CONNECT to its end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from stompauth.client.subscription import Message, Subscription
from stompauth.client.ticket import parse_retry_after
from stompauth.errors import (
    ERROR_CODES,
    ClientError,
    ConnectFailed,
    Disconnected,
    FrameRefused,
    NoReceipt,
    RemoteProtocolError,
)
from stompauth.session.deadlines import Deadlines
from stompauth.session.wheel import TimerWheel
from stompauth.stomp.connection import ClientConnection
from stompauth.stomp.decoder import DecoderLimits
from stompauth.stomp.encoder import is_text
from stompauth.stomp.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from twisted.internet.interfaces import IReactorTime

    from stompauth.client.settings import ClientSettings
    from stompauth.client.subscription import MessageCallback
    from stompauth.client.websocket import ClientWebSocket

#: A session is renewed so many seconds before its end, or halfway if that is later.
RENEW_AHEAD: Final = 60.0

#: Where a server tells of refused frames; the subscription's id is ours.
_ERRORS: Final = "/user/queue/errors"
_ERRORS_ID: Final = "errors"

_MAX_EXPLANATION = 1000

_Error = TypeVar("_Error", ConnectFailed, Disconnected)


class _ClientDeadlines(Deadlines):
    __slots__ = names = ("close", "heartbeat", "renewal")


class StompClient:
    """A session with a server, as :func:`stompauth.client.connect` makes it.

    It speaks STOMP 1.2. What it asks for is asked for with a receipt, so that a Deferred that has
    fired means that the server has done it. While the session lasts it keeps itself: it sends
    heart-beats, and shows a fresh token before the old one ends.

    :ivar session_id: the server's name for the session.
    :ivar user: who the server says that we are.
    :ivar expires_at: when the session ends unless it is renewed, in seconds since the epoch; None
        if the server has not said.
    :ivar reason: why it is over, or about to be; None while it is not.
    """

    _log = Logger()

    def __init__(
        self,
        websocket: ClientWebSocket,
        *,
        token: Callable[[], Awaitable[str]],
        clock: IReactorTime,
        settings: ClientSettings,
        on_disconnect: Callable[[Disconnected], object] | None = None,
        on_notice: Callable[[FrameRefused], object] | None = None,
    ) -> None:
        """Made by :func:`stompauth.client.connect`."""
        self._websocket = websocket
        self._token = token
        self._clock = clock
        self._settings = settings
        self._on_disconnect = on_disconnect
        self._on_notice = on_notice
        self._connection = ClientConnection(DecoderLimits(settings.frame, 0, 0), settings.heartbeat)
        self._deadlines = _ClientDeadlines(TimerWheel(clock), self)
        self._opening: Deferred[None] | None = None
        self._current_token = ""
        self._renewal: Deferred[None] | None = None
        self._receipts: dict[str, Deferred[Mapping[str, str]]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._last_id = 0
        self._is_blocked = False
        self._unsent = 0
        self._is_over = False
        self._gone: list[Deferred[None]] = []
        self.session_id = ""
        self.user = ""
        self.expires_at: float | None = None
        self.reason: Disconnected | None = None
        websocket.client = self

    @property
    def is_connected(self) -> bool:
        """Whether anything can be asked of the server."""
        return bool(self.session_id) and self.reason is None

    # What the user does.

    def send(
        self, destination: str, body: bytes | str = b"", headers: Mapping[str, str] | None = None
    ) -> Deferred[None]:
        """Send a message.

        :param body: octets, or text that goes out as UTF-8.
        :param headers: further ones, such as ``content-type`` or ``transaction``.
        :return: fires when the server has accepted it; in a transaction, when it has noted it.
        :raises ClientError: by the Deferred: it was refused, or nothing was heard in time.
        """
        octets = body.encode() if isinstance(body, str) else body
        return self._ask("SEND", {**(headers or {}), "destination": destination}, octets)

    def subscribe(
        self,
        destination: str,
        callback: MessageCallback,
        *,
        ack: str = "auto",
        headers: Mapping[str, str] | None = None,
    ) -> Deferred[Subscription]:
        """Subscribe.

        :param callback: is called with each :class:`Message`. If what it returns can be awaited,
            the subscription's next message comes after that; too many that wait end the session
            with ``slow-consumer``. What it raises is logged.
        :param ack: ``auto``, ``client`` or ``client-individual``.
        :param headers: further ones, such as ``prefetch-count``.
        :return: fires when the server delivers to it; the first message may have come by then.
        :raises ClientError: by the Deferred: it was refused, or nothing was heard in time.
        """
        return Deferred.fromCoroutine(self._subscribe(destination, callback, ack, headers or {}))

    def begin(self, transaction: str) -> Deferred[None]:
        """Begin a transaction; SEND, ACK and NACK are in it by their header ``transaction``.

        :param transaction: any name that no open transaction of the session has.
        :raises ClientError: by the Deferred.
        """
        return self._ask("BEGIN", {"transaction": transaction})

    def commit(self, transaction: str) -> Deferred[None]:
        """Have all that is in a transaction carried out, or nothing of it.

        :raises ClientError: by the Deferred; then nothing was, unless it is :exc:`NoReceipt`.
        """
        return self._ask("COMMIT", {"transaction": transaction})

    def abort(self, transaction: str) -> Deferred[None]:
        """Drop what is in a transaction.

        :raises ClientError: by the Deferred.
        """
        return self._ask("ABORT", {"transaction": transaction})

    def disconnect(self) -> Deferred[None]:
        """End the session, after what was asked before.

        :return: fires when the connection is gone, at the latest after ``close_timeout``.
        """
        gone: Deferred[None] = Deferred()
        if self._is_over:
            gone.callback(None)
            return gone
        self._gone.append(gone)
        if self.reason is None:
            self._write(self._connection.send(Frame("DISCONNECT", {"receipt": "disconnect"})))
            self.reason = Disconnected("disconnected")
            self.closing()
        return gone

    def drop(self) -> None:
        """End the session at once, without a word to the server."""
        self._fail("disconnected")

    # What the WebSocket tells.

    def data_received(self, data: bytes) -> None:
        """Take a WebSocket message: part of a frame, or one, or several."""
        connection = self._connection
        if connection.heartbeat is not None:
            connection.heartbeat.received(self._clock.seconds())
        connection.receive_data(data)
        try:
            while (frame := connection.next_frame()) is not None:
                self._take(frame)
        except RemoteProtocolError as error:
            self._fail(error.code)

    def blocked(self) -> None:
        """The WebSocket takes no more for now."""
        self._is_blocked = True

    def unblocked(self) -> None:
        """The WebSocket takes more."""
        self._is_blocked = False
        self._unsent = 0

    def closing(self) -> None:
        """The server has to end the connection now."""
        self._deadlines.clear_all()
        self._deadlines.set("close", self._settings.close_timeout)

    def connection_lost(self, close_code: int | None) -> None:
        """The connection is gone.

        :param close_code: that of the server, or None.
        """
        self._is_over = True
        self._deadlines.clear_all()
        reason = self.reason or Disconnected("connection-lost" if close_code is None else "closed")
        if reason.code != "disconnected":
            if close_code is None and reason.code in ERROR_CODES and reason.explanation is not None:
                # The server has said why, and its close frame was lost.
                close_code = ERROR_CODES[reason.code].close
            reason = _restate(reason, Disconnected, close_code)
        self.reason = reason
        self._finish(reason)

    # What comes in.

    def _take(self, frame: Frame) -> None:
        headers = frame.headers
        match frame.command:
            case "MESSAGE" if headers.get("error") == "true":
                self._take_notice(frame)
            case "MESSAGE":
                self._take_message(frame)
            case "RECEIPT":
                receipt = self._receipts.pop(headers["receipt-id"], None)
                if receipt is not None:
                    receipt.callback(headers)
            case "CONNECTED":
                self._connected(headers)
            case "ERROR" if self.reason is None:
                self.reason = Disconnected(
                    headers.get("code", "unknown"),
                    retry_after=parse_retry_after(headers.get("retry-after", "")),
                    explanation=_text(frame.body),
                )
                self.closing()

    def _connected(self, headers: Mapping[str, str]) -> None:
        now = self._clock.seconds()
        heartbeat = self._connection.heartbeat
        if heartbeat is not None:
            heartbeat.sent(now)
            heartbeat.received(now)
        self.session_id = headers.get("session", "unknown")
        self.user = headers.get("user-name", "")
        self._check_heartbeat()
        self._note_end(headers)
        self._schedule_renewal()
        self._transmit(Frame("SUBSCRIBE", {"id": _ERRORS_ID, "destination": _ERRORS}))
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.callback(None)

    def _take_message(self, frame: Frame) -> None:
        subscription = self._subscriptions.get(frame.headers["subscription"])
        if subscription is None or self.reason is not None:
            return
        message = Message(frame.headers["destination"], frame.body, frame.headers, self)
        if subscription._take(message) > self._settings.receive_buffer:
            self._fail("slow-consumer")

    def _take_notice(self, frame: Frame) -> None:
        headers = frame.headers
        subscription = self._subscriptions.pop(headers["subscription"], None)
        destination = None
        if subscription is not None:
            subscription._end()
            destination = subscription.destination
        error = FrameRefused(headers.get("code", "unknown"), destination, _text(frame.body))
        receipt = self._receipts.pop(headers.get("receipt-id", ""), None)
        if receipt is not None:
            receipt.errback(error)
        elif self._on_notice is not None:
            _call(self._log, self._on_notice, error)
        else:
            self._log.warn("the server refuses: {error}, {where}", error=error, where=destination)

    # What goes out.

    def _begin(self, token: str, host: str) -> Deferred[None]:
        """Send CONNECT; fires at CONNECTED, or fails with ConnectFailed. To be cancelled."""
        self._current_token = token
        self._opening = Deferred(lambda _: self._websocket.abort())
        headers = {"accept-version": "1.2", "host": host, "Authorization": f"Bearer {token}"}
        self._write(self._connection.connect(headers))
        return self._opening

    def _ask(self, command: str, headers: Mapping[str, str], body: bytes = b"") -> Deferred[None]:
        async def ask() -> None:
            await self._request(command, headers, body)

        return Deferred.fromCoroutine(ask())

    async def _request(
        self, command: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Mapping[str, str]:
        """Send a frame, and return the headers of its RECEIPT."""
        receipt_id = self._next_id()
        receipt: Deferred[Mapping[str, str]] = Deferred()
        self._transmit(Frame(command, {**headers, "receipt": receipt_id}, body))
        self._receipts[receipt_id] = receipt
        receipt.addTimeout(self._settings.receipt_timeout, self._clock)
        try:
            return await receipt
        except defer.TimeoutError:
            raise NoReceipt from None
        finally:
            self._receipts.pop(receipt_id, None)

    async def _subscribe(
        self,
        destination: str,
        callback: MessageCallback,
        ack: str,
        headers: Mapping[str, str],
    ) -> Subscription:
        subscription = Subscription(self, self._next_id(), destination, callback)
        self._subscriptions[subscription.id] = subscription
        own = {"id": subscription.id, "destination": destination, "ack": ack}
        try:
            await self._request("SUBSCRIBE", {**headers, **own})
        except BaseException:
            if self._subscriptions.pop(subscription.id, None) is not None:
                subscription._end()
            raise
        return subscription

    def _unsubscribe(self, subscription: Subscription) -> Deferred[None]:
        async def unsubscribe() -> None:
            if subscription.is_active:
                subscription._end()
                self._subscriptions.pop(subscription.id, None)
                await self._request("UNSUBSCRIBE", {"id": subscription.id})

        return Deferred.fromCoroutine(unsubscribe())

    def _settle(
        self, command: str, message: Mapping[str, str], headers: Mapping[str, str] | None
    ) -> Deferred[None]:
        own = {"id": message["ack"]} if "ack" in message else {}
        return self._ask(command, {**(headers or {}), **own})

    def _next_id(self) -> str:
        self._last_id += 1
        return str(self._last_id)

    def _transmit(self, frame: Frame) -> None:
        if self.reason is not None:
            raise _restate(self.reason, Disconnected, self.reason.close_code)
        if self._is_blocked and self._unsent > self._settings.send_buffer:
            raise ClientError("send-buffer-full")
        self._write(self._connection.send(frame))

    def _write(self, data: bytes) -> None:
        if self._is_blocked:
            self._unsent += len(data)
        self._websocket.send(data, binary=not is_text(data))
        heartbeat = self._connection.heartbeat
        if heartbeat is not None:
            heartbeat.sent(self._clock.seconds())

    # Deadlines.

    def deadline_passed(self, name: str) -> None:
        """See :meth:`.Waiting.deadline_passed`."""
        match name:
            case "heartbeat":
                self._check_heartbeat()
            case "renewal":
                self._renewal = Deferred.fromCoroutine(self._renew())
            case "close":
                self._websocket.abort()

    def _check_heartbeat(self) -> None:
        heartbeat = self._connection.heartbeat
        if heartbeat is None:
            return
        now = self._clock.seconds()
        if heartbeat.is_dead(now):
            self._fail("heartbeat-timeout")
            return
        if heartbeat.send_due(now):
            self._write(b"\n")
        delay = heartbeat.next_check(now)
        if delay is not None:
            self._deadlines.set("heartbeat", max(delay, 0.05))

    def _note_end(self, headers: Mapping[str, str]) -> None:
        value = headers.get("session-expires", "")
        if re.fullmatch("[0-9]{1,12}", value):
            self.expires_at = float(value)

    def _schedule_renewal(self) -> None:
        if self.expires_at is not None:
            rest = self.expires_at - self._clock.seconds()
            if rest > 0:
                self._deadlines.set("renewal", max(rest - RENEW_AHEAD, rest / 2, 1.0))

    async def _renew(self) -> None:
        try:
            token = await self._token()
            if token != self._current_token:
                headers = {
                    "destination": "/session/token",
                    "Authorization": f"Bearer {token}",
                }
                self._note_end(await self._request("SEND", headers))
                self._current_token = token
        except CancelledError:
            return
        except Exception:
            if self.reason is None:
                self._log.failure("the session of {user} is not renewed", user=self.user)
        if self.reason is None:
            self._schedule_renewal()

    # The end.

    def _fail(self, code: str) -> None:
        """End the session because of something that we found."""
        if self.reason is None:
            self.reason = Disconnected(code)
        self._websocket.abort()

    def _finish(self, reason: Disconnected) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
        for subscription in self._subscriptions.values():
            subscription._end()
        self._subscriptions.clear()
        receipts, self._receipts = self._receipts, {}
        for receipt in receipts.values():
            receipt.errback(_restate(reason, Disconnected, reason.close_code))
        opening, self._opening = self._opening, None
        if opening is not None:
            if not opening.called:
                opening.errback(_restate(reason, ConnectFailed, reason.close_code))
        elif self._on_disconnect is not None:
            _call(self._log, self._on_disconnect, reason)
        gone, self._gone = self._gone, []
        for waiting in gone:
            waiting.callback(None)


def _restate(reason: Disconnected, kind: type[_Error], close_code: int | None) -> _Error:
    """Make another error of the same facts; raised twice, one would gather tracebacks."""
    return kind(
        reason.code,
        close_code=close_code,
        retry_after=reason.retry_after,
        explanation=reason.explanation,
    )


def _text(body: bytes) -> str:
    return body[:_MAX_EXPLANATION].decode("utf-8", "replace")


def _call(log: Logger, callback: Callable[..., object], error: ClientError) -> None:
    """Call what belongs to the user; what it raises is not ours."""
    try:
        callback(error)
    except Exception:
        log.failure("a callback failed")
