"""Run it: ``python -m tests.faults --seconds 600 --clients 200``."""

from __future__ import annotations

import argparse
import json
import random
import re
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from stompauth.client import service
from tests.faults.clients import Client, Ledger, Subscriber, clients
from tests.faults.programs import Programs

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds for anything that has to come to be.
PATIENCE: Final = 120.0

#: Seconds between a fault and the end of it, and for which all goes well before the next.
AWAY: Final = 2.0
WELL: Final = 1.5

#: Who is revoked while what is away, asked at which node.
REVOKED: Final = {"mallory": ("redis killed", 1), "mordred": ("node a killed", 1)}


class Run:
    """The clients, the faults, and what comes of them.

    :ivar back: after which fault all was well again in how many seconds.
    """

    def __init__(self, loop: Any, programs: Programs, arguments: argparse.Namespace) -> None:
        self._programs = programs
        lifetime = arguments.seconds + 3600
        url = f"http://127.0.0.1:{programs.haproxy.port}"
        self.ledger = Ledger(loop, url, chance=random.Random(arguments.seed))
        self._seconds = arguments.seconds
        self.back: dict[str, list[float]] = {}
        self.answers: dict[str, int] = {}
        self.tokens: dict[str, str] = {}

        def token(user: str) -> str:
            self.tokens[user] = programs.token(user, lifetime)
            return self.tokens[user]

        wanted = arguments.clients - 2 * len(REVOKED)
        self.clients = clients(self.ledger, wanted, token)
        self.revoked = {
            user: [Client(self.ledger, user, each) for _ in range(2)]
            for user in REVOKED
            for each in (token(user),)
        }
        self.ledger.secrets.update(self.tokens.values())

    async def run(self) -> None:
        """Do all of it, up to the clients' orderly end."""
        ledger = self.ledger
        everybody = self.clients + [each for two in self.revoked.values() for each in two]
        begin = ledger.now
        for client in everybody:
            client.start()
            await ledger.sleep(0.02)
        await self._until(lambda: all(client.is_here for client in everybody), "all are here")
        faults = self._faults()
        while True:
            for name, fault in faults:
                await ledger.sleep(WELL)
                await fault(name)
                since = ledger.now
                await self._all_is_well(since, name)
                self.back.setdefault(name, []).append(round(ledger.now - since, 1))
            if ledger.now - begin >= self._seconds or ledger.mistakes:
                break
            ledger.chance.shuffle(faults)
        ledger.is_over = True
        await gatherResults([client.work for client in self.clients if client.work is not None])
        await self._until(
            lambda: ledger.receipted.keys() <= ledger.delivered.keys(), "all is delivered"
        )
        for _ in range(120):
            if not any((await deferToThread(self._programs.queues)).values()):
                break
            await ledger.sleep(0.5)
        await deferToThread(self._check_revoked)
        await gatherResults([client.service.stopService() for client in everybody])

    # Faults. Each is over when the program is there again.

    def _faults(self) -> list[tuple[str, Callable[[str], Any]]]:
        programs = self._programs
        a, b = programs.nodes
        return [
            ("redis killed", lambda name: self._restart(name, programs.redis)),
            ("redis frozen", self._freeze),
            ("rabbitmq killed", lambda name: self._restart(name, programs.rabbitmq)),
            ("node a killed", lambda name: self._restart(name, a)),
            ("node b stopped", lambda name: self._restart(name, b, by="stop")),
            ("haproxy stopped", lambda name: self._restart(name, programs.haproxy, by="stop")),
        ]

    async def _restart(self, name: str, program: Any, by: str = "kill") -> None:
        await deferToThread(getattr(program, by))
        await self._revoke(name)
        await self.ledger.sleep(AWAY)
        await deferToThread(program.start)

    async def _freeze(self, name: str) -> None:
        self._programs.redis.freeze()
        await self.ledger.sleep(3 * AWAY)
        self._programs.redis.thaw()

    async def _revoke(self, name: str) -> None:
        for user, (fault, node) in REVOKED.items():
            if fault == name and user not in self.answers:
                # 503 says that the others did not confirm; they learn of it all the same.
                self.answers[user], _ = await deferToThread(
                    self._programs.nodes[node].control, "POST", "/revoke", {"user": user}
                )

    async def _all_is_well(self, since: float, name: str) -> None:
        nodes = self._programs.nodes

        def is_well() -> bool:
            return all(client.is_live(since) for client in self.clients)

        async def are_ready() -> bool:
            return all([await deferToThread(node.is_ready) for node in nodes])

        end = self.ledger.now + PATIENCE
        while not (is_well() and await are_ready()):
            if self.ledger.now > end:
                late = [client.name for client in self.clients if not client.is_live(since)]
                raise AssertionError(f"after {name}, these are not back: {late}")
            await self.ledger.sleep(0.1)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        end = self.ledger.now + PATIENCE
        while not condition():
            assert self.ledger.now < end, f"not so: {what}"
            await self.ledger.sleep(0.1)

    # What has to be so in the end.

    def _check_revoked(self) -> None:
        wrong = self.ledger.mistakes
        for user, revoked in self.revoked.items():
            for client in revoked:
                failure = client.service.failure
                if failure is None or failure.code != "revoked":
                    wrong.append(f"{user} was revoked, and has ended with {failure}")
            for node in self._programs.nodes:
                status, answer = node.ticket(self.tokens[user])
                if (status, json.loads(answer)) != (403, {"error": "revoked"}):
                    wrong.append(f"{user} was revoked, and got {status}")
                found = node.control("GET", f"/sessions?user={user}")
                if found != (200, {"sessions": []}):
                    wrong.append(f"{user} was revoked, and there is {found}")

    def check(self) -> dict[str, Any]:
        """Look for what was lost, doubled, or told to whom it is no business of.

        :return: the report's numbers.
        """
        ledger = self.ledger
        wrong = ledger.mistakes
        redelivered = unmarked = resent = 0
        for body, deliveries in ledger.delivered.items():
            times = Counter(message_id for message_id, _ in deliveries)
            if len(times) > ledger.attempts[body]:
                wrong.append(f"{body}: {len(times)} messages, sent {ledger.attempts[body]} times")
            resent += len(times) - 1
            redelivered += len(deliveries) - len(times)
            marked = sum(mark for _, mark in deliveries)
            unmarked += max(len(deliveries) - len(times) - marked, 0)
        lost = ledger.receipted.keys() - ledger.delivered.keys()
        wrong += [f"{body} was receipted, and is lost" for body in sorted(lost)[:20]]
        subscribers = [client for client in self.clients if isinstance(client, Subscriber)]
        missed = [subscriber.missed() for subscriber in subscribers]
        self._check_octets()
        return {
            "clients": len(self.clients) + sum(map(len, self.revoked.values())),
            "back in seconds": self.back,
            "sessions": sum(len(client.visits) for client in self.clients),
            "ends and failures": dict(ledger.ends.most_common()),
            "topics": {
                "sent": len(ledger.published),
                "came": sum(subscriber.heard for subscriber in subscribers),
                "missed, and told": sum(told for told, _ in missed),
                "missed, and not told": sum(untold for _, untold in missed),
            },
            "queues": {
                "receipted": len(ledger.receipted),
                "sent": ledger.attempts.total(),
                "lost": len(lost),
                "came again with the same message-id": redelivered,
                "of these not marked redelivered": unmarked,
                "came again because they were sent again": resent,
            },
            "revocations answered": self.answers,
        }

    def _check_octets(self) -> None:
        """No secret is in a log, or on the wire to Redis and RabbitMQ."""
        programs = self._programs
        wrong = self.ledger.mistakes
        known = {secret.encode() for secret in self.ledger.secrets}
        known |= {programs.control_token.encode(), programs.passcode.encode()}
        for name, log in programs.logs().items():
            # RabbitMQ's are its own business.
            ours = not name.startswith("rabbitmq")
            if ours and ("Traceback" in log or "Unhandled" in log):
                wrong.append(f"{name}: {log[max(log.find('Traceback') - 500, 0) :][:3000]}")
            if found := _within(log.encode(), known):
                wrong.append(f"{name} has {len(found)} secrets")
        login = {programs.passcode.encode()}
        for name, recording in zip(("redis", "rabbitmq"), programs.recordings, strict=True):
            passed = bytes(recording.sent + recording.received)
            if len(passed) < 10_000:
                wrong.append(f"only {len(passed)} octets to {name} were recorded")
            if found := _within(passed, known - (login if name == "rabbitmq" else set())):
                wrong.append(f"{len(found)} secrets were on the wire to {name}")
            if re.search(rb"(?i)authorization|eyJ[\w-]+\.", passed):
                wrong.append(f"a header or a token was on the wire to {name}")


