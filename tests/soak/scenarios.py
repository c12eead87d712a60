"""What the clients of a soak do: each coroutine is one visit, and says what was wrong about it."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import jwt
from twisted.internet.task import deferLater

from stompauth.stomp.encoder import encode
from stompauth.stomp.frame import Frame
from tests.soak.wire import Wire, connect, get, handshake, post
from tests.wire import client_frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ISSUER: Final = "https://id.example.com/"
AUDIENCE: Final = "chat"
SECRET: Final = b"0123456789abcdef0123456789abcdef"
CONTROL_TOKEN: Final = "fedcba9876543210fedcba9876543210"

#: Seconds that the server gives a client for anything; ``LIMIT`` in its configuration.
LIMIT: Final = 5

#: Octets of a message that does not fit into the buffers of a socket.
LARGE: Final = 60_000


@dataclass
class Visitors:
    """What all visits share.

    :ivar port: where the server listens.
    :ivar control_port: where its control resource listens.
    :ivar users: how many there are.
    :ivar stay: seconds that a session stays at most before it ends.
    :ivar revocations: seconds that each has taken until the sockets were closed.
    """

    loop: Any
    port: int
    control_port: int
    users: int
    stay: float
    chance: random.Random
    revocations: list[float] = field(default_factory=list)

    def user(self) -> str:
        """Any user."""
        return f"user{self.chance.randrange(self.users)}"

    def token(self, user: str, lifetime: float = 600, **claims: object) -> str:
        """A token of the user, from now on."""
        now = int(time.time())
        standard = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now, "exp": now + lifetime}
        return jwt.encode({**standard, **claims}, SECRET, algorithm="HS256")

    async def sleep(self, most: float) -> None:
        """Wait for some part of so many seconds."""
        await deferLater(self.loop, self.chance.random() * most, lambda: None)

    async def connect(self) -> Wire:
        """Open a connection."""
        return await connect(self.loop, self.port)

    def rudely(self) -> bool:
        """Whether to break off by a reset."""
        return self.chance.random() < 0.5

    async def ticket(self, token: str) -> str:
        """Trade a token for a ticket."""
        wire = await self.connect()
        wire.write(post("/authenticate/token", token))
        response = await wire.response()
        wire.leave(self.rudely())
        if response.status != 200:
            raise ConnectionError(f"no ticket: {response.status}")
        ticket: str = response.json["ticket"]
        return ticket

    async def control(self, path: str, body: object) -> Any:
        """Ask the control resource."""
        wire = await connect(self.loop, self.control_port)
        wire.write(post(path, CONTROL_TOKEN, body))
        response = await wire.response()
        wire.leave(False)
        if response.status != 200:
            raise ConnectionError(f"{path}: {response.status} {response.body!r}")
        return response.json

    async def is_here(self, session: str) -> bool:
        """Whether the server has the session."""
        wire = await connect(self.loop, self.control_port)
        wire.write(get(f"/sessions/{session}", CONTROL_TOKEN))
        response = await wire.response()
        wire.leave(False)
        return response.status == 200

    async def open(self, token: str) -> Wire:
        """Open a WebSocket."""
        ticket = await self.ticket(token)
        wire = await self.connect()
        status = await wire.upgrade(ticket)
        if status != 101:
            raise ConnectionError(f"no WebSocket: {status}")
        return wire

    async def session(self, user: str, **claims: object) -> tuple[Wire, Frame]:
        """Open a session; with its CONNECTED."""
        token = self.token(user, **claims)
        wire = await self.open(token)
        wire.connect(token)
        connected = await wire.frame()
        if connected is None or connected.command != "CONNECTED":
            raise ConnectionError("no session")
        return wire, connected

    async def expect(self, wire: Wire, close: int, *codes: str) -> None:
        """Wait for the end, and see that it is this one."""
        code = await wire.end()
        if wire.close_code != close or (codes and code not in codes):
            raise AssertionError(f"{code or 'no ERROR'}, closed with {wire.close_code}")


async def silent(visitors: Visitors) -> None:
    """Only open TCP."""
    wire = await visitors.connect()
    await visitors.sleep(1)
    wire.leave(visitors.rudely())


async def dribbled_head(visitors: Visitors) -> None:
    """Send half of a head, and wait to be cut off."""
    wire = await visitors.connect()
    head = handshake("x" * 43)
    wire.write(head[: visitors.chance.randrange(1, len(head) - 3)])
    await wire.until_lost()


async def half_head(visitors: Visitors) -> None:
    """Send a part of a head, and leave."""
    wire = await visitors.connect()
    head = handshake("x" * 43)
    wire.write(head[: visitors.chance.randrange(len(head))])
    await visitors.sleep(0.5)
    wire.leave(visitors.rudely())


async def only_ticket(visitors: Visitors) -> None:
    """Get a ticket, and never use it."""
    await visitors.ticket(visitors.token(visitors.user()))


async def denied_handshake(visitors: Visitors) -> None:
    """Try a made-up ticket, one from elsewhere, and one twice."""
    token = visitors.token(visitors.user())
    for ticket, origin, status in (
        ("x" * 43, "https://chat.example.com", 401),
        (await visitors.ticket(token), "https://evil.example.com", 403),
    ):
        wire = await visitors.connect()
        found = await wire.upgrade(ticket, origin)
        assert found == status, (found, status)
        wire.leave(visitors.rudely())
    ticket = await visitors.ticket(token)
    first, second = await visitors.connect(), await visitors.connect()
    assert await first.upgrade(ticket) == 101
    assert await second.upgrade(ticket) == 401
    first.leave(visitors.rudely())


async def left_handshake(visitors: Visitors) -> None:
    """Leave before the answer to the handshake, or with more behind it."""
    ticket = await visitors.ticket(visitors.token(visitors.user()))
    wire = await visitors.connect()
    wire.write(handshake(ticket) * visitors.chance.randrange(1, 3))
    wire.leave(visitors.rudely())


async def no_connect(visitors: Visitors) -> None:
    """Open a WebSocket, and send no CONNECT."""
    wire = await visitors.open(visitors.token(visitors.user()))
    if visitors.rudely():
        await visitors.sleep(1)
        wire.leave(visitors.rudely())
    else:
        await visitors.expect(wire, 4408, "connect-timeout")


async def bad_connect(visitors: Visitors) -> None:
    """Send the CONNECT of somebody else, with more behind it."""
    wire = await visitors.open(visitors.token(visitors.user()))
    wire.connect(visitors.token("mallory"))
    wire.send("SEND", b"x", destination="/topic/x")
    await visitors.expect(wire, 4409, "subject-mismatch")


async def half_frame(visitors: Visitors) -> None:
    """Send a part of a frame, of STOMP or of WebSocket."""
    wire, _ = await visitors.session(visitors.user())
    data = encode(Frame("SEND", {"destination": "/topic/x"}, b"x" * 1000), "1.2")
    # So much that a pong does not complete it.
    part = visitors.chance.randrange(16, len(data) - 100)
    if visitors.chance.random() < 0.5:
        wire.write(client_frame(2, data)[:part])
    else:
        wire.write(client_frame(2, data[:part]))
    if visitors.rudely():
        await visitors.sleep(1)
        wire.leave(visitors.rudely())
    else:
        await visitors.expect(wire, 4408, "frame-timeout")


async def broken_off(visitors: Visitors) -> None:
    """Leave with subscriptions, transactions and unacknowledged messages open."""
    wire, _ = await visitors.session(visitors.user())
    wire.send("SUBSCRIBE", id="1", destination="/queue/soak", ack="client-individual")
    wire.send("SUBSCRIBE", id="2", destination="/topic/news", receipt="a")
    wire.send("SUBSCRIBE", id="3", destination="/user/queue/x")
    wire.send("SUBSCRIBE", id="4", destination="/temp-queue/x")
    await wire.receipt()
    wire.send("BEGIN", transaction="t")
    wire.send("SEND", b"x" * 100, destination="/queue/soak", transaction="t")
    wire.send("SEND", b"y" * 100, destination="/queue/soak", receipt="b", reply_to="/temp-queue/x")
    await wire.receipt()
    await visitors.sleep(visitors.stay)
    wire.leave(visitors.rudely())


async def mid_message(visitors: Visitors) -> None:
    """Leave in the middle of a message, sent or received."""
    user = visitors.user()
    wire, _ = await visitors.session(user)
    wire.send("SUBSCRIBE", id="1", destination="/user/queue/x", receipt="a")
    await wire.receipt()
    await visitors.sleep(visitors.stay)
    for _ in range(4):
        wire.send("SEND", b"x" * LARGE, destination="/user/queue/x")
    data = encode(Frame("SEND", {"destination": "/user/queue/x"}, b"x" * LARGE), "1.2")
    wire.write(client_frame(2, data)[: visitors.chance.randrange(LARGE)])
    await visitors.sleep(0.1)
    wire.leave(visitors.rudely())


async def malformed(visitors: Visitors) -> None:
    """Send what is no STOMP, or no WebSocket."""
    wire, _ = await visitors.session(visitors.user())
    await visitors.sleep(visitors.stay)
    if visitors.rudely():
        wire.write(client_frame(2, b"SEND\ndestination\n\n\0"))
        await visitors.expect(wire, 1002, "malformed")
    else:
        wire.write(client_frame(3, b"x"))
        await visitors.expect(wire, 1002)


async def refused(visitors: Visitors) -> None:
    """Ask for what no rule allows."""
    wire, _ = await visitors.session(visitors.user())
    await visitors.sleep(visitors.stay)
    wire.send("SUBSCRIBE", id="1", destination="/topic/secret/x")
    await visitors.expect(wire, 4403, "access-denied")


async def expired(visitors: Visitors) -> None:
    """Only listen, until the token ends, with or without a fresh one in between."""
    user = visitors.user()
    wire = await visitors.open(visitors.token(user))
    wire.connect(visitors.token(user, LIMIT))
    wire.send("SUBSCRIBE", id="1", destination="/topic/news")
    if visitors.rudely():
        fresh = f"Bearer {visitors.token(user, 2 * LIMIT)}"
        wire.send("SEND", destination="/session/token", Authorization=fresh)
    await visitors.expect(wire, 4401, "token-expired")


async def revoked(visitors: Visitors) -> None:
    """Be revoked by session, or by token."""
    user = visitors.user()
    token_id = f"jti{visitors.chance.randrange(50)}-{time.time()}"
    wire, connected = await visitors.session(user, jti=token_id)
    wire.send("SUBSCRIBE", id="1", destination="/queue/soak", ack="client", receipt="a")
    await wire.receipt()
    await visitors.sleep(visitors.stay)
    name = visitors.chance.choice(("session", "token_id"))
    value = {"session": connected.headers["session"], "token_id": token_id}[name]
    since = time.monotonic()
    answer = await visitors.control("/revoke", {name: value, "reason": "soak"})
    assert answer["sessions"] == 1, answer
    await visitors.expect(wire, 4403, "revoked")
    visitors.revocations.append(time.monotonic() - since)


async def revoked_user(visitors: Visitors) -> None:
    """Be revoked in two tabs at once, as a user of one's own."""
    user = f"revoked{visitors.chance.randrange(10**6)}"
    tabs = [(await visitors.session(user))[0] for _ in range(2)]
    await visitors.sleep(visitors.stay)
    since = time.monotonic()
    answer = await visitors.control("/revoke", {"user": user})
    assert answer["sessions"] == 2, answer
    for tab in tabs:
        await visitors.expect(tab, 4403, "revoked")
    visitors.revocations.append(time.monotonic() - since)


