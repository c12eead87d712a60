"""Connections to a Redis server that come back by themselves.

Redis here is Redis 6.2 or later, or Valkey, one server or a primary behind one name; not a cluster
of Redis' own, with its keys spread over servers.

Of txredisapi the parser of replies is used. Its connections are not: they give up for ever when a
password is refused once, have no bound on what waits or on what a reply may hold, run on the global
reactor's timers, and its subscriber can neither authenticate nor subscribe again. It is imported by
the first connection, because it imports the global reactor.
"""

from __future__ import annotations

import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from random import random as random_share
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet import ssl
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger

from stompauth.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from os import PathLike

    from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
    from twisted.python.failure import Failure

#: A word of a command.
Word: TypeAlias = str | bytes | int | float

#: Seconds before the first attempt to come back, and at most before any; less by up to a half.
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 5.0

#: Seconds for a connection to be made, and then for each answer until it can be used.
CONNECT_TIMEOUT: Final = 5.0

#: Seconds of silence after which a server is asked whether it is still there.
PING_INTERVAL: Final = 2.0

#: Seconds by which this process is late itself, when it is not the server that is.
STALL: Final = 0.25

#: Commands, and octets of them, that one connection waits for at most.
MAX_WAITING: Final = 10_000
MAX_WAITING_OCTETS: Final = 16 << 20

#: Octets and elements of one reply at most.
MAX_REPLY: Final = 16 << 20

#: Channels in one command: what their confirmations take to come stays far below a time-out.
_SUBSCRIBED_AT_ONCE: Final = 500

#: The parser copies what is left of a piece for each line in it.
_PIECE: Final = 4096

_PORT: Final = 6379


class ErrorReply(Unavailable):
    """Redis has answered with an error.

    :ivar kind: its first word, as ``NOSCRIPT`` or ``READONLY``; ``ERR`` where it has none. The rest
        may repeat words of the command, and is not kept.
    """

    def __init__(self, text: str) -> None:
        kind = text.partition(" ")[0]
        self.kind = kind if re.fullmatch("[A-Z]{2,32}", kind) else "ERR"
        super().__init__(f"Redis has answered with the error {self.kind}")


@dataclass(frozen=True, slots=True)
class RedisURL:
    """Where a Redis server is: ``redis://[user@]host[:port][/database]``, or ``rediss://`` for TLS.

    A password has no place in it.
    """

    host: str
    port: int = _PORT
    database: int = 0
    user: str | None = None
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URL.

        :raises ValueError: it is none of Redis', or holds a password. The error's text does not
            repeat the URL.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ValueError("not a URL such as redis://host:6379/0") from None
        if parts.scheme not in ("redis", "rediss"):
            raise ValueError("a Redis URL begins with redis:// or rediss://")
        if parts.password is not None:
            raise ValueError("a password does not belong in a URL: use password_file")
        database = parts.path.removeprefix("/") or "0"
        if (
            not re.fullmatch("[!-~]+", text)
            or not re.fullmatch("[a-z0-9._-]+|[0-9a-f:.]+", parts.hostname or "")
            or port == 0
            or parts.query
            or parts.fragment
            or not re.fullmatch("[0-9]{1,5}", database)
        ):
            raise ValueError("a Redis URL is redis://[user@]host[:port][/database]")
        return cls(
            host=str(parts.hostname),
            port=port or _PORT,
            database=int(database),
            user=unquote(parts.username) if parts.username else None,
            tls=parts.scheme == "rediss",
        )

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "rediss" if self.tls else "redis"
        return f"{scheme}://{user}{host}:{self.port}/{self.database}"


def read_password(path: str | PathLike[str]) -> str:
    """Read the password in this file; a line end after it is not part of it.

    :raises OSError: the file cannot be read.
    :raises ValueError: it does not hold one line of UTF-8.
    """
    text = Path(path).read_bytes().decode("utf-8").removesuffix("\n").removesuffix("\r")
    if not text or "\n" in text or "\r" in text:
        raise ValueError("does not hold one line")
    return text


