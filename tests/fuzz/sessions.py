"""Sessions: frames after CONNECT, good ones and others, in any order."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred

from stompauth.authorization.rules import Rules, allow, deny
from stompauth.errors import LocalProtocolError, Refused, RemoteProtocolError
from stompauth.interceptors.interceptor import Interceptor
from stompauth.session.outbound import OutboundBuffer
from stompauth.settings import Limits
from stompauth.stomp.decoder import DecoderLimits, FrameDecoder
from stompauth.stomp.encoder import encode
from stompauth.stomp.frame import CLIENT_COMMANDS, Frame
from stompauth.tickets.grant import TicketGrant
from tests.applications import ISSUER, NOW, RULES, Application, token
from tests.fuzz.choices import Choices
from tests.fuzz.log import no_failures
from tests.wire import read_frame

if TYPE_CHECKING:
    from stompauth.session.outbound import Bounded
    from stompauth.session.session import Session

SMALL: Final = Limits(
    frame=1024,
    headers=12,
    header_line=512,
    send_buffer=1500,
    subscriptions=3,
    transactions=2,
    transaction_bytes=600,
    unacked=3,
    prefetch=2,
    frames_per_second=10,
    bytes_per_second=1500,
    inbound_waiting=3,
    destinations=6,
    queue_messages=4,
    queue_bytes=2500,
    retained=1,
    max_deliveries=2,
)

_RULES: Final = Rules(
    [
        deny("send", "/topic/rooms/told", on_deny="notify"),
        deny("subscribe", "/queue/work/told", on_deny="notify"),
        allow("send", "/topic/rooms/lobby", retain=True, claims={"rooms": "lobby"}),
        allow("subscribe", "send", "/topic/open/**"),
        allow("subscribe", "send", "/app/**"),
        *RULES,
    ]
)
#: Acts of one run; a bound on what is kept of it.
MOST_ACTS: Final = 200

_USERS: Final = ("alice", "bob")
_TOKENS: Final = {
    user: (
        token(user),
        token(user, iat=int(NOW) + 1, exp=int(NOW) + 60),
        token(user, iat=int(NOW) + 2, rooms=[]),
        token(user, jti="x"),
        token("mallory"),
        token(user, secret=bytes(32)),
        "x",
    )
    for user in _USERS
}
_ALLOWED: Final = (
    "/topic/rooms/lobby",
    "/queue/work/x",
    "/user/queue/private",
    "/temp-queue/x",
    "/queue/work/wait",
    "/queue/work/y",
    "/topic/open/a/b",
    "/app/echo",
    "/app/wait",
    "/topic/rooms/lobby",
    "/queue/work/x",
)
_DESTINATIONS: Final = (
    *_ALLOWED,
    "/topic/rooms/told",
    "/user/queue/errors",
    "/queue/work/told",
    "/session/token",
    "/queue/dlq.work/x",
    "/user/bob/queue/private",
    "/user/alice/queue/private",
    "/topic/rooms/*",
    "/topic/**",
    "/queue/work/*",
    "/topic/other",
    "/topic/open/**",
    "/topic/open/*/b",
    "/app/x",
    "nowhere",
)
_COMMANDS: Final = (*sorted(CLIENT_COMMANDS), "MESSAGE")
_GOOD_EXTRA: Final = (
    ("receipt", "r"),
    ("receipt", "r:\\\n"),
    ("reply-to", "/temp-queue/x"),
    ("expires", str(int(NOW * 1000) + 5000)),
    ("expires", "0"),
    ("prefetch-count", "1"),
    ("x", "a\nb\\c:d"),
    ("sender", "mallory"),
    ("x-stompauth-y", "1"),
)
_EXTRA: Final = (
    *_GOOD_EXTRA,
    ("transaction", "t"),
    ("retain", "true"),
    ("reply-to", "/temp-queue/y"),
    ("expires", "soon"),
    ("prefetch-count", "0"),
    ("ack", "?"),
    ("id", "3"),
    ("content-length", "3"),
    ("Authorization", "Basic x"),
)


class Wait(Interceptor):
    """Lets what goes to one destination wait."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []

    def pre_send(self, frame: Frame, session: Session) -> Any:
        if frame.headers.get("destination") != "/queue/work/wait":
            return frame
        return self.pause().addCallback(lambda _: frame)

    def pause(self) -> Deferred[None]:
        """Fires at a release, unless it is given up before."""
        paused: Deferred[None] = Deferred(self.waiting.remove)
        self.waiting.append(paused)
        return paused

    def release(self) -> None:
        """Let the first that waits go on."""
        if self.waiting:
            self.waiting.pop(0).callback(None)


