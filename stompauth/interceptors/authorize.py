"""May they? The last interceptor, always."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stompauth.audit import audit
from stompauth.authorization.decision import Decision
from stompauth.authorization.destination import Destination
from stompauth.authorization.forms import needs_rule
from stompauth.errors import Refused
from stompauth.interceptors.interceptor import Interceptor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from stompauth.identity.principal import Principal
    from stompauth.interfaces import IAuthorizer
    from stompauth.session.session import Session
    from stompauth.stomp.frame import Frame


class Authorize(Interceptor):
    """Asks the authorizers about every SUBSCRIBE and SEND; all of them have to allow it.

    :param authorizers: providers of :class:`.IAuthorizer`, asked in this order.
    :ivar authorizers: likewise; may be replaced, as a whole. Who waits for an answer meanwhile is
        judged by the new ones too, as is by these who waits while his session is rechecked.
    """

    def __init__(self, authorizers: Sequence[IAuthorizer]) -> None:
        self.authorizers = tuple(authorizers)

    def pre_send(self, frame: Frame, session: Session) -> Frame | Awaitable[Frame | None] | None:
        """Refuse the frame unless it is allowed."""
        if frame.command != "SEND" and frame.command != "SUBSCRIBE":
            return frame
        waiting = self.check(frame, session)
        return frame if waiting is None else self._after(waiting, frame)

    async def _after(self, waiting: Awaitable[None], frame: Frame) -> Frame:
        await waiting
        return frame

    def check(self, frame: Frame, session: Session) -> Awaitable[None] | None:
        """Ask about a SEND or SUBSCRIBE.

        :return: None when it is allowed, or an awaitable when an authorizer has to wait.
        :raises Refused: ``bad-destination``, ``no-such-destination`` or ``access-denied``.
        """
        command = "send" if frame.command == "SEND" else "subscribe"
        destination = Destination.parse(
            frame.headers["destination"], pattern=command == "subscribe"
        )
        if not needs_rule(command, destination):
            return None
        retain = command == "send" and frame.headers.get("retain") == "true"
        principal = session.require_principal()
        authorizers = self.authorizers
        for position, authorizer in enumerate(authorizers):
            decision = authorizer.check(principal, command, destination)
            if not isinstance(decision, Decision):
                later = self._check_later(
                    decision,
                    authorizers[position + 1 :],
                    session,
                    principal,
                    command,
                    destination,
                    retain,
                )
                return self._and_again_if_stale(
                    later, (authorizers, session.rechecks), frame, session
                )
            if retain or not decision.allowed:
                self._judge(decision, session, command, destination, retain)
        return None

    async def _and_again_if_stale(
        self,
        waiting: Awaitable[None],
        asked: tuple[Sequence[IAuthorizer], int],
        frame: Frame,
        session: Session,
    ) -> None:
        await waiting
        # A recheck does not see a subscription that is still waiting to be allowed.
        if asked != (self.authorizers, session.rechecks):
            again = self.check(frame, session)
            if again is not None:
                await again

    async def _check_later(
        self,
        waiting: Awaitable[Decision],
        rest: Sequence[IAuthorizer],
        session: Session,
        principal: Principal,
        command: str,
        destination: Destination,
        retain: bool,
    ) -> None:
        self._judge(await waiting, session, command, destination, retain)
        for authorizer in rest:
            decision = authorizer.check(principal, command, destination)
            if not isinstance(decision, Decision):
                decision = await decision
            self._judge(decision, session, command, destination, retain)

    def _judge(
        self,
        decision: Decision,
        session: Session,
        command: str,
        destination: Destination,
        retain: bool,
    ) -> None:
        if decision.allowed and (decision.retain or not retain):
            return
        audit(
            "denied",
            session=session.session_id,
            user=session.user,
            command=command,
            to=destination.path,
            reason=decision.reason if not decision.allowed else "the rule does not let it retain",
        )
        session.tell("denied", command, destination, decision)
        raise Refused("access-denied", notify=decision.on_deny == "notify")