def is_installed() -> bool:
    """Whether the extra ``stompauth[redis]`` is there."""
    return find_spec("txredisapi") is not None


@cache
def _parser() -> Any:
    """The class of a parser; its transport is whatever it is given."""
    try:
        from txredisapi import BaseRedisProtocol
    except ImportError:
        raise ImportError(
            "Redis needs txredisapi: pip install 'stompauth[redis]'", name="txredisapi"
        ) from None

    class Parser(BaseRedisProtocol):  # type: ignore[misc]
        """Replies from octets: bytes, int, None, a list, or a str where Redis sends a status."""

        def __init__(self, replied: Callable[[Any], None]) -> None:
            super().__init__(charset=None, convertNumbers=False)
            self._replied = replied
            self._rest = b""
            self._size = 0

        def dataReceived(self, data: bytes) -> None:
            """Take octets.

            :raises ValueError: they are not replies, or a reply is too large.
            """
            for start in range(0, len(data), _PIECE):
                self._rest = data[start : start + _PIECE]
                while self._rest:
                    piece, self._rest = self._rest, b""
                    super().dataReceived(piece)

        def setLineMode(self, extra: bytes = b"") -> None:
            # The base class waits for another turn of the global reactor, for each bulk string.
            self.line_mode = 1
            self._rest = extra

        def lineReceived(self, line: str) -> None:
            # The base class takes a length that is none for a reply, and goes on out of step.
            self._size += len(line)
            if line[:1] in ("$", "*", ":"):
                number = int(line[1:])
                if line[0] != ":":
                    if number < -1:
                        raise ValueError("a length below 0")
                    self._size += max(number, 0)
            elif line[:1] not in ("+", "-"):
                raise ValueError("not a reply")
            if self._size > MAX_REPLY:
                raise ValueError("a reply is too large")
            super().lineReceived(line)

        def lineLengthExceeded(self, line: bytes) -> None:
            raise ValueError("a line is too long")

        def replyReceived(self, reply: Any) -> None:
            self._size = 0
            self._replied(reply)

    return Parser


def _encode(command: Sequence[Word]) -> bytes:
    pieces = [b"*%d\r\n" % len(command)]
    for word in command:
        octets = word if isinstance(word, bytes) else str(word).encode("utf-8")
        pieces.append(b"$%d\r\n%b\r\n" % (len(octets), octets))
    return b"".join(pieces)


def _plain(reply: Any) -> Any:
    """A reply as we hand it out.

    :raises ErrorReply: it is an error, or holds one.
    """
    if isinstance(reply, list):
        return [_plain(each) for each in reply]
    if isinstance(reply, Exception):
        raise ErrorReply(str(reply))
    return reply.encode("utf-8") if isinstance(reply, str) else reply


class _Waiting:
    """A command whose replies are yet to come."""

    __slots__ = ("deadline", "octets", "replied", "replies")

    def __init__(self, deadline: float, octets: int, replies: int) -> None:
        self.deadline = deadline
        self.octets = octets
        self.replies = replies
        self.replied: Deferred[Any] = Deferred()


