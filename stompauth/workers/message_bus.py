"""The broker's bus, over a mesh."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger

from stompauth.cluster.requests import CutOff, Requests
from stompauth.errors import Unavailable
from stompauth.workers.link import frame

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from stompauth.broker.bus import BusListener
    from stompauth.workers.mesh import Mesh

#: The kinds of this bus' frames: a payload of a channel; an interest with a number, or several
#: without; its confirm; its end; the end of all of them; something was left out; bring no more
#: payloads; go on.
PUBLISH: Final = 3
SUBSCRIBE: Final = 4
INTERESTS: Final = 5
CONFIRM: Final = 6
UNSUBSCRIBE: Final = 7
RESET: Final = 8
GAP: Final = 9
HOLD: Final = 10
GO_ON: Final = 11

#: Octets that wait for a worker, from which on publishers wait too, until half of them are left.
HIGH: Final = 1 << 20

#: Octets that wait for a worker at most, and seconds for which nothing of them goes out; then they
#: are dropped, and it is told that something is missing.
MAX_WAITING: Final = 16 << 20
STALL_TIMEOUT: Final = 10.0

#: Interests in one frame.
PAGE: Final = 1000


class _Waiting:
    """What cannot go out for now, and who waits for that."""

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()
        self.size = 0
        self._waiters: list[Deferred[None]] = []

    def append(self, octets: bytes) -> None:
        self.queue.append(octets)
        self.size += len(octets)

    def popleft(self) -> bytes:
        octets = self.queue.popleft()
        self.size -= len(octets)
        if self._waiters and self.size <= HIGH // 2:
            self.release()
        return octets

    def clear(self) -> None:
        self.queue.clear()
        self.size = 0
        self.release()

    def when_ready(self) -> Deferred[None] | None:
        if self.size <= HIGH:
            return None
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        return waiter

    def release(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)


class _Peer:
    """Another worker, and what it is to get."""

    def __init__(self, bus: MeshMessageBus, node_id: str) -> None:
        self._bus = bus
        self._node_id = node_id
        self._waiting = _Waiting()
        self._stall: IDelayedCall | None = None
        self.interests: set[str] = set()
        self.is_held = False

    def put(self, channel: str, payload: bytes, framed: list[bytes]) -> None:
        """Take a payload.

        :param framed: its frame, once somebody has needed it.
        """
        if not framed:
            name = channel.encode("utf-8", "surrogatepass")
            framed.append(frame(PUBLISH, b"%b%b%b" % (len(name).to_bytes(2), name, payload)))
        if not self._waiting.queue and not self._is_blocked:
            self._bus.mesh.send_framed(self._node_id, framed[0])
            return
        self._waiting.append(framed[0])
        if self._waiting.size > MAX_WAITING:
            self._give_up()
        elif self._stall is None:
            self._stall = self._bus.clock.callLater(STALL_TIMEOUT, self._stalled)

    def when_ready(self) -> Deferred[None] | None:
        """None if there is room for more."""
        return self._waiting.when_ready()

    @property
    def _is_blocked(self) -> bool:
        return self.is_held or self._bus.mesh.is_slow(self._node_id)

    def go_on(self) -> None:
        """Send what waits, as far as the worker takes it."""
        before = self._waiting.size
        while self._waiting.queue and not self._is_blocked:
            self._bus.mesh.send_framed(self._node_id, self._waiting.popleft())
        if self._stall is not None and self._waiting.size < before:
            self._stall.cancel()
            self._stall = None
            if self._waiting.queue:
                self._stall = self._bus.clock.callLater(STALL_TIMEOUT, self._stalled)

    def _stalled(self) -> None:
        self._stall = None
        self._give_up()

    def _give_up(self) -> None:
        """Leave out what waits: the worker will say anew what it is interested in."""
        self.end()
        self._bus.forget_interests(self)
        self._bus.mesh.send(self._node_id, GAP, b"")
        self._bus.log.warn("worker {node} is too slow; messages are left out", node=self._node_id)

    def end(self) -> None:
        """Nothing goes there any more."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self._waiting.clear()


