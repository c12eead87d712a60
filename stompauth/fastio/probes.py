"""Whether all is there that fast I/O relies on: it is asked at start, not found out in service."""

from __future__ import annotations

from dis import get_instructions
from typing import TYPE_CHECKING, Any, Final

from autobahn.twisted.websocket import WebSocketAdapterProtocol, WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper

from stompauth.fastio.frames import read_message
from stompauth.fastio.protocol import AT_REST, UNUSED, FastWebSocketFactory, FastWebSocketProtocol
from stompauth.handshake.websocket import StompWebSocketFactory

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = Logger()

#: Where Autobahn sets, and looks at, what we look at: the method, and names that it must use.
_AUTOBAHN: tuple[tuple[Any, str, frozenset[str]], ...] = (
    (WebSocketAdapterProtocol, "dataReceived", frozenset({"_dataReceived"})),
    (WebSocketAdapterProtocol, "connectionLost", frozenset({"_connectionLost"})),
    (
        WebSocketProtocol,
        "_connectionMade",
        frozenset({"CONFIG_ATTRS", "data", "state", "utf8validator"}),
    ),
    (
        WebSocketProtocol,
        "_connectionLost",
        frozenset({"autoPingPendingCall", "openHandshakeTimeoutCall", "is_closed", "_onClose"}),
    ),
    (WebSocketProtocol, "consumeData", frozenset({"processHandshake"})),
    (
        WebSocketProtocol,
        "_sendAutoPing",
        frozenset({"autoPingPendingCall", "_batched_timer", "call_later"}),
    ),
    (
        WebSocketProtocol,
        "onCloseFrame",
        frozenset({"closeHandshakeTimeoutCall", "remoteCloseCode", "wasClean", "dropConnection"}),
    ),
    (WebSocketProtocol, "processData", frozenset({"current_frame", "data", "inside_message"})),
    (WebSocketProtocol, "sendFrame", frozenset({"sendData"})),
    (WebSocketProtocol, "dropConnection", frozenset({"_closeConnection"})),
    (WebSocketServerProtocol, "failHandshake", frozenset({"sendHttpErrorResponse"})),
    (WebSocketProtocol, "onOpenHandshakeTimeout", frozenset({"openHandshakeTimeoutCall"})),
    (WebSocketServerProtocol, "sendHttpErrorResponse", frozenset({"sendData"})),
)

#: Likewise of Twisted's.
_TWISTED: tuple[tuple[Any, str, frozenset[str]], ...] = (
    (ProtocolWrapper, "dataReceived", frozenset({"wrappedProtocol"})),
    (tcp.Port, "doRead", frozenset({"transport"})),
    (tcp.Connection, "__init__", frozenset({"fileno", "protocol", "socket"})),
    (tcp.Connection, "connectionLost", frozenset({"fileno"})),
    (tcp.Server, "__init__", frozenset({"client", "hostname", "logstr", "repstr", "sessionno"})),
)


#: What gives a connection its attributes until it is open, and is not called here.
_SETTING_UP: Final[tuple[tuple[Any, str], ...]] = (
    (WebSocketProtocol, "__init__"),
    (WebSocketProtocol, "_connectionMade"),
    (WebSocketServerProtocol, "_connectionMade"),
    (WebSocketAdapterProtocol, "connectionMade"),
    (WebSocketServerProtocol, "processHandshake"),
    (WebSocketServerProtocol, "succeedHandshake"),
)


def _gone() -> None:
    """Stands for a method that is no more."""


def _unknown_attributes() -> set[str]:
    """What Autobahn gives a connection and ours have not: neither themselves nor by their class."""
    given = {
        instruction.argval
        for owner, name in _SETTING_UP
        for instruction in get_instructions(getattr(owner, name, _gone))
        if instruction.opname == "STORE_ATTR"
    }
    return given.difference(AT_REST, UNUSED, dir(FastWebSocketProtocol))


def missing() -> Iterator[str]:
    """What is not as it has to be, each in a few words."""
    for whose, methods in (("Autobahn's", _AUTOBAHN), ("Twisted's", _TWISTED)):
        for owner, name, used in methods:
            code = getattr(getattr(owner, name, None), "__code__", None)
            if code is None or not used <= set(code.co_names):
                yield f"{whose} {name}"
    if unknown := _unknown_attributes():
        yield f"Autobahn's {', '.join(sorted(unknown))}"
    mask = b"\x01\x02\x03\x04"
    frame = b"\x82\xfe" + (4000).to_bytes(2, "big") + mask + mask * 1000
    if read_message(frame, 0, 0) != (bytes(4000), len(frame)):
        yield "Autobahn's masker"
    descriptor = FileDescriptor(object())  # type: ignore[arg-type]  # it is only looked at
    if descriptor.dataBuffer != b"" or getattr(descriptor, "_tempDataLen", None) != 0:
        yield "the buffers of Twisted's transports"


def websocket_factory(fast_io: bool) -> type[StompWebSocketFactory]:
    """The class of the factory to use: the plain one if it is wanted, or something is missing.

    :param fast_io: whether fast I/O is wanted.
    """
    if not fast_io:
        return StompWebSocketFactory
    found = list(missing())
    if found:
        _log.warn("no fast I/O: {missing} changed", missing=", ".join(found))
        return StompWebSocketFactory
    return FastWebSocketFactory
