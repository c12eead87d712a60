"""The workers of one machine, each connected to every other one."""

from __future__ import annotations

import json
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from stompauth.workers.link import Link, frame

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from twisted.internet.interfaces import (
        IAddress,
        IListeningPort,
        IReactorTime,
        IStreamClientEndpoint,
        IStreamServerEndpoint,
    )
    from twisted.python.failure import Failure

#: Of what the workers say to one another; they are of one start, and so of one version.
VERSION: Final = 1

#: Octets of randomness in the name of a worker, whose text is as long as :data:`NAME_LENGTH`.
NAME_BYTES: Final = 6
NAME_LENGTH: Final = 8

#: Seconds between the looks at who is not connected.
LOOK_EVERY: Final = 1.0

#: Seconds that the others have to tell a worker that starts what it has to know.
SETTLE_TIMEOUT: Final = 5.0

_HELLO: Final = 0
_SYNCED: Final = 1
#: The first kind of frame that a :class:`MeshUser` can have.
FIRST_KIND: Final = 2


class MeshUser(Protocol):
    """What speaks over a mesh. None of these raises."""

    def joined(self, node_id: str, *, is_new: bool) -> None:
        """There is another worker.

        What is sent to it now arrives before it serves anybody.

        :param is_new: False for one that had left, and something between the two may be lost.
        """

    def left(self, node_id: str) -> None:
        """A worker has ended, or its connection has."""

    def received(self, node_id: str, kind: int, payload: bytes) -> None:
        """A worker has sent something."""

    def writable(self, node_id: str) -> None:
        """A worker has read on; see :meth:`Mesh.is_slow`."""


