"""docs/deploy/stompauth.service and stompauth.socket, and docs/howto/systemd.md."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stompauth.config.values import OpsConfig
from stompauth.settings import Limits
from tests.integration.configured import ConfiguredServer, free_port
from tests.integration.pages import blocks
from tests.integration.processes import ROOT
from tests.integration.proxies import DEPLOY, fill, program
from tests.integration.raw import RawWebSocket

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SECRET = b"7" * 64

PAGE = blocks(ROOT / "docs" / "howto" / "systemd.md")
SERVICE = (DEPLOY / "stompauth.service").read_text("utf-8")
SOCKET = (DEPLOY / "stompauth.socket").read_text("utf-8")


def setting(name: str, unit: str = SERVICE) -> str:
    """The value that a unit has for a name, once."""
    (value,) = re.findall(rf"^{name}=(.*)$", unit, re.M)
    return str(value)


def command(directory: Path) -> list[str]:
    """The unit's command, in a directory of the test's with the page's configuration."""
    (directory / "jwt.secret").write_bytes(SECRET)
    (toml,) = PAGE["toml"]
    places = {
        "/run/credentials/stompauth.service": directory,
        "tcp:9090:": f"tcp:{free_port()}:",
    }
    (directory / "stompauth.toml").write_text(fill(toml, places), "utf-8")
    places = {"/opt/stompauth/bin": Path(sys.executable).parent, "/etc/stompauth": directory}
    return shlex.split(fill(setting("ExecStart"), places))


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command that logs to a file; what is left of it in the end is killed."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **options,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(log: Path, text: str) -> None:
    """Wait until the log has it."""
    end = time.monotonic() + 20
    while text not in log.read_text("utf-8"):
        assert time.monotonic() < end, log.read_text("utf-8")
        time.sleep(0.02)


def test_activation(tmp_path: Path) -> None:
    """The first client starts the server and is served; SIGHUP reloads, and SIGTERM drains."""
    port = free_port()
    log = tmp_path / "server.log"
    # systemd gives a socket the name of its unit, and hands on no environment of ours.
    activate = [program("systemd-socket-activate"), "--fdname=stompauth.socket"]
    if "PYTHONPATH" in os.environ:
        activate.append("--setenv=PYTHONPATH")
    listen = fill(setting("ListenStream", SOCKET), {":8080": f":{port}"})
    with running([*activate, "--listen", listen, *command(tmp_path)], log) as process:
        wait_for(log, "Listening on")
        server = ConfiguredServer(port, log, secret=SECRET)
        token = server.token("alice")
        assert "listening on" not in log.read_text("utf-8")
        with RawWebSocket(server, token) as websocket:
            websocket.connect(token)
            assert f"listening on 127.0.0.1:{port}" in log.read_text("utf-8")
            process.send_signal(signal.SIGHUP)
            wait_for(log, "reloaded")
            process.terminate()
            frame = websocket.frame()
            assert frame is not None
            assert b"code:drain" in frame[1]
        assert process.wait(20) == -signal.SIGTERM
    text = log.read_text("utf-8")
    assert "Traceback" not in text
    assert not [secret for secret in server.handed_out if secret in text]


def test_restart(tmp_path: Path) -> None:
    """Who comes between two runs waits for the second: the end of the first leaves the socket."""
    log = tmp_path / "server.log"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hand_over() -> None:
            os.dup2(listener.fileno(), 3)

        server = ConfiguredServer(listener.getsockname()[1], log, secret=SECRET)
        token = server.token("alice")
        # As systemd does, which has the socket.
        started = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=s exec "$@"', "sh"]
        started += command(tmp_path)
        with running(started, log, preexec_fn=hand_over, pass_fds=(3,)) as process:
            server.ticket(token)
            process.terminate()
            process.wait(20)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {token}"}
            connection.request("POST", "/authenticate/token", headers=headers)
            with running(started, log, preexec_fn=hand_over, pass_fds=(3,)):
                assert connection.getresponse().status == 200


def test_reload_and_limits() -> None:
    """The unit reloads by SIGHUP, and gives the server the time and the files that it asks for."""
    assert setting("ExecReload") == "/bin/kill -HUP $MAINPID"
    limits = Limits()
    assert int(setting("TimeoutStopSec")) > OpsConfig().drain_timeout + limits.close_timeout + 1
    assert int(setting("LimitNOFILE")) > limits.sessions
    assert setting("LimitCORE") == "0"


def test_verify(tmp_path: Path) -> None:
    """systemd has nothing against the units, and finds the service well confined."""
    analyze = program("systemd-analyze")
    unit = tmp_path / "stompauth.service"
    unit.write_text(fill(SERVICE, {"/opt/stompauth/bin/twistd": shutil.which("true")}))
    (tmp_path / "stompauth.socket").write_text(SOCKET)
    for command in (
        ["verify", "--man=no", unit, tmp_path / "stompauth.socket"],
        # In tenths: 0 for nothing that it could do, 100 for everything. 252 says 1.3.
        ["security", "--offline=yes", "--threshold=20", unit],
    ):
        run = subprocess.run([analyze, *command], capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stdout + run.stderr
        assert not run.stderr, run.stderr


def test_page(tmp_path: Path) -> None:
    """The page installs the files that there are, where the units look for them."""
    (script,) = PAGE["sh"]
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    for file in re.findall(r"docs/deploy/\S+", script):
        assert (ROOT / file).exists()
    credential, source = setting("LoadCredential").split(":")
    (toml,) = PAGE["toml"]
    assert f'"/run/credentials/stompauth.service/{credential}"' in toml
    assert f"install -m 600 {credential} {Path(source).parent}/" in script
    assert f"{setting('ExecStart').split()[0]} --help" in script
