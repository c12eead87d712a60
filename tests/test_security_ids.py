"""The security requirements, and that a test cites each."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

#: What has to be fulfilled, by the id that tests cite in their docstrings.
REQUIRED = {
    "TK-1": "a ticket is had by POST with exactly one bearer token",
    "TK-2": "a refusal does not say which check has failed",
    "TK-3": "a ticket is 256 random bits, in characters that need no coding",
    "TK-4": "the store keeps the hash of a ticket alone",
    "TK-5": "what a ticket stands for is kept with it, and no token",
    "TK-6": "a ticket is taken in one step, and burnt by what fails afterwards",
    "TK-7": "a shared store that cannot be reached refuses",
    "TK-8": "a cancelled command leaves its connection in step",
    "TK-9": "a ticket lives for seconds, and never longer than its token",
    "TK-10": "a ticket is bound to subject, path, origin and, if wanted, address",
    "TK-11": "there is a most of tickets, per subject and in all",
    "TK-12": "tickets and failures have a rate, and the limiter's table a bound",
    "TK-13": "answers are not cached, sniffed or referred",
    "TK-14": "CORS is for exactly the configured origins, without credentials",
    "TK-15": "a body is refused before it is read",
    "TK-16": "no access log, traceback or version of what we are made of",
    "TK-17": "a request that could be read in two ways is refused",
    "JW-1": "the algorithms are ours, and bound to the key",
    "JW-2": "no HMAC secret is shorter than its hash, no RSA key than 2048 bits",
    "JW-3": "nothing in a token brings a key, or has one fetched",
    "JW-4": "a kid is looked up, nothing else",
    "JW-5": "critical extensions are refused",
    "JW-6": "the claims that count are there, and of their types",
    "JW-7": "issuer and audience are compared exactly",
    "JW-8": "another kind of token is no access token",
    "JW-9": "there is one leeway, and it is small",
    "JW-10": "a user name is plain, and refused rather than normalised",
    "JW-11": "the size is checked first, and no input raises anything else",
    "JW-12": "one token has one spelling; nothing goes by its text",
    "JW-13": "what was revoked is refused everywhere, and its sessions end",
    "JW-14": "a session ends with its token",
    "JW-15": "a token on SEND is of the same subject, and goes to nobody",
    "JW-16": "key sets are fetched safely, bounded, and read strictly",
    "JW-17": "an unknown kid costs at most one fetch per cool-down",
    "JW-18": "keys rotate; a set that cannot be refreshed is not good for ever",
    "JW-19": "what is unsafe does not start",
    "HS-1": "the checks have an order, and only what follows the take burns a ticket",
    "HS-2": "the query is one ticket, and nothing else",
    "HS-3": "a denial has the right status, constant words, and no more",
    "HS-4": "the origin is compared exactly, and is needed beside the ticket",
    "HS-5": "a plain listener off loopback has to be asked for",
    "HS-6": "the head has a size and a time",
    "HS-7": "sockets are counted once, and given back once",
    "HS-8": "CONNECT has a time that nothing extends",
    "HS-9": "only our subprotocols are answered, and none is echoed",
    "HS-10": "there is no compression",
    "HS-11": "CONNECT is of the ticket's subject",
    "HS-12": "a proxy is believed only if it is trusted",
    "WS-1": "messages have a size, fragments too, and Autobahn's checks stay on",
    "WS-2": "pings find the dead",
    "ST-1": "frames are a stream, however it is cut, and have a time",
    "ST-2": "limits hold while octets arrive",
    "ST-3": "a content-length is digits, and says the truth",
    "ST-4": "escapes are those of the session's version",
    "ST-5": "what a version cannot write is left out, and never raw",
    "ST-6": "malformed headers are fatal, and nothing is trimmed",
    "ST-7": "of repeated headers the first counts, everywhere",
    "ST-8": "nothing but CONNECT has an effect before CONNECTED, or after an end",
    "ST-9": "frames are handled one after another, and what waits has a bound",
    "ST-10": "what the server says of a message no client can say",
    "ST-11": "ids are random, and mean something in their own session only",
    "ST-12": "an ERROR is fixed text, and its close code tells what to do",
    "ST-13": "heart-beats are plain numbers within bounds",
    "ST-14": "transactions are bounded, and judged again at COMMIT",
    "ST-15": "an interceptor that fails refuses; the rules come last",
    "AZ-1": "what no rule allows is denied",
    "AZ-2": "destinations have one grammar, and are refused rather than normalised",
    "AZ-3": "a pattern of a client's is allowed only if all that it covers is",
    "AZ-4": "variables are compared as whole segments",
    "AZ-5": "a user destination is nothing that another client could name",
    "AZ-6": "to send to another user is a right of its own",
    "AZ-7": "a message shows the destination that was subscribed to",
    "AZ-8": "there are no selectors",
    "AZ-9": "acknowledging and unsubscribing go by the session's own state",
    "AZ-10": "a right that is lost ends what it had allowed",
    "RL-1": "the broker's CONNECT is made of configuration alone",
    "RL-2": "headers and destinations go to the broker by a list",
    "RL-3": "frames to the broker are encoded anew",
    "RL-4": "subscription ids towards the broker are our own",
    "RL-5": "what the broker complains of, no client reads",
    "RL-6": "the broker is reached by TLS, and bounded too",
    "RS-1": "who does not read is cut off, and nobody else is harmed",
    "RS-2": "whatever a peer can make the server hold has a bound",
    "RS-3": "one session's burst does not keep the others waiting",
    "RS-4": "timers and entries of a session end with it",
    "RS-5": "slowness has an end at every stage",
    "LG-1": "no secret is logged",
    "LG-2": "what peers send is escaped in logs",
    "LG-3": "decisions that matter leave audit events",
    "OP-1": "who operates the server does so elsewhere, and with a token",
    "OP-2": "secrets come from files, and are shown nowhere",
    "OP-3": "no dependency is older than the advisories against it",
    "OP-4": "a stop is orderly, and bounded in time",
}

_ID = re.compile(r"\b(?:TK|JW|HS|WS|ST|AZ|RL|RS|LG|OP)-\d{1,2}\b")

_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def cited(source: str) -> set[str]:
    """The ids in the docstrings of a module's tests, and of the classes that have tests."""
    found: set[str] = set()
    for docstring in _docstrings_of_tests(ast.parse(source)):
        found |= set(_ID.findall(docstring))
    return found


