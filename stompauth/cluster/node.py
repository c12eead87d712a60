"""What this node does to its own sessions, asked here or by another node."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from stompauth.authorization.destination import Destination
from stompauth.broker.message import Message
from stompauth.cluster.messages import revocations_of
from stompauth.errors import Refused
from stompauth.session.description import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stompauth.identity.revocation import Revocation, Revocations
    from stompauth.session.session import Session, SessionFactory
    from stompauth.tickets.grant import TicketGrant

#: Tickets that came again lately, and are remembered at most.
MAX_REPLAYED: Final = 1000

#: Sessions that are rechecked before others get their turn.
RECHECKED_AT_ONCE: Final = 100


class Node:
    """The sessions of this node, and what may be done to them from outside.

    :param sessions: the sessions.
    :ivar revocations: its deny list.
    """

    _log = Logger()

    def __init__(self, sessions: SessionFactory, revocations: Revocations) -> None:
        self._sessions = sessions
        self.revocations = revocations
        self._replayed: deque[str] = deque(maxlen=MAX_REPLAYED)

    @property
    def max_per_user(self) -> int:
        """Sessions that one user may have; 0 for any number."""
        return self._sessions.limits.sessions_per_user

    def revoke(self, revocations: Sequence[Revocation]) -> int:
        """Carry out revocations of just now, and say how many sessions that has ended.

        The sessions end whatever the times say: clocks differ.
        """
        for revocation in revocations:
            self.revocations.add(revocation)

        def is_concerned(session: Session) -> bool:
            holder = session.principal or session.grant
            return any(
                revocation.concerns(session.user, session.token_ids, holder)
                for revocation in revocations
            )

        return self._sessions.end_where(is_concerned, "revoked")

    def catch_up(self, revocations: Sequence[Revocation]) -> int:
        """Carry out revocations that may be old, and say how many sessions that has ended.

        Those end that one could not make now; who has got a token since then stays.
        """
        news = [revocation for revocation in revocations if self.revocations.add(revocation)]
        return self._sessions.end_where(self._is_revoked, "revoked") if news else 0

    def _is_revoked(self, session: Session) -> bool:
        grant, principal = session.grant, session.principal
        if principal is not None:
            return self.revocations.refuses(principal)
        return self.revocations.refuses_grant(grant)

    def end(self, session_id: str, code: str = "revoked") -> int:
        """End one session; say whether it was here, as a number."""
        return self._sessions.end_where(lambda session: session.session_id == session_id, code)

    def replayed(self, grant_id: str) -> int:
        """End the session that a ticket had opened; say whether it was here, as a number.

        Another node may hear of the second use before it has the answer to the first.
        """
        self._replayed.append(grant_id)
        return self._sessions.end_where(
            lambda session: session.grant.grant_id == grant_id, "replaced"
        )

    def was_replayed(self, grant: TicketGrant) -> bool:
        """Whether :meth:`replayed` was called for that ticket lately."""
        return bool(grant.grant_id) and grant.grant_id in self._replayed

    def recheck(self, user: str | None = None) -> Deferred[int]:
        """Ask the rules again about every subscription of a user, or of all.

        A session for which they cannot be asked ends with ``internal``.

        :return: fires with how many sessions were looked at.
        """
        return Deferred.fromCoroutine(self._recheck(self._connected(user)))

    async def _recheck(self, sessions: Sequence[Session]) -> int:
        for number, session in enumerate(sessions, 1):
            try:
                await session.recheck()
            except CancelledError:
                raise
            except Exception:
                # Who cannot be asked about does not stay, and is not in the others' way.
                self._log.failure("{user} could not be rechecked", user=session.user)
                session.end("internal")
            if number % RECHECKED_AT_ONCE == 0:
                await deferLater(self._sessions.clock, 0)
        return len(sessions)

    def describe_user(self, user: str) -> list[dict[str, object]]:
        """Describe all sessions of a user that are here, the oldest first."""
        return [describe(session) for session in self._sessions.registry.of_user(user)]

    def describe(self, session_id: str) -> list[dict[str, object]]:
        """Describe one session, if it is here."""
        session = self._sessions.registry.get(session_id)
        return [] if session is None else [describe(session)]

    def has(self, session_id: str) -> bool:
        """Whether the session is here."""
        return self._sessions.registry.get(session_id) is not None

    def send(self, session_id: str, message: Message) -> bool:
        """Deliver to one session's subscriptions of ``/user`` + destination, if it is here.

        :raises Refused: ``no-such-destination``.
        """
        session = self._sessions.registry.get(session_id)
        if session is None:
            return False
        sent = self._sessions.broker.send_to_user(session.user, message, session_id)
        # For one session it does not wait.
        return isinstance(sent, int) and sent > 0

    def count_subscribed(self, user: str, path: str) -> int:
        """How many of a user's sessions here subscribe to ``/user`` + path."""
        wanted = f"/user{path}"
        return sum(
            any(found.active and found.destination.path == wanted for found in one.subscriptions)
            for one in self._sessions.registry.of_user(user)
        )

    def _connected(self, user: str | None) -> list[Session]:
        registry = self._sessions.registry
        return list(registry) if user is None else registry.of_user(user)

    # What another node asks for.

    def answer(self, kind: str, arguments: dict[str, Any]) -> Any:
        """Do what another node asks for, and answer as JSON can.

        :raises ValueError: it is nothing that can be asked.
        """
        match kind, arguments:
            case "revoke", {"revocations": list(entries)}:
                return self.revoke(revocations_of(entries))
            case "end", {"session": str(session_id)}:
                return self.end(session_id)
            case "replayed", {"grant": str(grant_id)} if grant_id:
                return self.replayed(grant_id)
            case "recheck", {"user": str() | None as user}:
                sessions = self._connected(user)
                rechecked = Deferred.fromCoroutine(self._recheck(sessions))
                rechecked.addErrback(lambda failure: self._log.failure("a recheck failed", failure))
                return len(sessions)
            case "sessions", {"user": str(user)}:
                return self.describe_user(user)
            case "session", {"session": str(session_id)}:
                return self.describe(session_id)
            case "send", {"session": str(session_id), "message": dict(message)}:
                return self.send(session_id, message_of(message))
            case "subscribed", {"user": str(user), "path": str(path)}:
                return self.count_subscribed(user, path)
        raise ValueError("nothing that can be asked")


def message_fields(message: Message) -> dict[str, Any]:
    """A message of the application's, as JSON has it."""
    return {
        "id": message.message_id,
        "destination": message.destination.path,
        "headers": dict(message.headers),
        "body": b64encode(message.body).decode("ascii"),
    }


def message_of(fields: dict[str, Any]) -> Message:
    """Read what :func:`message_fields` has written.

    :raises ValueError: it is something else.
    """
    match fields:
        case {
            "id": str(message_id),
            "destination": str(path),
            "headers": dict(headers),
            "body": str(body),
        } if all(isinstance(value, str) for value in headers.values()):
            try:
                destination = Destination.parse(path)
            except Refused:
                raise ValueError("no destination") from None
            return Message(
                destination, headers, b64decode(body, validate=True), message_id=message_id
            )
    raise ValueError("no message")
