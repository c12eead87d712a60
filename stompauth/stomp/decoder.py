"""Bytes to frames.

The work is linear in the bytes, however they are cut: what has been searched is not searched again,
and the buffer is only moved together when more of it is used up than is left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stompauth.errors import RemoteProtocolError
from stompauth.stomp.frame import COMMANDS, UNESCAPED_COMMANDS, Frame, KnownHead, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The longest command has 11 octets; a longer first line is something else than STOMP.
_COMMAND_OCTETS: Final = 16

_CR: Final = 13

#: The heads that are kept after they were read: of which commands, with no other headers than
#: these, so that no credential is ever among them, how long, and how many; with one more, all are
#: forgotten.
_KEPT_COMMAND: Final = "SEND"
_KEPT_HEADERS: Final = frozenset({"destination", "content-length", "content-type"})
_KEPT_OCTETS: Final = 512
_KEPT: Final = 1024

#: What is another one each time, and taken off before a head is looked for.
_RECEIPT: Final = re.compile(rb"\nreceipt:([A-Za-z0-9._-]+)(?=\n|\Z)")

#: A whole head that is another one each time, but has nothing in it to be read.
_ACK: Final = re.compile(rb"(N?ACK)\nid:([A-Za-z0-9._-]+)")

_EOLS: Final = re.compile(rb"(?:\r?\n)*+")
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_ESCAPE: Final = re.compile(r"\\(.?)")

#: Per version, what may stand behind a backslash ("Value Encoding"); 1.0 has no escapes.
_UNESCAPED: Final[dict[str | None, dict[str, str]]] = {
    "1.1": {"n": "\n", "c": ":", "\\": "\\"},
    "1.2": {"r": "\r", "n": "\n", "c": ":", "\\": "\\"},
}


@dataclass(frozen=True, slots=True)
class DecoderLimits:
    """What a peer can make the decoder hold; 0 means none.

    Decoders with the same limits share the heads that they know.

    :ivar frame: octets of a frame, from its command to its NUL, both included.
    :ivar headers: header lines of a frame, repeated ones too.
    :ivar header_line: octets of a header line, without its end.
    :ivar allow_short: whether none of them is broken by a short head with two headers, and no body.
    :ivar heads: heads that were read under these limits and are likely to come again. What comes
        again is not read again.
    """

    frame: int
    headers: int
    header_line: int
    allow_short: bool = field(init=False, repr=False, compare=False)
    heads: dict[bytes, KnownHead] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(
            self,
            "allow_short",
            self.headers != 1
            and not 0 < self.header_line < _KEPT_OCTETS
            and not 0 < self.frame < _KEPT_OCTETS + len(b"\n\n\0"),
        )


class FrameDecoder:
    """Takes bytes in any pieces and gives frames.

    A frame ends where its ``content-length`` says, or else at the first NUL. Lines end with LF or
    CR LF in every version. Ends of lines between frames are heart-beats, and dropped. Limits hold
    while the bytes arrive: an unfinished frame is refused as soon as it cannot become a good one.

    :ivar limits: may be replaced at any time.
    :ivar version: the session's, which decides about escapes; None while it is not agreed upon.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_end",
        "_frame",
        "_line",
        "_lines",
        "_searched",
        "_start",
        "limits",
        "version",
    )

    def __init__(self, limits: DecoderLimits) -> None:
        self.limits = limits
        self.version: str | None = None
        # What came as a whole is read where it is; only pieces are put together.
        self._buffer: bytes | bytearray = b""
        # Places in the buffer: of the frame, how far it was searched, of its unfinished line with
        # the number of lines before it; and, once its head is read, of its body and its NUL.
        self._start = 0
        self._searched = 0
        self._line = 0
        self._lines = 0
        self._frame: Frame | None = None
        self._body = 0
        self._end: int | None = None

    @property
    def mid_frame(self) -> bool:
        """Whether a frame has begun and not ended; holds after :meth:`next_frame` gave None."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes, without looking at them."""
        buffer = self._buffer
        if not buffer:
            self._buffer = data
            return
        if isinstance(buffer, bytes):
            buffer = self._buffer = bytearray(buffer)
        buffer += data

    def clear(self) -> None:
        """Drop all that is held."""
        self._use_up(len(self._buffer))

    def next_frame(self) -> Frame | None:
        """Return the next frame, or None when more bytes are needed for it.

        :raises RemoteProtocolError: ``malformed``, ``bad-header`` or ``too-large``. Then all that
            is held is worthless, for nobody knows where the next frame begins.
        """
        frame = self._frame
        if frame is None:
            buffer = self._buffer
            if not buffer:
                return None
            if type(buffer) is bytes and self._searched == self._start:
                frame = self._read_known(buffer)
                if frame is not None:
                    return frame
            frame = self._read_head()
            if frame is None:
                return None
        buffer = self._buffer
        held = len(buffer)
        end = self._end
        if end is None:
            end = buffer.find(b"\0", self._searched)
            size = (held if end < 0 else end) + 1 - self._start
            if 0 < self.limits.frame < size:
                raise refusal("too-large", frame)
            if end < 0:
                self._searched = held
                return None
        elif end >= held:
            return None
        elif buffer[end]:
            raise refusal("malformed", frame)
        frame.body = bytes(buffer[self._body : end])
        self._use_up(end + 1)
        return frame

    def _use_up(self, start: int) -> None:
        """Expect a frame, or heart-beats, at that place, and need nothing before it."""
        buffer = self._buffer
        if start == len(buffer):
            self._buffer = b""
            start = 0
        elif start > len(buffer) - start and isinstance(buffer, bytearray):
            del buffer[:start]
            start = 0
        self._start = self._searched = start
        self._frame = None

    def _read_known(self, buffer: bytes) -> Frame | None:
        """Read a frame that is there as a whole and has a head that is known, or else nothing."""
        start = self._start
        stop = buffer.find(b"\n\n", start, start + _KEPT_OCTETS)
        if stop < 0:
            return None
        text = buffer[start:stop]
        limits = self.limits
        head = limits.heads.get(text)
        receipt = None
        if head is None:
            if not limits.allow_short:
                return None
            receipt = _RECEIPT.search(text)
            if receipt is not None:
                text = text[: receipt.start()] + text[receipt.end() :]
            head = limits.heads.get(text)
            if head is None:
                return self._read_ack(buffer, stop + 2, text, receipt)
            if not head.takes_receipt:
                return None
        body = stop + 2
        held = len(buffer)
        if head.length is not None:
            # That it is not too long was seen when the head was read; a receipt makes it longer.
            end = body + head.length
            if end >= held or buffer[end]:
                return None
        else:
            end = buffer.find(b"\0", body)
            if end < 0:
                return None
        if (receipt is not None or head.length is None) and 0 < limits.frame <= end - start:
            return None
        if end + 1 == held:
            self._buffer = b""
            self._start = self._searched = 0
        else:
            self._start = self._searched = end + 1
        headers = head.headers.copy()
        if receipt is not None:
            headers["receipt"] = receipt[1].decode("ascii")
        return Frame(_KEPT_COMMAND, headers, buffer[body:end], head)

    def _read_ack(
        self, buffer: bytes, end: int, text: bytes, receipt: re.Match[bytes] | None
    ) -> Frame | None:
        """Read an ACK or NACK as STOMP 1.2 has them, or else nothing.

        :param end: the place of its NUL.
        :param text: its head without the receipt.
        """
        ack = _ACK.fullmatch(text)
        if ack is None or end >= len(buffer) or buffer[end]:
            return None
        self._use_up(end + 1)
        headers = {"id": ack[2].decode("ascii")}
        if receipt is not None:
            headers["receipt"] = receipt[1].decode("ascii")
        return Frame(ack[1].decode("ascii"), headers)

    def _read_head(self) -> Frame | None:
        """Read command and headers, or return None while they are incomplete."""
        buffer = self._buffer
        start = self._start
        searched = self._searched
        if searched == start:
            if buffer[start] in b"\r\n":
                if not self._skip_heartbeats():
                    return None
                buffer = self._buffer
                start = searched = self._start
        else:
            # The last two octets that were searched may have been the beginning of the head's end.
            searched = max(start, searched - 2)
        found = _HEAD_END.search(buffer, searched)
        if found is None:
            self._check_unfinished_head()
            return None
        end, body = found.span()
        if 0 < self.limits.header_line < end - start:
            self._check_lines(end)
        frame = _parse_head(buffer[start:end], self.limits.headers, self.version)
        self._frame = frame
        self._body = self._searched = body
        declared = frame.headers.get("content-length")
        if declared is None:
            self._end = None
            self._keep(start, end, frame, None)
            return frame
        if not (len(declared) <= 10 and declared.isascii() and declared.isdecimal()):
            raise refusal("bad-header", frame)
        self._end = body + int(declared)
        if 0 < self.limits.frame < self._end + 1 - start:
            raise refusal("too-large", frame)
        self._keep(start, end, frame, int(declared))
        return frame

    def _keep(self, start: int, end: int, frame: Frame, length: int | None) -> None:
        """Remember a head that was read, if it may and is likely to come again."""
        if end - start > _KEPT_OCTETS or frame.command != _KEPT_COMMAND:
            return
        headers = frame.headers.copy()
        headers.pop("receipt", None)
        if "destination" not in headers or not headers.keys() <= _KEPT_HEADERS:
            return
        text = _RECEIPT.sub(b"", bytes(self._buffer[start:end]), 1)
        # With an escape or a CR the same octets could mean something else another time.
        if b"\\" not in text and b"\r" not in text and b"\nreceipt:" not in text:
            heads = self.limits.heads
            if len(heads) >= _KEPT:
                heads.clear()
            most = self.limits.headers
            takes_receipt = not 0 < most <= text.count(b"\n")
            frame.head = heads[text] = KnownHead(headers, length, takes_receipt)

    def _skip_heartbeats(self) -> bool:
        """Drop the ends of lines before a frame, and say whether one has begun."""
        eols = _EOLS.match(self._buffer, self._start)
        if eols is not None:
            self._use_up(eols.end())
        ahead = self._buffer[self._start : self._start + 2]
        if len(ahead) == 2 and ahead[0] == _CR:
            raise RemoteProtocolError("malformed")
        return ahead not in (b"", b"\r")

    def _check_unfinished_head(self) -> None:
        """Refuse what cannot become a good head any more."""
        held = len(self._buffer)
        if self._buffer.find(b"\0", self._searched) >= 0:
            raise RemoteProtocolError("malformed")
        self._check_lines(held)
        if 0 < self.limits.frame <= held - self._start:
            raise RemoteProtocolError("too-large")

    def _check_lines(self, stop: int) -> None:
        """Hold the limits of lines against the head as far as that place."""
        buffer = self._buffer
        limits = self.limits
        if self._searched == self._start:
            self._line = self._start
            self._lines = 0
        while self._searched < stop:
            newline = buffer.find(b"\n", self._searched, stop)
            end = newline if newline >= 0 else stop
            length = end - self._line
            # A CR is part of the line's end, or will be refused later.
            if length and buffer[end - 1] == _CR:
                length -= 1
            if not self._lines:
                if length > _COMMAND_OCTETS:
                    raise RemoteProtocolError("malformed")
            elif 0 < limits.header_line < length or (length and 0 < limits.headers < self._lines):
                raise RemoteProtocolError("too-large")
            self._searched = end
            if newline >= 0:
                self._line = self._searched = newline + 1
                self._lines += 1


