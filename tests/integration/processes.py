"""Servers in processes of their own."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]

#: What a server logs once per endpoint when it is ready; the port is the last number.
LISTENING = re.compile(r"listening on .*?(\d+)\D*$", re.MULTILINE)

#: Arguments for the demo on a free port.
DEMO = ("stompauth", "--demo", "--listen", "tcp:0:interface=127.0.0.1")


@dataclass(frozen=True)
class Server:
    """A server that is ready.

    :ivar port: where it listens on 127.0.0.1.
    :ivar log: the file that its output goes to.
    :ivar pid: of its process; 0 if that is not known.
    """

    port: int
    log: Path
    pid: int = 0

    @property
    def origin(self) -> str:
        """The origin of its pages."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> tuple[int, bytes]:
        """The status and the body of a GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()


def wait_until_ready(
    log: Path, is_over: Callable[[], bool], line: re.Pattern[str] = LISTENING
) -> Server:
    """Wait for the server's line in its log.

    :param is_over: whether the server has ended, and waiting is in vain.
    """
    end = time.monotonic() + 30
    while time.monotonic() < end:
        over = is_over()
        text = log.read_text("utf-8") if log.exists() else ""
        if found := line.search(text):
            return Server(int(found[1]), log)
        if over:
            break
        time.sleep(0.05)
    raise AssertionError(f"the server was not ready:\n{text}")


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    directory: Path,
    *,
    log: str = "server.log",
    line: re.Pattern[str] = LISTENING,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run a server in the directory for as long as the block lasts; then end it by SIGTERM.

    :param log: the file in the directory that its output goes to.
    :param line: what it prints when it is ready; the group is the port.
    """
    path = directory / log
    with path.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        ready = wait_until_ready(path, lambda: process.poll() is not None, line)
        yield replace(ready, pid=process.pid)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
