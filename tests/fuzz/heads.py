"""Octets on a new connection: requests for tickets, handshakes, and what is none of them."""

from __future__ import annotations

import re
from typing import Final

from stompauth.authorization.rules import Rules
from tests.applications import RULES, Application, token
from tests.fuzz.choices import Choices
from tests.fuzz.log import no_failures
from tests.wire import KEY, Socket, client_frame

ORIGIN: Final = "https://chat.example.com"
MADE_UP: Final = "A" * 43
_RULES: Final = Rules(RULES)
_TOKEN: Final = token()

#: Nothing that is answered is longer, with all its headers.
MOST: Final = 700

_METHODS: Final = ("GET", "POST", "OPTIONS", "HEAD", "PUT", "TRACE", "CONNECT", "get", "", "PRI")
_PROTOCOLS: Final = ("HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.1 ", "", "XTTP/1.1")
_HEADERS: Final = (
    "Host: chat.example.com",
    "Upgrade: websocket",
    "Upgrade: h2c, WebSocket",
    "Connection: Upgrade",
    "Connection: keep-alive, upgrade",
    "Connection: close",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Key: x",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Version: 8",
    "Sec-WebSocket-Protocol: v12.stomp, v11.stomp",
    "Sec-WebSocket-Protocol: other,,v10.stomp",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    f"Origin: {ORIGIN}",
    "Origin: null",
    f"Origin: {ORIGIN}.evil.example",
    "Origin: " + ORIGIN.upper(),
    f"Sec-WebSocket-Origin: {ORIGIN}",
    "Content-Length: 0",
    "Content-Length: 5",
    "Content-Length: 99999999",
    "Content-Length: -1",
    "Transfer-Encoding: chunked",
    "Expect: 100-continue",
    "Authorization: Bearer x",
    "Authorization: Basic eDp5",
    "X-Forwarded-For: 203.0.113.1, ::1",
    "Cookie: a=b",
    "Referer: http://evil.example/",
    "User-Agent: a\x0bOrigin: " + ORIGIN,
    "X:\x85Origin: " + ORIGIN,
    " folded",
    "no colon",
    ": empty",
    "X: " + "y" * 17000,
)
_HANDSHAKE: Final = tuple(_HEADERS[i] for i in (0, 1, 3, 6, 8, 10, 13))


def run(octets: bytes) -> None:
    """Send the octets: no exception, no socket without a ticket, and no answer without an end."""
    choices = Choices(octets)
    application = Application(rules=_RULES)
    ticket = application.ticket() if choices.once_in(2) else MADE_UP
    sent = b"".join(_request(choices, ticket) for _ in range(1 + choices.number(3)))
    if choices.once_in(2):
        sent = choices.mutated(sent)
    sent += choices.one_of((b"", client_frame(2, b"CONNECT\n\n\0"), b"\x81\x00", b"\n\n\n"))
    with no_failures():
        socket = Socket(application.site)
        for piece in [sent] if choices.once_in(2) else choices.pieces(sent):
            if socket.lost:
                break
            socket.send(piece)
        answer = socket.taken()
        opened = answer.count(b"HTTP/1.1 101 ")
        assert len(answer) <= MOST * (1 + sent.count(b"\n")), len(answer)
        assert opened <= 1
        if opened:
            assert ticket != MADE_UP
            assert f"GET /stomp?ticket={ticket} ".encode() in sent
            assert re.search(rb"\n(?i:origin):[ \t]*https://chat\.example\.com[ \t]*\r?\n", sent)
        assert application.stompauth._connections.total <= opened
        application.clock.pump([5] * 8)
        socket.settle()
        assert socket.lost, "no client can stay that has no session"
        _check_nothing_is_left(application)


def _request(choices: Choices, ticket: str) -> bytes:
    if choices.once_in(16):
        return choices.octets(choices.number(64))
    match choices.number(4):
        case 0:
            path, headers, method = "/authenticate/token", [_HEADERS[0], _HEADERS[13]], "POST"
            headers.append(f"Authorization: Bearer {_TOKEN}")
        case _:
            path, headers, method = "/stomp", list(_HANDSHAKE), "GET"
    query = choices.one_of(
        (
            f"?ticket={ticket}",
            "",
            f"?ticket={MADE_UP}",
            f"?ticket={ticket}&ticket={ticket}",
            f"?a=b&ticket={ticket}",
            f"?ticket={ticket};",
            f"?Ticket={ticket}",
            f"?ticket=%{ord(ticket[0]):02x}{ticket[1:]}",
            f"?ticket={ticket}#",
            f"/?ticket={ticket}",
            f"%3fticket={ticket}",
            "?redirect=http://evil.example/",
            f"http://chat.example.com/stomp?ticket={ticket}",
        )
    )
    for _ in range(choices.number(4)):
        place = choices.number(len(headers) + 1)
        match choices.number(3):
            case 0:
                headers.insert(place, choices.one_of(_HEADERS))
            case 1:
                headers[place : place + 1] = [choices.one_of(_HEADERS)]
            case 2:
                del headers[place : place + 1]
    if choices.once_in(4):
        method = choices.one_of(_METHODS)
    protocol = choices.one_of(_PROTOCOLS) if choices.once_in(4) else "HTTP/1.1"
    lines = [f"{method} {path}{query} {protocol}", *headers, "", ""]
    return choices.one_of(("\r\n", "\r\n", "\n")).join(lines).encode("latin-1")


def _check_nothing_is_left(application: Application) -> None:
    connections = application.stompauth._connections
    assert connections.total == 0
    assert not connections.by_address
    assert not connections.by_user
    assert not application.stompauth._sessions.open_sessions
    assert not application.clock.getDelayedCalls(), application.clock.getDelayedCalls()
