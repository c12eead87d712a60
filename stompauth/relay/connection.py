"""One STOMP connection to the broker."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.logger import Logger
from zope.interface import implementer

from stompauth.broker.unavailable import unavailable
from stompauth.errors import Refused
from stompauth.stomp.connection import PersistentClientConnection
from stompauth.stomp.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

    from stompauth.stomp.decoder import DecoderLimits

#: Seconds between two heart-beats, on either side.
HEARTBEAT: Final = (10, 10)

#: Seconds that the broker has for CONNECTED, and for the end after our DISCONNECT.
PATIENCE: Final = 10

#: Characters of what the broker says that the log repeats.
_MOST_SAID: Final = 256


@dataclass(frozen=True, slots=True)
class BrokerLogin:
    """What every CONNECT to the broker is made of, and how much it may have on its way.

    :ivar host: the virtual host.
    :ivar receipt_timeout: seconds that the broker has to confirm a frame.
    :ivar limits: of the broker's frames.
    :ivar unsent: bytes that wait, at most, for a broker that does not read.
    """

    login: str
    passcode: str = field(repr=False)
    host: str
    receipt_timeout: float
    limits: DecoderLimits
    unsent: int


#: What RabbitMQ says when it finds a delivery for a subscription that has ended.
_STRAY: Final = re.compile(
    rb"There is no current subscription with tag 'T_([0-9a-f]{16})'\.\s*", re.IGNORECASE
)


class Receiver(Protocol):
    """Whose connection it is."""

    def message(self, frame: Frame) -> None:
        """A MESSAGE came."""

    def lost(self, refused: Refused) -> None:
        """The connection, which had been CONNECTED, is gone, and not at our wish.

        :param refused: what those whom it served are told.
        """

    def stray(self, subscription_id: str) -> None:
        """A message was for a subscription that has ended; the broker holds it, if it has to."""


class BrokerFactory(protocol.Factory):
    """Makes connections of one receiver."""

    noisy = False

    def __init__(self, login: BrokerLogin, clock: IReactorTime, receiver: Receiver) -> None:
        self._login = login
        self._clock = clock
        self._receiver = receiver

    def buildProtocol(self, addr: IAddress | None) -> BrokerConnection:
        """Make the protocol of a connection that is open."""
        return BrokerConnection(self._login, self._clock, self._receiver)


@implementer(IPushProducer)
class BrokerConnection(protocol.Protocol):
    """A client of the broker.

    It sends what it is asked to, and matches receipts; what the messages mean is the receiver's
    business. Whatever the broker complains of ends it, but for one thing that is no harm: after an
    ERROR nobody can say what the other side still holds.

    :ivar ready: fires with this connection when the broker has accepted CONNECT, or fails with
        Refused; to cancel it ends the connection.
    :ivar session: what the broker calls it.
    """

    _log = Logger()

    def __init__(self, login: BrokerLogin, clock: IReactorTime, receiver: Receiver) -> None:
        self.ready: Deferred[BrokerConnection] = Deferred(self._cancelled)
        self.session = ""
        self._login = login
        self._clock = clock
        self._receiver = receiver
        self._stomp = PersistentClientConnection(login.limits, HEARTBEAT)
        self._receipts: dict[str, Deferred[None]] = {}
        self._last_receipt = 0
        self._timer: IDelayedCall | None = None
        self._is_open = False
        self._is_closing = False
        self._is_reading = False
        self._is_paused = False
        self._is_blocked = False
        self._unsent = 0
        self._reason: Refused | None = None
        self._gone: list[Deferred[None]] = []

    @property
    def is_open(self) -> bool:
        """Whether frames can be sent."""
        return self._is_open and not self._is_closing and self._reason is None

    # What Twisted tells.

    def connectionMade(self) -> None:
        """Send CONNECT, of nothing but our configuration."""
        transport: Any = self.transport
        transport.registerProducer(self, True)
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        login = self._login
        headers = {"login": login.login, "passcode": login.passcode, "host": login.host}
        transport.write(self._stomp.connect({"accept-version": "1.2", **headers}))
        self._timer = self._clock.callLater(PATIENCE, self._fail, "no CONNECTED in time")

    def dataReceived(self, data: bytes) -> None:
        """Take octets from the broker."""
        if self._stomp.heartbeat is not None:
            self._stomp.heartbeat.received(self._clock.seconds())
        self._stomp.receive_data(data)
        self._read()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Tell everybody who waits, and the receiver."""
        was_open, self._is_open = self._is_open, False
        self._reset_timer(None)
        refused = self._reason or unavailable()
        if not self.ready.called:
            self.ready.errback(refused)
        receipts, self._receipts = self._receipts, {}
        for receipt in receipts.values():
            # One error of its own for each: raised twice it would gather tracebacks.
            receipt.errback(Refused(refused.code, refused.headers))
        if was_open and not self._is_closing:
            self._receiver.lost(refused)
        gone, self._gone = self._gone, []
        for waiting in gone:
            waiting.callback(None)

    def pauseProducing(self) -> None:
        """The broker does not read as fast as we write."""
        self._is_blocked = True

    def resumeProducing(self) -> None:
        """What had waited is written."""
        self._is_blocked = False
        self._unsent = 0

    def stopProducing(self) -> None:
        """The transport is gone; :meth:`connectionLost` follows."""

    # What the receiver asks for.

    def send(self, frame: Frame) -> None:
        """Send a frame, and leave it at that.

        :raises Refused: ``broker-unavailable``.
        """
        if not self.is_open:
            raise unavailable()
        if self._is_blocked and self._unsent > self._login.unsent:
            raise unavailable()
        self._write(self._stomp.send(frame))

    def request(self, frame: Frame) -> Deferred[None]:
        """Send a frame, and wait until the broker says that it has dealt with it.

        :return: fires with the broker's RECEIPT, or fails with Refused ``broker-unavailable`` when
            it does not come in time.
        :raises Refused: as for :meth:`send`.
        """
        self._last_receipt += 1
        receipt_id = str(self._last_receipt)
        self.send(Frame(frame.command, {**frame.headers, "receipt": receipt_id}, frame.body))
        receipt: Deferred[None] = Deferred()
        self._receipts[receipt_id] = receipt
        receipt.addTimeout(self._login.receipt_timeout, self._clock)
        receipt.addErrback(self._unconfirmed, receipt_id)
        return receipt

    def pause(self) -> None:
        """Read nothing more from the broker for now."""
        if not self._is_paused:
            self._is_paused = True
            transport: Any = self.transport
            transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        if self._is_paused:
            self._is_paused = False
            if self._is_open:
                transport: Any = self.transport
                transport.resumeProducing()
                if self._stomp.heartbeat is not None:
                    self._stomp.heartbeat.received(self._clock.seconds())
                self._read()

    def close(self) -> Deferred[None]:
        """Send DISCONNECT, and end the connection when the broker has taken all before it.

        :return: fires when the connection is gone.
        """
        waiting: Deferred[None] = Deferred()
        transport: Any = self.transport
        if transport is None or (not self._is_open and self.ready.called):
            waiting.callback(None)
            return waiting
        self._gone.append(waiting)
        if not self._is_open:
            transport.abortConnection()
        elif not self._is_closing:
            self._is_closing = True
            self.resume()
            self._write(self._stomp.send(Frame("DISCONNECT", {"receipt": "end"})))
            self._reset_timer(PATIENCE, transport.abortConnection)
        return waiting

    # Inside.

    def _read(self) -> None:
        if self._is_reading:
            return
        self._is_reading = True
        try:
            while not self._is_paused and self._reason is None:
                frame = self._stomp.next_frame()
                if frame is None:
                    break
                self._take(frame)
        except Refused as error:
            self._fail(error.code)
        except Exception:
            self._log.failure("what the broker sent could not be dealt with")
            self._fail("internal")
        finally:
            self._is_reading = False

    def _take(self, frame: Frame) -> None:
        match frame.command:
            case "MESSAGE":
                if not self._is_closing:
                    self._receiver.message(frame)
            case "RECEIPT":
                self._confirm(frame.headers["receipt-id"])
            case "ERROR":
                stray = _STRAY.fullmatch(frame.body)
                if stray is not None:
                    # What had been on its way when UNSUBSCRIBE came; RabbitMQ goes on.
                    self._receiver.stray(stray[1].decode("ascii"))
                    return
                said = f"{frame.headers.get('message', '')}: " + frame.body.decode(
                    "utf-8", "backslashreplace"
                )
                if self._login.passcode:
                    said = said.replace(self._login.passcode, "***")
                self._fail(f"the broker said {said[:_MOST_SAID]!r}", "internal")
            case _:
                self._open(frame.headers.get("session", ""))

    def _open(self, session: str) -> None:
        self.session = session
        now = self._clock.seconds()
        heartbeat = self._stomp.heartbeat
        if heartbeat is not None:
            heartbeat.sent(now)
            heartbeat.received(now)
        self._is_open = True
        self._check_heartbeat()
        self.ready.callback(self)

    def _confirm(self, receipt_id: str) -> None:
        if self._is_closing and receipt_id == "end":
            transport: Any = self.transport
            transport.loseConnection()
            return
        receipt = self._receipts.pop(receipt_id, None)
        # Who had asked may not wait any more.
        if receipt is not None:
            receipt.callback(None)

    def _cancelled(self, _: object) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def _unconfirmed(self, failure: Failure, receipt_id: str) -> Failure:
        self._receipts.pop(receipt_id, None)
        if failure.check(DeferredTimeoutError):
            raise unavailable()
        return failure

    def _write(self, data: bytes) -> None:
        if self._is_blocked:
            self._unsent += len(data)
        transport: Any = self.transport
        transport.write(data)
        if self._stomp.heartbeat is not None:
            self._stomp.heartbeat.sent(self._clock.seconds())

    def _check_heartbeat(self) -> None:
        heartbeat = self._stomp.heartbeat
        if heartbeat is None:
            return
        now = self._clock.seconds()
        if self._is_paused:
            # While we do not read, silence is not the broker's.
            heartbeat.received(now)
        if heartbeat.is_dead(now):
            self._fail("no heart-beat")
            return
        if heartbeat.send_due(now):
            self._write(b"\n")
        delay = heartbeat.next_check(now)
        self._reset_timer(max(delay, 0.05) if delay is not None else None, self._check_heartbeat)

    def _reset_timer(self, delay: float | None, call: Callable[[], object] | None = None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if delay is None or call is None:
            self._timer = None
        else:
            self._timer = self._clock.callLater(delay, call)

    def _fail(self, why: str, code: str = "broker-unavailable") -> None:
        """End the connection because of what the broker did, or did not do."""
        if self._reason is not None:
            return
        self._log.warn("the connection to the broker ends: {why}", why=why)
        self._reason = unavailable() if code == "broker-unavailable" else Refused(code)
        self._reset_timer(None)
        transport: Any = self.transport
        transport.abortConnection()