class _Connection(Protocol):
    """One connection. Replies come in the order of the commands, and never another's.

    A command whose reply is late ends the connection (TK-8): whatever comes after it can be trusted
    no more to be on time either. With subscriptions, where many may end at once and nobody waits
    for it, none is late while those before it are answered. One that is cancelled keeps its place
    until its reply has come.

    :param pushed: gets the messages of subscriptions; None where there can be none.
    :ivar timeout: seconds that a command may take.
    :ivar is_usable: whether commands can be sent.
    :ivar lost: fires with the reason when the connection is of no more use.
    :ivar closed: fires when it is gone.
    """

    transport: Any

    def __init__(self, clock: IReactorTime, pushed: Callable[[list[bytes]], None] | None) -> None:
        self._clock = clock
        self._pushed = pushed
        self._parser = _parser()(self._replied)
        self._waiting: deque[_Waiting] = deque()
        self._octets = 0
        self._heard_at = 0.0
        self._answered_at = 0.0
        self._awake_at = 0.0
        self._timer: IDelayedCall | None = None
        self.timeout = CONNECT_TIMEOUT
        self.is_usable = False
        self.lost: Deferred[str] = Deferred()
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._parser.transport = self.transport
        self.is_usable = True
        self._heard_at = self._clock.seconds()
        self._timer = self._clock.callLater(PING_INTERVAL, self._watch)

    def send(
        self, command: Sequence[Word], replies: int = 1, *, is_bounded: bool = True
    ) -> Deferred[Any]:
        """Send a command.

        :param replies: how many come for it; the last one is what the Deferred fires with.
        :param is_bounded: whether it is refused when too much waits.
        """
        if not self.is_usable:
            return fail(Unavailable("Redis is away"))
        octets = _encode(command)
        if is_bounded and (
            len(self._waiting) >= MAX_WAITING or self._octets + len(octets) > MAX_WAITING_OCTETS
        ):
            return fail(Unavailable("too much waits for Redis already"))
        deadline = self._clock.seconds() + self.timeout
        waiting = _Waiting(deadline, len(octets), replies)
        self._waiting.append(waiting)
        self._octets += len(octets)
        if self._timer is not None and self._timer.getTime() > deadline:
            self._timer.reset(self.timeout)
        self.transport.write(octets)
        return waiting.replied

    def dataReceived(self, data: bytes) -> None:
        self._heard_at = self._clock.seconds()
        try:
            self._parser.dataReceived(data)
        except ValueError:
            self.drop("what it sends is not the protocol of Redis")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.is_usable:
            self._end("the connection was lost")
        self.closed.callback(None)

    def drop(self, reason: str) -> None:
        """Have done with the connection: at once, and without a word to the server."""
        if self.is_usable:
            self._end(reason)
            self.transport.abortConnection()

    def _end(self, reason: str) -> None:
        self.is_usable = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        while self._waiting:
            self._waiting.popleft().replied.errback(Unavailable(f"Redis is away: {reason}"))
        self.lost.callback(reason)

    def _replied(self, reply: Any) -> None:
        if not self.is_usable:
            return
        if (
            self._pushed is not None
            and isinstance(reply, list)
            and reply[:1] in ([b"message"], [b"pmessage"])
        ):
            self._pushed(reply)
            return
        if not self._waiting:
            self.drop("it answers what nobody asked")
            return
        if self._pushed is not None:
            self._answered_at = self._clock.seconds()
        waiting = self._waiting[0]
        waiting.replies -= 1
        # For a command that it refuses, however many replies it has, Redis sends one error.
        if waiting.replies and not isinstance(reply, Exception):
            return
        self._waiting.popleft()
        self._octets -= waiting.octets
        try:
            plain = _plain(reply)
        except ErrorReply as error:
            if error.kind == "READONLY":
                # This was the primary, and the name may stand for another server by now.
                self.drop("it is read-only")
            waiting.replied.errback(error)
        else:
            waiting.replied.callback(plain)

    def _watch(self) -> None:
        now = self._clock.seconds()
        if self._timer is not None and now - self._timer.getTime() > STALL:
            # It was this process that stood still, and neither sent nor read.
            self._awake_at = now
        if not self._waiting and self._heard_at + PING_INTERVAL <= now:
            self.send(("PING",)).addErrback(lambda _: None)
        if self._waiting:
            since = max(self._answered_at, self._awake_at)
            due = max(self._waiting[0].deadline, since + self.timeout)
            if due <= now:
                self.drop("it did not answer in time")
                return
        else:
            due = self._heard_at + PING_INTERVAL
        self._timer = self._clock.callLater(due - now, self._watch)


