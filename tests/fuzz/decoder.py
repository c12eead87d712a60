"""The frame decoder, and a server's end of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from stompauth.errors import RemoteProtocolError
from stompauth.stomp.connection import ServerConnection, State
from stompauth.stomp.decoder import DecoderLimits, FrameDecoder
from stompauth.stomp.encoder import encode
from stompauth.stomp.frame import BODY_COMMANDS, COMMANDS, Frame
from tests.fuzz.choices import Choices

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Frames, the code of the error that ended them, and what else there is to compare.
Outcome: TypeAlias = tuple[list[Frame], str | None, State | None, str | None]

LIMITS: Final = (
    DecoderLimits(65536, 64, 8192),
    DecoderLimits(0, 0, 0),
    DecoderLimits(256, 4, 24),
    DecoderLimits(40, 2, 16),
)

_COMMANDS: Final = (*sorted(COMMANDS), "connect", "", "X" * 17, "MESSAGE\\n")
_NAMES: Final = (
    "destination",
    "id",
    "receipt",
    "content-length",
    "transaction",
    "message-id",
    "subscription",
    "accept-version",
    "heart-beat",
    "é",
    "a\\cb",
    "",
    "x ",
)
_VALUES: Final = (
    "/topic/a",
    "1",
    "0",
    "",
    "3",
    "1.2",
    "1.0,1.1,1.2",
    "10,10",
    "\\c\\n\\\\",
    "\\r",
    "\\t",
    "a:b",
    "+1",
    "99999999999",
    "1" * 9,
    "\N{ARABIC-INDIC DIGIT FIVE}",
    "x" * 30,
)


def run(octets: bytes) -> None:
    """Decode a stream whole, in pieces and octet by octet: all three have to say the same."""
    choices = Choices(octets)
    version = choices.one_of(("1.2", "1.1", "1.0", None))
    limits = choices.one_of(LIMITS)
    stream = _stream(choices)
    pieces = choices.pieces(stream)
    singles = [stream[i : i + 1] for i in range(len(stream))]
    whole = _decode([stream], limits, version)
    for cut in (pieces, singles):
        _check_same(_decode(cut, limits, version), whole)
    for frame in whole[0]:
        assert frame.body + b"\0" in stream
        if version is not None:
            _check_round_trip(frame, version)
    connect = choices.one_of((b"CONNECT\naccept-version:1.0,1.1,1.2\n\n\0", b"STOMP\n\n\0", b""))
    whole = _converse([connect + stream], limits)
    for cut in ([connect, *pieces], [connect, *singles]):
        _check_same(_converse(cut, limits), whole)


def _check_same(found: Outcome, whole: Outcome) -> None:
    """The same frames, and the same end; but a frame that is wrong twice has two codes."""
    assert found[0] == whole[0], (found, whole)
    assert found[2:] == whole[2:], (found, whole)
    codes = {found[1], whole[1]}
    assert len(codes) == 1 or (None not in codes and "too-large" in codes), (found, whole)


def _stream(choices: Choices) -> bytes:
    parts = []
    while choices and len(parts) < 8:
        match choices.number(8):
            case 0:
                parts.append(choices.octets(choices.number(32)))
            case 1:
                parts.append(choices.one_of((b"\n", b"\r\n", b"\n\n\r\n", b"\r", b"\0")))
            case 2 | 3:
                parts.append(choices.mutated(_frame(choices)))
            case _:
                parts.append(_frame(choices))
    return b"".join(parts)


def _frame(choices: Choices) -> bytes:
    eol = choices.one_of(("\n", "\n", "\r\n"))
    body = choices.octets(choices.number(12)) if choices.once_in(3) else b""
    lines = [choices.one_of(_COMMANDS)]
    for _ in range(choices.number(6)):
        lines.append(f"{choices.one_of(_NAMES)}:{choices.one_of(_VALUES)}")
    if choices.once_in(3):
        lines.append(f"content-length:{len(body)}")
    return eol.join([*lines, "", ""]).encode() + body + b"\0"


def _decode(pieces: Sequence[bytes], limits: DecoderLimits, version: str | None) -> Outcome:
    """What a decoder makes of the pieces."""
    decoder = FrameDecoder(limits)
    decoder.version = version
    frames = []
    for piece in pieces:
        decoder.feed(piece)
        try:
            while (frame := decoder.next_frame()) is not None:
                frames.append(frame)
        except RemoteProtocolError as error:
            return frames, error.code, None, None
        held = len(decoder._buffer) - decoder._start
        assert not limits.frame or held < limits.frame, f"{held} octets are held"
        assert decoder.mid_frame == bool(held)
    return frames, None, None, None


def _check_round_trip(frame: Frame, version: str) -> None:
    """What was decoded can be written, and reads the same again."""
    if frame.body and frame.command not in BODY_COMMANDS:
        return
    headers = {name: value for name, value in frame.headers.items() if name != "content-length"}
    (again,), error, *_ = _decode([encode(frame, version)], LIMITS[1], version)
    again.headers.pop("content-length", None)
    assert error is None
    assert (again.command, again.headers, again.body) == (frame.command, headers, frame.body)


def _converse(pieces: Sequence[bytes], limits: DecoderLimits) -> Outcome:
    """What a connection makes of the pieces, when it accepts each CONNECT."""
    connection = ServerConnection(limits, LIMITS[0], (10, 10))
    frames = []
    for piece in pieces:
        connection.receive_data(piece)
        try:
            while (frame := connection.next_frame()) is not None:
                assert bool(frames) != (frame.command in ("CONNECT", "STOMP"))
                frames.append(frame)
                if connection.state is State.CONNECTING:
                    connection.accept(0.0, {"session": "s"})
        except RemoteProtocolError as error:
            assert connection.state is State.CLOSED
            connection.receive_data(b"SEND\ndestination:/a\n\n\0")
            assert connection.next_frame() is None
            data = connection.error({"message": "x", **error.headers}, b"text")
            (answer,), refused, *_ = _decode([data], LIMITS[1], connection.version)
            assert (answer.command, refused) == ("ERROR", None)
            return frames, error.code, connection.state, connection.version
    return frames, None, connection.state, connection.version
