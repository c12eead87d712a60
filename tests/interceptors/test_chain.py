"""Tests of stompauth.interceptors.chain."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stompauth.errors import Refused
from stompauth.interceptors.chain import Chain
from stompauth.interceptors.interceptor import Interceptor
from stompauth.interfaces import IInterceptor
from stompauth.session.session import Session
from stompauth.stomp.frame import Frame

SESSION = cast(Session, object())


class Recorder(Interceptor):
    """Writes down the inbound moments, and does in pre_send what it is told to."""

    def __init__(self, name: str, log: list[str], pre_send: Any = None) -> None:
        self.name = name
        self.log = log
        self._pre_send = pre_send

    def pre_send(self, frame: Frame, session: Session) -> Any:
        self.log.append(f"{self.name} pre {frame.command}")
        return self._pre_send(frame) if self._pre_send else frame

    def post_send(self, frame: Frame, session: Session) -> None:
        self.log.append(f"{self.name} post {frame.command}")

    def after_send_completion(
        self, frame: Frame, session: Session, failure: Exception | None
    ) -> None:
        outcome = type(failure).__name__ if failure else "ok"
        self.log.append(f"{self.name} after {outcome}")


class InboundTests(SynchronousTestCase):
    """A frame passes the interceptors in order, and each that passed it hears of the end."""

    def setUp(self) -> None:
        self.log: list[str] = []
        self.frame = Frame("SEND", {"destination": "/topic/x"})

    def chain(self, *pre_sends: Any) -> Chain:
        return Chain([Recorder(str(n), self.log, act) for n, act in enumerate(pre_sends)])

    def run_chain(self, chain: Chain) -> Any:
        return chain.inbound(
            self.frame, SESSION, lambda frame: self.log.append(f"done {frame.command}")
        )

    def test_interface(self) -> None:
        """The base class is an interceptor that lets all pass."""
        self.assertTrue(verifyObject(IInterceptor, Interceptor()))

    def test_order(self) -> None:
        """ST-15: pre and post in list order, completion in reverse, all of it at once."""
        self.assertIsNone(self.run_chain(self.chain(None, None)))
        self.assertEqual(
            self.log,
            [
                "0 pre SEND",
                "1 pre SEND",
                "done SEND",
                "0 post SEND",
                "1 post SEND",
                "1 after ok",
                "0 after ok",
            ],
        )

    def test_replacement(self) -> None:
        """What an interceptor returns is what the next hands see."""
        self.run_chain(self.chain(lambda frame: Frame("ACK"), None))
        self.assertEqual(self.log[:3], ["0 pre SEND", "1 pre ACK", "done ACK"])

    def test_handled(self) -> None:
        """None ends the frame's way; only those before hear of its completion."""
        self.run_chain(self.chain(None, lambda frame: None, None))
        self.assertEqual(self.log, ["0 pre SEND", "1 pre SEND", "0 after ok"])

    def test_refusal(self) -> None:
        """ST-15: an exception refuses; only those before hear of it, in reverse."""

        def refuse(frame: Frame) -> Frame:
            raise Refused("access-denied")

        with self.assertRaises(Refused):
            self.run_chain(self.chain(None, None, refuse, None))
        self.assertEqual(self.log[3:], ["1 after Refused", "0 after Refused"])

    def test_failure_of_the_deed(self) -> None:
        """When the frame cannot be carried out, all hear of that and nobody of a success."""

        def fail(frame: Frame) -> None:
            raise OSError

        chain = self.chain(None, None)
        with self.assertRaises(OSError):
            chain.inbound(self.frame, SESSION, fail)
        self.assertEqual(self.log[2:], ["1 after OSError", "0 after OSError"])

    def test_waiting(self) -> None:
        """ST-9: an interceptor may wait; the others come when it has an answer."""
        answer: Deferred[Frame] = Deferred()
        second: Deferred[Frame] = Deferred()

        async def wait(frame: Frame) -> Frame:
            return await answer

        done = self.run_chain(self.chain(None, wait, lambda frame: second, None))
        self.assertEqual(self.log, ["0 pre SEND", "1 pre SEND"])
        self.assertNoResult(done)
        answer.callback(Frame("ACK"))
        self.assertEqual(self.log[2:], ["2 pre ACK"])
        second.callback(Frame("NACK"))
        self.successResultOf(done)
        self.assertEqual(self.log[3:5], ["3 pre NACK", "done NACK"])
        self.assertEqual(self.log[-4:], ["3 after ok", "2 after ok", "1 after ok", "0 after ok"])

    def test_waiting_then_handled(self) -> None:
        """An answer of None that came late is one, too."""
        answer: Deferred[None] = Deferred()
        done = self.run_chain(self.chain(None, lambda frame: answer, None))
        answer.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.log, ["0 pre SEND", "1 pre SEND", "0 after ok"])

    def test_waiting_then_refused(self) -> None:
        """So is a refusal."""
        answer: Deferred[Frame] = Deferred()
        done = self.run_chain(self.chain(None, lambda frame: answer, None))
        answer.errback(Refused("limit"))
        self.failureResultOf(done, Refused)
        self.assertEqual(self.log, ["0 pre SEND", "1 pre SEND", "0 after Refused"])

    def test_deed_waits(self) -> None:
        """A deed that takes its time is over when it is."""
        confirmed: Deferred[None] = Deferred()
        done = self.chain(None).inbound(self.frame, SESSION, lambda frame: confirmed)
        assert done is not None
        self.assertEqual(self.log, ["0 pre SEND"])
        confirmed.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.log[1:], ["0 post SEND", "0 after ok"])

    def test_completed_once(self) -> None:
        """ST-15: who need not have been waited for ends a refused frame once for all, too."""

        class AtOnce(Interceptor):
            async def pre_send(self, frame: Frame, session: Session) -> Frame:
                return frame

        def refuse(frame: Frame) -> None:
            raise Refused("access-denied")

        chain = Chain([Recorder("0", self.log), cast(Any, AtOnce()), Recorder("2", self.log)])
        self.assertRaises(Refused, chain.inbound, self.frame, SESSION, refuse)
        self.assertEqual(
            self.log, ["0 pre SEND", "2 pre SEND", "2 after Refused", "0 after Refused"]
        )

    def test_failing_listeners(self) -> None:
        """A failure after the deed is logged; the others are told all the same."""

        class Failing(Interceptor):
            def post_send(self, frame: Frame, session: Session) -> None:
                raise OSError

            def after_send_completion(self, *_: Any) -> None:
                raise OSError

        chain = Chain([Failing(), Recorder("1", self.log), Failing()])
        self.assertIsNone(self.run_chain(chain))
        self.assertEqual(self.log[-2:], ["1 post SEND", "1 after ok"])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 4)

    def test_not_an_interceptor(self) -> None:
        """What does not provide the interface is refused at once."""
        with self.assertRaises(TypeError):
            Chain([cast(Any, object())])

    def test_any_provider(self) -> None:
        """A provider of the interface need not inherit anything."""
        log = self.log

        @implementer(IInterceptor)
        class Plain:
            def pre_send(self, frame: Frame, session: Session) -> Frame:
                log.append("plain")
                return frame

            def post_send(self, *_: Any) -> None: ...
            def after_send_completion(self, *_: Any) -> None: ...
            def pre_receive(self, frame: Frame, session: Session) -> Frame:
                return frame

            def post_receive(self, *_: Any) -> None: ...
            def after_receive_completion(self, *_: Any) -> None: ...

        self.run_chain(Chain([cast(Any, Plain())]))
        self.assertEqual(self.log, ["plain", "done SEND"])


