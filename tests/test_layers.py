"""The house rules of the source tree, read off its syntax trees."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

#: Bottom up. A module may import what lies below, and its own package; what stands in one line
#: knows nothing of its neighbours there. The longest name that fits a module is the one it has.
LAYERS = (
    (
        "stompauth.audit",
        "stompauth.coroutines",
        "stompauth.counters",
        "stompauth.errors",
        "stompauth.fetch",
        "stompauth.logs",
        "stompauth.settings",
        "stompauth.version",
    ),
    (
        "stompauth.stomp",
        "stompauth.redis",
        "stompauth.identity.principal",
        "stompauth.tickets.grant",
    ),
    ("stompauth.interfaces",),
    ("stompauth.identity", "stompauth.tickets", "stompauth.authorization"),
    ("stompauth.broker",),
    ("stompauth.interceptors",),
    ("stompauth.session",),
    ("stompauth.cluster",),
    ("stompauth.client", "stompauth.handlers", "stompauth.handshake", "stompauth.relay"),
    ("stompauth.fastio",),
    ("stompauth.application", "stompauth.control"),
    ("stompauth.config", "stompauth.operations", "stompauth.ops", "stompauth.testing"),
    ("stompauth.garbage", "stompauth.reload", "stompauth.workers"),
    ("stompauth.listening", "stompauth.parts"),
    ("stompauth.service",),
    ("stompauth.demo",),
    ("stompauth.tap",),
    ("stompauth.cli",),
    ("stompauth",),
)

#: Libraries that only these modules, and packages, may import.
KEPT_IN = {
    "autobahn": (
        "stompauth.handshake.websocket",
        "stompauth.fastio",
        "stompauth.client.websocket",
    ),
    "click": ("stompauth.cli",),
    "jwt": ("stompauth.identity", "stompauth.demo", "stompauth.cli"),
    "prometheus_client": ("stompauth.ops.metrics",),
    "txaio": ("stompauth.client.websocket", "stompauth.testing"),
    "txredisapi": ("stompauth.redis",),
}

#: What tells the time, or waits, without a clock that was passed in.
WALL_CLOCKS = {
    "time": {"monotonic", "monotonic_ns", "perf_counter", "sleep", "time", "time_ns"},
    "datetime": {"now", "today", "utcnow"},
    "date": {"today"},
}


@dataclass(frozen=True)
class Import:
    """One name that a module imports, dotted in full."""

    name: str
    line: int
    typing_only: bool
    in_function: bool


def is_within(name: str, package: str) -> bool:
    """Whether the dotted name is the package, or something in it."""
    return name == package or name.startswith(f"{package}.")


def layer_of(module: str) -> tuple[int, str]:
    """The height of a module, and the entry of LAYERS that places it."""
    fitting = [
        (len(entry), height, entry)
        for height, layer in enumerate(LAYERS)
        for entry in layer
        if module == entry or (entry != "stompauth" and is_within(module, entry))
    ]
    if not fitting:
        raise LookupError(f"{module} stands in no layer")
    _, height, entry = max(fitting)
    return height, entry


def imports_of(tree: ast.AST) -> Iterator[Import]:
    """Every import of a module, those inside functions too; `from a import b` is ``a.b``."""

    def walk(node: ast.AST, typing_only: bool, in_function: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, typing_only, in_function)
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level + (node.module or "")
            for alias in node.names:
                name = f"{package}.{alias.name}"
                yield Import(name, node.lineno, typing_only, in_function)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in (
            "TYPE_CHECKING",
            "typing.TYPE_CHECKING",
        ):
            for child in node.body:
                yield from walk(child, True, in_function)
            for child in node.orelse:
                yield from walk(child, typing_only, in_function)
        else:
            inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, typing_only, inside)

    return walk(tree, False, False)


def wrong_imports(module: str, tree: ast.AST) -> Iterator[str]:
    """What is wrong with the imports of the module."""
    height, own = layer_of(module)
    for imported in imports_of(tree):
        name, line = imported.name, imported.line
        if name.startswith("."):
            yield f"{module}:{line}: {name} is relative"
        elif is_within(name, "twisted.internet.reactor"):
            if not (module == "stompauth.tap" and imported.in_function):
                yield f"{module}:{line}: imports the global reactor"
        elif is_within(own, "stompauth.stomp"):
            if not (
                name.split(".")[0] in sys.stdlib_module_names
                or is_within(name, "stompauth.errors")
                or is_within(name, own)
            ):
                yield f"{module}:{line}: {name} is neither of the standard library nor an error"
        elif is_within(name, "stompauth"):
            if imported.typing_only:
                continue
            # The last part may be a name in a module, and then the module is what counts.
            try:
                other_height, other = layer_of(name)
            except LookupError:
                other_height, other = layer_of(name.rpartition(".")[0])
            if other != own and other_height >= height:
                yield f"{module}:{line}: {name} is not below it"
        else:
            homes = KEPT_IN.get(name.split(".")[0], (module,))
            if not any(is_within(module, home) for home in homes):
                yield f"{module}:{line}: {name} belongs in {' or '.join(homes)}"


def wrong_calls(module: str, tree: ast.AST) -> Iterator[str]:
    """Where the module reads a clock of its own, or prints."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value).rpartition(".")[2]
            if node.attr in WALL_CLOCKS.get(owner, ()):
                yield f"{module}:{node.lineno}: {owner}.{node.attr} is not a clock passed in"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            for alias in node.names:
                if alias.name in WALL_CLOCKS["time"]:
                    yield f"{module}:{node.lineno}: time.{alias.name} is not a clock passed in"
        elif isinstance(node, ast.Name) and node.id == "print" and module != "stompauth.tap":
            yield f"{module}:{node.lineno}: prints"


