"""Where the console script begins."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

from twisted.trial.unittest import SynchronousTestCase

from stompauth.cli import commands
from stompauth.cli.script import main


class MainTests(SynchronousTestCase):
    """main()."""

    def test_installed(self) -> None:
        """The console script is this."""
        (script,) = entry_points(group="console_scripts", name="stompauth")
        self.assertEqual(script.value, "stompauth.cli.script:main")

    def test_runs(self) -> None:
        """It runs the command line."""
        called: list[bool] = []
        self.patch(commands, "stompauth", lambda: called.append(True))
        main()
        self.assertEqual(called, [True])

    def test_without_click(self) -> None:
        """Without click it says what to install, and no more."""
        for name in list(sys.modules):
            if name.partition(".")[0] == "click" or name == "stompauth.cli.commands":
                self.patch_module(name)
        exit_ = self.assertRaises(SystemExit, main)
        self.assertIn("pip install 'stompauth[cli]'", str(exit_.code))

    def patch_module(self, name: str) -> None:
        """Let a module be missing."""
        module = sys.modules[name]
        self.addCleanup(sys.modules.__setitem__, name, module)
        if name == "click":
            sys.modules[name] = None
        else:
            del sys.modules[name]

    def test_other_module_missing(self) -> None:
        """What else is missing is a fault, and comes out as it is."""
        self.patch_module("stompauth.cli.commands")
        module = sys.modules["jwt"]
        self.addCleanup(sys.modules.__setitem__, "jwt", module)
        sys.modules["jwt"] = None
        missing = self.assertRaises(ModuleNotFoundError, main)
        self.assertEqual(missing.name, "jwt")