class Client:
    """One client, as it is to the session: an open WebSocket."""

    def __init__(self, application: Application, user: str, version: str) -> None:
        self.user = user
        self.version = version
        self.clock = application.clock
        self.frames: list[Frame] = []
        self.closed: int | None = None
        self.free = ["1", "2", "3", "4"]
        self.used: list[str] = []
        self.transactions: list[str] = []
        self.acks: list[dict[str, str]] = []
        self._paused = False
        self._ahead: list[bytes] = []
        self._decoder = FrameDecoder(DecoderLimits(0, 0, 0))
        self._sent = FrameDecoder(DecoderLimits(0, 0, 0))
        self._decoder.version = self._sent.version = version
        self._ids: set[str | None] = {None} if version == "1.0" else set()
        grant = TicketGrant(ISSUER, user, "/stomp", NOW + 3600, NOW)
        self.session = application.stompauth._sessions.open(grant, "192.0.2.1", self)

    def give(self, data: bytes) -> None:
        """Send octets, as soon as the session reads."""
        self._sent.feed(data)
        with suppress(RemoteProtocolError):
            while (frame := self._sent.next_frame()) is not None:
                self._ids.add(frame.headers.get("id"))
        self._ahead.append(data)
        self.go_on()

    def go_on(self) -> None:
        """Let the session have what it has not read."""
        while self._ahead and not self._paused:
            self.session.data_received(self._ahead.pop(0))

    def outbound(self, limit: int, owner: Bounded) -> OutboundBuffer:
        """Make the session's way out."""
        return OutboundBuffer(self._sent_frame, limit, owner, self.clock)

    def _sent_frame(self, frame: bytes) -> None:
        """Take what the session sends, and see that it may send it."""
        assert self.closed is None, "there is nothing behind the close"
        whole = read_frame(frame)
        assert whole is not None
        opcode, data, rest = whole
        assert not rest
        binary = opcode == 2
        assert binary or data.decode() is not None
        self._decoder.feed(data)
        while (frame := self._decoder.next_frame()) is not None:
            self._check(frame)
            self.frames.append(frame)

    def _check(self, frame: Frame) -> None:
        if not self.frames:
            assert frame.command in ("CONNECTED", "ERROR"), frame
        else:
            assert frame.command in ("MESSAGE", "RECEIPT", "ERROR"), frame
            assert self.frames[-1].command != "ERROR"
        for text in (*frame.headers.values(), frame.body.decode("latin-1")):
            assert not any(secret in text for secret in _TOKENS[self.user][:5])
        assert "Authorization" not in frame.headers
        if frame.command == "MESSAGE":
            assert frame.headers.get("subscription") in self._ids, frame.headers
            self._note(frame)

    def _note(self, message: Frame) -> None:
        """Remember how the message can be acknowledged."""
        headers = message.headers
        if self.version == "1.2" and "ack" in headers:
            self.acks.append({"id": headers["ack"]})
        elif self.version != "1.2":
            names = ("message-id", "subscription")
            self.acks.append({name: headers[name] for name in names if name in headers})

    def close(self, code: int, reason: str) -> None:
        """The session begins to close."""
        assert self.closed is None
        assert not self._decoder.mid_frame
        assert (code == 1000) == (self.frames[-1].command != "ERROR")
        self.closed = code

    def abort(self) -> None:
        """The session cuts the connection off."""
        raise AssertionError("there was no reason")

    def pause_reading(self) -> None:
        """The session reads no more."""
        assert not self._paused
        self._paused = True

    def resume_reading(self) -> None:
        """The session reads on."""
        assert self._paused
        self._paused = False


