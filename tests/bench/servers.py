"""The servers that are measured: how each is started, and what the system says of its process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import jwt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
ISSUER: Final = "https://id.example.com/"
AUDIENCE: Final = "bench"
SECRET: Final = b"0123456789abcdef0123456789abcdef"

#: How many tokens there are; each is of another user.
TOKENS: Final = 10_000

#: Seconds that a server may take until it listens.
PATIENCE: Final = 90

LISTENING: Final = re.compile(r"listening on .*?(\d+)\D*$", re.MULTILINE)

_ERROR: Final = re.compile(r"Traceback|#error|#critical")

#: The whole product. The limits of rates stay in force, but are never reached; what one address
#: may do is not limited, since all clients have the same. Pings would be counted as messages.
CONFIGURATION: Final = f"""\
listen = ["tcp:0:interface=127.0.0.1"]
fast_io = %(fast_io)s

[jwt]
algorithms = ["HS256"]
secret_file = ["secret"]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"

[tickets]
rate = 1000000

[websocket]
origins = ["https://chat.example.com"]
require_origin = false
ping = 3600

[limits]
frames_per_second = 1000000
bytes_per_second = 10000000000
sessions_per_address = 0
subscriptions = 1000
destinations = 1000000

[[interceptors]]
use = "interceptors:Counting"

[[interceptors]]
use = "interceptors:Counting"

[[interceptors]]
use = "interceptors:Counting"

[[interceptors]]
use = "interceptors:Counting"

[[interceptors]]
use = "interceptors:Counting"
%(turns)s
[[rules]]
deny = ["subscribe", "send"]
destination = "/topic/secret/**"

[[rules]]
allow = ["subscribe"]
destination = "/user/queue/notifications"

[[rules]]
allow = ["subscribe", "send"]
destination = "/topic/rooms/{{room}}"
claims = {{ rooms = "{{room}}" }}

[[rules]]
allow = ["subscribe", "send"]
destination = "/topic/*"
authorities = ["bench"]

[[rules]]
allow = ["subscribe", "send"]
destination = "/queue/*"
authorities = ["bench"]
"""

TURNS: Final = """
[[interceptors]]
use = "interceptors:Turns"
path = "turns"
"""


def write_secrets(directory: Path) -> None:
    """Write the key and the tokens, which are good for half a day."""
    (directory / "secret").write_bytes(SECRET)
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 43200, "scope": "bench"}
    tokens = [
        jwt.encode({**claims, "sub": f"user{number}"}, SECRET, algorithm="HS256")
        for number in range(TOKENS)
    ]
    (directory / "tokens").write_text("\n".join(tokens))


class Process:
    """A server's process, with its children.

    :ivar port: where it listens.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.port = 0

    def cpu(self) -> float:
        """Seconds of CPU time that it has taken so far, in user and in system mode."""
        # What clock_getcpuclockid() makes of a process's id.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self._family())

    def memory(self) -> int:
        """Octets of memory that are resident."""
        pages = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in self._family())
        return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE")

    def has_ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    def _family(self) -> list[int]:
        family = [self._process.pid]
        for pid in family:
            for task in Path(f"/proc/{pid}/task").iterdir():
                family += map(int, (task / "children").read_text().split())
        return family


