"""Who is connected where."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from stompauth.cluster.messages import Presence

#: Sessions of other nodes that are known at most.
MAX_SESSIONS: Final = 1_000_000


@dataclass(slots=True)
class NodeSessions:
    """The sessions of one node.

    :ivar number: of the last delta that was applied; None until all of its sessions are known,
        and again when one of its deltas was missed.
    :ivar asked_at: when the node was asked for all of them; None unless its answer is awaited.
    :ivar unnamed: while the answer comes in: what is gone unless it is still named.
    """

    sessions: dict[str, Presence] = field(default_factory=dict)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    number: int | None = None
    asked_at: float | None = None
    unnamed: set[str] = field(default_factory=set)


class Directory:
    """The sessions of all nodes, by node, by user and by id.

    :param own: the name of this node.
    :param max_sessions: of all other nodes together; beyond it further ones are not known.
    :ivar nodes: the other nodes by name.
    """

    def __init__(self, own: str, max_sessions: int = MAX_SESSIONS) -> None:
        self._own = own
        self._max_sessions = max_sessions
        self.own = NodeSessions()
        self.nodes: dict[str, NodeSessions] = {}
        self._by_user: dict[str, dict[tuple[str, str], Presence]] = {}
        self._elsewhere = 0

    def __len__(self) -> int:
        return len(self.own.sessions) + self._elsewhere

    def add_node(self, node_id: str) -> NodeSessions:
        """Enter another node, of which nothing is known yet."""
        return self.nodes.setdefault(node_id, NodeSessions())

    def remove_node(self, node_id: str) -> None:
        """Strike a node out, and all of its sessions."""
        node = self.nodes.get(node_id)
        if node is not None:
            for session_id in list(node.sessions):
                self.close(node_id, session_id)
            del self.nodes[node_id]

    def open(self, node_id: str, presence: Presence) -> bool:
        """Enter a session of this or a known node, and say whether there was room for it."""
        node = self._node(node_id)
        session_id = presence.session_id
        node.unnamed.discard(session_id)
        if session_id in node.sessions:
            return True
        if node is not self.own:
            if self._elsewhere >= self._max_sessions:
                return False
            self._elsewhere += 1
        node.sessions[session_id] = presence
        node.counts[presence.issuer, presence.user] += 1
        self._by_user.setdefault(presence.user, {})[node_id, session_id] = presence
        return True

    def close(self, node_id: str, session_id: str) -> None:
        """Strike a session out, if it is in."""
        node = self._node(node_id)
        node.unnamed.discard(session_id)
        presence = node.sessions.pop(session_id, None)
        if presence is None:
            return
        if node is not self.own:
            self._elsewhere -= 1
        subject = (presence.issuer, presence.user)
        node.counts[subject] -= 1
        if not node.counts[subject]:
            del node.counts[subject]
        sessions = self._by_user[presence.user]
        del sessions[node_id, session_id]
        if not sessions:
            del self._by_user[presence.user]

    def count_elsewhere(self, issuer: str, user: str) -> int:
        """How many sessions of that user the other nodes have."""
        return sum(node.counts[issuer, user] for node in self.nodes.values())

    def of_user(self, user: str) -> list[Presence]:
        """All sessions of that user, of any issuer, the oldest first."""
        return sorted(self._by_user.get(user, {}).values(), key=age)

    def of_subject(self, issuer: str, user: str) -> Iterator[tuple[str, Presence]]:
        """All sessions of that user with the names of their nodes, the oldest first."""
        found = self._by_user.get(user, {}).items()
        for (node_id, _), presence in sorted(found, key=lambda item: age(item[1])):
            if presence.issuer == issuer:
                yield node_id, presence

    def nodes_of_user(self, user: str) -> Collection[str]:
        """The other nodes that have sessions of that user."""
        return {node_id for node_id, _ in self._by_user.get(user, ())} - {self._own}

    def node_of(self, session_id: str) -> str | None:
        """The other node that has the session."""
        for node_id, node in self.nodes.items():
            if session_id in node.sessions:
                return node_id
        return None

    def _node(self, node_id: str) -> NodeSessions:
        return self.own if node_id == self._own else self.nodes[node_id]


def age(presence: Presence) -> tuple[float, str]:
    """What sessions are sorted by, the same on every node: the oldest first."""
    return presence.opened_at, presence.session_id
