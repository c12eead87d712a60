"""A session's frames, as an operator sees them for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stompauth.audit import printable
from stompauth.errors import Refused
from stompauth.interceptors.chain import Chain
from stompauth.interceptors.interceptor import Interceptor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stompauth.session.session import Session
    from stompauth.stomp.frame import Frame

    Report = dict[str, Any]

#: Frames of one trace at most.
MAX_FRAMES: Final = 500

#: Seconds that one trace lasts at most.
MAX_SECONDS: Final = 300

#: Seconds between two reports, and frames in one of them at most; more of them are only counted.
INTERVAL: Final = 0.5
MAX_BATCH: Final = 50

#: Headers of a frame that are shown at most, and characters of a value.
MAX_HEADERS: Final = 24
MAX_VALUE: Final = 160

#: A header with one of these in its name, in any case, is not shown.
SECRET_WORDS: Final = (
    "auth",
    "cookie",
    "credential",
    "jwt",
    "key",
    "login",
    "pass",
    "pwd",
    "secret",
    "signature",
    "ticket",
    "token",
)

#: What a value that begins so is cut down to: a JWT, a scheme's credentials, and the name of
#: a temporary queue, to which whoever knows it can send.
_SECRET_VALUES: Final = ("eyj", "bearer ", "basic ", "/temp-queue/")


def shown_headers(headers: Mapping[str, str]) -> list[list[str]]:
    """Those headers of a frame that may be shown, with values that are cut and escaped."""
    shown: list[list[str]] = []
    for name, value in headers.items():
        if len(shown) == MAX_HEADERS:
            break
        if not any(word in name.lower() for word in SECRET_WORDS):
            shown.append([printable(name[:MAX_VALUE]), _shown_value(value)])
    return shown


def _shown_value(value: str) -> str:
    folded = value[:20].lower()
    for beginning in _SECRET_VALUES:
        if folded.startswith(beginning):
            return value[: len(beginning)] + "\N{HORIZONTAL ELLIPSIS}"
    cut = "\N{HORIZONTAL ELLIPSIS}" if len(value) > MAX_VALUE else ""
    return printable(value[:MAX_VALUE]) + cut


class Trace:
    """What one operator sees of one session, until that ends, he has enough, or a bound is reached.

    Each report is ``{"session": id, "frames": [...], "missed": n, "ended": reason or None}``.

    :param report: takes the reports.
    :param over: called once, when it has ended by itself.
    """

    def __init__(
        self,
        session: Session,
        clock: IReactorTime,
        report: Callable[[Report], object],
        over: Callable[[Trace], object],
    ) -> None:
        self.session = session
        self._clock = clock
        self._report = report
        self._over = over
        self._frames: list[Report] = []
        self._missed = 0
        self._seen = 0
        self._until = clock.seconds() + MAX_SECONDS
        self._call: IDelayedCall = clock.callLater(INTERVAL, self._look)

    def add(self, direction: str, frame: Frame, outcome: str) -> None:
        """Take note of a frame."""
        if self._seen >= MAX_FRAMES:
            return
        self._seen += 1
        if len(self._frames) >= MAX_BATCH:
            self._missed += 1
            return
        self._frames.append(
            {
                "at": self._clock.seconds(),
                "direction": direction,
                "command": frame.command,
                "headers": shown_headers(frame.headers),
                "size": len(frame.body),
                "outcome": outcome,
            }
        )

    def stop(self) -> None:
        """End, without a word."""
        if self._call.active():
            self._call.cancel()

    def _look(self) -> None:
        ended = None
        if self.session.has_ended:
            ended = "session"
        elif self._seen >= MAX_FRAMES:
            ended = "frames"
        elif self._clock.seconds() >= self._until:
            ended = "time"
        frames, self._frames = self._frames, []
        missed, self._missed = self._missed, 0
        if ended is None:
            self._call = self._clock.callLater(INTERVAL, self._look)
        else:
            self._over(self)
        if frames or missed or ended is not None:
            report = {"frames": frames, "missed": missed, "ended": ended}
            self._report({"session": self.session.session_id, **report})


class Tap(Interceptor):
    """Sees the frames of one session when all is done about them, and changes none."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def after_send_completion(
        self, frame: Frame, session: Session, failure: Exception | None
    ) -> None:
        """A frame of the client was carried out, or refused."""
        outcome = "done"
        if failure is not None:
            outcome = failure.code if isinstance(failure, Refused) else "internal"
        for trace in self.traces:
            trace.add("in", frame, outcome)

    def post_receive(self, frame: Frame, session: Session) -> None:
        """A MESSAGE went out."""
        for trace in self.traces:
            trace.add("out", frame, "")


class Tracing:
    """All traces: one for each operator at most.

    A session that is traced has a chain of its own, with one interceptor more: behind the first
    one, which has taken the token off the frame. The chain of the others stays as it is.

    :param report: takes an operator's session id and a report for him; see :class:`Trace`.
    """

    def __init__(self, clock: IReactorTime, report: Callable[[str, Report], object]) -> None:
        self._clock = clock
        self._report = report
        self._by_operator: dict[str, Trace] = {}
        self._taps: dict[Session, tuple[Tap, Chain]] = {}

    def __len__(self) -> int:
        return len(self._by_operator)

    def start(self, operator: str, session: Session) -> None:
        """Trace the session for the operator, and no other one any more.

        :param operator: his session's id.
        """
        self.stop(operator)
        trace = Trace(
            session,
            self._clock,
            lambda report: self._report(operator, report),
            lambda trace: self.stop(operator),
        )
        self._by_operator[operator] = trace
        if session not in self._taps:
            tap = Tap()
            own = session.chain
            self._taps[session] = tap, own
            first, *others = own.interceptors
            session.use_chain(Chain([first, tap, *others]))
        self._taps[session][0].traces.append(trace)

    def stop(self, operator: str) -> None:
        """End what is traced for the operator, if anything is."""
        trace = self._by_operator.pop(operator, None)
        if trace is None:
            return
        trace.stop()
        tap, own = self._taps[trace.session]
        tap.traces.remove(trace)
        if not tap.traces:
            del self._taps[trace.session]
            trace.session.use_chain(own)