def _docstrings_of_tests(tree: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            inside = list(_docstrings_of_tests(node))
            if inside:
                yield from [ast.get_docstring(node) or "", *inside]
        elif isinstance(node, _FUNCTIONS) and node.name.startswith("test_"):
            yield ast.get_docstring(node) or ""


class SecurityIdsTests(SynchronousTestCase):
    """Every requirement has a test that says so."""

    def setUp(self) -> None:
        self.cited: set[str] = set()
        for path in (ROOT / "tests").rglob("test_*.py"):
            self.cited |= cited(path.read_text("utf-8"))

    def test_cited(self) -> None:
        """Each id is cited by a test."""
        self.assertEqual(REQUIRED.keys() - self.cited, set())

    def test_known(self) -> None:
        """What is cited is a requirement."""
        self.assertEqual(self.cited - REQUIRED.keys(), set())

    def test_pages(self) -> None:
        """What the sources and pages cite exists, too."""
        known = REQUIRED.keys()
        for path in (*(ROOT / "stompauth").rglob("*.py"), *(ROOT / "docs").rglob("*.md")):
            unknown = set(_ID.findall(path.read_text("utf-8"))) - known
            self.assertEqual(unknown, set(), path)

    def test_complete(self) -> None:
        """No number is left out."""
        families: dict[str, list[int]] = {}
        for name in REQUIRED:
            family, number = name.split("-")
            families.setdefault(family, []).append(int(number))
        for family, numbers in families.items():
            self.assertEqual(sorted(numbers), list(range(1, len(numbers) + 1)), family)


class CitedTests(SynchronousTestCase):
    """What counts as a citation."""

    def test_where(self) -> None:
        """The docstring of a test, or of a class that has one; nothing else."""
        source = '''
"""TK-1"""
class FooTests:
    """TK-2 and TK-3: many."""
    def test_it(self):
        """TK-4"""
        # TK-5
        self.assertEqual("TK-6", "TK-6")
    def assert_it(self):
        """TK-7"""
class Bar:
    """TK-8"""
    def method(self): ...
async def test_later():
    """XTK-9, TK-100, TK-10."""
'''
        self.assertEqual(cited(source), {"TK-2", "TK-3", "TK-4", "TK-10"})