class _Own:
    """This worker itself."""

    def __init__(self, bus: MeshMessageBus) -> None:
        self._bus = bus
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._room = _Waiting()
        self.interests: set[str] = set()
        self.is_held = False

    def put(self, channel: str, payload: bytes, framed: list[bytes]) -> None:
        """Take a payload, as :meth:`_Peer.put` does."""
        if self.is_held:
            self._waiting.append((channel, payload))
            self._room.append(payload)
        else:
            self._bus.bring(channel, payload)

    def when_ready(self) -> Deferred[None] | None:
        """None if there is room for more."""
        return self._room.when_ready()

    def go_on(self) -> None:
        """Bring what has waited."""
        while self._waiting and not self.is_held:
            self._room.popleft()
            self._bus.bring(*self._waiting.popleft())

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self._room.clear()


class MeshMessageBus:
    """Carries messages between the workers of one machine, to those that are interested.

    It is connected from its start on. A worker that does not confirm an interest within a second is
    not waited for. One that is too slow loses what waits for it, and it alone is told; what it had
    asked for is void then.

    :param mesh: connects the workers. Who starts this starts the mesh after it.
    :param clock: gives the time.
    """

    log = Logger()

    def __init__(self, mesh: Mesh, clock: IReactorTime) -> None:
        self.mesh = mesh
        self.clock = clock
        self._listener: BusListener | None = None
        self._own = _Own(self)
        self._peers: dict[str, _Peer] = {}
        # Who is interested in a channel, and in all that begin with something.
        self._channels: dict[str, dict[_Peer | _Own, None]] = {}
        self._prefixes: dict[str, dict[_Peer | _Own, None]] = {}
        self._requests = Requests(clock)
        mesh.attach(
            self, PUBLISH, SUBSCRIBE, INTERESTS, CONFIRM, UNSUBSCRIBE, RESET, GAP, HOLD, GO_ON
        )

    def start(self, listener: BusListener) -> None:
        """See :meth:`.MessageBus.start`."""
        self._listener = listener
        listener.bus_connected()

    def stop(self) -> Deferred[None]:
        """See :meth:`.MessageBus.stop`."""
        self._listener = None
        self._lose()
        for peer in self._peers.values():
            peer.end()
        return succeed(None)

    def publish(self, channel: str, payload: bytes) -> Deferred[int]:
        """See :meth:`.MessageBus.publish`."""
        reached = self._channels.get(channel)
        if self._prefixes:
            reached = dict(reached or ())
            for prefix, interested in self._prefixes.items():
                if channel.startswith(prefix):
                    reached |= interested
        if not reached:
            return succeed(0)
        framed: list[bytes] = []
        count = len(reached)
        waiting: list[Deferred[None]] = []
        for subscriber in list(reached):
            subscriber.put(channel, payload, framed)
            ready = subscriber.when_ready()
            if ready is not None:
                waiting.append(ready)
        if not waiting:
            return succeed(count)
        return DeferredList(waiting).addCallback(lambda _: count)

    def subscribe(self, interest: str) -> Deferred[None]:
        """See :meth:`.MessageBus.subscribe`."""
        self._add_interest(self._own, interest)
        if not self._peers:
            return succeed(None)
        number = self._requests.next_number()
        confirmed = self._requests.begin(number, self._peers)
        payload = number.to_bytes(8) + interest.encode("utf-8", "surrogatepass")
        self.mesh.broadcast(SUBSCRIBE, payload)
        return Deferred.fromCoroutine(self._confirm(confirmed))

    async def _confirm(self, confirmed: Deferred[dict[str, Any]]) -> None:
        try:
            await confirmed
        except CutOff:
            raise
        except Unavailable:
            self.log.warn("a worker does not confirm what another is interested in")

    def unsubscribe(self, interest: str) -> None:
        """See :meth:`.MessageBus.unsubscribe`."""
        self._remove_interest(self._own, interest)
        self.mesh.broadcast(UNSUBSCRIBE, interest.encode("utf-8", "surrogatepass"))

    def pause(self) -> None:
        """See :meth:`.MessageBus.pause`."""
        self._own.is_held = True
        self.mesh.broadcast(HOLD, b"")

    def resume(self) -> None:
        """See :meth:`.MessageBus.resume`."""
        self._own.is_held = False
        self.mesh.broadcast(GO_ON, b"")
        self._own.go_on()

    def bring(self, channel: str, payload: bytes) -> None:
        """Hand a payload to the listener."""
        if self._listener is not None:
            self._listener.bus_received(channel, payload)

    def forget_interests(self, peer: _Peer) -> None:
        """A worker's interests are void."""
        for interest in list(peer.interests):
            self._remove_interest(peer, interest)

    # What the mesh tells.

    def joined(self, node_id: str, *, is_new: bool) -> None:
        """See :meth:`.MeshUser.joined`."""
        self._peers[node_id] = _Peer(self, node_id)
        if not is_new:
            self._gap()
        interests = list(self._own.interests)
        for start in range(0, len(interests), PAGE):
            page = "\n".join(interests[start : start + PAGE])
            self.mesh.send(node_id, INTERESTS, page.encode("utf-8", "surrogatepass"))
        if self._own.is_held:
            self.mesh.send(node_id, HOLD, b"")

    def left(self, node_id: str) -> None:
        """See :meth:`.MeshUser.left`."""
        peer = self._peers.pop(node_id)
        peer.end()
        self.forget_interests(peer)
        self._requests.left(node_id)

    def writable(self, node_id: str) -> None:
        """See :meth:`.MeshUser.writable`."""
        self._peers[node_id].go_on()

    def received(self, node_id: str, kind: int, payload: bytes) -> None:
        """See :meth:`.MeshUser.received`."""
        if kind == PUBLISH:
            end = 2 + int.from_bytes(payload[:2])
            channel = payload[2:end].decode("utf-8", "surrogatepass")
            if self._is_wanted(channel):
                self.bring(channel, payload[end:])
            return
        peer = self._peers[node_id]
        if kind == SUBSCRIBE:
            self._add_interest(peer, payload[8:].decode("utf-8", "surrogatepass"))
            self.mesh.send(node_id, CONFIRM, payload[:8])
        elif kind == INTERESTS:
            for interest in payload.decode("utf-8", "surrogatepass").split("\n"):
                self._add_interest(peer, interest)
        elif kind == CONFIRM:
            self._requests.answered(node_id, int.from_bytes(payload), None)
        elif kind == UNSUBSCRIBE:
            self._remove_interest(peer, payload.decode("utf-8", "surrogatepass"))
        elif kind == RESET:
            self.forget_interests(peer)
        elif kind == GAP:
            self._gap()
        elif kind == HOLD:
            peer.is_held = True
        elif kind == GO_ON:
            peer.is_held = False
            peer.go_on()

    def _is_wanted(self, channel: str) -> bool:
        own = self._own.interests
        if channel in own:
            return True
        return any(
            self._own in interested and channel.startswith(prefix)
            for prefix, interested in self._prefixes.items()
        )

    def _gap(self) -> None:
        """Something is missing here: begin anew."""
        if self._listener is None:
            return
        self._lose()
        self._listener.bus_lost()
        self.mesh.broadcast(RESET, b"")
        if self._own.is_held:
            self.resume()
        self._listener.bus_connected()

    def _lose(self) -> None:
        for interest in list(self._own.interests):
            self._remove_interest(self._own, interest)
        self._own.clear()
        self._requests.fail_all()

    def _add_interest(self, who: _Peer | _Own, interest: str) -> None:
        who.interests.add(interest)
        table, key = self._place(interest)
        table.setdefault(key, {})[who] = None

    def _remove_interest(self, who: _Peer | _Own, interest: str) -> None:
        if interest not in who.interests:
            return
        who.interests.remove(interest)
        table, key = self._place(interest)
        interested = table[key]
        del interested[who]
        if not interested:
            del table[key]

    def _place(self, interest: str) -> tuple[dict[str, dict[_Peer | _Own, None]], str]:
        if interest.endswith("*"):
            return self._prefixes, interest[:-1]
        return self._channels, interest
