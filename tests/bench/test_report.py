"""What the benchmark makes of its figures."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.bench.plot import draw
from tests.bench.report import BEGIN, END, Results
from tests.bench.rows import ROWS

SVG = "{http://www.w3.org/2000/svg}"


class ResultsTests(SynchronousTestCase):
    """Results."""

    def setUp(self) -> None:
        self.results = Results(["ours", "theirs"], 3, 2)
        for ours, theirs in ((1, 10), (2, 40), (3, 30)):
            self.results.add(ROWS["send"], "ours", ours)
            self.results.add(ROWS["send"], "theirs", theirs)

    def test_medians_and_ratios(self) -> None:
        """The median with its spread, and the median of the ratios within each round."""
        cells = self.results.line(ROWS["send"]).split(" | ")
        self.assertEqual(cells[2:], ["2.0 [1.0 to 3.0]", "30 [10 to 40]", "10.00 |"])

    def test_what_was_not_measured(self) -> None:
        """A row that another server does not have stays empty there."""
        self.results.add(ROWS["turn-5000"], "ours", 12)
        cells = self.results.line(ROWS["turn-5000"]).split(" | ")
        self.assertEqual(cells[2:], ["12", "", " |"])

    def test_page(self) -> None:
        """The table takes the place of the one between the marks, and the rest stays."""
        page = Path(self.mktemp())
        page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", "utf-8")
        self.results.write_page(page)
        expected = f"before\n{BEGIN}\n{self.results.table()}{END}\nafter\n"
        self.assertEqual(page.read_text("utf-8"), expected)

    def test_page_without_marks(self) -> None:
        """A page that has no place for a table is not touched."""
        page = Path(self.mktemp())
        page.write_text("before\n", "utf-8")
        self.assertRaises(ValueError, self.results.write_page, page)
        self.assertEqual(page.read_text("utf-8"), "before\n")

    def test_the_page_of_the_documentation(self) -> None:
        """docs/performance.md has the marks."""
        text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text("utf-8")
        self.assertIn(f"\n{BEGIN}\n", text)
        self.assertIn(f"\n{END}\n", text)


class PlotTests(SynchronousTestCase):
    """draw()."""

    def test_curves(self) -> None:
        """Each server has a curve and its name; what costs more is further up."""
        svg = ET.fromstring(draw({"a & b": [(1, 100), (1000, 10)], "c": [(1, 1), (1000, 0.5)]}))
        curves = [line.attrib["points"].split() for line in svg.iter(f"{SVG}polyline")]
        self.assertEqual(len(curves), 2)
        (left, high), (right, low) = (map(float, point.split(",")) for point in curves[0])
        self.assertLess(left, right)
        self.assertLess(high, low)
        self.assertIn("a & b", [text.text for text in svg.iter(f"{SVG}text")])
