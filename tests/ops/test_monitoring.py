"""What docs/ says of the metrics, and asks of them, is what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.identity.keys import JWKSet
from stompauth.ops.metrics import Metrics
from tests.applications import Application

DOCS = Path(__file__).parents[2] / "docs"

#: Names of series that a family of these types has.
_SERIES = {
    "counter": ("_total",),
    "gauge": ("",),
    "summary": ("_count", "_sum"),
    "histogram": ("_bucket", "_count", "_sum"),
}


class MonitoringTests(SynchronousTestCase):
    """docs/howto/monitoring.md, the dashboard and the alerts."""

    maxDiff = None

    def setUp(self) -> None:
        application = Application()
        jwks: Any = JWKSet(None, "https://id.example.com/jwks.json", clock=Clock())  # type: ignore[arg-type]
        application.stompauth._keys = jwks
        metrics = Metrics(application.stompauth, application.clock)
        families = list(text_string_to_metric_families(metrics.text().decode()))
        self.types = {
            family.name + ("_total" if family.type == "counter" else ""): family.type
            for family in families
            # When a histogram began is no metric of its own.
            if not family.name.endswith("_created")
        }
        self.series = {
            family.name + suffix for family in families for suffix in _SERIES[family.type]
        }

    def test_page(self) -> None:
        """It lists every metric of ours with its type, and no other."""
        page = (DOCS / "howto" / "monitoring.md").read_text("utf-8")
        listed = dict(re.findall(r"^\| `(stompauth_\w+)` \| (\w+) \|", page, re.M))
        ours = {name: kind for name, kind in self.types.items() if name.startswith("stompauth_")}
        self.assertEqual(listed, ours)

    def assert_known(self, expression: str) -> None:
        names = set(re.findall(r"\b(?:stompauth|process)_\w+", expression))
        self.assertEqual(names - self.series, set(), expression)

    def test_dashboard(self) -> None:
        """Every expression of the dashboard is about metrics that there are."""
        dashboard = json.loads((DOCS / "monitoring" / "dashboard.json").read_text("utf-8"))
        expressions = [
            target["expr"] for panel in dashboard["panels"] for target in panel["targets"]
        ]
        self.assertGreater(len(expressions), 20)
        for expression in expressions:
            self.assert_known(expression)

    def test_alerts(self) -> None:
        """So is every alert."""
        alerts = (DOCS / "monitoring" / "alerts.yml").read_text("utf-8")
        self.assertGreater(len(re.findall(r"- alert: ", alerts)), 5)
        self.assert_known(re.sub(r"(annotations|alert):.*", "", alerts))
