"""What can change while a server runs."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.rules import allow
from stompauth.config import Config, InterceptorConfig
from stompauth.config.changes import RELOADED, needs_restart
from stompauth.config.values import keys


def changed(path: str) -> Config:
    """The defaults but for one key."""
    section, _, key = path.rpartition(".")
    if not section:
        return replace(Config(), **{key: "other"})
    inner: Any = attrgetter(section)(Config())
    return replace(Config(), **{section: replace(inner, **{key: "other"})})


class NeedsRestartTests(SynchronousTestCase):
    """Each key can change, or is told."""

    def test_every_key(self) -> None:
        """A change of any key is told, but for those that can change."""
        told = {path for path, _ in keys() if needs_restart(Config(), changed(path)) == [path]}
        silent = {path for path, _ in keys() if not needs_restart(Config(), changed(path))}
        self.assertEqual(told | silent, {path for path, _ in keys()})
        self.assertEqual(
            {path for path in silent if not path.startswith(("limits.", "authorization."))},
            {
                *("websocket.origins", "websocket.require_origin"),
                *("jwt.public_key_file", "jwt.secret_file"),
            },
        )
        self.assertIn("limits.frame", silent)

    def test_arrays(self) -> None:
        """Rules can change, interceptors cannot."""
        rules = replace(Config(), rules=(allow("send", "/topic/a"),))
        self.assertEqual(needs_restart(Config(), rules), [])
        entry = InterceptorConfig("a:B", {}, None)  # type: ignore[arg-type]
        interceptors = replace(Config(), interceptors=(entry,))
        self.assertEqual(needs_restart(Config(), interceptors), ["interceptors"])

    def test_several(self) -> None:
        """All are told, in the order of the reference."""
        other = replace(changed("tickets.path"), workers=2)
        self.assertEqual(needs_restart(Config(), other), ["workers", "tickets.path"])

    def test_names(self) -> None:
        """What is said to change is there."""
        for name in RELOADED:
            attrgetter(name)(Config())