def _endpoint(
    reactor: Any, url: RedisURL, ca_file: str | PathLike[str] | None
) -> IStreamClientEndpoint:
    endpoint = HostnameEndpoint(reactor, url.host, url.port, timeout=CONNECT_TIMEOUT)
    if not url.tls:
        return endpoint
    trust_root = None
    if ca_file is not None:
        trust_root = ssl.trustRootFromCertificates(
            ssl.Certificate.load(certificate.public_bytes(Encoding.DER))
            for certificate in x509.load_pem_x509_certificates(Path(ca_file).read_bytes())
        )
    return wrapClientTLS(ssl.optionsForClientTLS(url.host, trust_root), endpoint)


def _delay(failures: int, random: Callable[[], float] = random_share) -> float:
    """Seconds before the next attempt, after so many that failed."""
    return min(FIRST_DELAY * 2.0 ** min(failures, 30), LONGEST_DELAY) * (1 - random() / 2)


class _Client:
    """Keeps one connection for as long as it runs."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        url: RedisURL,
        password: str | None,
        timeout: float,
        ca_file: str | PathLike[str] | None,
    ) -> None:
        if url.user is not None and password is None:
            raise ValueError("a user of Redis has a password")
        self.url = url
        self._clock: IReactorTime = reactor
        self._endpoint = _endpoint(reactor, url, ca_file)
        self._password = password
        self._timeout = timeout
        self._connection: _Connection | None = None
        self._running: Deferred[None] | None = None
        self._starts = 0
        self._trouble: str | None = ""
        self._is_ready = False
        _parser()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection that can be used."""
        return self._is_ready and self._connection is not None and self._connection.is_usable

    def start(self) -> None:
        """Connect, and again whenever the connection is lost, until :meth:`stop`."""
        if self._running is None:
            self._starts += 1
            self._running = Deferred.fromCoroutine(self._run(self._starts))

    def stop(self) -> Deferred[None]:
        """End the connection, or the attempts to make one; what waits fails.

        :return: fires when it is gone.
        """
        running, self._running = self._running, None
        if running is None:
            return succeed(None)
        self._starts += 1
        running.cancel()
        return running

    async def _run(self, start: int) -> None:
        failures = 0
        # An endpoint that is cancelled says so by errors of several kinds: what counts is the stop.
        with suppress(CancelledError):
            while start == self._starts:
                try:
                    reason = await self._live()
                    failures = 0
                except Exception as error:
                    reason = str(error) or type(error).__name__
                if start == self._starts:
                    self._note(reason)
                    await deferLater(self._clock, _delay(failures))
                    failures += 1

    async def _live(self) -> str:
        """Connect, and say in the end why it is over.

        :raises Exception: there was no connection that could be used.
        """
        factory = Factory.forProtocol(self._build)
        factory.noisy = False
        connection: Any = await self._endpoint.connect(factory)
        try:
            await self._greet(connection)
            self._connection = connection
            await self._prepare(connection)
            connection.timeout = self._timeout
            self._is_ready = True
            self._note(None)
            self._made()
            reason: str = await connection.lost
            return reason
        finally:
            was_ready, self._is_ready = self._is_ready, False
            self._connection = None
            connection.drop("it was ended here")
            if was_ready:
                self._ended()
            await connection.closed

    async def _greet(self, connection: _Connection) -> None:
        if self._password is not None:
            user = () if self.url.user is None else (self.url.user,)
            await connection.send(("AUTH", *user, self._password))
        if self.url.database:
            await connection.send(("SELECT", self.url.database))
        # A server that is frozen is connected to as well.
        await connection.send(("PING",))

    def _build(self) -> _Connection:
        return _Connection(self._clock, None)

    async def _prepare(self, connection: _Connection) -> None:
        """Whatever comes before the connection is ready."""

    def _made(self) -> None:
        """The connection is ready."""

    def _ended(self) -> None:
        """It was, and is no more."""

    def _call(self, function: Callable[[], object]) -> None:
        try:
            function()
        except Exception:
            self._log.failure("{function} failed", function=function)

    def _note(self, trouble: str | None) -> None:
        """Log what is new: a reason why there is no connection, or None for that there is one."""
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble is None:
            self._log.info("connected to {url}", url=self.url)
        else:
            self._log.warn("no connection to {url}: {trouble}", url=self.url, trouble=trouble)