def _within(text: bytes, secrets_: set[bytes]) -> set[bytes]:
    """Those of the secrets that are in a text, in time that does not depend on how many."""
    lengths = {len(secret) for secret in secrets_}
    found: set[bytes] = set()
    for run in set(re.findall(rb"[\w.-]{20,}", text)):
        for length in lengths:
            pieces = {run[at : at + length] for at in range(len(run) - length + 1)}
            found |= pieces & secrets_
    return found


async def same(programs: Programs, before: dict[str, int]) -> dict[str, int]:
    """Wait until the programs hold what they held, or for as long as that may take."""
    end = time.monotonic() + PATIENCE / 2
    while (held := await deferToThread(programs.held)) != before and time.monotonic() < end:
        pass
    return held


async def faults(loop: Any, arguments: argparse.Namespace, directory: Path) -> int:
    """Do it all; gives the exit status."""
    # The programs are away for seconds, and there is no other client.
    service.LONGEST_DELAY = 4.0  # type: ignore[misc]
    programs = Programs(directory)
    wrong: list[str] = []
    report: dict[str, Any] = {"seed": arguments.seed}
    try:
        await deferToThread(programs.start)
        before = await deferToThread(programs.held)
        run = Run(loop, programs, arguments)
        wrong = run.ledger.mistakes
        try:
            await run.run()
            after = await same(programs, before)
            if before != after:
                wrong.append(f"there were {before}, and are {after}")
            for node in programs.nodes:
                await deferToThread(node.stop)
            report |= {"held": after}
        except AssertionError as error:
            wrong.append(str(error))
        report |= run.check()
    finally:
        await deferToThread(programs.stop)
    report |= {"wrong": wrong[:50]}
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    if wrong and arguments.keep:
        for name, log in programs.logs().items():
            path = Path(arguments.keep) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(log, "utf-8")
    return 1 if wrong else 0


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description="Kill each part of a cluster in turn."
    )
    parser.add_argument("--seconds", type=float, default=600, help="at least one round is made")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument(
        "--keep", default="", help="a directory for the logs, if something is wrong"
    )
    arguments = parser.parse_args()

    async def run(loop: Any) -> None:
        with tempfile.TemporaryDirectory() as directory:
            raise SystemExit(await faults(loop, arguments, Path(directory)))

    react(lambda loop: Deferred.fromCoroutine(run(loop)))


if __name__ == "__main__":
    main()
