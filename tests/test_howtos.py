"""Pages of docs/howto whose examples are configuration, or the page's JavaScript."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.destination import Destination
from stompauth.authorization.rules import Rules
from stompauth.config import from_mapping
from stompauth.identity.principal import Principal
from tests.test_config import MINIMAL

DOCS = Path(__file__).parents[1] / "docs"
CONNECTION = DOCS.parent / "stompauth" / "demo" / "static" / "connection.js"

_ROW = re.compile(r"^\| `(\{.*\})` \| (SUBSCRIBE|SEND) \| `(\S+)` \| (allowed|denied) \|$", re.M)


def page(name: str) -> str:
    return (DOCS / "howto" / name).read_text("utf-8")


class RulesPageTests(SynchronousTestCase):
    """docs/howto/rules.md."""

    def test_tables(self) -> None:
        """Each table says what the rules above it come to."""
        base = tomllib.loads(MINIMAL)
        sections = [section for section in page("rules.md").split("\n## ") if "```toml" in section]
        self.assertEqual(len(sections), 4)
        for section in sections:
            code, _, rest = section.partition("```toml\n")[2].partition("```")
            config = from_mapping({**base, **tomllib.loads(code)}, Path())
            rows = _ROW.findall(rest)
            self.assertEqual(len(rows), rest.count("| allowed |") + rest.count("| denied |"))
            self.assertGreater(len(rows), 2)
            for claims_text, command, path, expected in rows:
                claims = {"sub": "somebody", **json.loads(claims_text)}
                authorities = frozenset(claims.get("scope", "").split())
                principal = Principal(claims["sub"], "i", 0, 0, authorities, claims)
                destination = Destination.parse(path, pattern=command == "SUBSCRIBE")
                decision = Rules(config.rules).check(principal, command.lower(), destination)
                self.assertEqual(decision.allowed, expected == "allowed", (claims, command, path))


class IssuersPageTests(SynchronousTestCase):
    """docs/howto/issuers.md."""

    def test_configuration(self) -> None:
        """The section is good."""
        code = page("issuers.md").partition("```toml\n")[2].partition("```")[0]
        base = tomllib.loads(MINIMAL)
        config = from_mapping({**base, **tomllib.loads(code)}, Path())
        self.assertEqual(config.jwt.user_claim, "preferred_username")


class StompjsPageTests(SynchronousTestCase):
    """docs/howto/stompjs.md."""

    def test_excerpts(self) -> None:
        """What it shows of connection.js stands there, to the letter."""
        excerpts = re.findall(r"```js\n(.*?)```", page("stompjs.md"), re.S)
        self.assertEqual(len(excerpts), 3)
        source = CONNECTION.read_text("utf-8")
        for excerpt in excerpts:
            self.assertIn(excerpt, source)
