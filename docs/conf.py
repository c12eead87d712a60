"""How Sphinx makes these pages, and the API reference of the docstrings: ``make docs``."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from textwrap import indent
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxDirective
from zope.interface.interface import InterfaceClass

from stompauth import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "stompauth"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"twisted\..*")]
autoclass_content = "both"
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
maximum_signature_line_length = 90
toc_object_entries = False
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {
    "description": "STOMP over WebSocket for Twisted",
    "page_width": "1140px",
}


class AutoInterfaces(SphinxDirective):
    """The zope interfaces of a module, from its source.

    To autodoc they are no classes, and what zope.interface keeps of their methods has no types.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module = import_module(self.arguments[0])
        interfaces = [
            _described("class", node.name, node)
            for node in ast.parse(inspect.getsource(module)).body
            if isinstance(node, ast.ClassDef)
            and isinstance(getattr(module, node.name), InterfaceClass)
        ]
        return self.parse_text_to_nodes("\n".join(interfaces))


def _described(kind: str, signature: str, node: ast.ClassDef | ast.FunctionDef) -> str:
    parts = [ast.get_docstring(node) or "", *_members(node)]
    return f".. py:{kind}:: {signature}\n\n" + indent("\n\n".join(parts), "   ") + "\n"


def _members(node: ast.AST) -> Iterator[str]:
    for member in getattr(node, "body", ()):
        if isinstance(member, ast.FunctionDef):
            returns = ast.unparse(member.returns or ast.Constant(None))
            signature = f"{member.name}({ast.unparse(member.args)}) -> {returns}"
            yield _described("method", signature, member)
        elif isinstance(member, ast.AnnAssign) and isinstance(member.value, ast.Call):
            # name: type = Attribute("text")
            name, type_ = ast.unparse(member.target), ast.unparse(member.annotation)
            text = ast.literal_eval(member.value.args[0])
            yield f".. py:attribute:: {name}\n   :type: {type_}\n\n   {text}\n"


def adapt_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Make the links of the first page the contents, and those out of docs/ downloads."""
    source[0] = re.sub(r"\]\((?=\.\./[A-Z]+\.md\))", "](path:", source[0])
    if page == "index":
        pages = re.findall(r"\]\((?!path:)([^)]+)\.(?:md|rst)\)", source[0])
        source[0] += "\n".join(["\n```{toctree}", ":hidden:", *pages, "```"])


def narrow_types(app: Sphinx, document: nodes.document) -> None:
    """Look for a type of a signature in the signature's own module, before anywhere else."""
    for node in document.findall(pending_xref):
        if node.next_node(nodes.literal) is None:
            node.attributes.pop("refspecific", None)


def link(
    app: Sphinx, environment: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.Element | None:
    """Find what is documented under the name that it is exported by.

    A type in a signature that is not documented here stays as it is; so a role that leads nowhere
    is still a warning, and a name of Twisted's is not.
    """
    if node.get("refdomain") != "py":
        return None
    domain = environment.domains.python_domain
    name = node["reftarget"].rpartition(".")[2]
    kind = node["reftype"]
    # What is the client's own has been found by now, in its module.
    found = [
        target
        for target, entry in domain.find_obj(environment, "", "", name, kind, 1)
        if not entry.aliased and not target.startswith("stompauth.client.")
    ]
    if len(found) != 1:
        return None if isinstance(text, nodes.literal) else text
    return domain.resolve_xref(environment, node["refdoc"], app.builder, kind, found[0], node, text)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("autointerfaces", AutoInterfaces)
    app.connect("source-read", adapt_links)
    app.connect("doctree-read", narrow_types)
    app.connect("missing-reference", link)
