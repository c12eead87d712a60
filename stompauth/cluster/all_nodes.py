"""What is done to sessions wherever they are: on this node, or on another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from stompauth.cluster.cluster import both

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stompauth.broker.message import Message
    from stompauth.cluster.cluster import Cluster
    from stompauth.cluster.node import Node
    from stompauth.identity.revocation import Revocation

Descriptions = list[dict[str, object]]


class AllNodes:
    """This node, and the others if there is a cluster.

    What concerns sessions here is done when a method returns; its Deferred fires when the others
    have answered, or fails with :exc:`.Unavailable` when they do not.

    :param node: this one.
    :param cluster: the others; None if this node is alone.
    """

    def __init__(self, node: Node, cluster: Cluster | None) -> None:
        self._node = node
        self._cluster = cluster

    def revoke(self, revocations: Sequence[Revocation]) -> Deferred[int]:
        """Carry out revocations of just now; fires with how many sessions that has ended."""
        here = self._node.revoke(revocations)
        if self._cluster is None:
            return succeed(here)
        return self._cluster.revoke(revocations).addCallback(lambda others: here + others)

    def end(self, session_id: str) -> Deferred[int]:
        """End a session; fires with 1 or 0."""
        here = self._node.end(session_id)
        # There is but one of that id.
        if here or self._cluster is None:
            return succeed(here)
        return self._cluster.end(session_id)

    def replayed(self, grant_id: str) -> None:
        """Have the session ended that a ticket had opened."""
        if not self._node.replayed(grant_id) and self._cluster is not None:
            self._cluster.replayed(grant_id)

    def recheck(self, user: str | None) -> Deferred[int]:
        """Recheck a user, or all; fires with how many sessions are looked at.

        Those of other nodes are looked at on their own time.
        """
        here = self._node.recheck(user)
        if self._cluster is None:
            return here
        return Deferred.fromCoroutine(both(here, self._cluster.recheck(user))).addCallback(sum)

    def describe_user(self, user: str) -> Deferred[Descriptions]:
        """Describe the sessions of a user."""
        here = self._node.describe_user(user)
        if self._cluster is None:
            return succeed(here)
        return self._cluster.describe_user(user).addCallback(lambda others: here + others)

    def describe(self, session_id: str) -> Deferred[Descriptions]:
        """Describe a session, if there is one of that id."""
        here = self._node.describe(session_id)
        if here or self._cluster is None:
            return succeed(here)
        return self._cluster.describe(session_id)

    def send(self, session_id: str, message: Message) -> Deferred[bool]:
        """Send to a session's subscriptions of ``/user`` + destination; fires with whether it went.

        :raises Refused: it is no destination of users'.
        """
        if self._cluster is None or self._node.has(session_id):
            return succeed(self._node.send(session_id, message))
        return self._cluster.send(session_id, message)

    def count_elsewhere(self, user: str, path: str) -> Deferred[int]:
        """Fires with how many sessions of the user on other nodes subscribe to ``/user`` + path."""
        if self._cluster is None:
            return succeed(0)
        return self._cluster.count_subscribed(user, path)
