"""Names under which others can reply to a session's temporary queues."""

from __future__ import annotations

import re
from secrets import token_hex
from typing import Final

from stompauth.errors import Refused

_PREFIX: Final = "/temp-queue/reply."
_NAME: Final = re.compile(re.escape(_PREFIX) + "[0-9a-f]{32}")


def is_reply_name(path: str) -> bool:
    """Whether it looks like a name that others reply to."""
    return _NAME.fullmatch(path) is not None


class ReplyNames:
    """Which session and path a name stands for.

    A session calls its temporary queue ``/temp-queue/x``; nobody else can. What others receive in
    ``reply-to`` is ``/temp-queue/reply.`` and 128 random bits: to know it is the right to send to
    it. It ends with the session; after that, what is sent to it goes nowhere, as a requester that
    has left is not the replier's fault.

    :param limit: how many names a session has at most; 0 for any number.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._owners: dict[str, tuple[str, str]] = {}
        self._names: dict[str, dict[str, str]] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def name(self, session_id: str, path: str) -> str:
        """The name that others may reply to: one for each of the session's temporary queues.

        A name that somebody gave to the session stays as it is, and can be passed on.

        :raises Refused: ``limit`` when the session would have too many.
        """
        if path in self._owners:
            return path
        names = self._names.get(session_id, {})
        if path in names:
            return names[path]
        if self.limit and len(names) >= self.limit:
            raise Refused("limit")
        name = _PREFIX + token_hex(16)
        names[path] = name
        self._names[session_id] = names
        self._owners[name] = (session_id, path)
        return name

    def owner(self, name: str) -> tuple[str, str] | None:
        """Session id and path that the name stands for; None when that session has ended.

        :raises Refused: ``no-such-destination`` for what no name ever looks like.
        """
        owner = self._owners.get(name)
        if owner is None and not is_reply_name(name):
            raise Refused("no-such-destination")
        return owner

    def forget(self, session_id: str) -> list[str]:
        """Void all names of the session, and return the paths that they stood for."""
        names = self._names.pop(session_id, {})
        for name in names.values():
            del self._owners[name]
        return list(names)
