"""Tests of stompauth.ops.metrics."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.rules import Rules, allow, deny
from stompauth.ops.metrics import Metrics
from stompauth.settings import Limits
from tests.applications import Application, token
from tests.wire import WebSocket, post_token

RULES = Rules(
    [
        deny("send", "/topic/read-only", name="read only"),
        allow("subscribe", "send", "/topic/**"),
        allow("subscribe", "send", "/queue/**"),
    ]
)


class MetricsTests(SynchronousTestCase):
    """What a server counts is what happened."""

    maxDiff = None

    def setUp(self) -> None:
        self.application = Application(rules=RULES, limits=Limits(sessions_per_user=2))
        self.metrics = Metrics(self.application.stompauth, self.application.clock)
        self.metrics.start()
        self.addCleanup(self.metrics.stop)

    def samples(self) -> dict[str, float]:
        """Every sample, by name and labels as they are written."""
        found = {}
        for family in text_string_to_metric_families(self.metrics.text().decode()):
            for sample in family.samples:
                labels = ",".join(
                    f"{name}={value}" for name, value in sorted(sample.labels.items())
                )
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found

    def assert_samples(self, **expected: float) -> None:
        """Those samples have those values; names are without their prefix."""
        samples = self.samples()
        found = {name: samples.get(f"stompauth_{name}") for name in expected}
        self.assertEqual(found, expected)

    def test_tickets(self) -> None:
        """Tickets issued, refused, redeemed and replayed."""
        site = self.application.site
        self.assertEqual(post_token(site, "x.y.z").status, 401)
        self.assertEqual(post_token(site, token(), origin="https://evil.example").status, 403)
        ticket = self.application.ticket()
        for status in (101, 401):
            self.assertEqual(WebSocket(site, f"/stomp?ticket={ticket}").status, status)
        self.assert_samples(
            **{
                "tickets_issued_total": 1,
                "tickets_refused_total{reason=unauthorized}": 1,
                "tickets_refused_total{reason=origin}": 1,
                "tickets_redeemed_total": 1,
                "tickets_replayed_total": 1,
                "handshakes_denied_total{reason=ticket}": 1,
                "websockets_total": 1,
            }
        )

    def test_sessions(self) -> None:
        """Sessions, how they began and how they ended."""
        alice, bob = (self.application.connect(user) for user in ("alice", "bob"))
        alice.send("SUBSCRIBE", id="1", destination="/topic/x")
        self.assert_samples(connects_total=2, sessions=2, subscriptions=1, topics=1)
        refused = self.application.open("carol")
        refused.connect(token("dave"))
        alice.send("DISCONNECT")
        bob.send("ABORT", transaction="t")
        self.assert_samples(
            **{
                "sessions": 0,
                "connects_refused_total{reason=subject-mismatch}": 1,
                "sessions_ended_total{close=1000,reason=disconnected}": 1,
                "sessions_ended_total{close=1002,reason=unknown-transaction}": 1,
            }
        )

    def test_denials(self) -> None:
        """Denials by the rule that denied, or by none."""
        for destination in ("/topic/read-only", "/other/x"):
            self.application.connect().send("SEND", destination=destination)
        self.assert_samples(
            **{"denials_total{rule=read only}": 1, "denials_total{rule=no rule}": 1}
        )

    def test_queues(self) -> None:
        """What waits in queues."""
        self.application.connect().send("SEND", b"x", destination="/queue/x")
        self.assert_samples(queues=1, queue_messages=1)

    def test_messages(self) -> None:
        """Frames and messages, in and out; a SEND that is refused is a frame, and no message."""
        application = self.application
        clients = [application.connect(user) for user in ("alice", "bob", "carol")]
        for client in clients:
            client.send("SUBSCRIBE", id="1", destination="/topic/x")
        clients[0].send("SUBSCRIBE", id="2", destination="/topic/x")
        before = self.samples()
        clients[0].send("SEND", b"x" * 1000, destination="/topic/x")
        application.clock.advance(0)
        clients[1].send("SEND", b"x" * 1000, destination="/topic/read-only")
        after = self.samples()
        rise = {
            name: after[f"stompauth_{name}"] - before[f"stompauth_{name}"]
            for name in (
                "frames_received_total",
                "messages_received_total",
                "messages_delivered_total",
            )
        }
        self.assertEqual(
            rise,
            {
                "frames_received_total": 2,
                "messages_received_total": 1,
                "messages_delivered_total": 4,
            },
        )
        for name, least in (("received_bytes_total", 2000), ("sent_bytes_total", 4000)):
            octets = after[f"stompauth_{name}"] - before[f"stompauth_{name}"]
            self.assertTrue(least < octets < least + 1000, (name, octets))

    def test_verification(self) -> None:
        """How often tokens were looked at, and for how long."""
        self.application.connect()
        self.assert_samples(token_verification_seconds_count=2, token_verification_seconds_sum=0)

    def test_lag(self) -> None:
        """How late the reactor was."""
        self.application.clock.advance(0.75)
        self.assert_samples(reactor_lag_seconds_sum=0.5, reactor_lag_seconds_count=1)

    def test_parts(self) -> None:
        """What the server depends on, and that it has not been told to stop."""
        self.assert_samples(**{"part_ready{part=serving}": 1})
        self.application.stompauth._connections.is_stopping = True
        self.assert_samples(**{"part_ready{part=serving}": 0})

    def test_nothing_personal(self) -> None:
        """LG-3: no user, address, session, ticket or destination is in them."""
        client = self.application.connect("mallory")
        client.send("SEND", destination="/topic/read-only")
        assert client.connected is not None
        text = self.metrics.text().decode()
        for secret in ("mallory", "192.0.2", client.connected.headers["session"], "/topic"):
            self.assertNotIn(secret, text)

    def test_process(self) -> None:
        """The process tells of itself, too."""
        self.assertGreater(self.samples()["process_resident_memory_bytes"], 0)
