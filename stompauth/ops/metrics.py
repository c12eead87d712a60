"""The metrics of a server, in the text format of Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from stompauth.errors import ERROR_CODES
from stompauth.ops.decisions import BoundedCounts, DecisionCounts
from stompauth.ops.lag import ReactorLag
from stompauth.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric
    from twisted.internet.interfaces import IReactorTime

    from stompauth.application import StompAuth
    from stompauth.authorization.decision import Decision
    from stompauth.authorization.destination import Destination
    from stompauth.session.session import Session

#: What is counted by audit events: metric, help, event, and the name of its label.
_BY_EVENT: Final = (
    ("tickets_issued", "Tickets that were issued", "ticket-issued", None),
    ("tickets_refused", "Requests for a ticket that were refused", "ticket-refused", "reason"),
    ("tickets_replayed", "Used tickets that came again", "ticket-replayed", None),
    ("handshakes_denied", "WebSocket handshakes that were denied", "handshake-denied", "reason"),
    ("connects", "Sessions that CONNECT was accepted of", "connected", None),
    ("connects_refused", "Sessions that ended before CONNECTED", "connect-refused", "reason"),
    ("revocations", "Revocations", "revoked", "what"),
    ("logouts_refused", "Back-channel logouts that were refused", "logout-refused", "reason"),
    ("control_refused", "Control requests that were refused", "control-refused", "reason"),
    ("connections_refused", "Times that HTTP connections became too many",
     "connections-refused", None),
)  # fmt: skip

#: What is counted as it happens: metric, help, attribute of :class:`.Counters`.
_BY_COUNTER: Final = (
    ("websockets", "WebSockets that have opened", "sockets"),
    ("tickets_redeemed", "Tickets that were taken", "tickets_redeemed"),
    ("frames_received", "STOMP frames of clients", "frames_received"),
    ("received_bytes", "Octets of WebSocket messages of clients", "bytes_received"),
    ("messages_received", "SEND frames that were accepted", "messages_received"),
    ("messages_delivered", "MESSAGE frames to clients", "messages_delivered"),
    ("sent_bytes", "Octets sent on WebSockets", "bytes_sent"),
)

#: What a broker holds: metric, help, name in its ``counts()``.
_BY_BROKER: Final = (
    ("topics", "Topics, and patterns of topics, that are subscribed to", "topics"),
    ("retained_messages", "Messages that topics retain", "retained"),
    ("queues", "Queues that are consumed or hold a message", "queues"),
    ("queue_messages", "Messages in all queues, unacknowledged ones included", "queue_messages"),
    ("queue_bytes", "Octets that all queues hold", "queue_bytes"),
)

_LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """The metrics of one application and of its process.

    Labels are reasons, codes and names of rules; of each there is a bounded number. None tells of
    a user, a session or a destination.

    :param application: whose they are.
    :param clock: the reactor.
    """

    content_type = b"text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, application: StompAuth, clock: IReactorTime) -> None:
        self._decisions = DecisionCounts()
        self._denials = BoundedCounts()
        self._registry = CollectorRegistry()
        self._registry.register(_Application(application, self._decisions, self._denials))
        ProcessCollector(registry=self._registry)
        lag = Histogram(
            "stompauth_reactor_lag_seconds",
            "How late the reactor was, looked at four times a second",
            registry=self._registry,
            buckets=_LAG_BUCKETS,
        )
        self._lag = ReactorLag(clock, lag.observe)
        application.on("denied")(self._denied)

    def start(self) -> None:
        """Begin to count."""
        self._decisions.start()
        self._lag.start()

    def stop(self) -> None:
        """Count no more."""
        self._lag.stop()
        self._decisions.stop()

    def text(self) -> bytes:
        """All of them as they are now."""
        return generate_latest(self._registry)

    def _denied(
        self, session: Session, command: str, destination: Destination, decision: Decision
    ) -> None:
        self._denials.add(decision.rule or "no rule")


class _Application(Collector):
    def __init__(
        self, application: StompAuth, decisions: DecisionCounts, denials: BoundedCounts
    ) -> None:
        self._application = application
        self._decisions = decisions
        self._denials = denials

    def collect(self) -> Iterator[Metric]:
        """What there is now."""
        yield InfoMetricFamily("stompauth", "This server", {"version": __version__})
        yield from self._decided()
        yield from self._counted()
        yield from self._held()
        yield from self._depended_on()

    def _decided(self) -> Iterator[Metric]:
        for name, text, event, label in _BY_EVENT:
            family = CounterMetricFamily(f"stompauth_{name}", text, labels=[label] if label else [])
            found = self._decisions.of(event)
            for reason, count in found if label else [("", sum(count for _, count in found))]:
                family.add_metric([reason] if label else [], count)
            yield family
        ended = CounterMetricFamily(
            "stompauth_sessions_ended",
            "Sessions that have ended, by the code of the ERROR or the reason, and by close code",
            labels=["reason", "close"],
        )
        for reason, count in self._decisions.of("ended"):
            close = ERROR_CODES[reason].close if reason in ERROR_CODES else 1000
            known = reason in ERROR_CODES or reason == "disconnected"
            ended.add_metric([reason, str(close) if known else ""], count)
        yield ended
        denials = CounterMetricFamily(
            "stompauth_denials", "SUBSCRIBE and SEND frames denied, by rule", labels=["rule"]
        )
        for rule, count in self._denials.items():
            denials.add_metric([rule], count)
        yield denials

    def _counted(self) -> Iterator[Metric]:
        counters = self._application.counters
        for name, text, attribute in _BY_COUNTER:
            yield CounterMetricFamily(f"stompauth_{name}", text, getattr(counters, attribute))
        expired = self._application.tickets_expired()
        if expired is not None:
            yield CounterMetricFamily(
                "stompauth_tickets_expired", "Tickets that nobody took in time", expired
            )
        yield SummaryMetricFamily(
            "stompauth_token_verification_seconds",
            "What the verification of tokens took, waiting for keys included",
            counters.verifications,
            counters.verification_seconds,
        )

    def _held(self) -> Iterator[Metric]:
        application = self._application
        sessions = list(application.sessions)
        for name, text, value in (
            ("sessions", "Connected sessions", len(sessions)),
            (
                "subscriptions",
                "Subscriptions of all sessions",
                sum(len(session.subscriptions) for session in sessions),
            ),
            (
                "outbound_bytes",
                "Octets that clients have not taken yet",
                sum(session.outbound_size for session in sessions),
            ),
        ):
            yield GaugeMetricFamily(f"stompauth_{name}", text, value)
        counts = application.broker_counts()
        for name, text, key in _BY_BROKER:
            if key in counts:
                yield GaugeMetricFamily(f"stompauth_{name}", text, counts[key])
        if "dead_letters_lost" in counts:
            yield CounterMetricFamily(
                "stompauth_dead_letters_lost",
                "Dead letters for which there was no room",
                counts["dead_letters_lost"],
            )

    def _depended_on(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "stompauth_part_ready",
            "Whether a part that the server depends on can do its work",
            labels=["part"],
        )
        for part, ready in self._application.readiness().items():
            family.add_metric([part], ready)
        yield family
        fetches = self._application.key_fetches()
        if fetches:
            key_fetches = CounterMetricFamily(
                "stompauth_key_fetches", "Fetches of the JWK Set, by outcome", labels=["outcome"]
            )
            for outcome, count in fetches.items():
                key_fetches.add_metric([outcome], count)
            yield key_fetches
