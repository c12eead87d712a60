"""Several processes that share their tickets by a real Redis, and docs/howto/redis.md."""

from __future__ import annotations

import contextlib
import http.client
import shlex
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from stompauth.config import load
from tests.integration.configured import ORIGIN, ConfiguredServer, configured
from tests.integration.pages import blocks
from tests.integration.processes import ROOT
from tests.integration.raw import RawWebSocket
from tests.integration.recording import recording
from tests.integration.redis_server import RedisServer, redis_server
from tests.integration.test_jwks import Authority
from tests.wire import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = b"5" * 64

PAGE = blocks(ROOT / "docs" / "howto" / "redis.md")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server."""
    with redis_server(tmp_path / "redis") as server:
        yield server


@contextlib.contextmanager
def node(
    directory: Path, url: str, *, roles: str = '["tickets", "websocket"]', more: str = ""
) -> Iterator[ConfiguredServer]:
    """A process whose tickets are in Redis, once it is connected."""
    directory.mkdir()
    tickets = f'store = "{url}"\ntimeout = 0.5\n{more}'
    with configured(directory, top=f"roles = {roles}", tickets=tickets, secret=SECRET) as server:
        end = time.monotonic() + 10
        while "connected to redis" not in server.log.read_text("utf-8"):
            assert time.monotonic() < end, server.log.read_text("utf-8")
            time.sleep(0.02)
        yield server


def post(server: ConfiguredServer, token: str) -> tuple[int, str | None]:
    """Status and Retry-After of a request for a ticket."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with contextlib.closing(connection):
        connection.request(
            "POST", "/authenticate/token", headers={"Authorization": f"Bearer {token}"}
        )
        response = connection.getresponse()
        return response.status, response.getheader("Retry-After")


def handshake(server: ConfiguredServer, ticket: str) -> int:
    """The status of a handshake."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with contextlib.closing(connection):
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": KEY,
            "Sec-WebSocket-Version": "13",
            "Origin": ORIGIN,
        }
        connection.request("GET", f"/stomp?ticket={ticket}", headers=headers)
        return connection.getresponse().status


def test_two_nodes(server: RedisServer, tmp_path: Path) -> None:
    """TK-6: a ticket of one process opens a session on another, once on all of them."""
    with node(tmp_path / "a", server.url) as one, node(tmp_path / "b", server.url) as other:
        token = one.token("alice")
        for issuing, opening in ((one, other), (other, one), (one, one)):
            ticket = issuing.ticket(token)
            with RawWebSocket(opening, token, ticket=ticket) as websocket:
                websocket.connect(token)
            assert handshake(one, ticket) == 401
            assert handshake(other, ticket) == 401
        assert "a used ticket of alice came again" in other.log.read_text("utf-8")


def test_apart(server: RedisServer, tmp_path: Path) -> None:
    """One process for tickets, one for WebSockets; each has nothing of what is the other's."""
    with (
        node(tmp_path / "a", server.url, roles='["tickets"]') as tickets,
        node(tmp_path / "b", server.url, roles='["websocket"]') as websockets,
    ):
        token = tickets.token("alice")
        ticket = tickets.ticket(token)
        assert handshake(tickets, ticket) == 404
        assert post(websockets, token)[0] == 404
        with RawWebSocket(websockets, token, ticket=ticket) as websocket:
            websocket.connect(token)
        assert handshake(websockets, ticket) == 401


def test_away(server: RedisServer, tmp_path: Path) -> None:
    """TK-7: while Redis is away or hangs both ways in are 503; sessions and the process go on."""
    with node(tmp_path / "a", server.url) as one:
        token = one.token("alice")
        with RawWebSocket(one, token) as websocket:
            websocket.connect(token)
            for harm, mend in ((server.kill, server.start), (server.freeze, server.thaw)):
                ticket = one.ticket(token)
                harm()
                for _ in range(2):
                    assert post(one, token) == (503, "1")
                    assert handshake(one, ticket) == 503
                mend()
                end = time.monotonic() + 10
                while post(one, token)[0] == 503 and time.monotonic() < end:
                    time.sleep(0.05)
                with RawWebSocket(one, token) as another:
                    another.connect(token)
            websocket.send_stomp("DISCONNECT", {"receipt": "bye"})
            assert b"receipt-id:bye" in websocket.rest()[0][1]


def test_started_before_redis(server: RedisServer, tmp_path: Path) -> None:
    """TK-7: a process that starts without Redis answers 503, and uses it when it is there."""
    server.stop()
    tickets = f'store = "{server.url}"'
    with configured(tmp_path, tickets=tickets) as one:
        token = one.token("alice")
        assert post(one, token)[0] == 503
        server.start()
        end = time.monotonic() + 10
        while post(one, token)[0] == 503 and time.monotonic() < end:
            time.sleep(0.05)
        with RawWebSocket(one, token) as websocket:
            websocket.connect(token)


