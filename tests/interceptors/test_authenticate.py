"""Tests of stompauth.interceptors.authenticate."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from stompauth.errors import Unavailable
from stompauth.identity.principal import Principal
from stompauth.interceptors.interceptor import Interceptor
from stompauth.interfaces import ITokenVerifier
from stompauth.session.session import Session
from stompauth.stomp.frame import Frame
from tests.applications import ISSUER, NOW, Application, token


class Watch(Interceptor):
    """Keeps the headers of every frame that comes behind authentication."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []

    def pre_send(self, frame: Frame, session: Session) -> Frame:
        self.headers.append(dict(frame.headers))
        return frame


@implementer(ITokenVerifier)
class Answers:
    """A verifier that gives the answers that it was made with."""

    leeway = 0.0

    def __init__(self, *answers: Deferred[Principal]) -> None:
        self.answers = list(answers)

    def verify(self, token: str) -> Deferred[Principal]:
        return self.answers.pop(0)


class ConnectTests(SynchronousTestCase):
    """CONNECT needs a good token, of the subject that the ticket was for."""

    def setUp(self) -> None:
        self.watch = Watch()
        self.application = Application(interceptors=[self.watch])
        self.client = self.application.open()

    def assert_refused(self, code: str, close: int) -> None:
        frame = self.client.frame()
        self.assertEqual((frame.command, frame.headers["code"]), ("ERROR", code))
        self.assertEqual(self.client.close_code, close)
        self.assertEqual(len(self.application.stompauth.sessions), 0)

    def test_connected(self) -> None:
        """CONNECTED says who one is and for how long."""
        self.client.connect(token())
        assert self.client.connected is not None
        headers = self.client.connected.headers
        self.assertEqual(headers["user-name"], "alice")
        self.assertEqual(headers["session-expires"], str(int(NOW) + 3600))
        self.assertEqual(headers["version"], "1.2")
        self.assertEqual(headers["heart-beat"], "10000,10000")
        self.assertTrue(headers["server"].startswith("stompauth/"))
        self.assertGreaterEqual(len(headers["session"]), 22)

    def test_session_ids(self) -> None:
        """ST-11: session ids are random."""
        ids = set()
        for _ in range(5):
            client = self.application.connect()
            assert client.connected is not None
            ids.add(client.connected.headers["session"])
        self.assertEqual(len(ids), 5)

    def test_no_token(self) -> None:
        """A CONNECT without Authorization is a mistake of the page."""
        self.client.send("CONNECT", accept_version="1.2")
        self.assert_refused("missing-header", 1002)

    def test_bad_token(self) -> None:
        """Whatever is wrong with the token, the page should get another."""
        for bad in ("Bearer a.b.c", "Basic eA==", token(), f"Bearer {token(aud='other')}"):
            self.client = self.application.open()
            self.client.send("CONNECT", accept_version="1.2", Authorization=bad)
            self.assert_refused("bad-token", 4401)
            self.application.clock.advance(1)

    def test_expired_token(self) -> None:
        """An expired token is told as such."""
        self.client.connect(token(exp=int(NOW) - 100))
        self.assert_refused("token-expired", 4401)

    def test_other_subject(self) -> None:
        """HS-11, I3: a token of another subject than the ticket's ends in subject-mismatch."""
        self.client.connect(token("bob"))
        self.assert_refused("subject-mismatch", 4409)

    def test_newer_token(self) -> None:
        """HS-11: a newer token of the same subject is fine; the rights are those of this one."""
        self.client.connect(token(iat=int(NOW) + 5, rooms=["attic"]))
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/attic", receipt="r")
        self.assertEqual(self.client.frame().command, "RECEIPT")

    def test_any_case(self) -> None:
        """The header's name and the scheme have no case."""
        for name, scheme in (("authorization", "bearer"), ("AUTHORIZATION", "BEARER")):
            client = self.application.open()
            client.send("CONNECT", accept_version="1.2", **{name: f"{scheme} {token()}"})
            self.assertEqual(client.frame().command, "CONNECTED")

    def test_first_header_wins(self) -> None:
        """ST-7: of several Authorization headers the first counts, in whatever case."""
        good, bad = f"Bearer {token()}", f"Bearer {token('bob')}"
        self.client.send("CONNECT", accept_version="1.2", authorization=good, Authorization=bad)
        self.assertEqual(self.client.frame().command, "CONNECTED")
        self.client = self.application.open()
        self.client.send("CONNECT", accept_version="1.2", authorization=bad, Authorization=good)
        self.assertEqual(self.client.frame().headers["code"], "subject-mismatch")

    def test_token_goes_no_further(self) -> None:
        """JW-15, I6: no later hand sees a token, under any spelling of the header, on any frame."""
        self.client.connect(token(), authorization="Bearer x")
        for command in ("SEND", "SUBSCRIBE"):
            self.client.send(
                command,
                id="1",
                destination="/topic/rooms/lobby",
                Authorization=f"Bearer {token()}",
                aUTHORIZATION="x",
            )
        self.assertEqual(len(self.watch.headers), 3)
        for headers in self.watch.headers:
            self.assertNotIn("authorization", {name.lower() for name in headers})

    def test_keys_down(self) -> None:
        """I8: a token that cannot be verified opens nothing."""
        verifier = Answers(succeed(self.principal()), fail(Unavailable("keys")))
        self.application = Application(verifier=verifier)
        self.client = self.application.open()
        self.client.connect(token())
        self.assert_refused("internal", 1011)

    def principal(self, issued_at: float = NOW) -> Principal:
        return Principal("alice", ISSUER, NOW + 3600, issued_at, claims={"rooms": ["lobby"]})

    def test_pipelined_frames_wait(self) -> None:
        """I4, ST-8, ST-9: what follows a CONNECT waits for its verdict."""
        verdict: Deferred[Principal] = Deferred()
        application = Application(verifier=Answers(succeed(self.principal()), verdict))
        client = application.open()
        client.connect(token())
        client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby", receipt="r")
        self.assertEqual(client.frames(), [])
        self.assertEqual(application.broker.counts()["topics"], 0)
        verdict.callback(self.principal())
        self.assertEqual([frame.command for frame in client.frames()], ["CONNECTED", "RECEIPT"])

    def test_frames_behind_a_failed_connect(self) -> None:
        """I4, ST-8: what follows a failed CONNECT has no effect, even in the same message."""
        self.client.websocket.send(
            f"CONNECT\naccept-version:1.2\nAuthorization:Bearer {token('bob')}\n\n\0"
            "SUBSCRIBE\nid:1\ndestination:/topic/rooms/lobby\n\n\0"
            f"CONNECT\naccept-version:1.2\nAuthorization:Bearer {token()}\n\n\0"
        )
        self.assert_refused("subject-mismatch", 4409)
        self.assertEqual(self.application.broker.counts()["topics"], 0)

    def test_end_during_verification(self) -> None:
        """A client that leaves while its token is verified has had no session."""
        cancelled: list[Any] = []
        verdict: Deferred[Principal] = Deferred(cancelled.append)
        application = Application(verifier=Answers(succeed(self.principal()), verdict))
        client = application.open()
        client.connect(token())
        client.websocket.socket.lose()
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(len(application.stompauth.sessions), 0)
        self.assertEqual(application.stompauth._sessions.open_sessions, set())


