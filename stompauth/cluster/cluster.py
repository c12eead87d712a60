"""A node among others: what it tells them, and what it knows of them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from zope.interface import implementer

from stompauth.authorization.destination import Kind
from stompauth.cluster.messages import (
    MAX_NAME,
    Announcement,
    Answer,
    Delta,
    Page,
    Presence,
    Request,
    Revoked,
    Wanted,
    decode,
    encode,
    fields_of,
)
from stompauth.cluster.node import message_fields
from stompauth.cluster.outbox import Outbox
from stompauth.cluster.replication import Replication, pages
from stompauth.cluster.requests import CutOff, Requests
from stompauth.errors import Refused, Unavailable
from stompauth.interfaces import IReadiness

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from stompauth.broker.message import Message
    from stompauth.cluster.bus import NodeBus, RevocationLog
    from stompauth.cluster.messages import Message as NodeMessage
    from stompauth.cluster.node import Node
    from stompauth.identity.revocation import Revocation
    from stompauth.session.session import Session

#: Seconds between the looks at what is overdue.
LOOK_EVERY: Final = 1.0

#: Revocations in one message, in which the longest ones fit.
PAGE: Final = 50

#: Requests, and revocations, that are kept at most for a connection that comes back.
MAX_UNSENT: Final = 1000
MAX_UNLOGGED: Final = 10_000

_S = TypeVar("_S")
_T = TypeVar("_T")


@implementer(IReadiness)
class Cluster(Service):
    """Lets an application act together with the same application on other nodes.

    Every node knows the sessions of all of them: of each its id, user, issuer, address and time. It
    learns of changes by numbered deltas; one that was missed has it ask for everything again. A
    node that leaves, or falls silent, vanishes with its sessions.

    It is a service, which that of the :class:`.StompAuth` that has it starts and stops. Until it
    has been connected once, and has loaded what was revoked before, tickets and handshakes get 503.

    While this node is cut off, its sessions go on, and new ones are let in by what is known here.
    What was revoked meanwhile, here or elsewhere, is made good when the connection is back.

    :param bus: how the nodes reach one another.
    :param clock: what time it is; the reactor.
    :param log: keeps revocations beyond the end of all nodes; without it, the nodes that are there
        tell those that come.
    :ivar is_connected: whether the others can be reached now.
    """

    _log = Logger()

    def __init__(self, bus: NodeBus, clock: IReactorTime, log: RevocationLog | None = None) -> None:
        self._bus = bus
        self._clock = clock
        self._revocation_log = log
        self._was_connected = False
        self.is_connected = False
        self._node: Node | None = None
        self._outbox = Outbox(bus)
        self._replication = Replication(bus.node_id, self._outbox, clock)
        self._directory = self._replication.directory
        self._requests = Requests(clock)
        self._looks = LoopingCall(self._look)
        self._looks.clock = clock
        self._catching_up: Deferred[None] | None = None
        self._unsent: deque[NodeMessage] = deque(maxlen=MAX_UNSENT)
        self._unlogged: deque[Revocation] = deque(maxlen=MAX_UNLOGGED)
        self._is_logging = False
        self._complained: set[str] = set()
        self._was_cut_off = False

    # What the application does.

    def attach(self, node: Node) -> None:
        """Take the sessions that are this node's."""
        self._node = node
        self._replication.node = node

    @property
    def node(self) -> Node:
        """The sessions of this node."""
        if self._node is None:
            raise RuntimeError("a cluster belongs to an application")
        return self._node

    def startService(self) -> None:
        """Connect to the others."""
        super().startService()
        self._looks.start(LOOK_EVERY, now=False)
        self._bus.start(self)

    def stopService(self) -> Deferred[None]:
        """Take leave of the others.

        :return: fires when that is done.
        """
        super().stopService()
        if self._looks.running:
            self._looks.stop()
        self._replication.flush()
        self._cut_off()
        self._was_connected = False
        return self._bus.stop()

    def is_ready(self) -> bool:
        """Whether it was connected once, and knows what was revoked before.

        See :meth:`.IReadiness.is_ready`.
        """
        return self._was_connected

    @property
    def nodes(self) -> Collection[str]:
        """The names of the other nodes."""
        return list(self._directory.nodes)

    def sessions_of(self, user: str) -> list[Presence]:
        """All sessions of a user on all nodes, the oldest first."""
        return self._directory.of_user(user)

    def count(self, issuer: str, user: str) -> int:
        """How many sessions of a user the other nodes have."""
        return self._directory.count_elsewhere(issuer, user)

    def opened(self, session: Session) -> None:
        """A session has begun here."""
        self._replication.opened(session)

    def closed(self, session: Session) -> None:
        """A session has ended here."""
        self._replication.closed(session)

    def revoke(self, revocations: Sequence[Revocation]) -> Deferred[int]:
        """Have the other nodes carry out revocations of just now.

        :return: fires with how many sessions that has ended there.
        :raises Unavailable: by the Deferred: some did not confirm; they will learn of it when they
            can be reached.
        """
        revocations = _sayable(revocations)
        kept = self._keep(revocations)
        request = {"revocations": fields_of(revocations)}
        asked = self._sum("revoke", request, later=Revoked(revocations))
        return Deferred.fromCoroutine(both(kept, asked)).addCallback(lambda results: results[1])

    def end(self, session_id: str) -> Deferred[int]:
        """End a session wherever it is; fires with 1 or 0."""
        request = {"session": session_id}
        return self._sum("end", request, later=Request(0, "end", request))

    def recheck(self, user: str | None) -> Deferred[int]:
        """Have the others recheck a user, or all; fires with how many sessions they look at."""
        request = {"user": user}
        return self._sum("recheck", request, later=Request(0, "recheck", request))

    def replayed(self, grant_id: str) -> None:
        """Have the session ended that a ticket had opened, wherever it is."""
        self._unsent.append(Request(0, "replayed", {"grant": grant_id}))
        self._send_unsent()

    def describe_user(self, user: str) -> Deferred[list[dict[str, object]]]:
        """Describe the sessions of a user that are on other nodes."""
        nodes = self._directory.nodes_of_user(user)
        asked = Deferred.fromCoroutine(self.ask("sessions", {"user": user}, nodes))
        return asked.addCallback(_descriptions)

    def describe(self, session_id: str) -> Deferred[list[dict[str, object]]]:
        """Describe a session, if another node has it."""
        nodes = self._nodes_of(session_id)
        asked = Deferred.fromCoroutine(self.ask("session", {"session": session_id}, nodes))
        return asked.addCallback(_descriptions)

    def count_subscribed(self, user: str, path: str) -> Deferred[int]:
        """How many sessions of a user, on other nodes, subscribe to ``/user`` + path."""
        nodes = self._directory.nodes_of_user(user)
        return self._sum("subscribed", {"user": user, "path": path}, nodes)

    def send(self, session_id: str, message: Message) -> Deferred[bool]:
        """Send to a session on another node; fires with whether it went to it."""
        nodes = self._nodes_of(session_id)
        if nodes and message.destination.kind is not Kind.QUEUE:
            return fail(Refused("no-such-destination"))
        arguments = {"session": session_id, "message": message_fields(message)}
        asked = Deferred.fromCoroutine(self.ask("send", arguments, nodes))
        return asked.addCallback(lambda answers: any(value is True for value in answers.values()))

    async def ask(
        self, kind: str, arguments: dict[str, Any], nodes: Collection[str] | None = None
    ) -> dict[str, Any]:
        """Ask other nodes; see :meth:`.Node.answer` for what.

        :param nodes: which; all if None.
        :return: the answers by node.
        :raises Unavailable: this node is cut off, or one of them did not answer.
        :raises Refused: ``too-large``.
        """
        if nodes is not None and not nodes:
            return {}
        if not self.is_connected:
            raise CutOff
        asked = self._directory.nodes.keys() if nodes is None else nodes
        if not asked:
            return {}
        number = self._requests.next_number()
        try:
            payload = encode(Request(number, kind, arguments))
        except ValueError:
            raise Refused("too-large") from None
        answers = self._requests.begin(number, asked)

        def failed(failure: Failure) -> None:
            self._requests.fail(number, CutOff())

        # All hear what all are asked, those too that are not known here yet.
        if nodes is None:
            self._bus.broadcast(payload).addErrback(failed)
        else:
            for node_id in list(nodes):
                self._bus.send(node_id, payload).addErrback(failed)
        return await answers

    def _sum(
        self,
        kind: str,
        arguments: dict[str, Any],
        nodes: Collection[str] | None = None,
        *,
        later: NodeMessage | None = None,
    ) -> Deferred[int]:
        """Ask, and add up the answers.

        :param later: what all are told later if they cannot be reached now.
        """

        def added(answers: dict[str, Any]) -> int:
            return sum(value for value in answers.values() if isinstance(value, int))

        def kept(failure: Failure) -> Failure:
            if later is not None and failure.check(CutOff):
                self._unsent.append(later)
            return failure

        asked = Deferred.fromCoroutine(self.ask(kind, arguments, nodes))
        return asked.addCallbacks(added, kept)

    def _send_unsent(self) -> None:
        while self.is_connected and self._unsent:
            self._outbox.broadcast(self._unsent.popleft())

    def _nodes_of(self, session_id: str) -> list[str]:
        node_id = self._directory.node_of(session_id)
        return [] if node_id is None else [node_id]

    # Revocations that outlive the nodes.

    def _keep(self, revocations: Sequence[Revocation]) -> Deferred[None]:
        if self._revocation_log is None or not revocations:
            return succeed(None)
        deny_list = self.node.revocations

        def failed(failure: Failure) -> Failure:
            self._unlogged.extend(revocations)
            return failure

        kept = self._revocation_log.add(revocations, deny_list.lifetime, deny_list.max_entries)
        return kept.addErrback(failed)

    def _keep_rest(self) -> None:
        if not self._unlogged or self._is_logging or not self.is_connected:
            return
        revocations = list(self._unlogged)
        self._unlogged.clear()
        self._is_logging = True

        def done(_: object) -> None:
            self._is_logging = False

        def told(_: None) -> None:
            # Who has come since then has loaded what was kept without them.
            for some in pages(revocations, PAGE):
                self._outbox.broadcast(Revoked(some))

        keeping = self._keep(revocations).addCallback(told)
        keeping.addErrback(lambda failure: failure.trap(Unavailable)).addBoth(done)

    async def _catch_up(self) -> None:
        """Learn what was revoked, and tell what only this node knows."""
        log = self._revocation_log
        deny_list = self.node.revocations
        while log is not None:
            # Whatever is not kept yet is missing in what is loaded.
            self._unlogged.clear()
            try:
                kept = await log.load()
                self.node.catch_up(kept)
                latest: dict[tuple[str, str], float] = {}
                for entry in kept:
                    key = (entry.kind, entry.name)
                    latest[key] = max(entry.revoked_at, latest.get(key, 0))
                missing = [
                    entry
                    for entry in _sayable(deny_list)
                    if entry.revoked_at > latest.get((entry.kind, entry.name), -1)
                ]
                for some in pages(missing, PAGE):
                    await log.add(some, deny_list.lifetime, deny_list.max_entries)
                    self._outbox.broadcast(Revoked(some))
                break
            except Unavailable as unavailable:
                self._log.warn("revocations cannot be loaded: {reason}", reason=str(unavailable))
                await deferLater(self._clock, LOOK_EVERY)
        self._was_connected = self.is_connected = True
        self._log.info("connected to the cluster as {node}", node=self._bus.node_id)
        self._send_unsent()
        if self._was_cut_off:
            self._was_cut_off = False
            # Whatever the others were asked to recheck has not come here.
            await self.node.recheck()

    # What the bus tells.

    def connected(self) -> None:
        """See :meth:`.NodeListener.connected`."""
        self._catching_up = Deferred.fromCoroutine(self._catch_up())
        self._catching_up.addErrback(self._outbox.failed)

    def disconnected(self) -> None:
        """See :meth:`.NodeListener.disconnected`."""
        if self.is_connected:
            self._was_cut_off = True
            self._log.warn("cut off from the cluster")
        self._cut_off()

    def joined(self, node_id: str) -> None:
        """See :meth:`.NodeListener.joined`."""
        self._replication.joined(node_id)
        if self._revocation_log is None:
            for some in pages(_sayable(self.node.revocations), PAGE):
                self._outbox.send(node_id, Revoked(some))

    def left(self, node_id: str) -> None:
        """See :meth:`.NodeListener.left`."""
        self._replication.left(node_id)
        self._requests.left(node_id)
        self._complained.discard(node_id)

    def received(self, node_id: str, payload: bytes) -> None:
        """See :meth:`.NodeListener.received`."""
        try:
            self._take(node_id, decode(payload))
        except ValueError as error:
            if node_id not in self._complained:
                self._complained.add(node_id)
                self._log.warn(
                    "dropped what node {node} says: {reason}", node=node_id, reason=str(error)
                )
        except Exception:
            self._log.failure("what node {node} says could not be carried out", node=node_id)

    def _take(self, node_id: str, message: NodeMessage) -> None:
        match message:
            case Delta() | Announcement() | Wanted() | Page():
                self._replication.take(node_id, message)
            case Revoked(revocations):
                self.node.catch_up(revocations)
            case Request(number, kind, arguments):
                value = self.node.answer(kind, arguments)
                if number:
                    self._outbox.send(node_id, Answer(number, value))
            case Answer(number, value):
                self._requests.answered(node_id, number, value)

    def _look(self) -> None:
        if not self._looks.running:
            return
        self._replication.look()
        self._keep_rest()
        self._send_unsent()

    def _cut_off(self) -> None:
        self.is_connected = False
        catching_up, self._catching_up = self._catching_up, None
        if catching_up is not None:
            catching_up.cancel()
        for node_id in list(self._directory.nodes):
            self._replication.left(node_id)
        self._complained.clear()
        self._requests.fail_all()


async def both(first: Deferred[_S], second: Deferred[_T]) -> tuple[_S, _T]:
    """Wait for both to be done, and have what they fire with.

    :raises Exception: what the first of them that fails does so with.
    """
    waiting: list[Deferred[Any]] = [first, second]
    results = await DeferredList(waiting, consumeErrors=True)
    for succeeded, result in results:
        if not succeeded:
            result.raiseException()
    return results[0][1], results[1][1]


def _sayable(revocations: Iterable[Revocation]) -> list[Revocation]:
    """Those that fit into a message; no token is so long that it could have another name."""
    return [revocation for revocation in revocations if len(revocation.name) <= MAX_NAME]


def _descriptions(answers: dict[str, Any]) -> list[dict[str, object]]:
    """Take the descriptions out of answers.

    :raises Unavailable: an answer is something else.
    """
    found = []
    for value in answers.values():
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise Unavailable("another node answers something else")
        found += value
    return found