class Mesh:
    """Connects a worker to all others.

    Each listens, and tries to reach those that it is not connected to. Of two connections between
    the same two the one stays that the worker with the higher number has made.

    :param index: the number of this worker, from 0.
    :param endpoint: where it listens.
    :param others: where the others do, by their numbers.
    :param clock: gives the time.
    :ivar node_id: random, and another one in each process.
    """

    _log = Logger()

    def __init__(
        self,
        index: int,
        endpoint: IStreamServerEndpoint,
        others: Mapping[int, IStreamClientEndpoint],
        clock: IReactorTime,
    ) -> None:
        self._index = index
        self._endpoint = endpoint
        self._others = others
        self._clock = clock
        self.node_id = token_urlsafe(NAME_BYTES)
        self._users: dict[int, MeshUser] = {}
        self._links: dict[str, Link] = {}
        # The connections of ours that nobody has answered yet; None while they are being made.
        self._attempts: dict[int, Link | None] = {}
        # Who was last connected under which number.
        self._known: dict[int, str] = {}
        self._unsettled: set[int] = set(others)
        self._settled: Deferred[None] = Deferred()
        self._port: IListeningPort | None = None
        self._is_running = False
        self._looks = LoopingCall(self._look)
        self._looks.clock = clock

    def attach(self, user: MeshUser, *kinds: int) -> None:
        """Let somebody speak, with frames of these kinds; before :meth:`start`."""
        for kind in kinds:
            self._users[kind] = user

    def start(self) -> Deferred[None]:
        """Listen, and connect.

        :return: fires when every worker that was there has told this one what it has to know, or
            has had the time to. It fails when this worker cannot listen.
        """
        self._is_running = True
        self._settled.addTimeout(SETTLE_TIMEOUT, self._clock)
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        factory = Factory.forProtocol(lambda: Link(self, is_ours=False))
        factory.noisy = False
        self._port = await self._endpoint.listen(factory)
        self._looks.start(LOOK_EVERY).addErrback(self._failed)
        self._check_settled()
        try:
            await self._settled
        except defer.TimeoutError:
            self._log.warn("workers {missing} do not answer", missing=sorted(self._unsettled))

    def stop(self) -> Deferred[None]:
        """Take leave.

        :return: fires when nobody can connect any more.
        """
        self._is_running = False
        if self._looks.running:
            self._looks.stop()
        for link in [*self._links.values(), *filter(None, self._attempts.values())]:
            link.close()
        return Deferred.fromCoroutine(self._stop_listening())

    async def _stop_listening(self) -> None:
        port, self._port = self._port, None
        closed = None if port is None else port.stopListening()
        if closed is not None:
            await closed

    @property
    def nodes(self) -> Collection[str]:
        """The names of the other workers that are connected."""
        return self._links.keys()

    def is_slow(self, node_id: str) -> bool:
        """Whether a worker is behind with reading; :meth:`MeshUser.writable` tells of the end."""
        link = self._links.get(node_id)
        return link is not None and link.is_paused

    def send(self, node_id: str, kind: int, payload: bytes) -> None:
        """Send to one worker; to one that is gone, in vain."""
        self.send_framed(node_id, frame(kind, payload))

    def send_framed(self, node_id: str, framed: bytes) -> None:
        """Send what :func:`.frame` has made."""
        link = self._links.get(node_id)
        if link is not None:
            link.send(framed)

    def broadcast(self, kind: int, payload: bytes) -> None:
        """Send to all other workers."""
        framed = frame(kind, payload)
        for link in list(self._links.values()):
            link.send(framed)

    # Connections.

    def _look(self) -> None:
        linked = {link.index for link in self._links.values()}
        for index in self._others.keys() - linked - self._attempts.keys():
            self._attempts[index] = None
            self._connect(index)

    def _connect(self, index: int) -> None:
        def failed(failure: Failure) -> None:
            # Nobody listens there: whoever will, connects to this one.
            if self._attempts.get(index, self) is None:
                del self._attempts[index]
                self._is_settled(index)

        class Outgoing(Factory):
            noisy = False

            def buildProtocol(self, addr: IAddress | None) -> Link:
                return link

        link = Link(self, is_ours=True)
        link.index = index
        self._others[index].connect(Outgoing()).addErrback(failed).addErrback(self._failed)

    def link_made(self, link: Link) -> None:
        """See :class:`.LinkUser`."""
        if not link.is_ours or link.index is None:
            return
        if not self._is_running or self._attempts.get(link.index, self) is not None:
            link.abort()
            return
        self._attempts[link.index] = link
        link.send(self._hello())

    def link_received(self, link: Link, kind: int, payload: bytes) -> None:
        """See :class:`.LinkUser`."""
        if link.node_id is None or link.index is None:
            self._take_hello(link, kind, payload)
        elif kind == _SYNCED:
            self._is_settled(link.index)
        elif (user := self._users.get(kind)) is not None:
            try:
                user.received(link.node_id, kind, payload)
            except Exception:
                self._log.failure("what worker {index} says was not understood", index=link.index)

    def link_writable(self, link: Link) -> None:
        """See :class:`.LinkUser`."""
        if link.node_id is not None and self._links.get(link.node_id) is link:
            for user in self._distinct_users():
                user.writable(link.node_id)

    def link_lost(self, link: Link) -> None:
        """See :class:`.LinkUser`."""
        index = link.index
        if index is None:
            return
        if self._attempts.get(index) is link:
            del self._attempts[index]
        # Whether anybody is left there is found out by the next look.
        if link.node_id is not None and self._links.get(link.node_id) is link:
            self._leave(link.node_id)

    def _take_hello(self, link: Link, kind: int, payload: bytes) -> None:
        try:
            greeting = json.loads(payload) if kind == _HELLO else None
        except ValueError:
            greeting = None
        match greeting:
            case [version, int(index), str(node_id)] if (
                version == VERSION and index in self._others and link.index in (None, index)
            ):
                pass
            case _:
                link.abort()
                return
        if not link.is_ours:
            linked = self._links.get(node_id)
            is_ours = index in self._attempts or (linked is not None and linked.is_ours)
            if not self._is_running or (is_ours and index < self._index):
                # It meets ours, or comes when ours is there already, which stays.
                link.abort()
                return
            link.send(self._hello())
        attempt = self._attempts.pop(index, None)
        if attempt is not None and attempt is not link:
            attempt.abort()
        for known_id, known in list(self._links.items()):
            if known.index == index:
                self._leave(known_id)
                known.abort()
        link.index, link.node_id = index, node_id
        self._links[node_id] = link
        is_new = self._known.get(index) != node_id
        self._known[index] = node_id
        for user in self._distinct_users():
            user.joined(node_id, is_new=is_new)
        link.send(frame(_SYNCED, b""))

    def _leave(self, node_id: str) -> None:
        del self._links[node_id]
        for user in self._distinct_users():
            user.left(node_id)

    def _distinct_users(self) -> list[MeshUser]:
        return list(dict.fromkeys(self._users.values()))

    def _hello(self) -> bytes:
        return frame(_HELLO, json.dumps([VERSION, self._index, self.node_id]).encode("ascii"))

    def _is_settled(self, index: int) -> None:
        self._unsettled.discard(index)
        self._check_settled()

    def _check_settled(self) -> None:
        if not self._unsettled and not self._settled.called:
            self._settled.callback(None)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("the mesh failed", failure)
