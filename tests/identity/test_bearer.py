"""Tests of stompauth.identity.bearer."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from stompauth.identity.bearer import check_secret_token, parse_bearer, read_secret_token

TOKEN = "0123456789abcdefABCDEF-._~+/" + "z" * 4


class SecretTokenTests(SynchronousTestCase):
    """OP-1: a token that is a secret itself is long, and can be sent as it is."""

    def test_good(self) -> None:
        """What is accepted comes through a header unharmed."""
        for token in (TOKEN, TOKEN + "==", "x" * 8000):
            check_secret_token(token)
            self.assertEqual(parse_bearer(f"Bearer {token}"), token)

    def test_bad(self) -> None:
        """What is short, too long, or no token is refused, and not repeated."""
        for token in ("", "x" * 31, "x" * 8001, "=" * 32, "two words " * 4, "\xfc" * 32, "=x" * 16):
            with self.assertRaises(ValueError) as caught:
                check_secret_token(token)
            self.assertNotIn(token or "none", str(caught.exception))

    def test_file(self) -> None:
        """White space around the token, as an editor leaves it, is not part of it."""
        path = Path(self.mktemp())
        for text in (TOKEN, f"{TOKEN}\n", f" {TOKEN}\r\n\n"):
            path.write_bytes(text.encode())
            self.assertEqual(read_secret_token(path), TOKEN)
        for octets in (b"\n", b"\xff" * 40, f"{TOKEN}\n{TOKEN}".encode()):
            path.write_bytes(octets)
            self.assertRaises(ValueError, read_secret_token, path)
        path.unlink()
        self.assertRaises(OSError, read_secret_token, path)
