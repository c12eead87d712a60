"""Clients that go on whatever happens, and what each of them has seen."""

from __future__ import annotations

import contextlib
import math
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from stompauth.client import ClientError, ClientSettings, StompClientService
from tests.integration.configured import ORIGIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from stompauth.client import Disconnected, FrameRefused, Message, StompClient

TOPICS: Final = tuple(f"/topic/faults-{number}" for number in range(4))
QUEUES: Final = tuple(f"/queue/work-{number}" for number in range(6))

#: Seconds between the messages of a client.
EVERY: Final = 0.5

#: A session that breaks off may have missed what was confirmed so many seconds before: it was on
#: its way, on a busy machine.
ON_ITS_WAY: Final = 5.0

SETTINGS: Final = ClientSettings(
    origin=ORIGIN, connect_timeout=15, receipt_timeout=15, heartbeat=(5, 5)
)


@dataclass
class Visit:
    """A session with all its subscriptions.

    :ivar end: when the client was told that it is over.
    """

    begin: float
    end: float = math.inf


@dataclass
class Ledger:
    """What all clients know together; times by the reactor's clock.

    :ivar is_over: whether nothing new is to be sent.
    :ivar ends: how sessions have ended, and why there was none, by code.
    :ivar published: of each message to a topic: where to, when it was sent, and when its receipt
        was there; infinity if it never was.
    :ivar attempts: how often a message to a queue was sent, by the application's name for it.
    :ivar receipted: those that a receipt has come for.
    :ivar delivered: of each what came: its ``message-id``, and whether it was ``redelivered``.
    :ivar mistakes: what may not happen.
    """

    loop: Any
    url: str
    secrets: set[str] = field(default_factory=set, repr=False)
    chance: random.Random = field(default_factory=random.Random)
    is_over: bool = False
    ends: Counter[str] = field(default_factory=Counter)
    published: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    receipted: dict[str, float] = field(default_factory=dict)
    delivered: defaultdict[str, list[tuple[str, bool]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    mistakes: list[str] = field(default_factory=list)

    @property
    def now(self) -> float:
        """Seconds."""
        return float(self.loop.seconds())

    def sleep(self, seconds: float) -> Deferred[None]:
        """Wait."""
        return deferLater(self.loop, seconds, lambda: None)


class _Service(StompClientService):
    """Tells of its sessions, and knows its tickets."""

    def __init__(self, client: Client, token: str) -> None:
        super().__init__(
            client.ledger.loop,
            client.ledger.url,
            lambda: token,
            settings=SETTINGS,
            on_notice=client.noticed,
        )
        self._of = client
        fetch = self._connector.fetch_ticket

        async def fetch_ticket(token: str) -> str:
            ticket = await fetch(token)
            client.ledger.secrets.add(ticket)
            return ticket

        self._connector.fetch_ticket = fetch_ticket  # type: ignore[method-assign]

    async def _open(self, lost: Callable[[Disconnected], None]) -> StompClient:
        of = self._of

        def ended(reason: Disconnected) -> None:
            of.visits[-1].end = of.ledger.now
            lost(reason)

        client = await super()._open(ended)
        of.visits.append(Visit(of.ledger.now))
        return client

    def _note(self, error: BaseException) -> None:
        if self.running:
            self._of.ledger.ends[getattr(error, "code", type(error).__name__)] += 1
        super()._note(error)


class Client:
    """A client that comes back.

    :ivar visits: its sessions so far.
    """

    def __init__(self, ledger: Ledger, name: str, token: str) -> None:
        self.ledger = ledger
        self.name = name
        self.visits: list[Visit] = []
        self.service = _Service(self, token)
        self.work: Deferred[None] | None = None

    def start(self) -> None:
        """Connect, and begin to work."""
        self.service.startService()
        self.work = Deferred.fromCoroutine(self._work())
        self.work.addErrback(lambda failure: self._mistake(failure.getTraceback()))

    async def _work(self) -> None:
        pass

    @property
    def is_here(self) -> bool:
        """Whether it has a session, in which everything is subscribed to."""
        return self.service.client is not None and bool(self.visits) and not self._has_ended

    @property
    def _has_ended(self) -> bool:
        return self.visits[-1].end < math.inf

    def is_live(self, since: float) -> bool:
        """Whether what it is for has worked since that time."""
        return self.is_here

    def noticed(self, refused: FrameRefused) -> None:
        """Nothing that it wants is ever refused."""
        self._mistake(str(refused))

    def _mistake(self, what: str) -> None:
        self.ledger.mistakes.append(f"{self.name}: {what}")

    async def _say(self, destination: str, body: str) -> bool:
        """Send in the session that there is; gives whether it was receipted."""
        try:
            client = await self.service.when_connected()
            await client.send(destination, body)
        except ClientError:
            return False
        return True


class Publisher(Client):
    """Sends to a topic, each message once."""

    def __init__(self, ledger: Ledger, name: str, token: str, topic: str) -> None:
        super().__init__(ledger, name, token)
        self._topic = topic
        self._last = -math.inf

    async def _work(self) -> None:
        ledger = self.ledger
        number = 0
        while not ledger.is_over:
            await self.service.when_connected()
            begin = ledger.now
            body = f"{self.name} {number}"
            number += 1
            ledger.published[body] = (self._topic, begin, math.inf)
            if await self._say(self._topic, body):
                self._last = begin
                ledger.published[body] = (self._topic, begin, ledger.now)
            await ledger.sleep(EVERY * (0.5 + ledger.chance.random()))

    def is_live(self, since: float) -> bool:
        return self._last >= since


class Subscriber(Client):
    """Subscribes to a topic."""

    def __init__(self, ledger: Ledger, name: str, token: str, topic: str) -> None:
        super().__init__(ledger, name, token)
        self._topic = topic
        self._heard: dict[str, float] = {}
        self._last = -math.inf
        self._order: dict[tuple[int, str], int] = {}
        self.service.subscribe(topic, self._take)

    def _take(self, message: Message) -> None:
        body = message.text
        if body in self._heard:
            self._mistake(f"{body} came twice")
        self._heard[body] = self.ledger.now
        self._last = max(self._last, self.ledger.published[body][1])
        publisher, number = body.split()
        key = (len(self.visits), publisher)
        if self._order.get(key, -1) > int(number):
            self._mistake(f"{body} came after a later one")
        self._order[key] = int(number)

    def is_live(self, since: float) -> bool:
        return self._last >= since

    @property
    def heard(self) -> int:
        """How many messages have come."""
        return len(self._heard)

    def missed(self) -> tuple[int, int]:
        """How many receipted messages did not come, with and without having been told.

        Without: it was subscribed when they were sent, and was so until after they were receipted.
        """
        told = untold = 0
        for body, (topic, sent, receipted) in self.ledger.published.items():
            if topic != self._topic or receipted == math.inf or body in self._heard:
                continue
            if any(
                visit.begin <= sent and receipted + ON_ITS_WAY <= visit.end for visit in self.visits
            ):
                untold += 1
                self._mistake(f"{body}, sent at {sent}, did not come: {self.visits}")
            elif sent >= self.visits[0].begin:
                told += 1
        return told, untold


class Producer(Client):
    """Sends to a queue, each message until a receipt has come for it."""

    def __init__(self, ledger: Ledger, name: str, token: str, queue: str) -> None:
        super().__init__(ledger, name, token)
        self._queue = queue
        self._last = -math.inf

    async def _work(self) -> None:
        ledger = self.ledger
        number = 0
        while not ledger.is_over:
            body = f"{self.name} {number}"
            number += 1
            while True:
                await self.service.when_connected()
                begin = ledger.now
                ledger.attempts[body] += 1
                if await self._say(self._queue, body):
                    break
                await ledger.sleep(0.1)
            ledger.receipted[body] = ledger.now
            self._last = begin
            await ledger.sleep(EVERY * (0.5 + ledger.chance.random()))

    def is_live(self, since: float) -> bool:
        return self._last >= since


class Consumer(Client):
    """Takes from a queue, a few at a time, and acknowledges each after a while."""

    def __init__(self, ledger: Ledger, name: str, token: str, queue: str) -> None:
        super().__init__(ledger, name, token)
        self.service.subscribe(
            queue, self._take, ack="client-individual", headers={"prefetch-count": "4"}
        )

    async def _take(self, message: Message) -> None:
        redelivered = message.headers.get("redelivered") == "true"
        self.ledger.delivered[message.text].append((message.headers["message-id"], redelivered))
        await self.ledger.sleep(self.ledger.chance.random() / 5)
        with contextlib.suppress(ClientError):
            await message.ack()


def clients(ledger: Ledger, number: int, token: Callable[[str], str]) -> list[Client]:
    """Clients of all kinds.

    :param number: how many; with fewer than 60 some topics or queues have none of a kind.
    :param token: gives a user's token.
    """
    kinds: list[tuple[type[Any], tuple[str, ...], int]] = [
        (Publisher, TOPICS, number // 10),
        (Producer, QUEUES, number // 5),
        (Consumer, QUEUES, number * 3 // 10),
    ]
    kinds.append((Subscriber, TOPICS, number - sum(share for _, _, share in kinds)))
    made: list[Client] = []
    for kind, places, share in kinds:
        for each in range(share):
            name = f"{kind.__name__.lower()}-{each}"
            made.append(kind(ledger, name, token(name), places[each % len(places)]))
    return made
