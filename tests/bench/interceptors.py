"""Interceptors of the server that is measured."""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor

from stompauth.interceptors.interceptor import Interceptor

if TYPE_CHECKING:
    from stompauth.session.session import Session
    from stompauth.stomp.frame import Frame


class Counting(Interceptor):
    """Counts frames by their command, as one that does little would."""

    def __init__(self) -> None:
        self.frames: dict[str, int] = {}

    def pre_send(self, frame: Frame, session: Session) -> Frame:
        """Count it."""
        self.frames[frame.command] = self.frames.get(frame.command, 0) + 1
        return frame


class Turns(Interceptor):
    """Sees no frame; measures the turns of the reactor that it is made in.

    :param path: of a file of eight octets, in which it keeps how long the longest turn was,
        in seconds. Whoever puts 0 there begins anew.
    """

    def __init__(self, *, path: str) -> None:
        watch_turns(path)


def watch_turns(path: str) -> None:
    """Measure the turns of the reactor: the CPU time from one wait for events to the next."""
    loop: Any = reactor
    with Path(path).open("r+b") as file:
        loop._poller = _Poller(loop._poller, mmap.mmap(file.fileno(), 8))


class _Poller:
    """Takes the place of the reactor's :class:`select.epoll`."""

    def __init__(self, poller: Any, longest: mmap.mmap) -> None:
        self._poll = poller.poll
        self._longest = longest
        self._since: float | None = None
        for name in ("register", "unregister", "modify", "close", "fileno"):
            setattr(self, name, getattr(poller, name))

    def poll(self, timeout: float, events: int) -> list[tuple[int, int]]:
        """End a turn, wait, and begin the next."""
        now = time.thread_time()
        if self._since is not None and now - self._since > struct.unpack("d", self._longest)[0]:
            self._longest[:] = struct.pack("d", now - self._since)
        try:
            found: list[tuple[int, int]] = self._poll(timeout, events)
        finally:
            self._since = time.thread_time()
        return found
