"""What the docstrings of public things say."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.interface import InterfaceClass, Method

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where applications find what they use.
MODULES = (
    "stompauth",
    "stompauth.client",
    "stompauth.errors",
    "stompauth.identity.cred",
    "stompauth.interfaces",
    "stompauth.settings",
    "stompauth.testing",
)


def offered() -> Iterator[tuple[str, Any]]:
    """Every class, interface and function of ours in these modules, by its full name."""
    for module in map(importlib.import_module, MODULES):
        for name, value in vars(module).items():
            if (
                not name.startswith("_")
                and (isinstance(value, type | InterfaceClass) or inspect.isfunction(value))
                and value.__module__.startswith("stompauth.")
            ):
                yield f"{value.__module__}.{name}", value


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """The methods and properties of a class; the methods and attributes of an interface."""
    if isinstance(value, InterfaceClass):
        yield from ((name, value[name]) for name in value.names())
    elif isinstance(value, type):
        for name, member in vars(value).items():
            function = getattr(member, "__func__", member)
            if not name.startswith("_") and (
                inspect.isfunction(function) or isinstance(member, property)
            ):
                yield name, function


def parameters(value: Any) -> set[str]:
    """The names of the parameters of something that a docstring says has some."""
    if isinstance(value, Method):
        return {*value.positional, value.varargs, value.kwargs}
    return set(inspect.signature(value).parameters)


def raised(function: Any) -> set[str]:
    """The names of the exceptions that a function raises itself."""
    if not inspect.isfunction(function):
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return {
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
    } - {"AssertionError"}


class DocstringTests(SynchronousTestCase):
    """Everything public has one, and it is about what is there."""

    def setUp(self) -> None:
        self.docstrings = {}
        for name, value in offered():
            self.docstrings[name] = (value, inspect.getdoc(value) or "")
            for member, found in members(value):
                self.docstrings[f"{name}.{member}"] = (found, found.__doc__ or "")

    def test_there(self) -> None:
        """Every public class, interface, function, method and property has a docstring."""
        self.assertIn("stompauth.interfaces.ITicketStore.redeem", self.docstrings)
        self.assertIn("stompauth.application.StompAuth.publish", self.docstrings)
        missing = [name for name, (_, text) in self.docstrings.items() if not text]
        self.assertEqual(missing, [])

    def test_parameters(self) -> None:
        """None describes a parameter that there is not."""
        wrong = [
            f"{name}: {parameter}"
            for name, (value, text) in self.docstrings.items()
            for parameter in re.findall(r":param (\w+):", text)
            if parameter not in parameters(value)
        ]
        self.assertEqual(wrong, [])

    def test_errors(self) -> None:
        """Each names the exceptions that its function raises, or the interface that does so."""
        silent = [
            f"{name}: {error}"
            for name, (value, text) in self.docstrings.items()
            for error in raised(value)
            if error not in text and not re.search(r"See :meth:`[\w.]+`", text)
        ]
        self.assertEqual(silent, [])
