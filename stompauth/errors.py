"""Every error that stompauth raises on purpose, and the codes that a client can meet.

- :exc:`StompAuthError`

  - :exc:`ConfigError`: the configuration has mistakes; holds all of them
  - :exc:`BadToken`: a JWT did not verify

    - :exc:`TokenExpired`: it would have, before its ``exp``
    - :exc:`TokenRevoked`: it did, and is no longer taken

  - :exc:`TicketRefused`: a ticket is unknown, expired or used

    - :exc:`TicketReplayed`: it is known to have been used before

  - :exc:`Unavailable`: a store, key source or broker cannot answer now
  - :exc:`Denied`: an HTTP request or a WebSocket handshake is turned down
  - :exc:`Refused`: a STOMP frame is turned down; holds the ERROR code

    - :exc:`RemoteProtocolError`: the peer broke the STOMP specification

  - :exc:`LocalProtocolError`: we did, or our caller
  - :exc:`ClientError`: what our client asked a server for did not happen; holds a code

    - :exc:`ConnectFailed`: no session came about
    - :exc:`FrameRefused`: the server refused one frame, and the session goes on
    - :exc:`NoReceipt`: the server did not say in time that it has done what was asked
    - :exc:`Disconnected`: the session is over

No text of these errors holds a secret, or anything that a peer sent but a slug.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stompauth.tickets.grant import TicketGrant


class StompAuthError(Exception):
    """The root of the tree."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in a configuration: the path of its key, as ``jwt.issuer``, and a sentence."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


class ConfigError(StompAuthError):
    """A configuration that cannot be used.

    :ivar mistakes: every mistake that was found, in the order of the file.
    """

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


class BadToken(StompAuthError):
    """A JWT did not verify.

    :ivar reason: which check failed, for our own log; a peer is never told.
    """

    code = "bad-token"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class TokenExpired(BadToken):
    """A JWT that is past its ``exp`` by more than the leeway, and good otherwise."""

    code = "token-expired"

    def __init__(self) -> None:
        super().__init__("expired")


class TokenRevoked(BadToken):
    """A JWT that verifies, and whose user or ``jti`` was revoked after it was issued."""

    code = "revoked"

    def __init__(self) -> None:
        super().__init__("revoked")


class TicketRefused(StompAuthError):
    """A ticket that opens nothing: unknown, expired, voided or used. A peer sees no difference."""


class TicketReplayed(TicketRefused):
    """A ticket came a second time, which its owner does not do: it has leaked.

    :ivar grant: what the ticket had been issued for.
    """

    def __init__(self, grant: TicketGrant) -> None:
        self.grant = grant
        super().__init__("used before")