class SendTests(SynchronousTestCase):
    """A token on SEND verifies, is of the same subject, and renews only if it is newer."""

    def setUp(self) -> None:
        self.application = Application()

    def connect(self, on_send: str) -> None:
        self.application = Application(on_send=on_send)
        self.client = self.application.connect()

    def send(self, *jwt: str) -> Frame:
        headers = {"Authorization": f"Bearer {jwt[0]}"} if jwt else {}
        self.client.send("SEND", destination="/topic/rooms/lobby", receipt="r", **headers)
        return self.client.frame()

    def test_optional(self) -> None:
        """With or without a token, by default; but not with a bad one."""
        self.connect("optional")
        self.assertEqual(self.send().command, "RECEIPT")
        self.assertEqual(self.send(token()).command, "RECEIPT")
        self.assertEqual(self.send("a.b.c").headers["code"], "bad-token")
        self.assertEqual(self.client.close_code, 4401)

    def test_other_subject(self) -> None:
        """JW-15: another subject's token ends the session."""
        self.connect("optional")
        self.assertEqual(self.send(token("bob")).headers["code"], "subject-mismatch")
        self.assertEqual(self.client.close_code, 4409)

    def test_required(self) -> None:
        """Each SEND must carry a token, where it is configured so."""
        self.connect("required")
        self.assertEqual(self.send(token()).command, "RECEIPT")
        self.assertEqual(self.send().headers["code"], "missing-header")

    def test_ignored(self) -> None:
        """A token is taken off unread."""
        self.connect("ignored")
        self.assertEqual(self.send("a.b.c").command, "RECEIPT")

    def test_newer_token_renews(self) -> None:
        """A token with a later iat replaces the session's: its rights and its end."""
        self.connect("optional")
        self.send(token(iat=int(NOW) + 1, rooms=["lobby", "attic"]))
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/attic", receipt="r")
        self.assertEqual(self.client.frame().command, "RECEIPT")

    def test_older_token_renews_nothing(self) -> None:
        """An older token cannot bring back what a newer one took away."""
        self.connect("optional")
        self.send(token(iat=int(NOW) - 1, rooms=["lobby", "attic"]))
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/attic", receipt="r")
        self.assertEqual(self.client.frame().headers["code"], "access-denied")


