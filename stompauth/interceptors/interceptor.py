"""The base class of interceptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from stompauth.interfaces import IInterceptor

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from stompauth.session.session import Session
    from stompauth.stomp.frame import Frame


@implementer(IInterceptor)
class Interceptor:
    """Lets everything pass; a subclass overrides the moments that it is there for.

    A moment that is not overridden is never called. See :class:`.IInterceptor` for the contract.
    """

    def pre_send(self, frame: Frame, session: Session) -> Frame | Awaitable[Frame | None] | None:
        """Let the frame go on."""
        return frame

    def post_send(self, frame: Frame, session: Session) -> None:
        """Do nothing."""

    def after_send_completion(
        self, frame: Frame, session: Session, failure: Exception | None
    ) -> None:
        """Do nothing."""

    def pre_receive(self, frame: Frame, session: Session) -> Frame | None:
        """Let the MESSAGE go out."""
        return frame

    def post_receive(self, frame: Frame, session: Session) -> None:
        """Do nothing."""

    def after_receive_completion(
        self, frame: Frame, session: Session, failure: Exception | None
    ) -> None:
        """Do nothing."""
