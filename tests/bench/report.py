"""What has come out: as a table, as a plot, as figures."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from statistics import median
from typing import TYPE_CHECKING, Final

from tests.bench.plot import draw
from tests.bench.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.bench.rows import Row

#: The lines of a page that the table goes between.
BEGIN: Final = "<!-- table -->"
END: Final = "<!-- end of the table -->"


class Results:
    """The figures of a run.

    :param servers: their names; the first is the one that the others are compared with.
    """

    def __init__(self, servers: Sequence[str], runs: int, seconds: float) -> None:
        self._servers = servers
        self._runs = runs
        self._seconds = seconds
        self._figures: dict[str, dict[str, list[float]]] = {}

    def add(self, row: Row, server: str, figure: float) -> None:
        """Take the figure of one run."""
        self._figures.setdefault(row.name, {}).setdefault(server, []).append(figure)

    def line(self, row: Row) -> str:
        """The row of the table."""
        figures = self._figures[row.name]
        first = figures[self._servers[0]]
        cells = [f"{row.title} | {row.unit}"]
        cells += [_cell(figures.get(server)) for server in self._servers]
        for server in self._servers[1:]:
            found = figures.get(server)
            ratios = [other / ours for other, ours in zip(found or (), first, strict=False)]
            cells.append(f"{median(ratios):.2f}" if ratios else "")
        return f"| {' | '.join(cells)} |"

    def table(self) -> str:
        """The table, in Markdown."""
        ours, *others = self._servers
        heads = ["work", "unit", *self._servers, *(f"{other} / {ours}" for other in others)]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        rows = [self.line(ROWS[name]) for name in self._figures]
        versions = [f"{name} {version(name)}" for name in ("Twisted", "Autobahn")]
        note = (
            f"Medians of {self._runs} runs of {self._seconds:g} s, with lowest and highest. "
            f"{platform.system()}, {platform.python_implementation()} {platform.python_version()}, "
            f"{', '.join(versions)}, {os.cpu_count()} CPUs."
        )
        return "\n".join([*lines, *rows, "", note, ""])

    def write(self, directory: Path) -> None:
        """Write all there is into the directory: table, plot, and the figure of each run."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "table.md").write_text(self.table(), "utf-8")
        (directory / "figures.json").write_text(json.dumps(self._figures, indent=1), "utf-8")
        self._plot(directory / "fanout.svg")

    def write_page(self, page: Path) -> None:
        """Put the table into a page, between its marks, and the plot beside it."""
        before, begin, rest = page.read_text("utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        if not end:
            raise ValueError(f"{page} does not have the lines {BEGIN} and {END}")
        plot = page.with_suffix(".svg")
        image = f"\n![CPU time per delivery]({plot.name})\n" if self._plot(plot) else ""
        page.write_text(f"{before}{begin}\n{self.table()}{image}{end}{after}", "utf-8")

    def _plot(self, path: Path) -> bool:
        """Plot the rows that differ by the number of subscribers alone, if there are two."""
        curves: dict[str, list[tuple[int, float]]] = {server: [] for server in self._servers}
        for subscribers in (1, 10, 100, 1000):
            found = self._figures.get(f"fanout-{subscribers}-1", {})
            for server, figures in found.items():
                curves[server].append((subscribers, median(figures)))
        enough = len(curves[self._servers[0]]) > 1
        if enough:
            path.write_text(draw(curves), "utf-8")
        return enough


def _cell(figures: list[float] | None) -> str:
    """The median, and the spread."""
    if not figures:
        return ""
    middle = median(figures)
    places = max(0, 2 - len(str(int(middle))) + (middle < 1))
    if len(figures) == 1:
        return f"{middle:.{places}f}"
    low, high = min(figures), max(figures)
    return f"{middle:.{places}f} [{low:.{places}f} to {high:.{places}f}]"
