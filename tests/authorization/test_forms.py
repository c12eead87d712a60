"""Tests for :mod:`stompauth.authorization.forms`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.destination import Destination
from stompauth.authorization.forms import needs_rule
from stompauth.errors import Refused


def outcome(command: str, text: str) -> bool | str:
    """What the form decides: whether a rule is needed, or the code of the refusal."""
    destination = Destination.parse(text, pattern=command == "subscribe")
    try:
        return needs_rule(command, destination)
    except Refused as refused:
        return refused.code


class NeedsRuleTests(SynchronousTestCase):
    """What is decided before rules are asked."""

    def test_send(self) -> None:
        """AZ-6: only the session's own business is sent without a rule."""
        for text, expected in (
            ("/topic/a", True),
            ("/queue/a", True),
            ("/queue/dlq.a", True),
            ("/app/a", True),
            ("/user/queue/a", True),
            ("/user/queue/errors", True),
            ("/user/bob/queue/a", True),
            ("/user/bob", "no-such-destination"),
            ("/user/queue", "no-such-destination"),
            ("/temp-queue/a", False),
            ("/temp-queue", True),
            ("/session/token", False),
            ("/session/token/a", "no-such-destination"),
            ("/session/other", "no-such-destination"),
            ("/elsewhere/a", True),
            ("/topic", True),
        ):
            self.assertEqual(outcome("send", text), expected, text)

    def test_subscribe(self) -> None:
        """AZ-5: nobody subscribes to another user's destinations, whatever the rules say."""
        for text, expected in (
            ("/topic/a", True),
            ("/queue/a", True),
            ("/app/a", True),
            ("/user/queue/a", True),
            ("/user/queue/errors", False),
            ("/user/queue/errors/a", True),
            ("/user/bob/queue/a", "access-denied"),
            ("/user/bob/queue/errors", "access-denied"),
            ("/user/bob", "no-such-destination"),
            ("/temp-queue/a", False),
            ("/session/token", "access-denied"),
            ("/session/other", "no-such-destination"),
            ("/elsewhere/a", True),
        ):
            self.assertEqual(outcome("subscribe", text), expected, text)

    def test_subscribe_with_wildcards(self) -> None:
        """AZ-3: only topics can be subscribed to by a pattern; no private name can."""
        for text, expected in (
            ("/topic/*", True),
            ("/topic/**", True),
            ("/topic/*/a", True),
            ("/queue/*", "no-such-destination"),
            ("/queue/**", "no-such-destination"),
            ("/user/queue/*", "no-such-destination"),
            ("/user/*/queue/a", "no-such-destination"),
            ("/temp-queue/*", "no-such-destination"),
            ("/temp-queue/**", "no-such-destination"),
            ("/session/*", "no-such-destination"),
            ("/app/*", "no-such-destination"),
            ("/*", "no-such-destination"),
            ("/*/a", "no-such-destination"),
            ("/**", "no-such-destination"),
        ):
            self.assertEqual(outcome("subscribe", text), expected, text)

    def test_send_with_wildcards(self) -> None:
        """AZ-3: a pattern that should reach a SEND all the same is refused."""
        with self.assertRaises(Refused):
            needs_rule("send", Destination.parse("/topic/*", pattern=True))
