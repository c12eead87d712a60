"""A Redis server of a test's own."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from stompauth.redis import RedisURL
from tests.integration.configured import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: A server that has not answered by then will not.
STARTING = 20.0


class RedisServer:
    """A redis-server process on a port of 127.0.0.1, with data in a directory of its own.

    Nothing is written there unless ``arguments`` say so, so a restart begins empty. Methods block,
    for some tens of milliseconds; the reactor of a test may stand still for that long.

    :param password: of the default user, or None.
    :param certificate: PEM files for TLS: the certificate, and its key; then there is no other
        port than the one for TLS.
    :param arguments: further ones of redis-server.
    :ivar port: the same after a restart.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        password: str | None = None,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("there is no redis-server")
        self._program = program
        self._directory = directory
        self._directory.mkdir(parents=True, exist_ok=True)
        self._password = password
        self._certificate = certificate
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Its URL, of database 0."""
        return f"{'rediss' if self._certificate else 'redis'}://127.0.0.1:{self.port}/0"

    @property
    def redis_url(self) -> RedisURL:
        """The same, read."""
        return RedisURL.parse(self.url)

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert not self.is_running
        command = [
            self._program,
            *("--bind", "127.0.0.1"),
            *("--dir", str(self._directory)),
            *("--save", ""),
            *("--daemonize", "no"),
            *self._own_arguments(),
            *self._arguments,
        ]
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + STARTING
        while time.monotonic() < end and self.is_running:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.02)
        raise AssertionError((self._directory / "redis.log").read_text("utf-8"))

    def _own_arguments(self) -> Iterator[str]:
        if self._certificate is None:
            yield from ("--port", str(self.port))
        else:
            certificate, key = self._certificate
            yield from ("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no")
            yield from ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
            yield from ("--tls-ca-cert-file", str(certificate))
        if self._password is not None:
            yield from ("--requirepass", self._password)

    def stop(self) -> None:
        """End it in order, whatever it was doing; nothing if it is not there."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as kill -9 does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop its work, with its connections left open, until :meth:`thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> str:
        """What redis-cli prints for a command; without TLS only."""
        options = ["-a", self._password] if self._password is not None else []
        return subprocess.run(
            ["redis-cli", "--no-auth-warning", "-p", str(self.port), *options, *words],
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
        ).stdout.rstrip("\n")

    def _end(self, by: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(by)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        self._process = None


@contextlib.contextmanager
def redis_server(
    directory: Path,
    *arguments: str,
    password: str | None = None,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[RedisServer]:
    """Run a Redis server for as long as the block lasts. Parameters are :class:`RedisServer`'s."""
    server = RedisServer(directory, *arguments, password=password, certificate=certificate)
    server.start()
    try:
        yield server
    finally:
        server.stop()
