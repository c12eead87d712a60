"""Run a soak: ``python -m tests.soak --minutes 10 --sessions 300``."""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater, react

from tests.soak.scenarios import (
    AUDIENCE,
    CONTROL_TOKEN,
    ISSUER,
    LIMIT,
    SCENARIOS,
    SECRET,
    Visitors,
    drain,
)

if TYPE_CHECKING:
    from twisted.python.failure import Failure

Held: TypeAlias = dict[str, int]

#: Seconds that one visit may take, and that the server has to become quiet.
PATIENCE: Final = 60

#: Octets of memory by which the server may have grown: what its tables keep for a while (used
#: tickets, revocations), and what the allocator does not give back.
MARGIN: Final = 16 * 1024 * 1024

#: What has to be as it was, when all is quiet; and what there has to be nothing of.
SAME: Final = ("timers", "descriptors")
NOTHING: Final = (
    "sessions",
    "open_sessions",
    "connections",
    "addresses",
    "users",
    "Session",
    "StompWebSocketProtocol",
    "StrictHTTPChannel",
    "topics",
    "retained",
    "queues",
    "queue_messages",
    "queue_bytes",
    "user_destinations",
    "reply_names",
)

CONFIGURATION: Final = f"""\
listen = ["tcp:0:interface=127.0.0.1"]

[jwt]
algorithms = ["HS256"]
secret_file = ["secret"]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
leeway = 0

[tickets]
rate = 0
max_outstanding = 0
failures_per_address = 0

[websocket]
origins = ["https://chat.example.com"]
ping = 5

[limits]
http_timeout = {LIMIT}
handshake_timeout = {LIMIT}
connect_timeout = {LIMIT}
frame_timeout = {LIMIT}
close_timeout = {LIMIT}
send_timeout = {LIMIT}
send_buffer = 200000
sessions_per_address = 0
sessions_per_user = 0

[control]
listen = ["tcp:0:interface=127.0.0.1"]
token_file = "control-token"

[[rules]]
deny = ["subscribe", "send"]
destination = "/topic/secret/**"

[[rules]]
allow = ["subscribe", "send"]
destination = "/topic/**"

[[rules]]
allow = ["subscribe", "send"]
destination = "/queue/*"

[[rules]]
allow = ["subscribe"]
destination = "/queue/dlq.soak"

[[rules]]
allow = ["subscribe", "send"]
destination = "/user/queue/x"
"""


class Server(ProcessProtocol):
    """The server's process.

    :ivar errors: what it has logged of errors.
    :ivar ended: fires when it has ended.
    """

    transport: Any

    def __init__(self) -> None:
        self.errors = b""
        self.ended: Deferred[None] = Deferred()
        self._line = b""
        self._waiting: Deferred[Any] = Deferred()
        self.ready = self._waiting

    def outReceived(self, data: bytes) -> None:
        """Take an answer."""
        self._line += data
        if self._line.endswith(b"\n"):
            line, self._line = self._line, b""
            self._waiting.callback(json.loads(line))

    def errReceived(self, data: bytes) -> None:
        """Keep what went wrong."""
        self.errors += data

    def held(self) -> Deferred[Held]:
        """What the server holds."""
        self._waiting = Deferred()
        self.transport.write(b"\n")
        return self._waiting

    def processEnded(self, reason: Failure) -> None:
        """Tell who waits."""
        if not self._waiting.called:
            self._waiting.errback(reason)
        if reason.check(ProcessDone):
            self.ended.callback(None)
        else:
            self.ended.errback(reason)