def run(octets: bytes) -> None:
    """Let two users do things: nothing is logged that failed, and in the end nothing is left."""
    choices = Choices(octets)
    wait = Wait()
    application = Application(
        rules=_RULES,
        limits=choices.one_of((Limits(), SMALL)),
        interceptors=[wait],
        on_send=choices.one_of(("optional", "ignored")),
        stamp_sender=choices.once_in(4),
    )
    happened = _listen(application, wait)
    with no_failures():
        clients = [_connect(choices, application, user) for user in _USERS]
        for _ in range(MOST_ACTS):
            number = choices.number(len(clients))
            if clients[number].closed is not None:
                clients[number].session.connection_lost()
                clients[number] = _connect(choices, application, clients[number].user)
            _act(choices, application, clients[number], wait)
            for client in clients:
                client.go_on()
            if not choices:
                break
        for client in clients:
            client.session.connection_lost()
            assert client.session not in application.stompauth.sessions
        _check_nothing_is_left(application, wait)
    assert happened["connected"] == happened["disconnected"]
    assert happened["subscribed"] == happened["unsubscribed"]


def _listen(application: Application, wait: Wait) -> Counter[str]:
    """Add handlers, and count what happens."""
    happened: Counter[str] = Counter()
    stompauth = application.stompauth
    for event in ("connected", "disconnected", "subscribed", "unsubscribed"):
        stompauth.on(event)(lambda *_, event=event: happened.update([event]))

    @stompauth.on_send("/app/echo", reply="/queue/private", send_to="/topic/open/a/b")
    @stompauth.on_subscribe("/app/echo")
    def echo() -> str:
        return "echo"

    @stompauth.on_send("/app/wait", reply="/queue/private")
    @stompauth.on_subscribe("/app/wait")
    async def waits() -> str:
        try:
            await wait.pause()
        except CancelledError:
            raise Refused("gone") from None
        return "waited"

    return happened


def _connect(choices: Choices, application: Application, user: str) -> Client:
    client = Client(application, user, choices.one_of(("1.2", "1.1", "1.0")))
    headers = {
        "accept-version": client.version,
        "heart-beat": choices.one_of(("0,0", "10000,10000")),
        "authorization": f"Bearer {_TOKENS[user][0]}",
    }
    client.give(encode(Frame("CONNECT", headers), "1.0"))
    return client


def _act(choices: Choices, application: Application, client: Client, wait: Wait) -> None:
    match choices.number(32):
        case 0:
            application.clock.advance(choices.one_of((0.1, 1, 5, 30)))
        case 1:
            client.session.blocked()
        case 2:
            client.session.unblocked()
        case 3:
            wait.release()
        case 4:
            headers = {"expires": "1", "x": "y"} if choices.once_in(4) else {}
            to = choices.one_of(_ALLOWED[:2])
            application.stompauth.publish(to, b"\xff", headers).addErrback(lambda _: None)
        case 5:
            application.stompauth.recheck(choices.one_of((None, client.user)))
        case 6:
            what = {"token_id": "x", "session": client.session.session_id, "user": client.user}
            if choices.once_in(4):
                name = choices.one_of(sorted(what))
                application.stompauth.revoke(**{name: what[name]})
        case 7:
            client.give(b"\n")
        case 8:
            if choices.once_in(4):
                client.session.connection_lost()
                client.closed = 1006
        case 9:
            application.stompauth.send_to_user(client.user, "/queue/private", "x")
        case 10:
            client.give(choices.octets(choices.number(16)))
        case 11:
            client.give(choices.mutated(_frame(choices, client)))
        case 12 | 13:
            client.give(_any_frame(choices, client))
        case 14:
            for piece in choices.pieces(_frame(choices, client)):
                client.give(piece)
        case _:
            frames = [_frame(choices, client) for _ in range(choices.one_of((1, 1, 2, 5)))]
            client.give(b"".join(frames))


