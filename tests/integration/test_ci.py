"""In CI a test that skips itself is a failure; elsewhere it is a skip."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TEST = "import pytest\ndef test_it(): pytest.skip('no chromium')\n"
MARKED = "import pytest\n@pytest.mark.skipif(True, reason='no chromium')\ndef test_it(): pass\n"
MODULE = "import pytest\npytest.skip('no chromium', allow_module_level=True)\n"
EXPECTED = "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False\n"


@pytest.mark.parametrize(
    ("code", "ci", "fails"),
    [
        (TEST, "true", True),
        (MARKED, "true", True),
        (MODULE, "true", True),
        (EXPECTED, "true", False),
        (TEST, "", False),
        (MARKED, "", False),
    ],
)
def test_skips(code: str, ci: str, fails: bool, tmp_path: Path) -> None:
    """Nothing is left out when CI=true, and the reason why it would have been is shown."""
    (tmp_path / "test_it.py").write_text(code)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", os.devnull, tmp_path],
        cwd=ROOT,
        env=os.environ | {"CI": ci},
        capture_output=True,
        text=True,
    )
    assert (run.returncode != 0) is fails, run.stdout
    assert ("no chromium" in run.stdout) is fails