class Soak:
    """Visits, many at once, for a time.

    :ivar visits: how many there were, by scenario.
    :ivar mistakes: what was wrong about them.
    """

    def __init__(self, visitors: Visitors, sessions: int) -> None:
        self._visitors = visitors
        self._sessions = sessions
        self.visits: Counter[str] = Counter()
        self.mistakes: list[str] = []

    async def run(self, seconds: float) -> None:
        """Let as many visitors as there are sessions come again and again."""
        end = time.monotonic() + seconds
        await DeferredList(
            [Deferred.fromCoroutine(self._come_again(end)) for _ in range(self._sessions)]
        )

    async def _come_again(self, end: float) -> None:
        visitors = self._visitors
        await visitors.sleep(2)
        while time.monotonic() < end and len(self.mistakes) < 20:
            scenario = visitors.chance.choice(SCENARIOS)
            visit = Deferred.fromCoroutine(scenario(visitors))
            visit.addTimeout(PATIENCE, visitors.loop)
            try:
                await visit
            except Exception:
                self.mistakes.append(f"{scenario.__name__}: {traceback.format_exc()}")
            self.visits[scenario.__name__] += 1
            await visitors.sleep(0.5)


def differences(before: Held, after: Held) -> list[str]:
    """What is there that may not be, or not any more."""
    names = [name for name in SAME if after[name] != before[name]]
    names += [name for name in NOTHING if after[name]]
    if after["rss"] - before["rss"] > MARGIN:
        names.append("rss")
    return [f"{name}: {before[name]}, then {after[name]}" for name in names]


async def quiet(server: Server, visitors: Visitors, before: Held | None = None) -> Held:
    """Wait until all is as it was before, and nobody is there; or for as long as that may take."""
    end = time.monotonic() + PATIENCE
    while True:
        await drain(visitors)
        await deferLater(visitors.loop, 1, lambda: None)
        held = await server.held()
        if not differences(before or held, held) or time.monotonic() > end:
            return held


async def soak(loop: Any, arguments: argparse.Namespace, directory: Path) -> int:
    """Do it all; gives the exit status."""
    for name, content in (
        ("stompauth.toml", CONFIGURATION.encode()),
        ("secret", SECRET),
        ("control-token", CONTROL_TOKEN.encode()),
    ):
        (directory / name).write_bytes(content)
    server = Server()
    command = [sys.executable, "-m", "tests.soak.server", str(directory / "stompauth.toml")]
    loop.spawnProcess(server, sys.executable, command, env=None)
    port, control_port = (await server.ready)["ports"]
    chance = random.Random(arguments.seed)
    # So that the rate of visits is the same for any number of sessions.
    stay = arguments.sessions / 15
    visitors = Visitors(loop, port, control_port, arguments.sessions, stay, chance)
    warm_up = Soak(visitors, arguments.sessions)
    await warm_up.run(min(30, arguments.minutes * 60 / 4))
    before = await quiet(server, visitors)
    visits = Soak(visitors, arguments.sessions)
    running = Deferred.fromCoroutine(visits.run(arguments.minutes * 60))
    await deferLater(loop, arguments.minutes * 60 / 2, lambda: None)
    during = await server.held()
    await running
    after = await quiet(server, visitors, before)
    server.transport.closeStdin()
    await server.ended
    wrong = [*warm_up.mistakes, *visits.mistakes, *differences(before, after)]
    if server.errors:
        wrong.append(server.errors.decode(errors="replace"))
    seconds = [round(found, 3) for found in sorted(visitors.revocations)] or [0.0]
    report = {
        "seed": arguments.seed,
        "visits": sum(visits.visits.values()),
        "scenarios": dict(sorted(visits.visits.items())),
        "revocations": {
            "number": len(seconds),
            "median": seconds[len(seconds) // 2],
            "99%": seconds[len(seconds) * 99 // 100],
            "slowest": seconds[-1],
        },
        "before": before,
        "during": during,
        "after": after,
        "wrong": wrong,
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 1 if wrong else 0


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Run a soak.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sessions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    arguments = parser.parse_args()

    async def run(loop: Any) -> None:
        with tempfile.TemporaryDirectory() as directory:
            raise SystemExit(await soak(loop, arguments, Path(directory)))

    react(lambda loop: Deferred.fromCoroutine(run(loop)))


if __name__ == "__main__":
    main()
