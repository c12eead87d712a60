"""Tests of stompauth.session.firewall."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.session.firewall import BLOCKED, pass_headers


class PassHeadersTests(SynchronousTestCase):
    """Custom headers cross from sender to receiver; credentials and the server's own do not."""

    def test_custom(self) -> None:
        """What is the application's passes as it is."""
        headers = {
            "content-type": "text/plain",
            "correlation-id": "7",
            "expires": "1",
            "X-My": "a:b",
        }
        self.assertEqual(pass_headers(headers, None), headers)

    def test_blocked(self) -> None:
        """I6, ST-10: no credential and nothing that the server says crosses, in any case."""
        for name in (*BLOCKED, "x-stompauth-user"):
            for spelling in (name, name.upper(), name.title()):
                self.assertEqual(pass_headers({spelling: "x"}, None), {}, spelling)

    def test_contract(self) -> None:
        """The list is the documented one."""
        documented = (
            "authorization login passcode ticket host accept-version heart-beat version session "
            "server user-name user-id receipt receipt-id transaction message-id subscription ack "
            "id redelivered delivery-count error code retain"
        )
        self.assertEqual(BLOCKED - {"destination", "content-length"}, set(documented.split()))

    def test_sender(self) -> None:
        """Where it is stamped, the sender is the verified one, whatever the client wrote."""
        forged = {"sender": "admin", "Sender": "root", "SENDER": "x"}
        self.assertEqual(pass_headers(forged, "alice"), {"sender": "alice"})
        self.assertEqual(pass_headers(forged, None), forged)

    @given(st.dictionaries(st.text(max_size=12), st.text(max_size=5)))
    def test_nothing_is_made_up(self, headers: dict[str, str]) -> None:
        """What comes out was in."""
        self.assertLessEqual(pass_headers(headers, None).items(), headers.items())