async def unread(visitors: Visitors) -> None:
    """Read nothing, while more comes than fits anywhere; the sender is not harmed."""
    wire, connected = await visitors.session(visitors.user())
    session = connected.headers["session"]
    topic = f"/topic/unread/{session}"
    wire.send("SUBSCRIBE", id="1", destination=topic, receipt="a")
    await wire.receipt()
    wire.transport.pauseProducing()
    sender, _ = await visitors.session(visitors.user())
    for _ in range(200):
        sender.send("SEND", b"x" * LARGE, destination=topic, receipt="r")
        await sender.receipt()
        if not await visitors.is_here(session):
            break
    else:
        raise AssertionError("a client that reads nothing stays")
    sender.send("DISCONNECT", receipt="z")
    await visitors.expect(sender, 1000)
    wire.transport.resumeProducing()
    await wire.until_lost()


async def polite(visitors: Visitors) -> None:
    """Do what a good client does."""
    user = visitors.user()
    wire, _ = await visitors.session(user)
    wire.send("SUBSCRIBE", id="1", destination="/user/queue/x", ack="client-individual")
    wire.send("SEND", b"hello", destination="/user/queue/x", receipt="a")
    await wire.receipt()
    await visitors.sleep(visitors.stay)
    wire.send("UNSUBSCRIBE", id="1", receipt="b")
    await wire.receipt()
    wire.send("DISCONNECT", receipt="c")
    await visitors.expect(wire, 1000)


SCENARIOS: Final[tuple[Callable[[Visitors], Awaitable[None]], ...]] = (
    silent,
    dribbled_head,
    half_head,
    only_ticket,
    denied_handshake,
    left_handshake,
    no_connect,
    bad_connect,
    half_frame,
    broken_off,
    mid_message,
    malformed,
    refused,
    expired,
    revoked,
    revoked_user,
    unread,
    polite,
)


async def drain(visitors: Visitors) -> None:
    """Take all that is left in queues."""
    wire, _ = await visitors.session("drain")
    for number, destination in enumerate(("/queue/soak", "/queue/dlq.soak")):
        wire.send("SUBSCRIBE", id=str(number), destination=destination)
    await visitors.sleep(0)
    wire.send("DISCONNECT", receipt="z")
    await visitors.expect(wire, 1000)
