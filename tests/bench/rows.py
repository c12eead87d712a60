"""What is measured, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class Row:
    """One kind of work.

    :ivar name: for the command line.
    :ivar title: for the table.
    :ivar scenario: of the load, with its options.
    :ivar measures: CPU time of each operation, memory of each connection, or the longest turn of
        the reactor.
    :ivar unit: of the figure.
    """

    name: str
    title: str
    scenario: str
    measures: Literal["cpu", "memory", "turn"] = "cpu"
    unit: str = "µs per delivery"


def _fan_out() -> tuple[Row, ...]:
    rows = []
    for subscribers, windows in ((1, (1,)), (10, (1,)), (100, (1, 8, 64)), (1000, (1, 8, 64))):
        for window in windows:
            plural = "s" if subscribers > 1 else ""
            rows.append(
                Row(
                    f"fanout-{subscribers}-{window}",
                    f"fan-out to {subscribers:,} subscriber{plural}, {window} in flight",
                    f"fanout --subs {subscribers} --window {window}",
                )
            )
    return tuple(rows)


ROWS: Final = {
    row.name: row
    for row in (
        *_fan_out(),
        Row(
            "topics-8",
            "100 topics with one subscriber each, 10 publishers, 8 in flight",
            "manytopics --subs 100 --pubs 10 --window 8",
        ),
        Row(
            "topics-1000",
            "1,000 topics with one subscriber each, 10 publishers, 8 in flight",
            "manytopics --subs 1000 --pubs 10 --window 8",
        ),
        Row(
            "queue-8",
            "a queue, 10 subscribers that acknowledge, 4 publishers with receipts, 8 in flight",
            "queue --subs 10 --pubs 4 --window 8",
            unit="µs per message",
        ),
        Row(
            "send-receipt",
            "SEND from 50 publishers, each with a receipt",
            "inbound --pubs 50",
            unit="µs per SEND",
        ),
        Row(
            "send",
            "SEND from 50 publishers, 8 at once, a receipt for the last",
            "inbound --pubs 50 --burst 8",
            unit="µs per SEND",
        ),
        Row(
            "connect",
            "ticket, handshake, CONNECT with JWT, DISCONNECT",
            "connect",
            unit="µs per session",
        ),
        Row(
            "idle",
            "2,000 idle sessions with one subscription each",
            "idle --subs 2000",
            measures="memory",
            unit="KiB per session",
        ),
        Row(
            "beside-10",
            "SEND to one subscriber, beside 10 other subscriptions",
            "fanout --subs 1 --window 1 --others 10",
        ),
        Row(
            "beside-100000",
            "SEND to one subscriber, beside 100,000 other subscriptions",
            "fanout --subs 1 --window 1 --others 100000",
        ),
        Row(
            "turn-5000",
            "one publish to 5,000 subscribers: the longest turn of the reactor",
            "fanout --subs 5000 --window 1",
            measures="turn",
            unit="ms",
        ),
    )
}