class Redis(_Client):
    """A connection for commands, which comes back by itself.

    :ivar url: of the server.
    """

    def __init__(
        self,
        reactor: Any,
        url: RedisURL,
        *,
        password: str | None = None,
        timeout: float = 1.0,
        ca_file: str | PathLike[str] | None = None,
        connected: Callable[[], object] = lambda: None,
    ) -> None:
        """
        :param reactor: what connects, and what time it is.
        :param password: of the URL's user, or of the default one.
        :param timeout: seconds that a command may take.
        :param ca_file: certificates of the only CAs to trust, as PEM; None for the system's.
        :param connected: called when each connection is ready.
        :raises ImportError: the extra ``redis`` is not installed.
        :raises ValueError: the URL has a user, and there is no password.
        """
        super().__init__(reactor, url, password, timeout, ca_file)
        self._on_connected = connected

    def execute(self, *command: Word) -> Deferred[Any]:
        """Send a command, without waiting for those before it.

        Cancelling stops the waiting, and not the command.

        :param command: its words: text goes as UTF-8, numbers in decimal.
        :return: fires with the reply: bytes, an int, None, or a list of these.
        :raises Unavailable: by the Deferred: there is no connection, too much waits on it, or it
            was lost or the time was over before the reply came (then Redis may have done it);
            :exc:`ErrorReply` where the reply is an error, or holds one.
        """
        if self._connection is None or not self._is_ready:
            return fail(Unavailable("Redis is away"))
        return self._connection.send(command)

    def evaluate(
        self, script: str, keys: Sequence[Word] = (), arguments: Sequence[Word] = ()
    ) -> Deferred[Any]:
        """Run a Lua script, atomically; Redis keeps it for the next time.

        :param keys: every key that it touches, its ``KEYS``.
        :param arguments: its ``ARGV``.
        :return: as of :meth:`execute`.
        """
        return Deferred.fromCoroutine(self._evaluate(script, (len(keys), *keys, *arguments)))

    async def _evaluate(self, script: str, words: tuple[Word, ...]) -> Any:
        name = sha1(script.encode("utf-8"), usedforsecurity=False).hexdigest()
        try:
            return await self.execute("EVALSHA", name, *words)
        except ErrorReply as error:
            if error.kind != "NOSCRIPT":
                raise
        return await self.execute("EVAL", script, *words)

    def _made(self) -> None:
        self._call(self._on_connected)


