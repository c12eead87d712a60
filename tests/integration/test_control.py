"""The control resource of a running server; and docs/control.md, request by request."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.configured import ConfiguredServer, configured, free_port
from tests.integration.processes import ROOT
from tests.integration.raw import CLOSE, RawWebSocket, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = (ROOT / "docs/control.md").read_text("utf-8")

#: Each command of the page, with the answer that is shown below it, if one is.
EXAMPLES = re.findall(r"```sh\n(curl.*?)```(?:\n\n```json\n(.*?)```)?", PAGE, re.S)
SETUP = re.findall(r"```sh\n(umask.*?)```", PAGE, re.S)[0]
TOML = re.findall(r"```toml\n(.*?)```", PAGE, re.S)[0]

#: The port, and the id of a session, that the page has as examples.
PORT, SESSION = "8081", "hZ0Yq3m2RkCnR1tYBvWb1A"

RULES = """
[[rules]]
allow = ["subscribe"]
destination = "/user/queue/**"
"""


def shell(code: str, directory: Path) -> str:
    """Run the code as a reader would, and return what it prints."""
    return subprocess.run(
        ["sh", "-eu"],
        input=code,
        cwd=directory,
        check=True,
        env=os.environ | {"no_proxy": "*"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
    ).stdout


class Client(RawWebSocket):
    """A tab of a user, connected.

    :ivar session: the id of its session.
    """

    def __init__(self, server: ConfiguredServer, user: str) -> None:
        token = server.token(user)
        super().__init__(server, token)
        self.connect(token)

    def subscribe(self, subscription: str, destination: str) -> None:
        """Subscribe, and wait until it is done."""
        headers = {"id": subscription, "destination": destination, "receipt": subscription}
        self.send_stomp("SUBSCRIBE", headers)
        assert self.text().startswith(f"RECEIPT\nreceipt-id:{subscription}\n")

    def text(self) -> str:
        """The next STOMP frame."""
        frame = self.frame()
        assert frame is not None
        return frame[1].decode()


@pytest.fixture
def port() -> int:
    """Where the control resource listens."""
    return free_port()


@pytest.fixture
def server(tmp_path: Path, port: int) -> Iterator[ConfiguredServer]:
    """A server with a control resource, as the page sets it up."""
    shell(SETUP, tmp_path)
    with configured(
        tmp_path, port=free_port(), more=RULES + TOML.replace(PORT, str(port))
    ) as server:
        yield server


def test_revocation(server: ConfiguredServer, port: int, tmp_path: Path) -> None:
    """JW-13: of a user who is revoked every tab closes within a second; others notice nothing."""
    token = (tmp_path / "control.token").read_text("ascii").strip()
    with Client(server, "alice") as one, Client(server, "alice") as two, Client(server, "bob") as b:
        b.subscribe("room", "/topic/rooms/lobby")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            begin = time.monotonic()
            connection.request(
                "POST",
                "/revoke",
                json.dumps({"user": "alice"}),
                {"Authorization": f"Bearer {token}"},
            )
            response = connection.getresponse()
            assert json.loads(response.read()) == {"sessions": 2, "tickets": 0}
        for tab in (one, two):
            assert "\ncode:revoked\n" in tab.text()
            close = tab.frame()
            assert close is not None
            assert (close[0], status_of(close[1])) == (CLOSE, 4403)
            assert time.monotonic() - begin < 1
        # Whatever bob had been told, he would read before this.
        b.send_stomp("SEND", {"destination": "/topic/rooms/lobby", "receipt": "s"}, b"still here")
        assert b.text().startswith("MESSAGE\n")
        assert b.text().startswith("RECEIPT\nreceipt-id:s\n")
    assert token not in server.log.read_text("utf-8")


def test_page(server: ConfiguredServer, port: int, tmp_path: Path) -> None:
    """Each request on the page is answered as the page says."""
    assert [re.search(r":8081(/\w+)", code)[1] for code, _ in EXAMPLES] == [  # type: ignore[index]
        *(
            "/sessions",
            "/sessions",
            "/sessions",
            "/publish",
            "/users",
            "/recheck",
            "/revoke",
            "/drain",
        )
    ]
    with Client(server, "alice") as one, Client(server, "alice") as two:
        for tab in (one, two):
            tab.subscribe("room", "/topic/rooms/lobby")
            tab.subscribe("notices", "/user/queue/notices")
        session = ""
        for code, expected in EXAMPLES:
            code = code.replace(f":{PORT}", f":{port}").replace(SESSION, session)
            answer = json.loads(shell(code, tmp_path))
            if not expected:
                session = answer["sessions"][0]["id"]
                assert len(answer["sessions"]) == 2
            elif "expires_at" in expected:
                assert_like(answer, json.loads(expected), session)
            else:
                assert answer == json.loads(expected), code
        assert "\ncode:revoked\n" in one.text()
        for words in ("Back in five minutes", "Your parcel is here", "code:revoked"):
            assert words in two.text()
    # The last of them has stopped the server.
    end = time.monotonic() + 15
    while "Server Shut Down" not in server.log.read_text("utf-8"):
        assert time.monotonic() < end
        time.sleep(0.05)


def assert_like(answer: Any, example: Any, session: str) -> None:
    """A session is like the example, but for what differs from run to run."""
    differs = {"id": session, "token_id": None, "expires_at": answer["expires_at"]}
    assert answer == {**example, **differs}
    assert isinstance(answer["expires_at"], int)
