"""RFC 6455 over raw sockets: what goes in, octet for octet, and what has to come back."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.integration.configured import ConfiguredServer, configured
from tests.integration.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawWebSocket,
    status_of,
)
from tests.wire import client_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MASK = b"\x01\x02\x03\x04"

#: The server's limit of a STOMP frame, and how much longer a message may be.
FRAME, MARGIN = 65536, 16384

#: A STOMP frame that asks for an answer, and that answer. The receipt's id has three octets.
BEGIN = b"BEGIN\ntransaction:1\nreceipt:\xe2\x82\xac\n\n\0"
CUT = BEGIN.index(b"\x82")
RECEIPT = (TEXT, b"RECEIPT\nreceipt-id:\xe2\x82\xac\n\n\0")


def close(status: int, reason: bytes = b"") -> bytes:
    """A close frame with a status."""
    return client_frame(CLOSE, struct.pack("!H", status) + reason)


def fragments(opcode: int, *payloads: bytes, between: bytes = b"") -> bytes:
    """A message in fragments, with these octets between each two."""
    frames = [
        client_frame(CONTINUATION if i else opcode, payload, fin=i == len(payloads) - 1)
        for i, payload in enumerate(payloads)
    ]
    return between.join(frames)


def reserved(bits: int, opcode: int, payload: bytes = b"") -> bytes:
    """A frame with reserved bits set."""
    frame = client_frame(opcode, payload)
    return bytes([frame[0] | bits << 4]) + frame[1:]


def unmasked(opcode: int, payload: bytes) -> bytes:
    """A frame without a mask."""
    return bytes([0x80 | opcode, len(payload)]) + payload


def with_length16(opcode: int, length: int, payload: bytes = b"") -> bytes:
    """A frame that says its length in 16 bits, true or not."""
    return struct.pack("!BBH", 0x80 | opcode, 0xFE, length) + MASK + payload


def with_length64(opcode: int, length: int, payload: bytes = b"") -> bytes:
    """A frame that says its length in 64 bits, true or not."""
    return struct.pack("!BBQ", 0x80 | opcode, 0xFF, length) + MASK + payload


def stomp_send(size: int) -> bytes:
    """A STOMP frame of that size with the receipt of BEGIN."""
    head = BEGIN[BEGIN.index(b"receipt") : -1]
    head = b"SEND\ndestination:/topic/nobody\n" + head
    return head + b"x" * (size - len(head) - 1) + b"\0"


@dataclass(frozen=True)
class Row:
    """What a connected client sends, and what it must get.

    :ivar status: that of the server's close frame.
    :ivar answers: the frames before it.
    """

    name: str
    sent: bytes
    status: int = 1000
    answers: tuple[tuple[int, bytes], ...] = ()

    def __str__(self) -> str:
        return self.name


DONE = close(1000)

MASKS = [
    Row("unmasked text", unmasked(TEXT, BEGIN), 1002),
    Row("unmasked binary", unmasked(BINARY, BEGIN), 1002),
    Row("unmasked ping", unmasked(PING, b"x"), 1002),
    Row("unmasked close", unmasked(CLOSE, b"\x03\xe8"), 1002),
    Row(
        "unmasked continuation",
        client_frame(TEXT, BEGIN[:9], fin=False) + unmasked(CONTINUATION, BEGIN[9:]),
        1002,
    ),
]

OPCODES = [
    Row(f"reserved opcode {opcode}", client_frame(opcode, b""), 1002)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
]

RESERVED_BITS = [
    *(
        Row(f"reserved bits {bits:03b} on text", reserved(bits, TEXT, BEGIN), 1002)
        for bits in (0b100, 0b010, 0b001, 0b111)
    ),
    Row("reserved bit on ping", reserved(0b100, PING), 1002),
    Row("reserved bit on close", reserved(0b010, CLOSE, b"\x03\xe8"), 1002),
    Row(
        "reserved bit on a continuation",
        client_frame(TEXT, BEGIN[:9], fin=False) + reserved(0b100, CONTINUATION, BEGIN[9:]),
        1002,
    ),
]

MESSAGES = [
    Row("text", client_frame(TEXT, BEGIN) + DONE, 1000, (RECEIPT,)),
    Row("binary", client_frame(BINARY, BEGIN) + DONE, 1000, (RECEIPT,)),
    Row("two fragments", fragments(TEXT, BEGIN[:9], BEGIN[9:]) + DONE, 1000, (RECEIPT,)),
    Row("binary fragments", fragments(BINARY, BEGIN[:9], BEGIN[9:]) + DONE, 1000, (RECEIPT,)),
    Row(
        "a fragment for each octet",
        fragments(TEXT, *(BEGIN[i : i + 1] for i in range(len(BEGIN)))) + DONE,
        1000,
        (RECEIPT,),
    ),
    Row(
        "empty fragments in between",
        fragments(TEXT, b"", BEGIN[:9], b"", b"", BEGIN[9:], b"") + DONE,
        1000,
        (RECEIPT,),
    ),
    Row("empty messages", client_frame(TEXT, b"") + client_frame(BINARY, b"") + DONE),
    Row("empty fragments only", fragments(TEXT, b"", b"") + DONE),
    Row(
        "a STOMP frame over messages",
        client_frame(TEXT, BEGIN[:9]) + client_frame(BINARY, BEGIN[9:]) + DONE,
        1000,
        (RECEIPT,),
    ),
    Row(
        "two STOMP frames in a message",
        client_frame(TEXT, BEGIN + BEGIN.replace(b":1", b":2")) + DONE,
        1000,
        (RECEIPT, RECEIPT),
    ),
    Row(
        "a mask of zeros",
        b"\x82" + bytes([0x80 | len(BEGIN)]) + bytes(4) + BEGIN + DONE,
        1000,
        (RECEIPT,),
    ),
    *(
        Row(f"a message of {size}", client_frame(TEXT, stomp_send(size)) + DONE, 1000, (RECEIPT,))
        for size in (125, 126, 127, 65535, 65536)
    ),
]

FRAGMENTS = [
    Row("continuation without start", client_frame(CONTINUATION, BEGIN), 1002),
    Row("open continuation without start", client_frame(CONTINUATION, BEGIN, fin=False), 1002),
    Row(
        "continuation after the end",
        fragments(TEXT, BEGIN[:9], BEGIN[9:]) + client_frame(CONTINUATION, b"x"),
        1002,
        (RECEIPT,),
    ),
    Row(
        "text within a message",
        client_frame(TEXT, BEGIN[:9], fin=False) + client_frame(TEXT, BEGIN),
        1002,
    ),
    Row(
        "binary within a message",
        client_frame(TEXT, BEGIN[:9], fin=False) + client_frame(BINARY, BEGIN[9:]),
        1002,
    ),
    Row(
        "open text within a message",
        client_frame(BINARY, b"", fin=False) + client_frame(TEXT, b"", fin=False),
        1002,
    ),
]

CONTROLS = [
    Row("ping", client_frame(PING, b"") + DONE, 1000, ((PONG, b""),)),
    Row("ping of 125", client_frame(PING, b"x" * 125) + DONE, 1000, ((PONG, b"x" * 125),)),
    Row("ping of any octets", client_frame(PING, b"\xff\0") + DONE, 1000, ((PONG, b"\xff\0"),)),
    Row(
        "pings in order",
        b"".join(client_frame(PING, bytes([i])) for i in range(8)) + DONE,
        1000,
        tuple((PONG, bytes([i])) for i in range(8)),
    ),
    Row("pong unasked", client_frame(PONG, b"x") + client_frame(PONG, b"") + DONE),
    Row(
        "pings between fragments",
        fragments(TEXT, BEGIN[:9], BEGIN[9:CUT], BEGIN[CUT:], between=client_frame(PING, b"x"))
        + DONE,
        1000,
        ((PONG, b"x"), (PONG, b"x"), RECEIPT),
    ),
    Row(
        "pongs between fragments",
        fragments(TEXT, BEGIN[:9], BEGIN[9:], between=client_frame(PONG, b"x")) + DONE,
        1000,
        (RECEIPT,),
    ),
    Row("close between fragments", client_frame(TEXT, BEGIN[:9], fin=False) + DONE),
    Row("ping of 126", client_frame(PING, b"x" * 126), 1002),
    Row("pong of 126", client_frame(PONG, b"x" * 126), 1002),
    Row("close of 126", close(1000, b"x" * 124), 1002),
    Row("ping with a 64-bit length", with_length64(PING, 1, b"x"), 1002),
    Row("ping in fragments", client_frame(PING, b"x", fin=False), 1002),
    Row("pong in fragments", client_frame(PONG, b"x", fin=False), 1002),
    Row("close in fragments", client_frame(CLOSE, b"\x03\xe8", fin=False), 1002),
]

LENGTHS = [
    Row("125 in 16 bits", with_length16(BINARY, 125, b"x" * 125), 1002),
    Row("0 in 16 bits", with_length16(BINARY, 0), 1002),
    Row("65535 in 64 bits", with_length64(BINARY, 65535), 1002),
    Row("0 in 64 bits", with_length64(BINARY, 0), 1002),
    Row("highest bit", with_length64(BINARY, 1 << 63), 1002),
    Row("all bits", with_length64(BINARY, (1 << 64) - 1), 1002),
]

#: Octets that are not UTF-8 (RFC 3629 section 4).
NOT_UTF8 = {
    "lone continuation": b"\x80",
    "overlong slash": b"\xc0\xaf",
    "overlong DEL": b"\xc1\xbf",
    "overlong in three": b"\xe0\x80\xaf",
    "overlong in four": b"\xf0\x80\x80\xaf",
    "surrogate": b"\xed\xa0\x80",
    "surrogate pair": b"\xed\xa0\x80\xed\xb0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "five octets": b"\xf8\x88\x80\x80\x80",
    "FE": b"\xfe",
    "FF": b"\xff",
    "cut by another": b"\xe2\x82a",
    "cut by the end": b"\xe2\x82",
}

UTF8 = [
    *(
        Row(f"text, {name}", client_frame(TEXT, b"a" + octets), 1007)
        for name, octets in NOT_UTF8.items()
    ),
    *(
        Row(f"text in fragments, {name}", fragments(TEXT, b"a" + octets[:1], octets[1:]), 1007)
        for name, octets in NOT_UTF8.items()
    ),
    *(
        Row(f"reason, {name}", close(1000, b"a" + octets), 1007)
        for name, octets in NOT_UTF8.items()
    ),
    Row(
        "a character over fragments",
        fragments(TEXT, BEGIN[:CUT], BEGIN[CUT : CUT + 1], b"", BEGIN[CUT + 1 :]) + DONE,
        1000,
        (RECEIPT,),
    ),
    Row(
        "a character over fragments with pings",
        fragments(TEXT, BEGIN[:CUT], BEGIN[CUT:], between=client_frame(PING, b"\x82")) + DONE,
        1000,
        ((PONG, b"\x82"), RECEIPT),
    ),
    Row(
        "the ends of UTF-8",
        client_frame(
            TEXT,
            BEGIN.replace(
                b"1", "\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff".encode()
            ),
        )
        + DONE,
        1000,
        (RECEIPT,),
    ),
    Row(
        "any octets in binary",
        client_frame(
            BINARY,
            b"SEND\ndestination:/topic/nobody\ncontent-length:256\n"
            + BEGIN[BEGIN.index(b"receipt") : -1]
            + bytes(range(256))
            + b"\0",
        )
        + DONE,
        1000,
        (RECEIPT,),
    ),
]

CLOSES = [
    Row("no status", client_frame(CLOSE, b"")),
    Row("half a status", client_frame(CLOSE, b"\x03"), 1002),
    *(
        Row(f"status {status}", close(status))
        for status in (
            *(1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013),
            *(3000, 3999, 4000, 4999),
        )
    ),
    *(
        Row(f"status {status}", close(status), 1002)
        for status in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    ),
    Row("reason", close(1000, "bye \N{EURO SIGN}".encode())),
    Row("reason of 123", close(1000, b"x" * 123)),
    Row("message after close", DONE + client_frame(TEXT, BEGIN)),
    Row("ping after close", DONE + client_frame(PING, b"x")),
    Row("close after close", DONE + close(3000)),
    Row("nonsense after close", DONE + unmasked(7, b"\xff")),
    Row("message after a violation", client_frame(3, b"") + client_frame(TEXT, BEGIN), 1002),
    Row("ping after a violation", client_frame(3, b"") + client_frame(PING, b"x"), 1002),
    Row("close after a violation", client_frame(TEXT, b"\xff") + close(1007), 1007),
    Row("violation after a violation", client_frame(TEXT, b"\xff") + unmasked(7, b""), 1007),
]

LARGE = [
    Row(
        "as long as may be",
        client_frame(TEXT, stomp_send(FRAME) + stomp_send(MARGIN)) + DONE,
        1000,
        (RECEIPT, RECEIPT),
    ),
    Row("too long by its head", with_length64(BINARY, FRAME + MARGIN + 1), 1009),
    Row("too long by far", with_length64(BINARY, 1 << 62), 1009),
    Row("too long in all", fragments(BINARY, bytes(FRAME), bytes(MARGIN), b"x"), 1009),
    Row(
        "many fragments",
        fragments(TEXT, *(octet.to_bytes() for octet in stomp_send(900))) + DONE,
        1000,
        (RECEIPT,),
    ),
    Row("a flood of pings", client_frame(PING, b"x") * 5000 + DONE, 1000, ((PONG, b"x"),) * 5000),
]

TABLE = [
    *MASKS,
    *OPCODES,
    *RESERVED_BITS,
    *MESSAGES,
    *FRAGMENTS,
    *CONTROLS,
    *LENGTHS,
    *UTF8,
    *CLOSES,
    *LARGE,
]


@pytest.fixture(scope="module", params=[True, False], ids=["fast I/O", "plain I/O"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConfiguredServer]:
    """A server in one of its I/O modes."""
    with configured(
        tmp_path_factory.mktemp("rfc6455"),
        fast_io=request.param,
        ping=1,
        frame=FRAME,
        close_timeout=1,
        connect_timeout=3,
        frame_timeout=3,
        send_buffer=0,
        frames_per_second=0,
        bytes_per_second=0,
    ) as server:
        yield server


@dataclass(frozen=True)
class Silent:
    """Clients that have stopped in the middle of something.

    :ivar strangers: those which have not sent CONNECT.
    :ivar in_head: those within the head of a frame.
    :ivar in_message: those within a frame, and between two fragments.
    """

    strangers: list[RawWebSocket]
    in_head: list[RawWebSocket]
    in_message: list[RawWebSocket]


@pytest.fixture(scope="module", autouse=True)
def silent(server: ConfiguredServer) -> Iterator[Silent]:
    """They stop before all other tests, since the server takes its time with them."""
    whole = client_frame(TEXT, BEGIN)
    halves_of_head = [whole[:1], whole[:4]]
    halves_of_message = [whole[:-1], client_frame(TEXT, BEGIN, fin=False)]
    token = server.token("bob")
    with contextlib.ExitStack() as stack:

        def stop(halves: list[bytes], *, connected: bool) -> list[RawWebSocket]:
            websockets = [stack.enter_context(RawWebSocket(server, token)) for _ in halves]
            for websocket, half in zip(websockets, halves, strict=True):
                if connected:
                    websocket.connect(token)
                websocket.send(half)
            return websockets

        yield Silent(
            stop([*halves_of_head, *halves_of_message], connected=False),
            stop(halves_of_head, connected=True),
            stop(halves_of_message, connected=True),
        )


def check(server: ConfiguredServer, row: Row, writes: Iterable[bytes]) -> None:
    """Send a row's octets, and compare all that comes back until the server hangs up."""
    token = server.token("alice")
    with RawWebSocket(server, token) as websocket:
        websocket.connect(token)
        # The server may hang up before it has them all.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for octets in writes:
                websocket.send(octets)
        answers = []
        while (frame := websocket.frame()) is not None and frame[0] != CLOSE:
            answers.append(frame)
        assert tuple(answers) == row.answers
        assert frame is not None, "the server hung up without a close frame"
        assert status_of(frame[1]) == row.status
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            websocket.send(close(row.status))
        assert websocket.rest() == []


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_whole(server: ConfiguredServer, row: Row) -> None:
    """The row holds when the octets arrive at once."""
    check(server, row, [row.sent])


