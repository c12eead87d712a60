"""Tests of stompauth.reload."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from stompauth.config import Config
from stompauth.errors import ConfigError, Mistake
from stompauth.reload import Reload, ReloadOnSignal
from stompauth.settings import Limits

OTHER = replace(Config(), limits=Limits(sessions=3))


class ReloadTests(SynchronousTestCase):
    """A configuration is taken over whole, or not at all."""

    def setUp(self) -> None:
        self.taken: list[Config] = []
        self.rechecks: list[Deferred[int]] = []
        self.answer: Config | Exception = OTHER
        self.prepared: Exception | None = None
        self.reload = Reload(Config(), read=self.read, prepare=self.prepare, recheck=self.recheck)
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "stompauth.reload.Reload":
            self.logged.append(formatEvent(event))

    def read(self, running: Config) -> Config:
        self.assertIs(running, self.reload.config)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def prepare(self, config: Config) -> Callable[[], None]:
        if self.prepared is not None:
            raise self.prepared
        return lambda: self.taken.append(config)

    def recheck(self) -> Deferred[int]:
        self.rechecks.append(Deferred())
        return self.rechecks[-1]

    def assert_nothing_changed(self) -> None:
        self.assertIs(self.successResultOf(self.reload()), False)
        self.assertEqual((self.taken, self.rechecks), ([], []))
        self.assertEqual(self.reload.config, Config())
        self.assertIn("not reloaded", self.logged[0])

    def test_good(self) -> None:
        """It is used first; then the sessions are rechecked."""
        done = self.reload()
        self.assertEqual(self.taken, [OTHER])
        self.assertIs(self.reload.config, OTHER)
        self.assertNoResult(done)
        self.rechecks[0].callback(7)
        self.assertIs(self.successResultOf(done), True)
        self.assertIn("7 sessions", self.logged[-1])

    def test_same(self) -> None:
        """What has not changed is taken over as well: the files that it names may have."""
        self.answer = Config()
        self.reload()
        self.assertEqual(self.taken, [Config()])

    def test_mistakes(self) -> None:
        """With mistakes nothing changes, and all of them are told."""
        self.answer = ConfigError([Mistake("jwt.issuer", "is wrong"), Mistake("rules", "too")])
        self.assert_nothing_changed()
        self.assertIn("jwt.issuer: is wrong\nrules: too", self.logged[0])

    def test_restart(self) -> None:
        """With a change that needs a restart nothing changes, what else there is included."""
        self.answer = replace(OTHER, workers=2, fast_io=False)
        self.assert_nothing_changed()
        self.assertIn("restart: fast_io, workers", self.logged[0])

    def test_not_prepared(self) -> None:
        """With parts that cannot be made nothing changes."""
        self.prepared = ValueError("a file has changed meanwhile")
        self.assert_nothing_changed()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_broken_reader(self) -> None:
        """With any error nothing changes."""
        self.answer = RuntimeError()
        self.assert_nothing_changed()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class ReloadOnSignalTests(SynchronousTestCase):
    """SIGHUP, while the service runs."""

    def test_signal(self) -> None:
        """It reloads in the reactor's own time, and gives the signal back at the end."""
        mine: list[int] = []
        previous = signal.signal(signal.SIGHUP, lambda number, _: mine.append(number))
        self.addCleanup(signal.signal, signal.SIGHUP, previous)
        reloads: list[None] = []
        calls: list[Callable[[], object]] = []

        def reload() -> Deferred[bool]:
            reloads.append(None)
            return succeed(True)

        service = ReloadOnSignal(reload, SimpleNamespace(callFromThread=calls.append))  # type: ignore[arg-type]
        service.startService()
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual((len(reloads), len(calls), mine), (0, 1, []))
        calls[0]()
        self.assertEqual(len(reloads), 1)
        service.stopService()
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual((len(calls), mine), (1, [signal.SIGHUP]))

    def test_failure(self) -> None:
        """A reload that fails is in the log, whether it fails at once or later."""

        def at_once() -> Deferred[bool]:
            raise OSError

        for reload in (at_once, lambda: fail(OSError())):
            calls: list[Callable[[], object]] = []
            reactor = SimpleNamespace(callFromThread=calls.append)
            service = ReloadOnSignal(reload, reactor)  # type: ignore[arg-type]
            service.startService()
            self.addCleanup(service.stopService)
            signal.raise_signal(signal.SIGHUP)
            calls[0]()
            self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