def test_no_secret_on_the_wire(server: RedisServer, tmp_path: Path) -> None:
    """TK-4, OP-2: neither token nor ticket goes to Redis, nor the header that tokens come in."""
    with (
        recording(server.port) as proxy,
        node(tmp_path / "a", f"redis://127.0.0.1:{proxy.port}") as one,
        node(tmp_path / "b", f"redis://127.0.0.1:{proxy.port}") as other,
    ):
        for user in ("alice", "bob"):
            token = one.token(user)
            ticket = one.ticket(token)
            with RawWebSocket(other, token, ticket=ticket) as websocket:
                websocket.connect(token)
            assert handshake(one, ticket) == 401
        passed = bytes(proxy.sent + proxy.received)
        assert passed.count(b"alice") >= 3
        assert b"uthorization" not in passed
        assert b"earer" not in passed
        for secret in one.handed_out + other.handed_out:
            assert secret.encode() not in passed
            # Nor the parts of a token, of which the last is its signature.
            for part in secret.split("."):
                assert part.encode() not in passed


def prepare(tmp_path: Path) -> Path:
    """Run what the page says, and have the lines of its redis.conf."""
    (script,) = PAGE["sh"]
    subprocess.run(["sh", "-e", "-c", script], cwd=tmp_path, check=True)
    (lines,) = PAGE["text"]
    conf = tmp_path / "redis.conf"
    conf.write_text(lines.replace("/etc/redis/users.acl", shlex.quote(str(tmp_path / "users.acl"))))
    return conf


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's user, redis.conf and TLS do for tickets, and this user for nothing else."""
    conf = prepare(tmp_path)
    certificate, key, ca_file = Authority("the test's CA").write(tmp_path, "localhost")
    password_file = f'password_file = "{tmp_path / "redis-password"}"'
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    with redis_server(
        tmp_path / "redis", "--include", str(conf), certificate=(certificate, key)
    ) as server:
        url = f"rediss://stompauth@localhost:{server.port}"
        with node(tmp_path / "a", url, more=password_file) as one:
            token = one.token("alice")
            tickets = [one.ticket(token) for _ in range(7)]
            with RawWebSocket(one, token, ticket=tickets[-1]) as websocket:
                websocket.connect(token)
            assert [handshake(one, ticket) for ticket in tickets[:2]] == [401, 401]
            password = (tmp_path / "redis-password").read_text("utf-8").strip()
            assert password not in one.log.read_text("utf-8")
        monkeypatch.delenv("SSL_CERT_FILE")
        untrusting = tmp_path / "b"
        untrusting.mkdir()
        with configured(untrusting, tickets=f'store = "{url}"\n{password_file}') as one:
            time.sleep(0.5)
            assert post(one, one.token("alice"))[0] == 503


def test_page_user(tmp_path: Path) -> None:
    """TK-7: the page's user can neither leave the prefix nor look for keys; nobody else gets in."""
    conf = prepare(tmp_path)
    password = (tmp_path / "redis-password").read_text("utf-8").strip()
    with redis_server(tmp_path / "redis", "--include", str(conf)) as server:

        def answer(*words: str) -> str:
            user = ["--user", "stompauth", "--pass", password, "--no-auth-warning"]
            command = ["redis-cli", "-p", str(server.port), *user, *words]
            return subprocess.run(command, check=False, capture_output=True, text=True).stdout

        assert answer("SET", "stompauth:a", "b", "PX", "1000") == "OK\n"
        assert answer("GETDEL", "stompauth:a") == "b\n"
        for words in (
            ("SET", "other", "b"),
            ("EVAL", "return redis.call('GET', 'other')", "0"),
            ("KEYS", "*"),
            ("FLUSHALL",),
            ("CONFIG", "GET", "maxmemory"),
            ("PUBLISH", "other", "a"),
        ):
            said = answer(*words)
            assert "NOPERM" in said or "can't access" in said, (words, said)
        assert "NOAUTH" in server.command("GET", "stompauth:a")


def test_page_configurations(tmp_path: Path) -> None:
    """The page's files are good, together and apart; --check would show no password."""
    (tmp_path / "redis-password").write_text("open sesame\n")
    whole, roles = PAGE["toml"]
    for number, text in enumerate((whole, roles + whole)):
        path = tmp_path / f"{number}.toml"
        path.write_text(text)
        config = load(path)
        assert config.tickets.store.startswith("rediss://stompauth@")
    assert config.roles == ("tickets",)
