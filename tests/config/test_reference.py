"""What people and editors are told of each key."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from twisted.trial.unittest import SynchronousTestCase

from stompauth.config import from_mapping
from stompauth.config.reference import schema, schema_text, sections, table, with_tables
from stompauth.config.values import keys
from stompauth.errors import ConfigError
from tests.test_config import EVERYTHING, MINIMAL, VALUES, ConfigCase, changed, rule

DOCS = Path(__file__).parents[2] / "docs"

#: How to mend what the first two tests find.
GENERATE = "the code has changed: run python docs/generate.py"


class CheckedInTests(SynchronousTestCase):
    """What is in docs/ is what the code says."""

    def test_page(self) -> None:
        """The tables of configuration.md are those that the code makes."""
        page = (DOCS / "configuration.md").read_text("utf-8")
        self.assertEqual(page, with_tables(page), GENERATE)

    def test_every_section(self) -> None:
        """configuration.md has the table of every section."""
        page = (DOCS / "configuration.md").read_text("utf-8")
        for section in sections():
            self.assertIn(table(section), page)

    def test_schema(self) -> None:
        """The schema's file is what the code makes."""
        self.assertEqual(
            (DOCS / "stompauth.schema.json").read_text("utf-8"), schema_text(), GENERATE
        )

    def test_comment(self) -> None:
        """The page shows the comment by which editors find it, and the file is so called."""
        line = f"#:schema ./{DOCS.joinpath('stompauth.schema.json').name}\n"
        self.assertIn(line, (DOCS / "configuration.md").read_text("utf-8"))


class SectionsTests(SynchronousTestCase):
    """Keys, with all that is told of them."""

    def test_keys(self) -> None:
        """Every key is there, those of the arrays of tables too."""
        told = {key.path for found in sections().values() for key in found}
        entries = {path for path in told if path.startswith(("rules.", "interceptors."))}
        self.assertEqual(told - entries, {path for path, _ in keys()})
        self.assertEqual(
            entries,
            {
                "interceptors.use",
                *("rules.allow", "rules.deny", "rules.destination", "rules.authorities"),
                *("rules.claims", "rules.name", "rules.on_deny", "rules.retain"),
            },
        )

    def test_meanings(self) -> None:
        """Each has a meaning, in one line and in Markdown."""
        for found in sections().values():
            for key in found:
                self.assertRegex(key.meaning, r"\A[^|\n:]([^|\n](?!``))+\.\Z", key.path)

    def test_inherited(self) -> None:
        """A section that inherits keys tells of them too, with unit and default."""
        (ttl,) = (key for key in sections()["tickets"] if key.name == "ttl")
        self.assertEqual((ttl.unit, ttl.type, ttl.default), ("s", "number", 30))


class WithTablesTests(SynchronousTestCase):
    """A page is renewed."""

    def test_renewed(self) -> None:
        """A table is replaced, and nothing around it; other tables stay."""
        page = (
            "### `[cluster]`\n\nText.\n\n| Key |\n|---|\n| `old` |\n\nEnd.\n\n### Other\n\n| a |\n"
        )
        self.assertEqual(
            with_tables(page), page.replace("| Key |\n|---|\n| `old` |\n", table("cluster"))
        )


class SchemaTests(ConfigCase):
    """The schema knows good from bad."""

    validator = Draft7Validator(schema())

    def mistaken(self, data: dict[str, Any]) -> set[str]:
        """The paths of what the schema does not take."""
        return {error.json_path for error in self.validator.iter_errors(data)}

    def test_schema(self) -> None:
        """It is a schema itself."""
        Draft7Validator.check_schema(schema())
        self.assertEqual(json.loads(schema_text()), schema())

    def test_good(self) -> None:
        """What the reader takes is good."""
        for text in (MINIMAL, EVERYTHING):
            self.assertEqual(self.mistaken(tomllib.loads(text)), set())
        page = (DOCS / "configuration.md").read_text("utf-8")
        example = page.split("## An example")[1].split("```toml\n")[1].split("```")[0]
        self.assertEqual(self.mistaken(tomllib.loads(example)), set())

    def test_bad(self) -> None:
        """Unknown keys, wrong types, numbers out of range, unknown words are bad, at their path."""
        for data, path in (
            (changed(limitz={}), "$"),
            (changed(jwt__isuer="a"), "$.jwt"),
            (changed(jwt=3), "$.jwt"),
            (changed(fast_io="yes"), "$.fast_io"),
            (changed(workers=1.5), "$.workers"),
            (changed(tickets__ttl=90), "$.tickets.ttl"),
            (changed(limits__frame=-1), "$.limits.frame"),
            (changed(limits__heartbeat=[1]), "$.limits.heartbeat"),
            (changed(jwt__algorithms=["none"]), "$.jwt.algorithms[0]"),
            (changed(jwt__secret_file=[1]), "$.jwt.secret_file"),
            (changed(ops__log_format="xml"), "$.ops.log_format"),
            (changed(rules=None), "$"),
            (changed(rules=[]), "$.rules"),
            (changed(rules=rule(destination=None)), "$.rules[0]"),
            (changed(rules=rule(allow=None)), "$.rules[0]"),
            (changed(rules=rule(allow=["read"])), "$.rules[0].allow[0]"),
            (changed(rules=rule(claims={"a": 1})), "$.rules[0].claims.a"),
            (changed(interceptors=[{}]), "$.interceptors[0]"),
        ):
            with self.subTest(path):
                self.assertEqual(self.mistaken(data), {path})
                self.refused(data)

    @settings(deadline=None, max_examples=150)
    @given(st.sampled_from([path for path, _ in keys()]), VALUES)
    def test_no_false_alarm(self, path: str, value: object) -> None:
        """What the reader takes is never marked."""
        data = changed(**{path.replace(".", "__"): value})
        try:
            from_mapping(data, Path())
        except ConfigError:
            return
        self.assertEqual(self.mistaken(data), set())