class RedisSubscriber(_Client):
    """A connection for messages, which comes back by itself and subscribes again.

    What is published while there is no connection is missed. A channel that one of the patterns
    fits as well is received twice.

    :ivar url: of the server.
    """

    def __init__(
        self,
        reactor: Any,
        url: RedisURL,
        *,
        password: str | None = None,
        timeout: float = 1.0,
        ca_file: str | PathLike[str] | None = None,
        received: Callable[[str, bytes], object],
        received_pattern: Callable[[str, str, bytes], object] | None = None,
        connected: Callable[[], object] = lambda: None,
        lost: Callable[[], object] = lambda: None,
    ) -> None:
        """
        :param reactor: and the next four as for :class:`Redis`.
        :param received: gets the channel and the payload of each message.
        :param received_pattern: gets the pattern, channel and payload of each message that came by
            a pattern.
        :param connected: called when everything is subscribed to, on each connection.
        :param lost: called when such a connection is over.
        """
        super().__init__(reactor, url, password, timeout, ca_file)
        self._received = received
        self._received_pattern = received_pattern
        self._on_connected = connected
        self._on_lost = lost
        # In dictionaries, for their order.
        self._channels: dict[str, None] = {}
        self._patterns: dict[str, None] = {}

    def subscribe(self, *channels: str) -> Deferred[None]:
        """Receive these channels, on this connection and on every later one.

        :return: fires when Redis has confirmed.
        :raises Unavailable: by the Deferred: it cannot now; the next connection will. Not so after
            :exc:`ErrorReply`: then Redis refuses, and the channels are forgotten.
        """
        return self._add("SUBSCRIBE", self._channels, channels)

    def unsubscribe(self, *channels: str) -> Deferred[None]:
        """Receive these channels no more.

        :return: fires when Redis has confirmed, or the connection is lost, which does as well.
        """
        return self._remove("UNSUBSCRIBE", self._channels, channels)

    def psubscribe(self, *patterns: str) -> Deferred[None]:
        """Receive all channels that fit one of these patterns. See :meth:`subscribe`."""
        return self._add("PSUBSCRIBE", self._patterns, patterns)

    def punsubscribe(self, *patterns: str) -> Deferred[None]:
        """Receive these patterns no more. See :meth:`unsubscribe`."""
        return self._remove("PUNSUBSCRIBE", self._patterns, patterns)

    def pause(self) -> None:
        """Read nothing more for now; what Redis then cannot keep ends the connection.

        So does a pause that is longer than an answer may take.
        """
        if self._connection is not None:
            self._connection.transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        if self._connection is not None and self._connection.is_usable:
            self._connection.transport.resumeProducing()

    def _add(self, command: str, names: dict[str, None], more: Sequence[str]) -> Deferred[None]:
        names.update(dict.fromkeys(more))

        def refused(failure: Failure) -> Failure:
            if failure.check(ErrorReply):
                for name in more:
                    names.pop(name, None)
            return failure

        return self._send(command, more).addErrback(refused)

    def _remove(self, command: str, names: dict[str, None], less: Sequence[str]) -> Deferred[None]:
        for name in less:
            names.pop(name, None)
        # What was subscribed to is their bound; one that was refused would be left to Redis.
        removed = self._send(command, less, is_bounded=False)
        return removed.addErrback(lambda failure: failure.trap(Unavailable))

    def _send(
        self, command: str, names: Sequence[str], *, is_bounded: bool = True
    ) -> Deferred[None]:
        # Without names UNSUBSCRIBE would end them all.
        if not names:
            return succeed(None)
        if self._connection is None:
            return fail(Unavailable("Redis is away"))
        replied = self._connection.send(
            (command, *names), replies=len(names), is_bounded=is_bounded
        )
        return replied.addCallback(lambda _: None)

    async def _prepare(self, connection: _Connection) -> None:
        for command, names in (("SUBSCRIBE", self._channels), ("PSUBSCRIBE", self._patterns)):
            for some in _batches(names):
                # Some may have been left out while others were waited for.
                wanted = [name for name in some if name in names]
                if wanted:
                    await connection.send((command, *wanted), replies=len(wanted))

    def _build(self) -> _Connection:
        return _Connection(self._clock, self._pushed)

    def _pushed(self, message: list[bytes]) -> None:
        try:
            channel, payload = message[-2].decode("utf-8"), message[-1]
            if message[0] == b"message":
                self._received(channel, payload)
            elif self._received_pattern is not None:
                self._received_pattern(message[1].decode("utf-8"), channel, payload)
        except Exception:
            self._log.failure("a message from {url} was not taken", url=self.url)

    def _made(self) -> None:
        self._call(self._on_connected)

    def _ended(self) -> None:
        self._call(self._on_lost)


def _batches(names: Collection[str]) -> Iterator[list[str]]:
    every = iter(list(names))
    while some := list(islice(every, _SUBSCRIBED_AT_ONCE)):
        yield some