def _frame(choices: Choices, client: Client) -> bytes:
    """A frame that makes sense, as far as the client knows."""
    command = choices.one_of(("SEND", "SUBSCRIBE", "SEND", "ACK", "TRANSACTION", "UNSUBSCRIBE"))
    headers: dict[str, str] = {}
    body = b""
    if command == "SUBSCRIBE" and client.free:
        client.used.append(client.free.pop())
        headers = {"id": client.used[-1], "destination": choices.one_of(_ALLOWED)}
        if headers["destination"] == "/topic/open/a/b":
            headers["destination"] = choices.one_of(("/topic/open/**", "/topic/open/*/b"))
        headers["ack"] = choices.one_of(("client-individual", "client", "auto"))
        if client.version == "1.0":
            headers["ack"] = headers["ack"].partition("-")[0]
    elif command == "UNSUBSCRIBE" and client.used:
        client.free.append(client.used.pop(0))
        headers = {"id": client.free[-1]}
    elif command == "ACK" and client.acks:
        command = choices.one_of(("ACK", "ACK", "NACK")) if client.version != "1.0" else "ACK"
        headers = dict(client.acks.pop(choices.number(len(client.acks))))
    elif command == "TRANSACTION":
        if choices.once_in(2) and client.transactions:
            command = choices.one_of(("COMMIT", "COMMIT", "ABORT"))
            headers = {"transaction": client.transactions.pop()}
        else:
            command = "BEGIN"
            headers = {"transaction": f"t{choices.number(99)}"}
            client.transactions.append(headers["transaction"])
    else:
        command = "SEND"
        headers = {"destination": choices.one_of(_ALLOWED)}
        body = choices.octets(choices.one_of((1, 0, 3, 40)))
        if headers["destination"] == _ALLOWED[0] and choices.once_in(4):
            headers["retain"] = "true"
        if choices.once_in(12):
            headers["destination"] = "/session/token"
            headers["AuThorization"] = f"Bearer {choices.one_of(_TOKENS[client.user][:3])}"
    if command in ("SEND", "ACK", "NACK") and client.transactions and choices.once_in(3):
        headers["transaction"] = client.transactions[-1]
    for _ in range(choices.one_of((0, 0, 1, 2))):
        name, value = choices.one_of(_GOOD_EXTRA)
        headers.setdefault(name, value)
    return encode(Frame(command, headers, body), client.version)


def _any_frame(choices: Choices, client: Client) -> bytes:
    """A frame of any command, with any headers."""
    headers = {"destination": choices.one_of(_DESTINATIONS), "id": choices.one_of("1234")}
    if choices.once_in(4):
        headers["authorization"] = f"Bearer {choices.one_of(_TOKENS[client.user])}"
    for _ in range(choices.number(3)):
        name, value = choices.one_of(_EXTRA)
        headers[name] = value
    command = choices.one_of(_COMMANDS)
    try:
        return encode(Frame(command, headers, choices.octets(choices.number(4))), client.version)
    except LocalProtocolError:
        return f"{command}\ndestination:/topic/rooms/lobby\n\nbody\0".encode()


def _check_nothing_is_left(application: Application, wait: Wait) -> None:
    stompauth = application.stompauth
    assert not stompauth._sessions.open_sessions
    assert not len(stompauth.sessions)
    assert not any(stompauth.sessions.of_user(user) for user in _USERS)
    assert not wait.waiting
    assert not application.clock.getDelayedCalls()
    counts = application.broker.counts()
    for name in ("topics", "user_destinations", "reply_names"):
        assert not counts[name], counts
    assert counts["queues"] <= counts["queue_messages"], counts
    assert (counts["queue_bytes"] > 0) == (counts["queue_messages"] > 0), counts
