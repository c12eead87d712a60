"""The way in: WebSocket frames that hold a whole message and are right in every point."""

from __future__ import annotations

from typing import Final

from autobahn.websocket.xormasker import (  # type: ignore[attr-defined]  # it is public there
    create_xor_masker,
)

#: Up to here one operation on long integers unmasks faster than Autobahn's C code with its set-up.
_SHORT: Final = 1024

_read: Final = int.from_bytes


def read_message(data: bytes, start: int, limit: int) -> tuple[bytes, int] | None:
    """Read a whole message that stands at a place.

    It is a complete and final frame of text or binary, masked, not compressed, of at most 65,535
    octets, with its length in the shortest form, and valid UTF-8 if it is text (RFC 6455 sections
    5.2 and 8.1).

    :param limit: octets that it may have at most; 0 means no limit.
    :return: its octets, and the place behind it; None if anything is otherwise, whatever that may
        be.
    """
    held = len(data)
    if held - start < 6:
        return None
    first = data[start]
    length = data[start + 1] - 0x80
    if (first != 0x81 and first != 0x82) or length < 0 or length == 127:
        return None
    body = start + 6
    if length == 126:
        body += 2
        length = data[start + 2] << 8 | data[start + 3]
        if length < 126:
            return None
    end = body + length
    if end > held or 0 < limit < length:
        return None
    mask = data[body - 4 : body]
    payload: bytes
    if length > _SHORT:
        payload = create_xor_masker(mask, length).process(data[body:end])
    else:
        key = _read((mask * (length // 4 + 1))[:length], "little")
        payload = (_read(data[body:end], "little") ^ key).to_bytes(length, "little")
    if first == 0x81 and not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError:
            return None
    return payload, end


def read_close(data: bytes) -> int | None:
    """Read a close frame with nothing but a status code in it, and nothing behind it.

    :return: the code, if it is one that a peer may send, and that has no reason with it (RFC 6455
        sections 5.5.1 and 7.4); None if anything is otherwise, whatever that may be.
    """
    if len(data) != 8 or data[0] != 0x88 or data[1] != 0x82:
        return None
    code = (data[6] ^ data[2]) << 8 | (data[7] ^ data[3])
    return code if code in (1000, 1001) or 3000 <= code < 5000 else None
