"""What the parameters of a handler get."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_origin

from stompauth.handlers.conversion import BodyMismatch, check_type, from_body
from stompauth.identity.principal import Principal
from stompauth.session.session import Session
from stompauth.stomp.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class Arguments:
    """Gives a function its arguments, by the names and annotations of its parameters.

    - a name of the destination's pattern: that segment, as ``str``, or as ``int``
    - annotated :class:`.Principal`, :class:`.Session` or :class:`.Frame`: these
    - ``headers``: the frame's headers
    - ``body``: the body, converted to the annotation; see :func:`.from_body`; ``bytes`` without one

    :param function: the handler.
    :param variables: the names of the destination's pattern.
    :param has_body: whether the frame has a body, as SEND does and SUBSCRIBE does not.
    :param given: how many parameters, the first ones, get something else.
    :raises TypeError: a parameter is none of these; the text says which.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        variables: Collection[str],
        *,
        has_body: bool = True,
        given: int = 0,
    ) -> None:
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())
        self._givers = {
            parameter.name: self._giver(function, parameter, variables, has_body)
            for parameter in parameters[given:]
        }

    def of(self, frame: Frame, session: Session, variables: Mapping[str, str]) -> dict[str, Any]:
        """The arguments for one frame.

        :raises BodyMismatch: the body, or a segment that has to be a number, does not fit.
        """
        return {name: giver(frame, session, variables) for name, giver in self._givers.items()}

    @staticmethod
    def _giver(
        function: Callable[..., Any],
        parameter: inspect.Parameter,
        variables: Collection[str],
        has_body: bool,
    ) -> Callable[[Frame, Session, Mapping[str, str]], Any]:
        name, hint = parameter.name, parameter.annotation
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{function.__qualname__}: *{name} gets nothing")
        if name in variables:
            if hint is int:
                return lambda frame, session, variables: _integer(variables[name])
            if hint in (str, parameter.empty):
                return lambda frame, session, variables: variables[name]
            raise TypeError(f"{function.__qualname__}: {name} is a segment, so str or int")
        if hint is Principal:
            return lambda frame, session, variables: session.require_principal()
        if hint is Session:
            return lambda frame, session, variables: session
        if hint is Frame:
            return lambda frame, session, variables: frame
        if name == "headers" and (
            hint in (parameter.empty, dict, Mapping) or get_origin(hint) in (dict, Mapping)
        ):
            return lambda frame, session, variables: frame.headers
        if name == "body" and has_body:
            wanted = bytes if hint is parameter.empty else hint
            check_type(wanted)
            return lambda frame, session, variables: from_body(frame.body, wanted)
        raise TypeError(
            f"{function.__qualname__}: {name} is no variable of the destination, and neither"
            " headers, body, nor annotated as Principal, Session or Frame"
        )


def _integer(segment: str) -> int:
    if not (segment.isascii() and segment.removeprefix("-").isdigit() and len(segment) <= 18):
        raise BodyMismatch("a segment of the destination is not an integer")
    return int(segment)