class OutboundTests(SynchronousTestCase):
    """MESSAGEs pass those interceptors that want to see them."""

    def setUp(self) -> None:
        self.sent: list[Frame] = []
        self.frame = Frame("MESSAGE", {"subscription": "1"}, b"x")

    def test_costs_nothing(self) -> None:
        """A chain that overrides none of the three has no outbound side."""
        self.assertFalse(Chain([Interceptor(), Recorder("0", [])]).has_outbound)

    def test_way_out(self) -> None:
        """pre_receive may replace or keep back; the others hear of it."""
        log: list[str] = []

        class Watch(Interceptor):
            def pre_receive(self, frame: Frame, session: Session) -> Frame | None:
                return None if frame.body == b"secret" else Frame("MESSAGE", {}, b"changed")

            def post_receive(self, frame: Frame, session: Session) -> None:
                log.append("post")

            def after_receive_completion(
                self, frame: Frame, session: Session, failure: Exception | None
            ) -> None:
                log.append(f"after {failure}")

        chain = Chain([Watch(), Watch()])
        self.assertTrue(chain.has_outbound)
        chain.outbound(self.frame, SESSION, self.sent.append)
        self.assertEqual([frame.body for frame in self.sent], [b"changed"])
        self.assertEqual(log, ["post", "post", "after None", "after None"])
        chain.outbound(Frame("MESSAGE", {}, b"secret"), SESSION, self.sent.append)
        self.assertEqual(len(self.sent), 1)

    def test_failure_keeps_back(self) -> None:
        """A MESSAGE whose interceptor fails does not go out, and the failure is logged."""

        class Failing(Interceptor):
            def pre_receive(self, frame: Frame, session: Session) -> Frame | None:
                raise OSError

        Chain([Failing()]).outbound(self.frame, SESSION, self.sent.append)
        self.assertEqual(self.sent, [])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