@dataclass(frozen=True)
class Server:
    """A server to be measured.

    :ivar name: for the table.
    :ivar command: what starts it, with ``{port}`` where the port belongs.
    :ivar load: what the load has to be told about it.
    :ivar says_port: whether it chooses its port by itself, and says so in a line.
    :ivar is_ours: whether the turns of its reactor can be measured, and its log be read.
    :ivar checkout: where its code is, if it is ours.
    """

    name: str
    command: tuple[str, ...]
    load: tuple[str, ...]
    says_port: bool = False
    is_ours: bool = False
    checkout: Path = ROOT

    @contextlib.contextmanager
    def running(self, directory: Path) -> Iterator[Process]:
        """Run it in the directory; at the end its log may not tell of errors."""
        port = 0 if self.says_port else _free_port()
        command = [part.replace("{port}", str(port)) for part in self.command]
        log = directory / "server.log"
        with log.open("wb") as output:
            started = subprocess.Popen(
                command,
                cwd=directory,
                # So the interceptors of here serve a checkout that has none.
                env={**os.environ, "PYTHONPATH": f"{self.checkout}:{HERE}"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            process = Process(started)
            process.port = port or _port_in(log, process)
            _wait_until_it_listens(process)
            yield process
            if process.has_ended():
                raise RuntimeError(f"{self.name} has ended")
            if self.is_ours and _ERROR.search(log.read_text(errors="replace")):
                raise RuntimeError(f"{self.name} has logged errors")
        except Exception as error:
            error.add_note(f"{self.name} said:\n{log.read_text(errors='replace')[-5000:]}")
            raise
        finally:
            _end(started)


_AUTHENTICATED: Final = (
    *("--path", "/stomp", "--query", "ticket=%t", "--ticket-path", "/authenticate/token"),
    *("--jwt-file", "../tokens", "--connect-header", "Authorization:Bearer %j"),
)


def product(checkout: Path = ROOT, fast_io: bool = True) -> Server:
    """Ours, as ``twistd`` runs it.

    :param checkout: where the code is.
    """
    name = "stompauth" if checkout == ROOT else f"stompauth in {checkout.name}"
    if not fast_io:
        name += ", fast_io = false"
    twistd = Path(sys.executable).parent / "twistd"
    command = (sys.executable, str(twistd), "-n", "--pidfile=", "stompauth", "--config")
    configuration = "fast.toml" if fast_io else "plain.toml"
    return Server(
        *(name, (*command, configuration), _AUTHENTICATED),
        says_port=True,
        is_ours=True,
        checkout=checkout,
    )


def plain_autobahn() -> Server:
    """A server that does the same work in the naive way, and less of it."""
    command = (sys.executable, "-m", "tests.bench.plain")
    return Server("plain Autobahn", command, _AUTHENTICATED, says_port=True, is_ours=True)


def another(command: str, url: str, headers: Sequence[str]) -> Server:
    """Any other server.

    :param command: starts it in the foreground; ``{port}`` stands for the port that it should
        listen on.
    :param url: where its WebSocket is.
    :param headers: of CONNECT.
    """
    split = urlsplit(url)
    load = ["--path", split.path or "/", "--query", split.query]
    for header in headers:
        load += ["--connect-header", header]
    words = shlex.split(command)
    return Server(Path(words[0]).name, tuple(words), tuple(load))


def write_configuration(directory: Path, turns: bool) -> None:
    """Write what the product is started with.

    :param turns: whether to measure the turns of the reactor, in a file of that name.
    """
    (directory / "secret").write_bytes(SECRET)
    if turns:
        (directory / "turns").write_bytes(bytes(8))
    for name, fast_io in (("fast.toml", True), ("plain.toml", False)):
        settings = {"fast_io": json.dumps(fast_io), "turns": TURNS if turns else ""}
        (directory / name).write_text(CONFIGURATION % settings, "utf-8")


def _end(started: subprocess.Popen[bytes]) -> None:
    """End it, with the children that it may have."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, number)
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            continue
        return


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _port_in(log: Path, process: Process) -> int:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        is_over = process.has_ended()
        if found := LISTENING.search(log.read_text(errors="replace")):
            return int(found[1])
        if is_over:
            break
        time.sleep(0.05)
    raise RuntimeError("the server has not started")


def _wait_until_it_listens(process: Process) -> None:
    end = time.monotonic() + PATIENCE
    while not process.has_ended():
        try:
            socket.create_connection(("127.0.0.1", process.port), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            time.sleep(0.2)
            return
    raise RuntimeError("the server has ended before it listened")
