"""A RabbitMQ node of the tests' own: its ports, its data, its cookie, its epmd."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.configured import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The directory of ``rabbitmq-server`` and ``rabbitmqctl`` themselves. What stands in /usr/sbin
#: wants to change the user.
PROGRAMS = Path(os.environ.get("RABBITMQ_PROGRAMS", "/usr/lib/rabbitmq/bin"))

#: Seconds that a node has to begin, and any other command to end.
PATIENCE = 90

_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
stomp.listeners.tcp.1 = 127.0.0.1:{port}
distribution.listener.interface = 127.0.0.1
loopback_users = none
log.console = false
log.file.level = info
"""


class RabbitMQ:
    """One node, which keeps its ports and its data when it is started again.

    :param directory: where all of it lives; its path must be short, for the sake of sockets.
    :ivar port: where it speaks STOMP, on 127.0.0.1.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd_port = free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._distribution = free_port()
        (directory / "enabled_plugins").write_text("[rabbitmq_stomp].\n", "ascii")
        configuration = _CONFIGURATION.format(amqp=free_port(), port=self.port)
        (directory / "rabbitmq.conf").write_text(configuration, "ascii")

    @property
    def endpoint(self) -> str:
        """Where it is, as Twisted describes it."""
        return f"tcp:127.0.0.1:{self.port}"

    @property
    def _environment(self) -> dict[str, str]:
        directory = str(self.directory)
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": directory,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": "stompauth@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONF_ENV_FILE": f"{directory}/none",
            "RABBITMQ_CONFIG_FILE": f"{directory}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{directory}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{directory}/data",
            "RABBITMQ_LOG_BASE": f"{directory}/log",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none",
        }

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        if self._epmd is None:
            # Started by the node it would outlive it.
            self._epmd = subprocess.Popen(
                ["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)],
                stdin=subprocess.DEVNULL,
                env=self._environment,
            )
        with (self.directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAMS / "rabbitmq-server"],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.1)
        self.kill()
        raise AssertionError((self.directory / "output.log").read_text("utf-8", "replace"))

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE)
            self._process = None

    def ctl(self, *arguments: str) -> str:
        """What ``rabbitmqctl`` prints."""
        done = subprocess.run(
            [PROGRAMS / "rabbitmqctl", "--quiet", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert not done.returncode, (done.stdout + done.stderr).decode()
        return done.stdout.decode()

    def close(self) -> None:
        """End it for good."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(PATIENCE)


@contextlib.contextmanager
def rabbitmq(directory: Path) -> Iterator[RabbitMQ]:
    """Run a node for as long as the block lasts."""
    node = RabbitMQ(directory)
    try:
        node.start()
        yield node
    finally:
        node.close()
