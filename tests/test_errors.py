"""Tests of stompauth.errors."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.errors import ERROR_CODES, Refused


class RefusedTests(SynchronousTestCase):
    """A refusal has a code that fits into headers and close reasons, and a consequence."""

    def test_known(self) -> None:
        """A code of ours has its close status and its texts; they can be written in STOMP 1.0."""
        for code, consequence in ERROR_CODES.items():
            self.assertEqual(Refused(code).consequence, consequence)
            self.assertTrue((consequence.message + consequence.explanation).isprintable())
            self.assertNotIn("\\", consequence.message + consequence.explanation)

    def test_own(self) -> None:
        """A code of the application's closes with 4403; its explanation is the application's."""
        refused = Refused("members-only", explanation="Come back as a member.")
        self.assertEqual(refused.consequence.close, 4403)
        self.assertEqual(refused.consequence.explanation, "Come back as a member.")

    @given(st.text())
    def test_slugs(self, code: str) -> None:
        """Only a slug can be a code."""
        is_slug = re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", code) and len(code) <= 64
        if is_slug:
            Refused(code)
        else:
            self.assertRaises(ValueError, Refused, code)

    def test_no_slugs(self) -> None:
        """A text, however well meant, is none."""
        for code in ("", "zu-gro\xdf", "Not allowed", "a--b", "-a", "a\n", "x" * 65):
            self.assertRaises(ValueError, Refused, code)
