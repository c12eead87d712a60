"""The load: ``python -m tests.bench.load SCENARIO --port N ...``, one process, one thread.

It is as light as Python allows: the frames that it sends are made beforehand, and of what comes it
only counts how often a mark is in it. At its end it writes a line of JSON with what it has counted.

With ``--sync`` it writes ``PHASE begin``, ``PHASE connected``, ``PHASE start`` and ``PHASE end``
as it gets there, and after each waits for a line: then the server can be looked at.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import resource
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from tests.bench.flows import (
    MESSAGE,
    RECEIPT,
    FanOut,
    Flow,
    Queued,
    Take,
    acknowledging,
    counting,
)
from tests.bench.sessions import READ, STALL, Failed, Sessions, stomp

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What each scenario counts.
COUNTED: Final = {
    "fanout": "deliveries",
    "manytopics": "deliveries",
    "queue": "deliveries",
    "inbound": "sends",
    "connect": "connections",
    "idle": "connections",
}

Item = TypeVar("Item")
Receivers: TypeAlias = dict[int, tuple[socket.socket, Take]]


class Load:
    """A run of one scenario.

    :param options: the command line's.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._sessions = Sessions(options)
        self._epoll = self._sessions.epoll
        self._cpu = 0.0
        self._elapsed = 0.0

    def phase(self, name: str) -> None:
        """Say how far we are, and wait until we may go on."""
        if self._options.sync:
            sys.stdout.write(f"PHASE {name}\n")
            sys.stdout.flush()
            if not sys.stdin.readline():
                raise Failed("nobody is there any more")

    def measured(self, work: Callable[[float], int]) -> int:
        """Do some of the work to warm up, and then the work; give what it gives.

        :param work: works for about so many seconds.
        """
        work(self._options.warmup_time)
        self.phase("start")
        cpu, began = time.process_time(), time.perf_counter()
        done = work(self._options.max_time)
        self._cpu = time.process_time() - cpu
        self._elapsed = time.perf_counter() - began
        self.phase("end")
        return done

    def drive(self, flows: list[Flow], receivers: Receivers, seconds: float) -> int:
        """Keep the flows full for some seconds, and wait for the rest; give how many operations."""
        before = sum(flow.operations for flow in flows)
        end = time.monotonic() + seconds
        poll = self._epoll.poll
        while True:
            if time.monotonic() < end:
                for flow in flows:
                    flow.pump()
            elif all(flow.completed == flow.sent for flow in flows):
                return sum(flow.operations for flow in flows) - before
            events = poll(STALL)
            if not events:
                raise Failed(f"nothing has come for {STALL} s")
            for descriptor, _ in events:
                connection, take = receivers[descriptor]
                data = connection.recv(READ)
                if not data:
                    raise Failed("the server has hung up")
                take(data)

    def flow(self, flows: list[Flow], receivers: Receivers) -> int:
        """Measure the flows; give how many operations. Nothing may come after the end."""
        done = self.measured(lambda seconds: self.drive(flows, receivers, seconds))
        if self._epoll.poll(0.2):
            raise Failed("more has come than there should")
        return done

    def body(self, number: int = 0) -> bytes:
        """The body of every message of a publisher."""
        size: int = self._options.size
        return b"%d}" % number * (size // 2)

    def publish(self, destination: str, *headers: str, publisher: int = 0) -> bytes:
        """A SEND."""
        body = self.body(publisher)
        lines = [f"destination:{destination}", "content-type:text/plain"]
        return stomp("SEND", *lines, f"content-length:{len(body)}", *headers, body=body)

    def fanout(self) -> int:
        """One publisher, one topic, and all subscribers; further subscriptions to other topics."""
        options = self._options
        others = [
            (f"/topic/other.{number}", f"o{number}", "auto") for number in range(options.others)
        ]
        self._sessions.open(list(batched(others, 1000)))
        subscribers = self._sessions.open([[("/topic/b.0", "0", "auto")]] * options.subs)
        (publisher,) = self._sessions.open([[]])
        flow = FanOut(publisher, self.publish("/topic/b.0"), options.window, options.subs)
        receivers = {
            connection.fileno(): (connection, counting(MESSAGE, flow, index))
            for index, connection in enumerate(subscribers)
        }
        self.phase("connected")
        subscribed: int = options.subs
        return self.flow([flow], receivers) * subscribed

    def manytopics(self) -> int:
        """A topic for each subscriber; the publishers share them out among them."""
        options = self._options
        names = [f"/topic/b.{number}" for number in range(options.subs)]
        subscribers = self._sessions.open([[(name, "0", "auto")] for name in names])
        publishers = self._sessions.open([[]] * options.pubs)
        flows = [
            Flow(connection, list(map(self.publish, names[number :: options.pubs])), options.window)
            for number, connection in enumerate(publishers)
        ]
        receivers = {
            connection.fileno(): (connection, counting(MESSAGE, flows[number % options.pubs], 0))
            for number, connection in enumerate(subscribers)
        }
        self.phase("connected")
        return self.flow(flows, receivers)

    def queue(self) -> int:
        """Publishers that ask for receipts, one queue, and subscribers that acknowledge each."""
        options = self._options
        subscribers = self._sessions.open(
            [[("/queue/b.0", "0", "client-individual")]] * options.subs
        )
        publishers = self._sessions.open([[]] * options.pubs)
        flows = [
            Queued(
                connection,
                self.publish("/queue/b.0", "receipt:r", publisher=number),
                options.window,
            )
            for number, connection in enumerate(publishers)
        ]
        receivers = {
            connection.fileno(): (connection, counting(RECEIPT, flow, 0))
            for connection, flow in zip(publishers, flows, strict=True)
        }
        for connection in subscribers:
            receivers[connection.fileno()] = (connection, acknowledging(connection, flows))
        self.phase("connected")
        return self.flow(list(flows), receivers)

    def inbound(self) -> int:
        """Publishers to a topic without subscribers; a receipt for the last SEND of each burst."""
        options = self._options
        publishers = self._sessions.open([[]] * options.pubs)
        burst = self.publish("/topic/b.0") * (options.burst - 1)
        burst += self.publish("/topic/b.0", "receipt:r")
        flows = [Flow(connection, [burst], 1, options.burst) for connection in publishers]
        receivers = {
            connection.fileno(): (connection, counting(RECEIPT, flow, 0))
            for connection, flow in zip(publishers, flows, strict=True)
        }
        self.phase("connected")
        return self.flow(flows, receivers)

    def connect(self) -> int:
        """Sessions that open and leave again."""
        self.phase("connected")

        def visits(seconds: float) -> int:
            end = time.monotonic() + seconds
            in_time = itertools.takewhile(lambda _: time.monotonic() < end, itertools.count())
            return self._sessions.visits(in_time)

        return self.measured(visits)

    def idle(self) -> int:
        """Sessions with one subscription each, to topics of their own, that do nothing."""
        options = self._options
        topics = [[(f"/topic/b.{number}", "0", "auto")] for number in range(options.subs)]
        sessions = self._sessions.open(topics)
        self.phase("connected")
        self.phase("start")
        time.sleep(options.hold)
        self.phase("end")
        if self._epoll.poll(0):
            raise Failed("the server is not quiet")
        return len(sessions)

    def run(self) -> dict[str, Any]:
        """Run the scenario; give what it counted."""
        self.phase("begin")
        done = getattr(self, self._options.scenario)()
        return {
            "scenario": self._options.scenario,
            "ok": True,
            COUNTED[self._options.scenario]: done,
            "elapsed_s": round(self._elapsed, 4),
            "loadgen_cpu_s": round(self._cpu, 4),
        }


def batched(items: list[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of that size."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load")
    parser.add_argument("scenario", choices=COUNTED)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/stomp")
    parser.add_argument("--query", default="", help="of the upgrade; %%t is the ticket")
    parser.add_argument("--ticket-path", default="", help="ask for a ticket there first")
    parser.add_argument("--jwt-file", default="", help="tokens, one a line, used in turn")
    parser.add_argument("--http-header", action="append", default=[], help="of the upgrade")
    parser.add_argument("--connect-header", action="append", default=[], help="%%j is the token")
    parser.add_argument("--vhost", default="/", help="the header host of CONNECT")
    parser.add_argument("--subs", type=int, default=100)
    parser.add_argument("--pubs", type=int, default=1)
    parser.add_argument("--others", type=int, default=0, help="further subscriptions")
    parser.add_argument("--burst", type=int, default=1, help="SENDs for one receipt")
    parser.add_argument("--size", type=int, default=64, help="of a body")
    parser.add_argument("--window", type=int, default=1, help="in flight, each publisher")
    parser.add_argument("--parallel", type=int, default=32, help="sessions that open at once")
    parser.add_argument("--messages", type=int, default=0, help="not needed: time ends the run")
    parser.add_argument("--warmup", type=int, default=0, help="likewise")
    parser.add_argument("--warmup-time", type=float, default=0.5)
    parser.add_argument("--max-time", type=float, default=2)
    parser.add_argument("--hold", type=float, default=1, help="seconds of being idle")
    parser.add_argument("--idle-sub", action="store_true", help="as always")
    parser.add_argument("--sync", action="store_true")
    return parser.parse_args(arguments)


def main() -> None:
    """Do what the command line says."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    load = Load(options())
    gc.disable()
    sys.stdout.write(json.dumps(load.run()) + "\n")


if __name__ == "__main__":
    main()
