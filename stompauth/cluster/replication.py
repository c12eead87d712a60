"""Every node knows the sessions of all: by deltas, and from the beginning when one was missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stompauth.cluster.directory import Directory
from stompauth.cluster.messages import Announcement, Delta, Page, Presence, Wanted, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stompauth.cluster.node import Node
    from stompauth.cluster.outbox import Outbox
    from stompauth.session.session import Session

#: Seconds for which changes gather before the others are told.
GATHER: Final = 0.05

#: At every so-many-th look at what is overdue, the number of the last delta is announced.
ANNOUNCE_EVERY: Final = 5

#: Seconds after which a node that did not send its sessions is asked again.
ASK_AGAIN: Final = 5.0

#: Sessions in one message.
PAGE: Final = 500

_T = TypeVar("_T")


class Replication:
    """Keeps the directory of this node, and those of the others, up to date.

    What begins and ends here is told in numbered deltas. Who finds a number missing, in a delta or
    in the announcements that follow it, asks for all sessions; they come in pages, with deltas
    between them.

    :param own: the name of this node.
    :ivar directory: the sessions of all nodes.
    :ivar node: the sessions of this one.
    """

    _log = Logger()

    node: Node

    def __init__(self, own: str, outbox: Outbox, clock: IReactorTime) -> None:
        self._own = own
        self._outbox = outbox
        self._clock = clock
        self.directory = Directory(own)
        self._number = 0
        # In dictionaries, for their order.
        self._opened: dict[str, Presence] = {}
        self._closed: dict[str, None] = {}
        self._flushing: IDelayedCall | None = None
        self._sending: dict[str, Deferred[None]] = {}
        self._full: set[str] = set()
        self._looked = 0

    def opened(self, session: Session) -> None:
        """A session has begun here."""
        grant = session.grant
        presence = Presence(
            session.session_id, grant.user, grant.issuer, session.address, self._clock.seconds()
        )
        self.directory.open(self._own, presence)
        self._opened[presence.session_id] = presence
        self._flush_later()

    def closed(self, session: Session) -> None:
        """A session has ended here."""
        self.directory.close(self._own, session.session_id)
        if self._opened.pop(session.session_id, None) is None:
            self._closed[session.session_id] = None
            self._flush_later()

    def joined(self, node_id: str) -> None:
        """There is another node."""
        self.directory.add_node(node_id)
        self._ask_for_sessions(node_id)

    def left(self, node_id: str) -> None:
        """A node is gone, and its sessions with it."""
        self.directory.remove_node(node_id)
        self._full.discard(node_id)
        self._stop_sending(node_id)

    def look(self) -> None:
        """Ask again for what did not come, and announce the number; to be called each second."""
        now = self._clock.seconds()
        for node_id, node in list(self.directory.nodes.items()):
            if node.asked_at is not None and node.asked_at + ASK_AGAIN <= now:
                self._ask_for_sessions(node_id)
        self._looked += 1
        if self._looked % ANNOUNCE_EVERY == 0 and self.directory.nodes:
            self.flush()
            self._outbox.broadcast(Announcement(self._number))

    def take(self, node_id: str, message: Delta | Announcement | Wanted | Page) -> None:
        """A node that has joined has said something of sessions."""
        match message:
            case Delta():
                self._take_delta(node_id, message)
            case Announcement(number):
                if self.directory.nodes[node_id].number != number:
                    self._ask_for_sessions(node_id)
            case Wanted():
                self._send_sessions(node_id)
            case Page():
                self._take_page(node_id, message)

    def _take_delta(self, node_id: str, delta: Delta) -> None:
        node = self.directory.nodes[node_id]
        if node.number is None:
            # All of its sessions are asked for already.
            return
        if delta.number != node.number + 1:
            node.number = node.asked_at = None
            self._ask_for_sessions(node_id)
            return
        node.number = delta.number
        self._enter(node_id, delta.opened)
        for session_id in delta.closed:
            self.directory.close(node_id, session_id)

    def _take_page(self, node_id: str, page: Page) -> None:
        node = self.directory.nodes[node_id]
        if page.number is not None:
            node.number = page.number
            node.unnamed = set(node.sessions)
        elif node.number is None:
            # Of an answer that has a gap; there is another question on its way.
            return
        self._enter(node_id, page.sessions)
        node.asked_at = None if page.is_last else self._clock.seconds()
        if page.is_last:
            for session_id in list(node.unnamed):
                self.directory.close(node_id, session_id)

    def _enter(self, node_id: str, sessions: Sequence[Presence]) -> None:
        for presence in sessions:
            if not self.directory.open(node_id, presence) and node_id not in self._full:
                self._full.add(node_id)
                self._log.error("node {node} has more sessions than fit in here", node=node_id)
            self._settle(presence)

    def _settle(self, presence: Presence) -> None:
        """End those sessions here by which all nodes together have admitted too many of a user.

        Each node comes to the same end: the newest go.
        """
        subject = (presence.issuer, presence.user)
        most = self.node.max_per_user
        directory = self.directory
        if not most or directory.count_elsewhere(*subject) + directory.own.counts[subject] <= most:
            return
        for node_id, found in list(directory.of_subject(*subject))[most:]:
            if node_id == self._own:
                self.node.end(found.session_id, "limit")

    def _ask_for_sessions(self, node_id: str) -> None:
        node = self.directory.nodes[node_id]
        now = self._clock.seconds()
        if node.asked_at is None or node.asked_at + ASK_AGAIN <= now:
            node.asked_at = now
            self._outbox.send(node_id, Wanted())

    def _send_sessions(self, node_id: str) -> None:
        """Send all sessions, page by page, and from the beginning if it is asked for again."""
        self._stop_sending(node_id)
        self.flush()
        sending = self._sending[node_id] = Deferred.fromCoroutine(self._pages_to(node_id))

        def done(result: object) -> object:
            if self._sending.get(node_id) is sending:
                del self._sending[node_id]
            return result

        sending.addBoth(done).addErrback(self._outbox.failed)

    async def _pages_to(self, node_id: str) -> None:
        own = self.directory.own.sessions
        parts = list(pages(list(own))) or [[]]
        for index, session_ids in enumerate(parts):
            # What ends, or begins, from the first page on is told by deltas.
            sessions = [own[session_id] for session_id in session_ids if session_id in own]
            number = None if index else self._number
            page = Page(number, sessions, index == len(parts) - 1)
            await self._outbox.bus.send(node_id, encode(page))

    def _flush_later(self) -> None:
        if self._flushing is None:
            self._flushing = self._clock.callLater(GATHER, self.flush)

    def flush(self) -> None:
        """Tell the others what has changed here."""
        if self._flushing is not None and self._flushing.active():
            self._flushing.cancel()
        self._flushing = None
        opened, self._opened = list(self._opened.values()), {}
        closed, self._closed = list(self._closed), {}
        for start in range(0, max(len(opened), len(closed)), PAGE):
            end = start + PAGE
            self._number += 1
            # In vain if nobody can be reached: they will see that a number is missing.
            self._outbox.broadcast(Delta(self._number, opened[start:end], closed[start:end]))
        for presence in opened:
            self._settle(presence)

    def _stop_sending(self, node_id: str) -> None:
        sending = self._sending.pop(node_id, None)
        if sending is not None:
            sending.cancel()


def pages(items: Sequence[_T], size: int = PAGE) -> Iterator[Sequence[_T]]:
    """The items, so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
