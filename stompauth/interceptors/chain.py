"""The interceptors in their order, and how a frame goes through them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from stompauth.coroutines import start
from stompauth.interceptors.interceptor import Interceptor
from stompauth.interfaces import IInterceptor
from stompauth.stomp.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from twisted.internet.defer import Deferred

    from stompauth.session.session import Session


class Chain:
    """Takes frames through interceptors, in list order.

    Everything is a plain call until an interceptor really waits; a moment that an interceptor
    inherits from :class:`.Interceptor` is not called at all.

    :param interceptors: providers of :class:`.IInterceptor`.
    :ivar has_outbound: whether any of them looks at MESSAGEs on their way out.
    """

    _log = Logger()

    def __init__(self, interceptors: Sequence[IInterceptor]) -> None:
        for interceptor in interceptors:
            if not IInterceptor.providedBy(interceptor):
                raise TypeError(f"{type(interceptor).__qualname__} does not provide IInterceptor")
        self.interceptors = tuple(interceptors)
        self._pre_send = self._overriding("pre_send")
        self._post_send = self._overriding("post_send")
        self._after_send = self._overriding("after_send_completion")
        self._pre_receive = self._overriding("pre_receive")
        self._post_receive = self._overriding("post_receive")
        self._after_receive = self._overriding("after_receive_completion")
        self.has_outbound = bool(self._pre_receive or self._post_receive or self._after_receive)

    def _overriding(self, moment: str) -> list[tuple[int, Callable[..., Any]]]:
        inherited = getattr(Interceptor, moment)
        return [
            (position, getattr(interceptor, moment))
            for position, interceptor in enumerate(self.interceptors)
            if getattr(type(interceptor), moment, None) is not inherited
        ]

    def inbound(
        self,
        frame: Frame,
        session: Session,
        carry_out: Callable[[Frame], Awaitable[None] | None],
    ) -> Deferred[None] | None:
        """Take a client's frame through pre_send, carry it out, and tell the others.

        :param carry_out: what is done with the frame that comes out of pre_send; not called when
            an interceptor has handled it.
        :return: None when all is done, else a Deferred.
        :raises Exception: whatever an interceptor or ``carry_out`` raised, also by the Deferred.
        """
        position = 0
        try:
            for position, pre_send in self._pre_send:
                result = pre_send(frame, session)
                if result is frame:
                    continue
                if type(result) is Frame:
                    frame = result
                elif result is None:
                    self._complete(self._after_send, position, frame, session, None)
                    return None
                else:
                    # It sees to their completion by itself, also if it does not wait.
                    later = self._inbound_later(frame, session, carry_out, position, result)
                    break
            else:
                later = None
                position = len(self.interceptors)
                waiting = carry_out(frame)
        except Exception as failure:
            self._complete(self._after_send, position, frame, session, failure)
            raise
        if later is not None:
            return start(later)
        if waiting is not None:
            return start(self._carried_out_later(frame, session, waiting))
        self._carried_out(frame, session)
        return None

    async def _inbound_later(
        self,
        frame: Frame,
        session: Session,
        carry_out: Callable[[Frame], Awaitable[None] | None],
        position: int,
        result: Awaitable[Frame | None],
    ) -> None:
        # The rest of inbound() from the interceptor that made it wait.
        reached = position
        try:
            replacement = await result
            for position, pre_send in self._pre_send:
                if position <= reached:
                    continue
                if replacement is None:
                    break
                frame = replacement
                reached = position
                outcome = pre_send(frame, session)
                replacement = (
                    outcome if outcome is None or type(outcome) is Frame else await outcome
                )
            if replacement is None:
                self._complete(self._after_send, reached, frame, session, None)
                return
            frame = replacement
            reached = len(self.interceptors)
            waiting = carry_out(frame)
        except Exception as failure:
            self._complete(self._after_send, reached, frame, session, failure)
            raise
        if waiting is not None:
            await self._carried_out_later(frame, session, waiting)
        else:
            self._carried_out(frame, session)

    async def _carried_out_later(
        self, frame: Frame, session: Session, waiting: Awaitable[None]
    ) -> None:
        try:
            await waiting
        except Exception as failure:
            self._complete(self._after_send, len(self.interceptors), frame, session, failure)
            raise
        self._carried_out(frame, session)

    def _carried_out(self, frame: Frame, session: Session) -> None:
        if self._post_send:
            self._tell(self._post_send, frame, session)
        if self._after_send:
            self._complete(self._after_send, len(self.interceptors), frame, session, None)

    def outbound(self, frame: Frame, session: Session, send: Callable[[Frame], None]) -> None:
        """Take a MESSAGE through pre_receive, send it, and tell the others.

        An interceptor that fails keeps the MESSAGE back; its failure is logged.
        """
        position = 0
        try:
            for position, pre_receive in self._pre_receive:
                result = pre_receive(frame, session)
                if result is None:
                    self._complete(self._after_receive, position, frame, session, None)
                    return
                frame = result
            position = len(self.interceptors)
            send(frame)
        except Exception as failure:
            self._log.failure("an outbound interceptor failed; its MESSAGE was kept back")
            self._complete(self._after_receive, position, frame, session, failure)
            return
        self._tell(self._post_receive, frame, session)
        self._complete(self._after_receive, position, frame, session, None)

    def _tell(
        self, moments: list[tuple[int, Callable[..., Any]]], frame: Frame, session: Session
    ) -> None:
        # What was done is done: a failure here can only be logged.
        for _, moment in moments:
            try:
                moment(frame, session)
            except Exception:
                self._log.failure("an interceptor failed after the frame was carried out")

    def _complete(
        self,
        moments: list[tuple[int, Callable[..., Any]]],
        passed: int,
        frame: Frame,
        session: Session,
        failure: Exception | None,
    ) -> None:
        for position, moment in reversed(moments):
            if position < passed:
                try:
                    moment(frame, session, failure)
                except Exception:
                    self._log.failure("an interceptor failed on completion")
