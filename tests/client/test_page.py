"""docs/howto/client.md."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from stompauth import errors
from stompauth.authorization.rules import Rules, allow
from stompauth.client import connector
from stompauth.errors import ClientError
from tests.client.servers import ClientCase

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "client.md").read_text()


class PageTests(ClientCase):
    """The Python of the page does what it says."""

    def setUp(self) -> None:
        super().setUp()
        self.serve(
            rules=Rules([allow("subscribe", "send", "/**")]), origins=["https://chat.example.com"]
        )
        self.patch(connector, "ClientEndpoints", lambda reactor: self.server)
        self.page: dict[str, Any] = {}
        for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S):
            exec(compile(block, "client.md", "exec"), self.page)

    def test_one_session(self) -> None:
        """One session, in which a message goes to and fro."""
        with contextlib.redirect_stdout(io.StringIO()) as output:
            hello = self.page["say_hello"](self.clock, self.token)
            self.server.result_of(Deferred.fromCoroutine(hello))
        self.assertEqual(output.getvalue(), "hello\n")

    def test_worker(self) -> None:
        """A worker that takes the jobs, and gives back what fails, for another try."""
        tried: list[bytes] = []

        async def do_job(body: bytes) -> None:
            tried.append(body)
            if body == b"bad" and len(tried) == 1:
                raise ZeroDivisionError

        service = self.page["make_worker"](self.clock, self.token, do_job)
        service.startService()
        self.server.result_of(service.when_connected())
        for body in ("bad", "good"):
            self.server.result_of(self.application.publish("/queue/jobs", body))
        self.server.flush()
        self.assertEqual(sorted(tried), [b"bad", b"bad", b"good"])
        (session,) = self.application.sessions
        self.assertEqual([len(each.unacked) for each in session.subscriptions], [0, 0])
        self.server.result_of(service.stopService())

    def test_errors(self) -> None:
        """The table has every error of a client, and no other."""
        listed = set(re.findall(r"^\| `([A-Z]\w+)` \|", PAGE, re.M))
        known = {name for name, value in vars(errors).items() if _is_client_error(value)}
        self.assertEqual(listed, known)


def _is_client_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, ClientError) and value is not ClientError
