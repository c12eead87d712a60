"""The code in the documentation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def blocks(page: Path) -> dict[str, list[str]]:
    """The code blocks of a page, in their order, by language."""
    found: dict[str, list[str]] = {}
    for language, code in re.findall(
        r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S
    ):
        found.setdefault(language, []).append(code)
    return found
