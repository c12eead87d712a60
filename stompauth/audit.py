"""What an operator wants to know afterwards: one event for each decision that matters.

The events go through :mod:`twisted.logger` under the namespace ``stompauth.audit``, with the name
of the event in ``audit`` and each fact in a field of its own. None holds a secret, and what comes
from a peer is escaped and cut.
"""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger, LogLevel

_log = Logger(namespace="stompauth.audit")

#: Characters of a fact that are kept.
MAX_FACT: Final = 256

#: The events: level and text. A failed authorization or bad data of a client is a warning.
EVENTS: Final = {
    "ticket-issued": (LogLevel.info, "ticket for {user} at {address}"),
    "ticket-refused": (LogLevel.warn, "no ticket for {address}: {reason}"),
    "ticket-replayed": (LogLevel.warn, "a used ticket of {user} came again, from {address}"),
    "connections-refused": (LogLevel.warn, "too many connections from {address}"),
    "handshake-denied": (LogLevel.warn, "handshake from {address} denied: {status} {reason}"),
    "connected": (LogLevel.info, "session {session} of {user} at {address} connected"),
    "connect-refused": (
        LogLevel.warn,
        "session {session} of {user} at {address} not connected: {reason}",
    ),
    "denied": (LogLevel.warn, "session {session}: {user} may not {command} {to}: {reason}"),
    "ended": (LogLevel.info, "session {session} of {user} at {address} ended: {reason}"),
    "revoked": (LogLevel.info, "revoked {what} {name}: {reason}"),
    "logout-refused": (LogLevel.warn, "no logout for {address}: {reason}"),
    "control-refused": (LogLevel.warn, "no control for {address}: {reason}"),
}


def audit(event: str, **facts: str | int) -> None:
    """Log an event of :data:`EVENTS`, with the facts that its text names."""
    level, text = EVENTS[event]
    escaped = {
        name: printable(fact) if isinstance(fact, str) else fact for name, fact in facts.items()
    }
    _log.emit(level, text, audit=event, **escaped)


def printable(text: str) -> str:
    """The text with every character escaped that would not show as itself, and cut.

    Line ends, escapes of terminals and marks that turn the direction of writing are such.
    """
    if len(text) > MAX_FACT:
        text = text[:MAX_FACT] + "\N{HORIZONTAL ELLIPSIS}"
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )
