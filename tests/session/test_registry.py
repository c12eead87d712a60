"""Tests of stompauth.session.registry."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.session.registry import SessionRegistry


class RegistryTests(SynchronousTestCase):
    """Sessions are found by their id, and by their user, from when they are in until they go."""

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=40))
    def test_model(self, steps: list[tuple[bool, int]]) -> None:
        """However sessions come and go, a user has those that are here, the oldest first."""
        registry = SessionRegistry()
        sessions: list[Any] = [
            SimpleNamespace(session_id=str(number), user=f"user{number % 2}") for number in range(6)
        ]
        here: list[Any] = []
        for comes, number in steps:
            session = sessions[number]
            if not comes:
                registry.remove(session)
                if session in here:
                    here.remove(session)
            elif session not in here:
                registry.add(session)
                here.append(session)
            self.assertEqual(list(registry), here)
            for user in ("user0", "user1", "nobody"):
                theirs = [session for session in here if session.user == user]
                self.assertEqual(registry.of_user(user), theirs)
        for session in here:
            registry.remove(session)
        self.assertEqual((len(registry), registry._by_user), (0, {}))
