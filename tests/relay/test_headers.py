"""Tests of stompauth.relay.headers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.destination import Destination
from stompauth.errors import Refused
from stompauth.relay.headers import delivery_count, from_broker, to_broker
from stompauth.session.firewall import pass_headers
from tests.broker.receiver import message_to

#: What RabbitMQ reads off a SEND, or copies into a MESSAGE as its own.
RABBITMQ_READS = (
    *("reply-to", "x-queue-name", "x-dead-letter-exchange", "x-dead-letter-routing-key"),
    *("x-message-ttl", "x-max-length", "x-expires", "x-queue-type", "durable", "auto-delete"),
    *("exclusive", "persistent", "priority", "type", "x-stream-offset", "amqp-message-id"),
    *("expiration", "app-id", "timestamp", "cluster-id", "content-encoding", "requeue"),
    *("prefetch-count", "selector", "CC", "BCC", "x-death", "x-delivery-count"),
    *("stompauth-id", "stompauth-expires"),
)

OURS = {
    "destination",
    "stompauth-id",
    "persistent",
    "content-type",
    "correlation-id",
    "expiration",
    "stompauth-expires",
}


class ToBrokerTests(SynchronousTestCase):
    """What goes to RabbitMQ."""

    def test_by_a_list(self) -> None:
        """RL-2: what RabbitMQ would read for itself goes behind a prefix, and is not lost."""
        custom = {name: f"value of {name}" for name in RABBITMQ_READS}
        message = message_to("/queue/x", headers={**custom, "x-app": "1"})
        sent = to_broker(message, "/queue/x", 0)
        self.assertEqual({name for name in sent if not name.startswith("app-")} - OURS, set())
        self.assertEqual(sent["persistent"], "true")
        self.assertEqual(sent["stompauth-id"], message.message_id)
        back = from_broker(sent, b"", message.destination, "/queue/x")
        self.assertEqual(back.headers, message.headers)

    def test_properties(self) -> None:
        """Content type and correlation id are AMQP's own, for other applications to read."""
        headers = {"content-type": "text/plain", "correlation-id": "7"}
        sent = to_broker(message_to("/topic/x", headers=headers), "there", 0)
        self.assertEqual(sent["content-type"], "text/plain")
        self.assertEqual(sent["correlation-id"], "7")
        self.assertNotIn("persistent", sent)

    def test_long_property(self) -> None:
        """One that AMQP has no room for goes as a custom header does."""
        headers = {"content-type": "ü" * 128}
        sent = to_broker(message_to("/topic/x", headers=headers), "there", 0)
        self.assertNotIn("content-type", sent)
        back = from_broker(sent, b"", Destination.parse("/topic/x"), "/topic/x")
        self.assertEqual(back.headers, headers)

    def test_long_name(self) -> None:
        """A name that AMQP has no room for is refused, and not cut."""
        to_broker(message_to("/topic/x", headers={"n" * 251: ""}), "there", 0)
        message = message_to("/topic/x", headers={"n" * 252: ""})
        self.assertEqual(
            self.assertRaises(Refused, to_broker, message, "there", 0).code, "bad-header"
        )

    def test_expiry(self) -> None:
        """RabbitMQ has the rest in milliseconds, our other nodes the time itself."""
        sent = to_broker(message_to("/queue/x", expires=1000.5), "/queue/x", 999.25)
        self.assertEqual(sent["expiration"], "1250")
        back = from_broker(sent, b"", Destination.parse("/queue/x"), "/queue/x")
        self.assertEqual(back.expires, 1000.5)
        late = to_broker(message_to("/queue/x", expires=5), "/queue/x", 999)
        self.assertEqual(late["expiration"], "0")

    @settings(deadline=None)
    @given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=20)))
    def test_there_and_back(self, headers: dict[str, str]) -> None:
        """Whatever may cross from client to client arrives as it was."""
        headers = pass_headers(headers, None)
        message = message_to("/topic/x", headers=headers)
        back = from_broker(to_broker(message, "x", 0), b"", message.destination, "/topic/x")
        self.assertEqual(back.headers, headers)
        self.assertEqual(back.message_id, message.message_id)


class FromBrokerTests(SynchronousTestCase):
    """What comes back."""

    def test_by_a_list(self) -> None:
        """RL-4: of what other applications say, a client gets what a client could have said."""
        headers = {
            "subscription": "s", "message-id": "T_s@@x@@1", "destination": "/topic/x",
            "receipt": "r", "login": "chat", "x-death": "1", "persistent": "true",
            "app-error": "true", "app-subscription": "other", "app-ack": "1", "app-colour": "red",
        }  # fmt: skip
        message = from_broker(headers, b"", Destination.parse("/topic/x"), "/topic/x")
        self.assertEqual(message.headers, {"colour": "red"})

    def test_ids(self) -> None:
        """The id is the sender's node's, or AMQP's; one that could not be acknowledged is not."""
        destination = Destination.parse("/queue/x")
        for headers, wanted in [
            ({"stompauth-id": "abc"}, "abc"),
            ({"amqp-message-id": "m-1"}, "m-1"),
            ({"stompauth-id": "abc", "amqp-message-id": "m-1"}, "abc"),
        ]:
            self.assertEqual(from_broker(headers, b"", destination, "").message_id, wanted)
        for odd in ("", "a b", "x" * 256, "a\nb"):
            found = from_broker({"stompauth-id": odd}, b"", destination, "").message_id
            self.assertEqual(len(found), 24)

    def test_delivery_count(self) -> None:
        """Quorum queues count; of others it is known whether a delivery is the first."""
        for headers, count in [
            ({"redelivered": "false"}, 1),
            ({"redelivered": "true"}, 2),
            ({"redelivered": "true", "x-delivery-count": "3"}, 4),
            ({"redelivered": "true", "x-delivery-count": "-1"}, 2),
        ]:
            self.assertEqual(delivery_count(headers), count)

    def test_dead_letter(self) -> None:
        """A dead letter says why and where from, and does not expire again."""
        destination = Destination.parse("/queue/dlq.x")
        for reason, wanted in [("expired", "expired"), ("rejected", "max-deliveries")]:
            headers = {
                "stompauth-expires": "5.0",
                "x-first-death-reason": reason,
                "x-first-death-queue": "x/y",
            }
            message = from_broker(headers, b"", destination, "/queue/dlq.x")
            self.assertIsNone(message.expires)
            self.assertEqual(message.headers, {"dlq-reason": wanted, "dlq-origin": "/queue/x/y"})

    def test_odd_expiry(self) -> None:
        """What is no time is none."""
        destination = Destination.parse("/queue/x")
        self.assertIsNone(from_broker({"stompauth-expires": "x"}, b"", destination, "").expires)