@pytest.mark.parametrize("row", [row for row in TABLE if len(row.sent) < 1000], ids=str)
def test_octet_by_octet(server: ConfiguredServer, row: Row) -> None:
    """The row holds when every octet arrives alone."""
    check(server, row, (row.sent[i : i + 1] for i in range(len(row.sent))))


@pytest.mark.parametrize(
    ("sent", "code", "status"),
    [
        (b"NONSENSE\n\n\0", b"malformed", 1002),
        (stomp_send(FRAME + 1), b"too-large", 1009),
    ],
)
def test_error_before_close(
    server: ConfiguredServer, sent: bytes, code: bytes, status: int
) -> None:
    """An ERROR is out before the close frame, also to a client that closes at the same time."""
    token = server.token("alice")
    with RawWebSocket(server, token) as websocket:
        websocket.connect(token)
        websocket.send(client_frame(BINARY, sent) + DONE)
        (opcode, error), (_, reason) = websocket.rest()
    assert (opcode, error.partition(b"\n")[0]) == (TEXT, b"ERROR")
    assert b"\ncode:" + code + b"\n" in error
    assert status_of(reason) == status


def test_disconnect_and_close(server: ConfiguredServer) -> None:
    """A client that closes right behind its DISCONNECT gets the receipt all the same."""
    token = server.token("alice")
    with RawWebSocket(server, token) as websocket:
        websocket.connect(token)
        websocket.send(client_frame(TEXT, b"DISCONNECT\nreceipt:last\n\n\0") + DONE)
        assert websocket.rest() == [(TEXT, b"RECEIPT\nreceipt-id:last\n\n\0"), (CLOSE, b"\x03\xe8")]