class Unavailable(StompAuthError):
    """Something that we depend on cannot answer now; then nothing is waved through.

    :ivar retry_after: seconds after which it may be worth another try.
    """

    def __init__(self, what: str, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(what)


class Denied(StompAuthError):
    """An HTTP request or a WebSocket handshake is turned down.

    :ivar status: the HTTP status code.
    :ivar slug: the ``error`` of the ticket endpoint's JSON answer.
    :ivar retry_after: whole seconds for ``Retry-After``, or None.
    :ivar detail: what exactly is wrong, for a caller who may know; or None.
    """

    def __init__(
        self, status: int, slug: str, retry_after: int | None = None, detail: str | None = None
    ) -> None:
        self.status = status
        self.slug = slug
        self.retry_after = retry_after
        self.detail = detail
        super().__init__(f"{status} {slug}")

    @property
    def reason(self) -> str:
        """The slug, and of a bad token which check failed; for our own log."""
        cause = self.__cause__
        return f"{self.slug}: {cause.reason}" if isinstance(cause, BadToken) else self.slug


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """What follows from a code: the close status of RFC 6455 section 7.4, and the fixed texts."""

    close: int
    message: str
    explanation: str


#: Every ERROR code that stompauth itself sends.
ERROR_CODES: dict[str, ErrorCode] = {
    "shutdown": ErrorCode(1001, "Server is stopping", "Come back with a fresh ticket."),
    "drain": ErrorCode(1012, "Server is draining", "Come back with a fresh ticket."),
    "malformed": ErrorCode(1002, "Malformed frame", "The bytes are not a STOMP frame."),
    "missing-header": ErrorCode(
        1002, "Header missing", "The command requires a header that the frame does not have."
    ),
    "bad-header": ErrorCode(1002, "Bad header", "A header has a value that it cannot have."),
    "unexpected-frame": ErrorCode(
        1002, "Unexpected frame", "The command is not one that may be sent now."
    ),
    "unknown-version": ErrorCode(
        1002, "No common version", "Supported protocol versions are 1.0 1.1 1.2."
    ),
    "duplicate-id": ErrorCode(1002, "Duplicate id", "The id is in use in this session already."),
    "unknown-subscription": ErrorCode(
        1002, "Unknown subscription", "The session has no subscription of that id."
    ),
    "unknown-ack": ErrorCode(
        1002, "Unknown acknowledgement", "The session holds no unacknowledged message of that id."
    ),
    "unknown-transaction": ErrorCode(
        1002, "Unknown transaction", "The session has no open transaction of that name."
    ),
    "bad-destination": ErrorCode(
        1002, "Bad destination", "The destination does not follow the grammar of destinations."
    ),
    "bad-body": ErrorCode(1002, "Bad body", "The body is not what the destination takes."),
    "no-such-destination": ErrorCode(
        1002, "No such destination", "Nothing here serves that destination."
    ),
    "too-large": ErrorCode(1009, "Frame too large", "A limit on the size of frames was passed."),
    "internal": ErrorCode(1011, "Internal error", "The server failed; it is not your fault."),
    "broker-unavailable": ErrorCode(
        1013, "Broker unavailable", "The message broker cannot be reached now."
    ),
    "bad-token": ErrorCode(4401, "Bad token", "The token was not accepted; get a new one."),
    "token-expired": ErrorCode(4401, "Token expired", "The token has expired; get a new one."),
    "replaced": ErrorCode(4401, "Replaced", "The session was replaced by another."),
    "access-denied": ErrorCode(4403, "Access denied", "No rule allows this."),
    "revoked": ErrorCode(4403, "Revoked", "Access was withdrawn."),
    "connect-timeout": ErrorCode(4408, "CONNECT timeout", "No session was made in time."),
    "heartbeat-timeout": ErrorCode(4408, "Heart-beat timeout", "Nothing was heard for too long."),
    "frame-timeout": ErrorCode(4408, "Frame timeout", "A frame took too long to arrive."),
    "subject-mismatch": ErrorCode(
        4409, "Subject mismatch", "The token is of another subject than the session."
    ),
    "limit": ErrorCode(4429, "Limit reached", "A limit of this server was reached."),
    "slow-consumer": ErrorCode(
        4429, "Slow consumer", "Messages were not read as fast as they were sent."
    ),
    "queue-full": ErrorCode(4429, "Queue full", "The queue holds as much as it may."),
}


_SLUG = re.compile(r"(?=.{1,64}\Z)[a-z0-9]+(-[a-z0-9]+)*")


class Refused(StompAuthError):
    """A frame is turned down: the client gets an ERROR with this code, then the close for it.

    Interceptors and handlers may raise it with one of :data:`ERROR_CODES`, or with a slug of their
    own, which closes with 4403.

    :ivar code: the slug in the ERROR's ``code`` header: words of ``a-z 0-9`` with hyphens between,
        at most 64 characters; ValueError if it is none.
    :ivar headers: further headers of the ERROR.
    :ivar explanation: the body, where the code's own is not enough; None for that one.
    :ivar notify: whether a notice is enough, so that the session can go on.
    """

    def __init__(
        self,
        code: str,
        headers: dict[str, str] | None = None,
        *,
        explanation: str | None = None,
        notify: bool = False,
    ) -> None:
        if not _SLUG.fullmatch(code):
            # It goes into headers, and is the reason of the WebSocket's close.
            raise ValueError("a code is a slug, such as access-denied")
        self.code = code
        self.headers = headers or {}
        self.explanation = explanation
        self.notify = notify
        super().__init__(code)

    @property
    def consequence(self) -> ErrorCode:
        """The close status and the fixed texts of this code."""
        known = ERROR_CODES.get(self.code)
        consequence = known or ErrorCode(4403, "Refused", "The server refused the frame.")
        if self.explanation is not None:
            consequence = replace(consequence, explanation=self.explanation)
        return consequence


class RemoteProtocolError(Refused):
    """The peer broke the STOMP specification, or a limit that we put on its frames."""


class LocalProtocolError(StompAuthError):
    """We, or code that uses us, asked for something that the STOMP specification forbids."""


#: Close statuses after which a client that comes back by itself would only be turned away again.
FINAL_CLOSES = frozenset({1002, 4403, 4409})


class ClientError(StompAuthError):
    """What our client asked a server for did not happen.

    None of these is a :exc:`Refused`: an application handler that uses a client must not turn its
    own peer down by what another server has said.

    :ivar code: a slug, from the server where it said one.
    :ivar status: of the HTTP answer that was not what it had to be, or None.
    :ivar close_code: with which the server closed the WebSocket, or None.
    :ivar retry_after: seconds after which the server says that one may come back, or None.
    :ivar explanation: the server's own words, or None. They are not in the error's text.
    """

    def __init__(
        self,
        code: str,
        *,
        status: int | None = None,
        close_code: int | None = None,
        retry_after: float | None = None,
        explanation: str | None = None,
    ) -> None:
        self.code = code if re.fullmatch("[a-z0-9-]{1,64}", code) else "unknown"
        self.status = status
        self.close_code = close_code
        self.retry_after = retry_after
        self.explanation = explanation
        text = self.code
        if status is not None:
            text += f", HTTP status {status}"
        if close_code is not None:
            text += f", closed with {close_code}"
        super().__init__(text)

    @property
    def is_final(self) -> bool:
        """Whether it would be the same again, until somebody mends something."""
        return self.status == 403 or self.close_code in FINAL_CLOSES


class ConnectFailed(ClientError):
    """No session came about: no ticket, no WebSocket, or no CONNECTED."""


class FrameRefused(ClientError):
    """The server refused one frame, or dropped a subscription; the session goes on.

    :ivar destination: of the subscription that is lost; None where it was another frame.
    """

    def __init__(
        self, code: str, destination: str | None = None, explanation: str | None = None
    ) -> None:
        self.destination = destination
        super().__init__(code, explanation=explanation)


class NoReceipt(ClientError):
    """The server did not say in time that it has done what was asked; it may have."""

    def __init__(self) -> None:
        super().__init__("no-receipt")


class Disconnected(ClientError):
    """The session is over.

    Codes of ours are ``disconnected``, at our own wish; ``closed``, where the server gave no reason
    but a status; ``connection-lost``, ``heartbeat-timeout`` and ``slow-consumer``.
    """
