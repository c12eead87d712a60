"""Whose frame is it? The first interceptor, always."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stompauth.errors import BadToken, Refused, Unavailable
from stompauth.identity.bearer import parse_bearer
from stompauth.interceptors.interceptor import Interceptor

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from stompauth.identity.principal import Principal
    from stompauth.interfaces import ITokenVerifier
    from stompauth.session.session import Session
    from stompauth.stomp.frame import Frame

#: A SEND to it carries a fresh token and changes nothing else.
RENEWAL = "/session/token"


def take_authorization(frame: Frame) -> str | None:
    """Take every ``Authorization`` header off the frame, in any case of its name.

    :return: the value of the first.
    """
    headers = frame.headers
    for name in headers:
        if len(name) == 13 and name.lower() == "authorization":
            break
    else:
        return None
    names = [name for name in headers if name.lower() == "authorization"]
    values = [headers.pop(name) for name in names]
    return values[0]


class Authenticate(Interceptor):
    """Verifies the JWT of CONNECT, and those on SEND; no later hand sees one.

    CONNECT's token has to be of the subject that the ticket was issued for. A SEND to
    ``/session/token`` renews the session; on another SEND, ``on_send`` says what a token means.

    :param verifier: provider of :class:`.ITokenVerifier`.
    :param on_send: ``"required"``, ``"optional"`` or ``"ignored"``.
    """

    def __init__(self, verifier: ITokenVerifier, on_send: str = "optional") -> None:
        self._verifier = verifier
        self._on_send = on_send

    def pre_send(self, frame: Frame, session: Session) -> Frame | Awaitable[Frame | None] | None:
        """Authenticate the frame."""
        # A head that is kept has no such header.
        authorization = None if frame.head is not None else take_authorization(frame)
        command = frame.command
        if command != "SEND":
            if command == "CONNECT" or command == "STOMP":
                return self._connect(frame, session, authorization)
            return frame
        if frame.headers["destination"] == RENEWAL:
            return self._renew(frame, session, authorization)
        if self._on_send == "ignored":
            return frame
        if authorization is not None:
            return self._send(frame, session, authorization)
        if self._on_send == "required":
            raise Refused("missing-header")
        return frame

    async def _connect(self, frame: Frame, session: Session, authorization: str | None) -> Frame:
        session.principal = await self._verify(session, authorization)
        return frame

    async def _renew(self, frame: Frame, session: Session, authorization: str | None) -> Frame:
        await session.renew(await self._verify(session, authorization))
        return frame

    async def _send(self, frame: Frame, session: Session, authorization: str) -> Frame:
        principal = await self._verify(session, authorization)
        # An older token must not bring back what a newer one took away.
        if session.principal is None or principal.issued_at > session.principal.issued_at:
            await session.renew(principal)
        return frame

    async def _verify(self, session: Session, authorization: str | None) -> Principal:
        if authorization is None:
            raise Refused("missing-header")
        token = parse_bearer(authorization)
        if token is None:
            raise Refused("bad-token")
        try:
            principal = await self._verifier.verify(token)
        except BadToken as bad:
            raise Refused(bad.code) from None
        except Unavailable:
            raise Refused("internal") from None
        if not principal.is_same_subject(session.grant.issuer, session.grant.user):
            raise Refused("subject-mismatch")
        return principal
