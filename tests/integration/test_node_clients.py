"""STOMP clients from npm, which know nothing of this server, against a running one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.configured import FOR_CLIENTS, ORIGIN, ConfiguredServer, configured
from tests.integration.raw import CLOSE, TEXT, RawWebSocket, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS = Path(__file__).parent / "clients"

#: The scripts, one for each client.
CLIENTS = ("stompjs", "rx-stomp", "webstomp-client", "stompit")

#: What every one of them has to do.
CASES = re.findall(
    r"^export async function (\w+)", (SCRIPTS / "cases.mjs").read_text("utf-8"), re.MULTILINE
)

#: What a client cannot do, and why.
CANNOT = {
    ("webstomp-client", "binary"): "its bodies are strings, and it cuts them at the first NUL",
    ("webstomp-client", "reconnects"): "it makes one connection, over a socket that it is given",
    ("stompit", "reconnects"): "its version 1.0.0 dies of an ERROR that has a body of text",
}

#: make puts node there where the system has none.
PATH = os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    """A server for clients."""
    with configured(tmp_path_factory.mktemp("clients"), **FOR_CLIENTS) as server:
        yield server


@pytest.mark.parametrize(
    ("client", "case"),
    [(client, case) for client in CLIENTS for case in CASES if (client, case) not in CANNOT],
)
def test_client(server: ConfiguredServer, client: str, case: str) -> None:
    """The client gets through the case."""
    node = shutil.which("node", path=PATH)
    if node is None:
        pytest.skip("there is no node")
    name = f"{client}-{case}"
    tokens = [server.token(name)]
    if case == "reconnects":
        tokens.insert(0, server.token(name, lifetime=4))
    settings = {
        "SERVER": server.origin,
        "ORIGIN": ORIGIN,
        "TOKENS": " ".join(tokens),
        "NAME": name,
    }
    run = subprocess.run(
        [node, SCRIPTS / f"{client}.mjs", case],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout


def test_silent_client(server: ConfiguredServer) -> None:
    """A client whose heart does not beat is dropped; the others are idle for longer."""
    token = server.token("silent")
    frames = []
    with RawWebSocket(server, token) as websocket:
        websocket.connect(token, heartbeat="1000,1000")
        while (frame := websocket.frame()) is not None and frame[0] != CLOSE:
            frames.append(frame)
    *beats, (_, error) = frames
    assert len(beats) >= 2
    assert set(beats) == {(TEXT, b"\n")}
    assert b"\ncode:heartbeat-timeout\n" in error
    assert frame is not None
    assert status_of(frame[1]) == 4408
