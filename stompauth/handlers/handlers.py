"""Which function answers which destination, and what becomes of its answer."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stompauth.authorization.destination import Destination, Kind, guarded_segment
from stompauth.authorization.pattern import Pattern
from stompauth.broker.message import Message
from stompauth.broker.subscription import Delivery
from stompauth.errors import Refused, StompAuthError
from stompauth.handlers.arguments import Arguments
from stompauth.handlers.conversion import BodyMismatch, to_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stompauth.broker.subscription import Subscription
    from stompauth.interfaces import IBroker
    from stompauth.session.session import Session
    from stompauth.stomp.frame import Frame

_COMMANDS: Final = ("SEND", "SUBSCRIBE")


@dataclass(frozen=True, slots=True)
class _Route:
    pattern: Pattern
    function: Callable[..., Any]
    arguments: Arguments
    send_to: str | None
    reply: str | None

    def variables(self, destination: Destination, session: Session) -> dict[str, str] | None:
        """What the pattern captures; None when the destination is another."""
        if not self.pattern.matches(destination, session.require_principal()):
            return None
        return {name: destination.segments[n] for name, n in self.pattern.captures}


@dataclass(frozen=True, slots=True)
class _ErrorRoute:
    error: type[Exception]
    code: str
    function: Callable[..., str]
    arguments: Arguments


class Handlers:
    """The application's functions, in the order in which they were added; the first that fits.

    A function may be plain, return a Deferred, or be ``async``. What it returns goes only where it
    was said to go.

    :param broker: where results go to.
    """

    _log = Logger()

    def __init__(self, broker: IBroker) -> None:
        self._broker = broker
        self._routes: dict[str, list[_Route]] = {command: [] for command in _COMMANDS}
        self._errors: list[_ErrorRoute] = []

    def add(
        self,
        command: str,
        destination: str,
        function: Callable[..., Any],
        send_to: str | None = None,
        reply: str | None = None,
    ) -> None:
        """Let a function answer SEND or SUBSCRIBE to destinations.

        :raises TypeError: a parameter of the function gets nothing.
        :raises ValueError: a destination is none that can be served or sent to.
        """
        pattern = Pattern.parse(destination)
        if pattern.first != "app":
            raise ValueError(f"handlers answer /app/**, not {destination}")
        variables = [name for name, _ in pattern.captures]
        for target in (send_to, reply):
            if target is not None:
                _filled(target, dict.fromkeys(variables, "x"))
        if reply is not None and not reply.startswith("/queue/"):
            raise ValueError(f"a reply goes to /queue/**, not {reply}")
        arguments = Arguments(function, variables, has_body=command == "SEND")
        self._routes[command].append(_Route(pattern, function, arguments, send_to, reply))

    def add_error(self, error: type[Exception], code: str, function: Callable[..., str]) -> None:
        """Let a function turn an exception of a handler into the text of a notice.

        :raises TypeError: one of its parameters, the first aside, asks for nothing that there is.
        """
        arguments = Arguments(function, (), has_body=False, given=1)
        self._errors.append(_ErrorRoute(error, code, function, arguments))

    def send(self, frame: Frame, session: Session) -> Awaitable[None] | None:
        """Answer a SEND.

        :return: None when that is done.
        :raises Refused: no function answers, or it fails; also by the awaitable.
        """
        route, variables = self._find(frame, session)

        def give(result: Any) -> Awaitable[None] | None:
            return self._give(route, variables, frame, session, result)

        return self._call(route, variables, frame, session, give)

    def subscribe(
        self, frame: Frame, session: Session, subscription: Subscription
    ) -> Awaitable[None] | None:
        """Answer a SUBSCRIBE, once; None is no answer.

        :raises Refused: as for :meth:`send`.
        """
        route, variables = self._find(frame, session)

        def answer(result: Any) -> None:
            # The rules may have been asked again while the function took its time.
            if result is not None and subscription in session.subscriptions:
                body, content_type = to_body(result)
                headers = {"content-type": content_type}
                message = Message(subscription.destination, headers, body)
                session.deliver(subscription, Delivery(message))

        return self._call(route, variables, frame, session, answer)

    def _find(self, frame: Frame, session: Session) -> tuple[_Route, dict[str, str]]:
        destination = Destination.parse(frame.headers["destination"])
        for route in self._routes[frame.command]:
            variables = route.variables(destination, session)
            if variables is not None:
                return route, variables
        raise Refused("no-such-destination")

    def _call(
        self,
        route: _Route,
        variables: dict[str, str],
        frame: Frame,
        session: Session,
        done: Callable[[Any], Awaitable[None] | None],
    ) -> Awaitable[None] | None:
        try:
            result = route.function(**route.arguments.of(frame, session, variables))
            if inspect.isawaitable(result):
                return Deferred.fromCoroutine(self._call_later(result, done, frame, session))
            return done(result)
        except Exception as error:
            raise self._refusal(error, frame, session) from error

    async def _call_later(
        self,
        waiting: Awaitable[Any],
        done: Callable[[Any], Awaitable[None] | None],
        frame: Frame,
        session: Session,
    ) -> None:
        try:
            rest = done(await waiting)
            if rest is not None:
                await rest
        except Exception as error:
            raise self._refusal(error, frame, session) from error

    def _give(
        self,
        route: _Route,
        variables: dict[str, str],
        frame: Frame,
        session: Session,
        result: Any,
    ) -> Awaitable[None] | None:
        if result is None:
            return None
        body, content_type = to_body(result)
        headers = {"content-type": content_type}
        if "correlation-id" in frame.headers:
            headers["correlation-id"] = frame.headers["correlation-id"]
        if route.reply is not None:
            destination = Destination.parse(_filled(route.reply, variables))
            message = Message(destination, headers, body)
            self._broker.send_to_user(session.user, message, session.session_id)
        if route.send_to is not None:
            destination = Destination.parse(_filled(route.send_to, variables))
            return self._broker.send(Message(destination, headers, body))
        return None

    def _refusal(self, error: Exception, frame: Frame, session: Session) -> Refused:
        """What the client is told of an exception: never less than a notice."""
        if isinstance(error, Refused):
            return error
        for route in self._errors:
            if isinstance(error, route.error):
                text = route.function(error, **route.arguments.of(frame, session, {}))
                return Refused(route.code, notify=True, explanation=text)
        if isinstance(error, BodyMismatch):
            return Refused("bad-body", notify=True, explanation=str(error))
        if not isinstance(error, StompAuthError):
            self._log.failure("a handler failed")
        return Refused("internal", notify=True)


def _filled(template: str, variables: dict[str, str]) -> str:
    """A destination, with the variables in their places.

    :raises ValueError: the template is none.
    """
    segments = [
        variables.get(segment[1:-1], segment) if segment.startswith("{") else segment
        for segment in template.split("/")
    ]
    filled = "/".join(segments)
    try:
        destination = Destination.parse(filled)
    except Refused:
        raise ValueError(f"no destination: {template}") from None
    guarded = guarded_segment(destination.segments)
    if guarded is not None and template.split("/")[guarded + 1].startswith("{"):
        # As in rules: no variable stands for a dead-letter queue.
        raise Refused("bad-destination")
    if destination.kind not in (Kind.TOPIC, Kind.QUEUE, Kind.USER):
        raise ValueError(f"nothing is sent to {template}")
    return filled
