"""Tests of stompauth.handlers.handlers and stompauth.handlers.arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from stompauth import Frame, Principal, Refused, Rules, Session, allow
from tests.applications import Application, StompClient

RULES = Rules(
    [
        allow("subscribe", "send", "/app/**"),
        allow("subscribe", "send", "/topic/rooms/*"),
        allow("subscribe", "/user/queue/**"),
    ]
)


@dataclass
class Chat:
    text: str


class HandlersTestCase(SynchronousTestCase):
    """What the tests here have in common."""

    def setUp(self) -> None:
        self.application = Application(rules=RULES)
        self.app = self.application.stompauth
        self.client = self.application.connect()
        self.client.send("SUBSCRIBE", id="errors", destination="/user/queue/errors")

    def send(self, destination: str, body: bytes = b"", **headers: str) -> list[Frame]:
        self.client.send("SEND", body, destination=destination, **headers)
        return self.client.frames()

    def assert_notice(self, frames: list[Frame], code: str, text: str | None = None) -> None:
        (notice,) = frames
        self.assertEqual((notice.command, notice.headers["subscription"]), ("MESSAGE", "errors"))
        self.assertEqual((notice.headers["error"], notice.headers["code"]), ("true", code))
        if text is not None:
            self.assertEqual(notice.body.decode(), text)


class SendTests(HandlersTestCase):
    """A SEND to /app/** calls the function that was added for it."""

    def test_arguments(self) -> None:
        """Parameters get what their names and annotations ask for."""
        calls: list[Any] = []

        @self.app.on_send("/app/rooms/{room}/{number}")
        def handler(
            room: str,
            number: int,
            body: Chat,
            user: Principal,
            session: Session,
            headers: dict[str, str],
            frame: Frame,
        ) -> None:
            calls.append((room, number, body, user.name, session.user, headers["a"], frame.command))

        frames = self.send("/app/rooms/lobby/7", b'{"text": "hi"}', a="b", receipt="r")
        self.assertEqual(calls, [("lobby", 7, Chat("hi"), "alice", "alice", "b", "SEND")])
        self.assertEqual([frame.command for frame in frames], ["RECEIPT"])

    def test_bodies(self) -> None:
        """Without an annotation the body is octets."""
        calls: list[Any] = []
        self.app.on_send("/app/a")(lambda body: calls.append(body))

        @self.app.on_send("/app/b")
        def text(body: str) -> None:
            calls.append(body)

        self.send("/app/a", b"\xff")
        self.send("/app/b", b"x")
        self.assertEqual(calls, [b"\xff", "x"])

    def test_result_goes_nowhere(self) -> None:
        """What is returned goes only where it was said to go."""
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        self.app.on_send("/app/rooms/{room}")(lambda room: "leak")
        self.assertEqual(self.send("/app/rooms/lobby"), [])

    def test_send_to(self) -> None:
        """send_to: to a destination, with the variables in their places."""
        other = self.application.connect("bob")
        other.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")

        @self.app.on_send("/app/rooms/{room}", send_to="/topic/rooms/{room}")
        def shout(body: Chat, user: Principal) -> dict[str, str]:
            return {"from": user.name, "text": body.text.upper()}

        self.send("/app/rooms/lobby", b'{"text": "hi"}', correlation_id="7")
        message = other.frame()
        self.assertEqual(json.loads(message.body), {"from": "alice", "text": "HI"})
        self.assertEqual(message.headers["content-type"], "application/json")
        self.assertEqual(message.headers["correlation-id"], "7")

    def test_send_to_dead_letters(self) -> None:
        """A variable never leads to a dead-letter queue."""
        self.app.on_send("/app/work/{name}", send_to="/queue/{name}")(lambda name: "x")
        self.assertEqual(self.send("/app/work/x", receipt="r")[0].command, "RECEIPT")
        (error,) = self.send("/app/work/dlq.x")
        self.assertEqual(error.headers["code"], "bad-destination")
        self.assertEqual(self.application.broker.counts()["queues"], 1)

    def test_reply(self) -> None:
        """reply: to the sender's own session, and to no other of the same user."""
        other_tab = self.application.connect()
        for client in (self.client, other_tab):
            client.send("SUBSCRIBE", id="a", destination="/user/queue/answers")
        self.app.on_send("/app/ask", reply="/queue/answers")(lambda: "42")
        (answer,) = self.send("/app/ask")
        self.assertEqual(answer.headers["destination"], "/user/queue/answers")
        self.assertEqual((answer.body, other_tab.frames()), (b"42", []))

    def test_later(self) -> None:
        """A function may be async or return a Deferred; the receipt comes when it is done."""
        result: Deferred[str] = Deferred()

        @self.app.on_send("/app/slow", send_to="/topic/rooms/x")
        async def slow() -> str:
            return await result

        self.app.on_send("/app/deferred")(lambda: succeed(None))
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/x")
        self.assertEqual(self.send("/app/slow", receipt="r"), [])
        result.callback("done")
        message, receipt = self.client.frames()
        self.assertEqual((message.body, receipt.command), (b"done", "RECEIPT"))
        self.assertEqual(self.send("/app/deferred", receipt="r")[0].command, "RECEIPT")

    def test_first_that_fits(self) -> None:
        """Of several functions the first added that fits is called."""
        calls: list[str] = []
        for name, destination in (("one", "/app/a/{x}"), ("two", "/app/a/b"), ("all", "/app/**")):
            self.app.on_send(destination)(self.recorder(calls, name))
        for destination in ("/app/a/b", "/app/a/c", "/app/c"):
            self.send(destination)
        self.assertEqual(calls, ["one", "one", "all"])

    @staticmethod
    def recorder(calls: list[str], name: str) -> Callable[[], None]:
        def record() -> None:
            calls.append(name)

        return record

    def test_no_function(self) -> None:
        """A destination without a function is an ERROR."""
        (error,) = self.send("/app/nothing")
        self.assertEqual(error.headers["code"], "no-such-destination")
        self.assertEqual(self.client.close_code, 1002)

    def test_denied(self) -> None:
        """The rules come first: a function is not called for what is denied."""
        application = Application(rules=Rules([allow("send", "/app/open")]))
        calls: list[str] = []
        application.stompauth.on_send("/app/{x}")(lambda x: calls.append(x))
        client = application.connect()
        client.send("SEND", destination="/app/open")
        client.send("SEND", destination="/app/closed")
        self.assertEqual(calls, ["open"])
        self.assertEqual(client.close_code, 4403)

    def test_in_a_transaction(self) -> None:
        """In a transaction a function is called at COMMIT, when all else has succeeded."""
        calls: list[bytes] = []
        self.app.on_send("/app/x")(lambda body: calls.append(body))
        self.client.send("BEGIN", transaction="t")
        self.send("/app/x", b"1", transaction="t")
        self.assertEqual(calls, [])
        self.client.send("COMMIT", transaction="t")
        self.assertEqual(calls, [b"1"])


class FailureTests(HandlersTestCase):
    """What goes wrong in a function is told to the client, and never only to the log."""

    def test_body_that_does_not_fit(self) -> None:
        """A notice says where the body does not fit."""

        @self.app.on_send("/app/chat/{n}")
        def chat(n: int, body: Chat) -> None: ...

        self.assert_notice(self.send("/app/chat/1", b"{}"), "bad-body", "the body: text is missing")
        self.assert_notice(
            self.send("/app/chat/x", b'{"text": "x"}'),
            "bad-body",
            "a segment of the destination is not an integer",
        )

    def test_exception(self) -> None:
        """Any exception is logged, and a notice that tells nothing of it, with the receipt's id."""

        @self.app.on_send("/app/fail")
        def fail() -> None:
            raise OSError("hunter2")

        @self.app.on_send("/app/later")
        async def later() -> None:
            raise OSError("hunter2")

        for destination in ("/app/fail", "/app/later"):
            frames = self.send(destination, receipt="r")
            self.assert_notice(frames, "internal")
            self.assertEqual(frames[0].headers["receipt-id"], "r")
            self.assertNotIn(b"hunter2", frames[0].body)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 2)
        self.assertIsNone(self.client.close_code)

    def test_on_error(self) -> None:
        """An exception that was foreseen is a notice with a code and text of the application's."""

        @self.app.on_error(LookupError, code="not-found")
        def explain(error: LookupError) -> str:
            return f"there is no {error.args[0]}"

        @self.app.on_send("/app/find")
        def find() -> None:
            raise KeyError("such room")

        self.assert_notice(self.send("/app/find"), "not-found", "there is no such room")

    def test_on_error_arguments(self) -> None:
        """It may ask for what handlers ask for; without a code the notice is ``internal``."""

        @self.app.on_error(OSError)
        def explain(error: OSError, who: Principal, frame: Frame, headers: dict[str, str]) -> str:
            return f"{who.name} {frame.command} {headers['a']} {error}"

        @self.app.on_send("/app/late")
        async def late() -> None:
            raise OSError("disk")

        frames = self.send("/app/late", a="b")
        self.assert_notice(frames, "internal", "alice SEND b disk")

    def test_on_error_unknown(self) -> None:
        """A parameter for which there is nothing is an error at once."""
        with self.assertRaises(TypeError):

            @self.app.on_error(OSError)
            def explain(error: OSError, body: bytes) -> str:
                return ""

    def test_refused(self) -> None:
        """Refused ends the session, unless it asks for a notice."""

        @self.app.on_send("/app/refuse/{how}")
        def refuse(how: str) -> None:
            raise Refused("too-rude", notify=how == "softly", explanation="Please be polite.")

        self.assert_notice(self.send("/app/refuse/softly"), "too-rude", "Please be polite.")
        (error,) = self.send("/app/refuse/hard")
        self.assertEqual((error.command, error.headers["code"]), ("ERROR", "too-rude"))
        self.assertEqual((error.body, self.client.close_code), (b"Please be polite.", 4403))

    def test_nobody_listens_to_notices(self) -> None:
        """Without a subscription of /user/queue/errors a failure is an ERROR."""
        client = self.application.connect("bob")

        @self.app.on_send("/app/fail")
        def fail() -> None:
            raise OSError

        client.send("SEND", destination="/app/fail")
        self.assertEqual(client.frame().headers["code"], "internal")
        self.assertEqual(client.close_code, 1011)
        self.flushLoggedErrors(OSError)

    def test_bad_result(self) -> None:
        """A result that cannot be sent is a failure of the function."""
        self.app.on_send("/app/x", send_to="/topic/rooms/x")(lambda: object())
        self.assert_notice(self.send("/app/x"), "internal")
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)


class SubscribeTests(HandlersTestCase):
    """A SUBSCRIBE to /app/** is answered once."""

    def subscribe(self, client: StompClient | None = None, **headers: str) -> list[Frame]:
        client = client or self.client
        client.send("SUBSCRIBE", id="s", destination="/app/rooms/lobby", receipt="r", **headers)
        return client.frames()

    def test_snapshot(self) -> None:
        """The answer goes to the subscription, before its receipt; and nothing else ever does."""

        @self.app.on_subscribe("/app/rooms/{room}")
        def history(room: str, user: Principal) -> list[str]:
            return [room, user.name]

        message, receipt = self.subscribe(ack="client")
        self.assertEqual(json.loads(message.body), ["lobby", "alice"])
        self.assertEqual(message.headers["subscription"], "s")
        self.assertEqual(message.headers["destination"], "/app/rooms/lobby")
        self.assertNotIn("ack", message.headers)
        self.assertEqual(receipt.command, "RECEIPT")
        self.client.send("UNSUBSCRIBE", id="s", receipt="u")
        self.assertEqual(self.client.frame().headers, {"receipt-id": "u"})

    def test_no_answer(self) -> None:
        """None is no answer."""
        self.app.on_subscribe("/app/rooms/{room}")(lambda room: None)
        self.assertEqual([frame.command for frame in self.subscribe()], ["RECEIPT"])

    def test_later(self) -> None:
        """The answer may take its time."""
        result: Deferred[str] = Deferred()
        self.app.on_subscribe("/app/rooms/{room}")(lambda room: result)
        self.assertEqual(self.subscribe(), [])
        result.callback("x")
        self.assertEqual([frame.command for frame in self.client.frames()], ["MESSAGE", "RECEIPT"])

    def test_refusal(self) -> None:
        """A function can refuse a subscription; softly, by a notice to the very subscription."""

        @self.app.on_subscribe("/app/rooms/{room}")
        def refuse(room: str, session: Session) -> None:
            raise Refused("members-only", notify=session.user == "alice")

        (notice,) = self.subscribe()
        self.assertEqual(notice.headers["subscription"], "s")
        self.assertEqual(notice.headers["code"], "members-only")
        self.client.send("UNSUBSCRIBE", id="s", receipt="u")
        self.assertEqual(self.client.frame().headers, {"receipt-id": "u"})
        (error,) = self.subscribe(self.application.connect("bob"))
        self.assertEqual(error.headers["code"], "members-only")

    def test_late_refusal(self) -> None:
        """A subscription that is refused softly after a while leaves its id free."""
        results: list[Deferred[str]] = []

        @self.app.on_subscribe("/app/rooms/{room}")
        def wait(room: str) -> Deferred[str]:
            results.append(Deferred())
            return results[-1]

        for _ in range(2):
            self.assertEqual(self.subscribe(), [])
            results[-1].errback(Refused("busy", notify=True))
            self.assertEqual(self.client.frame().headers["code"], "busy")

    def test_no_function(self) -> None:
        """A destination that only SENDs have a function for cannot be subscribed to."""
        self.app.on_send("/app/rooms/{room}")(lambda room: None)
        (error,) = self.subscribe()
        self.assertEqual(error.headers["code"], "no-such-destination")


class AddTests(HandlersTestCase):
    """A function that cannot work is refused when it is added, by a text that says why."""

    def test_parameters(self) -> None:
        """A parameter that nothing can be given for is named."""

        def unknown(romm: str) -> None: ...
        def varied(*args: str) -> None: ...
        def wrong(room: list[str]) -> None: ...
        def body(room: str, body: set[int]) -> None: ...

        for function, word in ((unknown, "romm"), (varied, "args"), (wrong, "room"), (body, "set")):
            with self.assertRaises(TypeError) as caught:
                self.app.on_send("/app/rooms/{room}")(function)
            self.assertIn(word, str(caught.exception))
        with self.assertRaises(TypeError):
            self.app.on_subscribe("/app/x")(lambda body: None)

    def test_destinations(self) -> None:
        """So is a destination that is none of the application's, or none at all."""
        for destination in ("/topic/x", "app/x", "/app//x", "/{x}/y"):
            with self.assertRaises(ValueError):
                self.app.on_send(destination)(lambda: None)
        for target in ("/app/x", "/topic//x", "/topic/{unknown}"):
            with self.assertRaises(ValueError):
                self.app.on_send("/app/x", send_to=target)(lambda: None)
        with self.assertRaises(ValueError):
            self.app.on_send("/app/x", reply="/topic/x")(lambda: None)


class SendToSessionTests(HandlersTestCase):
    """The application sends to one session."""

    def test_send_to_session(self) -> None:
        """One tab gets it; a session that is gone, or has not subscribed, gets nothing."""
        other = self.application.connect()
        for client in (self.client, other):
            client.send("SUBSCRIBE", id="p", destination="/user/queue/private")
        assert other.connected is not None
        session_id = other.connected.headers["session"]
        self.assertTrue(
            self.successResultOf(self.app.send_to_session(session_id, "/queue/private", "x"))
        )
        self.assertEqual((len(other.frames()), self.client.frames()), (1, []))
        self.assertFalse(
            self.successResultOf(self.app.send_to_session(session_id, "/queue/other", "x"))
        )
        self.assertFalse(
            self.successResultOf(self.app.send_to_session("nobody", "/queue/private", "x"))
        )
