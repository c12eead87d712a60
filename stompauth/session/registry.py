"""Who is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stompauth.session.session import Session


class SessionRegistry:
    """The connected sessions of this process, by id and by user.

    A session is in it from before its CONNECTED goes out until it ends.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, Session] = {}
        # Most users have one session, which needs no dictionary.
        self._by_user: dict[str, Session | dict[str, Session]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_id.values()))

    def get(self, session_id: str) -> Session | None:
        """The session of that id, if it is here."""
        return self._by_id.get(session_id)

    def of_user(self, user: str) -> list[Session]:
        """All sessions of that user, the oldest first."""
        found = self._by_user.get(user)
        if found is None:
            return []
        return list(found.values()) if isinstance(found, dict) else [found]

    def add(self, session: Session) -> None:
        """Enter a session."""
        self._by_id[session.session_id] = session
        first = self._by_user.setdefault(session.user, session)
        if isinstance(first, dict):
            first[session.session_id] = session
        elif first is not session:
            self._by_user[session.user] = {first.session_id: first, session.session_id: session}

    def remove(self, session: Session) -> None:
        """Strike a session out, if it is in."""
        if self._by_id.pop(session.session_id, None) is None:
            return
        sessions = self._by_user[session.user]
        if isinstance(sessions, dict):
            del sessions[session.session_id]
        if not isinstance(sessions, dict) or not sessions:
            del self._by_user[session.user]
