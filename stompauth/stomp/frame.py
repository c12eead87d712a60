"""STOMP frames, and what each command needs.

The three versions of the specification differ little; where they do, the tables here say so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from stompauth.errors import RemoteProtocolError

#: The versions that are spoken, the best last.
VERSIONS: Final = ("1.0", "1.1", "1.2")

#: Commands of a client (STOMP 1.2, "Client Frames" and "Connecting").
CLIENT_COMMANDS: Final = frozenset(
    {
        "CONNECT",
        "STOMP",
        "SEND",
        "SUBSCRIBE",
        "UNSUBSCRIBE",
        "ACK",
        "NACK",
        "BEGIN",
        "COMMIT",
        "ABORT",
        "DISCONNECT",
    }
)

#: Commands of a server (STOMP 1.2, "Server Frames" and "Connecting").
SERVER_COMMANDS: Final = frozenset({"CONNECTED", "MESSAGE", "RECEIPT", "ERROR"})

#: Every command of any version.
COMMANDS: Final = CLIENT_COMMANDS | SERVER_COMMANDS

#: Commands that a version does not have yet.
UNKNOWN_COMMANDS: Final[dict[str, frozenset[str]]] = {
    "1.0": frozenset({"NACK"}),
    "1.1": frozenset(),
    "1.2": frozenset(),
}

#: Commands whose frames may have a body (STOMP 1.2, "Body").
BODY_COMMANDS: Final = frozenset({"SEND", "MESSAGE", "ERROR"})

#: Commands whose headers are never escaped (STOMP 1.2, "Value Encoding").
UNESCAPED_COMMANDS: Final = frozenset({"CONNECT", "STOMP", "CONNECTED"})

#: Per version, the headers that a command must have. In 1.0, UNSUBSCRIBE has ``id`` or
#: ``destination``; see :func:`lacks_header`. A missing ``host`` is nobody's harm.
REQUIRED_HEADERS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "1.0": {
        "SEND": ("destination",),
        "SUBSCRIBE": ("destination",),
        "ACK": ("message-id",),
        "BEGIN": ("transaction",),
        "COMMIT": ("transaction",),
        "ABORT": ("transaction",),
        "MESSAGE": ("destination", "message-id"),
        "RECEIPT": ("receipt-id",),
    },
    "1.1": {
        "SEND": ("destination",),
        "SUBSCRIBE": ("destination", "id"),
        "UNSUBSCRIBE": ("id",),
        "ACK": ("message-id", "subscription"),
        "NACK": ("message-id", "subscription"),
        "BEGIN": ("transaction",),
        "COMMIT": ("transaction",),
        "ABORT": ("transaction",),
        "CONNECTED": ("version",),
        "MESSAGE": ("destination", "message-id", "subscription"),
        "RECEIPT": ("receipt-id",),
    },
    "1.2": {
        "SEND": ("destination",),
        "SUBSCRIBE": ("destination", "id"),
        "UNSUBSCRIBE": ("id",),
        "ACK": ("id",),
        "NACK": ("id",),
        "BEGIN": ("transaction",),
        "COMMIT": ("transaction",),
        "ABORT": ("transaction",),
        "CONNECTED": ("version",),
        "MESSAGE": ("destination", "message-id", "subscription"),
        "RECEIPT": ("receipt-id",),
    },
}


@dataclass(slots=True, eq=False, repr=False)
class KnownHead:
    """The head of a SEND that is kept because it is likely to come again.

    :ivar headers: what was read of it; not to be changed.
    :ivar length: how long the body is, or None if the head does not tell.
    :ivar takes_receipt: whether it may have one header more.
    :ivar meaning: what the session has made of the headers, and of nothing else, if it wants to
        find that again.
    """

    headers: dict[str, str]
    length: int | None
    takes_receipt: bool
    meaning: Any = None


@dataclass(slots=True)
class Frame:
    """One STOMP frame.

    :ivar command: the command, such as ``"SEND"``.
    :ivar headers: name to value, unescaped, in the order of the frame. Of a header that was
        repeated only the first is here (STOMP 1.2, "Repeated Header Entries"): there is nobody
        left who could look at another one.
    :ivar body: the octets between the blank line and the NUL.
    :ivar head: what is known of the head that the headers were read from; they may have been
        changed since.
    """

    command: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    head: KnownHead | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        # Headers and bodies may hold secrets, and reprs end in logs.
        return f"<Frame {self.command}, {len(self.headers)} headers, {len(self.body)} bytes>"


def lacks_header(frame: Frame, version: str) -> bool:
    """Whether the frame is without a header that its command must have."""
    headers = frame.headers
    for name in REQUIRED_HEADERS[version].get(frame.command, ()):
        if name not in headers:
            return True
    return (
        version == "1.0"
        and frame.command == "UNSUBSCRIBE"
        and "id" not in headers
        and "destination" not in headers
    )


def refusal(code: str, frame: Frame) -> RemoteProtocolError:
    """Return the error for a frame that breaks the specification.

    If the frame asked for a receipt, the error's headers have the ``receipt-id`` that the ERROR
    must carry. CONNECT cannot ask for one (STOMP 1.2, "receipt").
    """
    receipt = frame.headers.get("receipt")
    if receipt is None or frame.command in UNESCAPED_COMMANDS:
        return RemoteProtocolError(code)
    return RemoteProtocolError(code, {"receipt-id": receipt})