def test_silence_before_connect(silent: Silent) -> None:
    """Who stops in the middle of a frame before CONNECT is told that the time is up."""
    for websocket in silent.strangers:
        (_, error), (_, reason) = websocket.rest()
        assert b"\ncode:connect-timeout\n" in error
        assert status_of(reason) == 4408


def test_silence(silent: Silent) -> None:
    """Who stops in the middle of a message later is told that it took too long."""
    for websocket in silent.in_message:
        (_, error), (_, reason) = websocket.rest()
        assert b"\ncode:frame-timeout\n" in error
        assert status_of(reason) == 4408


def test_silence_in_head(silent: Silent) -> None:
    """Who stops in the head of a frame leaves a ping without its pong, and is dropped."""
    for websocket in silent.in_head:
        assert websocket.rest() == []


def test_endless_message(server: ConfiguredServer) -> None:
    """WS-1: a message of fragments without end is one that takes too long, also of empty ones."""
    token = server.token("alice")
    with RawWebSocket(server, token) as websocket:
        websocket.connect(token)
        websocket.send(client_frame(BINARY, b"", fin=False))
        more = client_frame(CONTINUATION, b"", fin=False) * 1000
        # The server may hang up on it all before it is looked at.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while not websocket.is_answered():
                websocket.send(more)
        (_, error), (_, reason) = websocket.rest()
    assert b"\ncode:frame-timeout\n" in error
    assert status_of(reason) == 4408


def test_no_reading(server: ConfiguredServer) -> None:
    """Who closes and reads nothing is dropped after close_timeout, whatever he was to get."""
    token = server.token("alice")
    with RawWebSocket(server, token, deaf=True) as deaf, RawWebSocket(server, token) as speaker:
        deaf.connect(token)
        speaker.connect(token)
        deaf.send_stomp("SUBSCRIBE", {"id": "1", "destination": "/topic/long", "receipt": "1"})
        assert deaf.frame() is not None
        long = client_frame(BINARY, b"SEND\ndestination:/topic/long\n\n" + b"x" * 60000 + b"\0")
        for _ in range(256):
            speaker.send(long)
        speaker.send_stomp("SEND", {"destination": "/topic/nobody", "receipt": "1"})
        assert speaker.frame() is not None
        deaf.send(DONE)
        assert deaf.is_dropped()