class RenewalTests(SynchronousTestCase):
    """SEND to /session/token: the session goes on with a fresh token."""

    def setUp(self) -> None:
        self.application = Application()
        self.client = self.application.connect()

    def renew(self, jwt: str) -> list[Frame]:
        self.client.send(
            "SEND", destination="/session/token", receipt="r", Authorization=f"Bearer {jwt}"
        )
        return self.client.frames()

    def test_renewal(self) -> None:
        """The receipt says until when, and the session lives until then."""
        (receipt,) = self.renew(token(iat=int(NOW) + 1, exp=int(NOW) + 7200))
        self.assertEqual(
            (receipt.command, receipt.headers),
            ("RECEIPT", {"receipt-id": "r", "session-expires": str(int(NOW) + 7200)}),
        )
        self.application.clock.advance(3700)
        self.assertEqual(self.client.frames(), [])
        self.application.clock.advance(3600)
        self.assertEqual(self.client.frame().headers["code"], "token-expired")

    def test_rights_are_asked_again(self) -> None:
        """AZ-10: a subscription that the new token does not allow is dropped, with a notice."""
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        self.client.send("SUBSCRIBE", id="2", destination="/queue/work/x")
        notice, receipt = self.renew(token(iat=int(NOW) + 1, rooms=[]))
        self.assertEqual(notice.command, "MESSAGE")
        self.assertEqual(notice.headers["subscription"], "1")
        self.assertEqual(notice.headers["error"], "true")
        self.assertEqual(notice.headers["code"], "access-denied")
        self.assertEqual(receipt.command, "RECEIPT")
        self.application.stompauth.publish("/topic/rooms/lobby", "x")
        self.application.stompauth.publish("/queue/work/x", "y")
        self.assertEqual(self.client.frame().headers["subscription"], "2")
        # stompjs unsubscribes what it believes to have; that does no harm.
        self.client.send("UNSUBSCRIBE", id="1", receipt="u")
        self.assertEqual(self.client.frame().headers, {"receipt-id": "u"})

    def test_bad_token(self) -> None:
        """A bad token ends the session; so does none."""
        (error,) = self.renew("a.b.c")
        self.assertEqual(error.headers["code"], "bad-token")
        self.assertEqual(error.headers["receipt-id"], "r")
        self.client = self.application.connect()
        self.client.send("SEND", destination="/session/token", receipt="r")
        self.assertEqual(self.client.frame().headers["code"], "missing-header")

    def test_other_subject(self) -> None:
        """I3: the subject of a session never changes."""
        (error,) = self.renew(token("bob"))
        self.assertEqual(error.headers["code"], "subject-mismatch")
        self.assertEqual(self.client.close_code, 4409)

    def test_ignored_does_not_concern_renewal(self) -> None:
        """``on_send = "ignored"`` is about other destinations."""
        self.application = Application(on_send="ignored")
        self.client = self.application.connect()
        (error,) = self.renew("a.b.c")
        self.assertEqual(error.headers["code"], "bad-token")