def _parse_head(head: bytes | bytearray, most: int, version: str | None) -> Frame:
    """Read a complete head: all before the blank line.

    :param most: how many headers it may have; 0 means any number.
    """
    try:
        text = head.decode()
    except UnicodeDecodeError:
        # Not chained: that error holds what the peer sent.
        raise RemoteProtocolError("malformed") from None
    if "\r" in text:
        text = f"{text}\n".replace("\r\n", "\n")[:-1]
    # A line that begins with a colon is a header without a name.
    if "\r" in text or "\0" in text or "\n:" in text:
        raise RemoteProtocolError("malformed")
    lines = text.split("\n")
    command = lines.pop(0)
    if command not in COMMANDS:
        raise RemoteProtocolError("malformed")
    if 0 < most < len(lines):
        raise RemoteProtocolError("too-large")

    if " :" in text and any(line.partition(":")[0].endswith(" ") for line in lines):
        raise RemoteProtocolError("malformed")
    escapes = None
    if "\\" in text and command not in UNESCAPED_COMMANDS:
        escapes = _UNESCAPED.get(version)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise RemoteProtocolError("malformed")
        if escapes is not None:
            name = _unescape(name, escapes)
            value = _unescape(value, escapes)
        if name not in headers:
            headers[name] = value
        elif name == "content-length" and headers[name] != value:
            raise RemoteProtocolError("bad-header")
    return Frame(command, headers)


def _unescape(text: str, escapes: Mapping[str, str]) -> str:
    """Undo the escapes of a name or value."""
    if "\\" not in text:
        return text
    try:
        return _ESCAPE.sub(lambda escape: escapes[escape[1]], text)
    except KeyError:
        raise RemoteProtocolError("malformed") from None