def mistakes(module: str, source: str) -> list[str]:
    """Everything in a module's source that breaks a rule of the house."""
    tree = ast.parse(source)
    found = [*wrong_imports(module, tree), *wrong_calls(module, tree)]
    if ast.get_docstring(tree) is None:
        found.append(f"{module}:1: has no docstring")
    return found


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of ours, by its dotted name."""
    for path in sorted((ROOT / "stompauth").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


class HouseTests(SynchronousTestCase):
    """The source tree keeps the rules."""

    def test_source(self) -> None:
        """No module climbs, borrows a library, reads a clock, prints, or lacks a docstring."""
        found = [
            mistake
            for module, path in modules()
            for mistake in mistakes(module, path.read_text("utf-8"))
        ]
        self.assertEqual(found, [], "\n" + "\n".join(found))

    def test_every_layer_exists(self) -> None:
        """A layer that was renamed or removed leaves no entry behind."""
        names = [module for module, _ in modules()]
        entries = {entry for layer in LAYERS for entry in layer}
        self.assertEqual(entries - set(names), set())

    def test_kept_libraries_are_used(self) -> None:
        """The names of the kept libraries are right: each is imported in every home it has."""
        sources = dict(modules())
        for library, homes in KEPT_IN.items():
            for home in homes:
                imported = [
                    found.name
                    for module, path in sources.items()
                    if is_within(module, home)
                    for found in imports_of(ast.parse(path.read_text("utf-8")))
                ]
                self.assertTrue(any(is_within(name, library) for name in imported), home)

    def test_plugin_is_lazy(self) -> None:
        """The plugin file imports nothing of ours: twistd loads it whatever it was asked to run."""
        tree = ast.parse((ROOT / "twisted/plugins/stompauth_plugin.py").read_text("utf-8"))
        names = [found.name for found in imports_of(tree)]
        self.assertEqual(names, ["twisted.application.service.ServiceMaker"])


class MistakesTests(SynchronousTestCase):
    """What HouseTests looks for is found where it is."""

    def assert_found(self, module: str, code: str, *words: str) -> None:
        """The code, in that module, makes one mistake for each of the words."""
        found = mistakes(module, f'"""A module."""\n{code}\n')
        self.assertEqual(len(found), len(words), found)
        for mistake, word in zip(found, words, strict=True):
            self.assertIn(word, mistake)

    def test_downward(self) -> None:
        """Imports of lower layers, of one's own package and of other libraries are fine."""
        self.assert_found(
            "stompauth.broker.simple",
            "import json\n"
            "from twisted.logger import Logger\n"
            "from zope.interface import implementer\n"
            "from stompauth.errors import Refused\n"
            "from stompauth.authorization import destination\n"
            "from stompauth.authorization.destination import Destination\n"
            "from stompauth.broker.message import Message",
        )

    def test_climbing(self) -> None:
        """An import from a layer above is found, however it is written and wherever it stands."""
        for code in (
            "from stompauth.session.session import Session",
            "from stompauth.session import session",
            "import stompauth.session.session",
            "import stompauth.session.session as s",
            "def f():\n    from stompauth.session.session import Session",
            "try:\n    import stompauth.session\nexcept ImportError:\n    pass",
            "if True:\n    import stompauth.session",
        ):
            self.assert_found("stompauth.broker.simple", code, "not below it")

    def test_neighbours(self) -> None:
        """Packages of one layer do not know one another, and nobody goes by the front door."""
        self.assert_found(
            "stompauth.tickets.memory",
            "from stompauth.identity.verifier import JWTVerifier",
            "not below it",
        )
        self.assert_found(
            "stompauth.handshake.websocket", "from stompauth import StompAuth", "not below it"
        )

    def test_values(self) -> None:
        """A principal and a grant lie lower than the packages that they are in."""
        self.assert_found(
            "stompauth.tickets.memory", "from stompauth.identity.principal import Principal"
        )
        self.assert_found(
            "stompauth.identity.principal",
            "from stompauth.identity.verifier import JWTVerifier",
            "not below it",
        )

    def test_typing_only(self) -> None:
        """What is imported for its type alone may lie above; the other branch may not."""
        guarded = "if TYPE_CHECKING:\n    from stompauth.session.session import Session"
        self.assert_found("stompauth.interfaces", guarded)
        self.assert_found(
            "stompauth.interfaces", f"{guarded}\nelse:\n    import stompauth.session", "not below"
        )

    def test_nowhere(self) -> None:
        """A module that no layer names is a mistake by itself."""
        self.assertRaises(LookupError, mistakes, "stompauth.utils", '"""A module."""')

    def test_kept_libraries(self) -> None:
        """Autobahn and PyJWT stay where they are, for their types too."""
        self.assert_found("stompauth.handshake.websocket", "from autobahn import websocket")
        self.assert_found("stompauth.identity.verifier", "import jwt")
        self.assert_found("stompauth.session.session", "import autobahn", "belongs in")
        self.assert_found(
            "stompauth.handshake.tickets",
            "if TYPE_CHECKING:\n    from jwt.types import Options",
            "belongs in",
        )

    def test_stomp(self) -> None:
        """The STOMP core knows the standard library and our errors, and no type beyond them."""
        self.assert_found(
            "stompauth.stomp.decoder",
            "import secrets\n"
            "from collections.abc import Iterator\n"
            "from stompauth.errors import RemoteProtocolError\n"
            "from stompauth.stomp.frame import Frame",
        )
        for code in (
            "from twisted.logger import Logger",
            "from stompauth.settings import Limits",
            "if TYPE_CHECKING:\n    from zope.interface import Interface",
        ):
            self.assert_found("stompauth.stomp.decoder", code, "standard library")

    def test_reactor(self) -> None:
        """Only the plugin's entry point takes the global reactor, once the reactor is chosen."""
        late = "def f():\n    from twisted.internet import reactor"
        self.assert_found("stompauth.tap", late)
        self.assert_found("stompauth.service", late, "global reactor")
        for code in (
            "from twisted.internet import reactor",
            "import twisted.internet.reactor",
        ):
            self.assert_found("stompauth.tap", code, "global reactor")

    def test_relative(self) -> None:
        """Imports are absolute."""
        self.assert_found("stompauth.broker.simple", "from . import message", "relative")
        self.assert_found("stompauth.broker.simple", "from ..errors import Refused", "relative")

    def test_clocks(self) -> None:
        """The time comes from a clock passed in; arithmetic with times is fine."""
        for code in (
            "import time\ntime.time()",
            "import time\nclock = time.monotonic",
            "from time import sleep",
            "import datetime\ndatetime.datetime.now()",
            "from datetime import datetime\ndatetime.utcnow()",
        ):
            self.assert_found("stompauth.session.session", code, "clock")
        self.assert_found(
            "stompauth.session.session",
            "import time\ntime.gmtime(0)\ndef f(self):\n    return self.clock.seconds()",
        )

    def test_print(self) -> None:
        """Only the command prints."""
        self.assert_found("stompauth.config", "print('x')", "prints")
        self.assert_found("stompauth.tap", "print('x')")

    def test_docstring(self) -> None:
        """A module without a docstring is found."""
        self.assertEqual(
            mistakes("stompauth.config", "x = 1"), ["stompauth.config:1: has no docstring"]
        )
