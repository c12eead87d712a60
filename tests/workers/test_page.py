"""docs/howto/workers.md."""

from __future__ import annotations

import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.trial.unittest import SynchronousTestCase

from stompauth.config import load

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "workers.md"


class PageTests(SynchronousTestCase):
    """The page says what there is."""

    def test_configuration(self) -> None:
        """The configuration of the page is one."""
        (toml,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.S)
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        key = rsa.generate_private_key(65537, 2048).public_key()
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (directory / "issuer.pem").write_bytes(pem)
        (directory / "stompauth.toml").write_text(toml, "utf-8")
        self.assertEqual(load(directory / "stompauth.toml").workers, 4)
