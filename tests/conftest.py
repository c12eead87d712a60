"""What pytest does for tests/integration; trial does not read this."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    Reports = Generator[None, pytest.TestReport, pytest.TestReport]
    CollectReports = Generator[None, pytest.CollectReport, pytest.CollectReport]


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With CI=true nothing may be left out, whatever a test finds missing."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CI=true leaves no test out, and this one was: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Reports:
    """A test that skips itself fails in CI."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> CollectReports:
    """So does a module that skips itself."""
    report = yield
    _fail_if_skipped(report)
    return report
