"""Writes down what the code says of the configuration: the tables of a page, and a JSON Schema."""

from __future__ import annotations

from pathlib import Path

from stompauth.config.reference import schema_text, with_tables

DOCS = Path(__file__).parent

page = DOCS / "configuration.md"
page.write_text(with_tables(page.read_text("utf-8")), "utf-8")
(DOCS / "stompauth.schema.json").write_text(schema_text(), "utf-8")
