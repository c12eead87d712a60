"""The metadata of the distribution, and what is installed beside it."""

from __future__ import annotations

import tomllib
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from stompauth.version import __version__

ROOT = Path(__file__).parents[1]

#: OP-3: below these versions a published advisory applies.
FLOORS = {
    "twisted": "26.4",
    "autobahn": "26.10.1",
    "pyjwt": "2.14.0",
    "service-identity": "24.2",
    "cryptography": "50.0.0",
}

#: What comes by way of the others, which ask for less.
INDIRECT = {"cryptography"}


class DistributionTests(SynchronousTestCase):
    """What pip sees is what the source tree has."""

    def setUp(self) -> None:
        self.settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

    def test_version(self) -> None:
        """The version is written once, in stompauth/version.py, and is the one installed."""
        self.assertEqual(version("stompauth"), __version__)
        self.assertNotIn("version", self.settings["project"])
        texts = [
            path.relative_to(ROOT).as_posix()
            for pattern in ("*.toml", "*.cfg", "*.md", "stompauth/**/*.py", "twisted/**/*.py")
            for path in sorted(ROOT.glob(pattern))
            if f'"{__version__}"' in path.read_text("utf-8")
        ]
        self.assertEqual(texts, ["stompauth/version.py"])

    def test_packages(self) -> None:
        """Every directory with modules is listed, so that the wheel has all of them."""
        found = {
            ".".join(path.parent.relative_to(ROOT).parts)
            for top in ("stompauth", "twisted")
            for path in (ROOT / top).rglob("*.py")
        }
        self.assertEqual(set(self.settings["tool"]["setuptools"]["packages"]), found)

    def test_plugin(self) -> None:
        """Both twistd and twist see the plugin, once, and its module is there."""
        makers = [plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "stompauth"]
        self.assertEqual([maker.module for maker in makers], ["stompauth.tap"])

    def test_twisted_is_not_shadowed(self) -> None:
        """Our twisted/ directory holds a plugin only; a package there would hide Twisted's."""
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])


class FloorTests(SynchronousTestCase):
    """OP-3: nothing with a known hole is installed, or may be."""

    def test_installed(self) -> None:
        """OP-3: what is installed is at or above the floors."""
        old = {
            name: version(name)
            for name, floor in FLOORS.items()
            if Version(version(name)) < Version(floor)
        }
        self.assertEqual(old, {})

    def test_declared(self) -> None:
        """OP-3: the requirements that pip reads turn down anything below the floors."""
        declared = {
            requirement.name.lower(): requirement.specifier
            for requirement in map(Requirement, requires("stompauth") or [])
            if requirement.marker is None
        }
        self.assertEqual(set(declared), set(FLOORS) - INDIRECT)
        for name, specifier in declared.items():
            minimum = [Version(each.version) for each in specifier if each.operator == ">="]
            self.assertEqual(minimum, [Version(FLOORS[name])], name)
