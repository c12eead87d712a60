"""The examples in the documentation work."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceCollection
from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from stompauth import Limits, Rules, StaticKey, StrictSite, allow
from tests.applications import SECRET, Application, token
from tests.wire import post_token

DOCS = Path(__file__).parents[1] / "docs"


def run_page(name: str, **names: Any) -> dict[str, Any]:
    """Run the Python of a page, block after block."""
    text = (DOCS / "howto" / name).read_text()
    with contextlib.redirect_stdout(io.StringIO()):
        for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
            exec(compile(block, name, "exec"), names)
    return names


class EmbeddedTests(SynchronousTestCase):
    """docs/examples/embedded.py."""

    def setUp(self) -> None:
        secret = self.mktemp()
        Path(secret).write_bytes(SECRET)
        self.patch(os, "environ", {**os.environ, "JWT_SECRET": secret})
        self.example = runpy.run_path(str(DOCS / "examples" / "embedded.py"))

    def test_service(self) -> None:
        """It is a service with a listener and the application in it."""
        (mine,) = IServiceCollection(self.example["application"])
        self.assertEqual(len(list(mine)), 2)

    def test_own_store(self) -> None:
        """Its own store gives a ticket, once, and revokes."""
        store = self.example["MyTickets"]()
        grant = Application().ticket  # any value will do as a grant that is given back
        ticket = self.successResultOf(store.issue(grant, 30))
        self.assertIs(self.successResultOf(store.redeem(ticket)), grant)
        self.failureResultOf(store.redeem(ticket))

    def test_short(self) -> None:
        """It has under 60 lines."""
        lines = (DOCS / "examples" / "embedded.py").read_text().splitlines()
        self.assertLess(sum(bool(line.strip()) for line in lines), 60)

    def test_ticket(self) -> None:
        """Its resource trades tokens; a token that has expired gets nothing."""
        site = StrictSite(self.example["root"], self.example["reactor"])
        response = post_token(site, token(), path="/ticket")
        self.assertEqual(response.status, 401)


class PagesTests(SynchronousTestCase):
    """docs/howto/*.md."""

    def setUp(self) -> None:
        rules = Rules([allow("subscribe", "send", "/app/**"), allow("subscribe", "/topic/rooms/*")])
        self.application = Application(rules=rules)

    def test_embedding(self) -> None:
        """The calls of the page can be made."""
        run_page("embed.md", app=self.application.stompauth)
        self.application.connect().send("DISCONNECT")

    def test_reload(self) -> None:
        """What the page replaces is replaced."""
        app, keys = self.application.stompauth, StaticKey.hmac(SECRET)
        names = {"allow": allow, "Rules": Rules, "Limits": Limits, "StaticKey": StaticKey}
        secrets = {"old_secret": SECRET, "new_secret": b"x" * 32}
        run_page(
            "reload.md", app=app, broker=self.application.broker, keys=keys, **names, **secrets
        )
        self.assertEqual(keys.generation, 1)
        self.assertEqual(app.limits.sessions_per_user, 4)
        client = self.application.connect()
        client.send("SUBSCRIBE", id="1", destination="/topic/news", receipt="r")
        self.assertEqual(client.frame().command, "RECEIPT")

    def test_handlers(self) -> None:
        """The handlers of the page do what it says."""
        run_page("handlers.md", app=self.application.stompauth)
        client = self.application.connect()
        client.send("SUBSCRIBE", id="e", destination="/user/queue/errors")
        client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        client.send("SUBSCRIBE", id="2", destination="/app/history/lobby")
        self.assertEqual(client.frame().body, b'["Welcome."]')
        client.send("SEND", b'{"text": "hi"}', destination="/app/rooms/lobby")
        self.assertEqual(client.frame().body, b'{"from": "alice", "text": "hi", "urgent": false}')
        client.send("SEND", b"{}", destination="/app/rooms/lobby")
        self.assertEqual(client.frame().headers["code"], "bad-body")
        client.send("SEND", destination="/app/join/cellar")
        notice = client.frame()
        self.assertEqual(notice.headers["code"], "room-closed")
        self.assertEqual(notice.body, b"The room is closed until Monday.")
        client.send("SEND", destination="/app/join/attic")
        self.assertEqual(client.frame().headers["code"], "members-only")

    def test_interceptors(self) -> None:
        """The interceptors of the page work in an application."""
        page = run_page("interceptors.md")
        application = Application(
            interceptors=[page["Audit"]()], handshake_interceptors=[page["OfficeHours"]()]
        )
        with contextlib.redirect_stdout(io.StringIO()) as output:
            client = application.connect()
            client.send("SUBSCRIBE", id="e", destination="/user/queue/errors")
            client.send("SEND", b"x" * 1001, destination="/queue/work/x")
        self.assertEqual(client.frame().headers["code"], "too-long")
        self.assertIn("alice CONNECT done\n", output.getvalue())
        self.assertEqual(application.open("bob").websocket.status, 101)
        self.assertEqual(application.open("bob", host="203.0.113.9").websocket.status, 403)

    def test_authorization(self) -> None:
        """The authorizer of the page is asked, and answers later."""
        page = run_page("authorization.md")
        answers = [succeed(True), succeed(False)]
        weekdays = page["Weekdays"](lambda: answers.pop(0))
        client = Application(rules=[weekdays]).connect()
        client.send("SUBSCRIBE", id="e", destination="/user/queue/errors")
        client.send("SEND", destination="/topic/x", receipt="r")
        self.assertEqual(client.frame().command, "RECEIPT")
        client.send("SEND", destination="/topic/x")
        self.assertEqual(client.frame().headers["code"], "access-denied")

    def test_cred(self) -> None:
        """The portal of the page lets the staff in, and nobody else."""
        page = run_page("cred.md", verifier=self.application.verifier)
        application = Application(verifier=page["verifier_for_staff"])
        self.assertEqual(post_token(application.site, token()).status, 401)
        staff = token(scope="chat staff")
        self.assertEqual(post_token(application.site, staff).status, 200)
