"""How the nodes of a cluster reach one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.defer import Deferred

    from stompauth.identity.revocation import Revocation


class NodeListener(Protocol):
    """Who hears of the other nodes. None of these raises, or calls :meth:`NodeBus.stop`."""

    def connected(self) -> None:
        """This node can be reached, and reach others, from now on."""

    def joined(self, node_id: str) -> None:
        """There is another node."""

    def left(self, node_id: str) -> None:
        """A node has stopped, or was silent for too long."""

    def received(self, node_id: str, payload: bytes) -> None:
        """A node that has joined has sent something."""

    def disconnected(self) -> None:
        """This node is cut off: every other one has left, without :meth:`left` for each."""


class NodeBus(Protocol):
    """Carries octets between the nodes of a cluster, and knows which there are.

    What one node sends to another, by :meth:`broadcast` and :meth:`send` alike, arrives in that
    order, each once or never: a connection that breaks may swallow some of it. Nothing arrives
    before :meth:`NodeListener.connected`, or after :meth:`NodeListener.disconnected`.

    :ivar node_id: random, and another one in each process: one that was started anew is a new node.
        At most 64 characters of ``A-Z a-z 0-9 - _``.
    """

    @property
    def node_id(self) -> str:
        """The name of this node."""

    def start(self, listener: NodeListener) -> None:
        """Connect, and connect again whenever the connection is lost."""

    def stop(self) -> Deferred[None]:
        """Take leave of the others, who need not wait for a silence then, and disconnect.

        Nothing is told to the listener after that.
        """

    def broadcast(self, payload: bytes) -> Deferred[None]:
        """Send to all other nodes.

        :return: fires when it has left this node; that it has arrived, only an answer says.
        :raises Unavailable: by the Deferred: this node is cut off.
        """

    def send(self, node_id: str, payload: bytes) -> Deferred[None]:
        """Send to one node; to one that is gone, in vain. See :meth:`broadcast`."""


class RevocationLog(Protocol):
    """Keeps revocations where they outlive all nodes, each for as long as it matters."""

    def add(
        self, revocations: Sequence[Revocation], lifetime: float, max_entries: int
    ) -> Deferred[None]:
        """Keep them; who loads after something that was sent after this arrives, has them.

        :param lifetime: seconds after its time for which one is kept.
        :param max_entries: how many are kept; the oldest ones give way to a floor. 0 for any.
        :raises Unavailable: by the Deferred: they may be kept or not.
        """

    def load(self) -> Deferred[list[Revocation]]:
        """All that are kept.

        :raises Unavailable: by the Deferred.
        """
