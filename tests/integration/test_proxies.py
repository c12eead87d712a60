"""docs/deploy/nginx.conf and haproxy.cfg, and their pages: TLS, WebSockets and addresses."""

from __future__ import annotations

import contextlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stompauth.config import load
from stompauth.settings import WebSocketSettings
from tests.integration.configured import ORIGIN, ConfiguredServer, configured, free_port
from tests.integration.pages import blocks
from tests.integration.processes import ROOT
from tests.integration.proxies import DEPLOY, UPGRADE, Proxy, haproxy, nginx
from tests.integration.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = b"6" * 64

#: What could be a ticket.
UNKNOWN = "abcdefg" * 6 + "h"

KINDS = ("nginx", "haproxy")

#: What each page has a node listen on.
LISTEN = {
    "nginx": "tcp:8081:interface=127.0.0.1",
    "haproxy": "haproxy:tcp:8081:interface=127.0.0.1",
}


@dataclass(frozen=True)
class Deployment:
    """A proxy, and nodes behind it."""

    proxy: Proxy
    nodes: list[ConfiguredServer]

    @property
    def node(self) -> ConfiguredServer:
        return self.nodes[-1]

    def audit(self) -> str:
        """What the nodes have logged."""
        return "".join(node.log.read_text("utf-8") for node in self.nodes)


@contextlib.contextmanager
def deployed(
    kind: str, directory: Path, running: tuple[int, ...] = (0, 1), tickets: str = ""
) -> Iterator[Deployment]:
    """Run a proxy, and those of its two nodes that are to run, as the page has them."""
    ports = [free_port() for _ in range(5)]
    nodes, ready, front = ports[:2], ports[2:4], ports[4]
    page = blocks(ROOT / "docs" / "howto" / f"{kind}.md")["toml"][0]
    # The lines before the page's first section; the port is the only thing that is not the page's.
    top, _, more = page.partition("\n[")
    listen = json.loads(re.search(r"^listen = (.*)$", top, re.M)[1])
    assert listen == [LISTEN[kind]]
    top = re.sub(r"^listen = .*$", "", top, flags=re.M)
    with contextlib.ExitStack() as stack:
        servers = []
        for number in running:
            home = directory / f"node-{number}"
            home.mkdir()
            environment = {
                "STOMPAUTH_LISTEN": json.dumps([listen[0].replace("8081", str(nodes[number]))])
            }
            if more:
                environment["STOMPAUTH_OPS__LISTEN"] = json.dumps(
                    [f"tcp:{ready[number]}:interface=127.0.0.1"]
                )
            node = configured(
                home,
                top=top,
                tickets=tickets,
                environment=environment,
                secret=SECRET,
                sessions_per_address=1,
            )
            servers.append(stack.enter_context(node))
        home = directory / kind
        home.mkdir()
        proxy = (
            haproxy(home, front, nodes, ready) if kind == "haproxy" else nginx(home, front, nodes)
        )
        yield Deployment(stack.enter_context(proxy), servers)


def wait_for(proxy: Proxy, line: str) -> None:
    """Wait until the proxy has logged such a line; that of a WebSocket comes at its end."""
    end = time.monotonic() + 10
    while not re.search(line, proxy.logs, re.M):
        assert time.monotonic() < end, proxy.logs
        time.sleep(0.02)


@pytest.fixture(scope="module", params=KINDS)
def deployment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Two nodes that share their tickets, behind one of the proxies."""
    directory = tmp_path_factory.mktemp(request.param)
    with (
        redis_server(directory / "redis") as redis,
        deployed(request.param, directory, tickets=f'store = "{redis.url}"') as deployment,
    ):
        end = time.monotonic() + 10
        while deployment.audit().count("connected to redis") < 2 and time.monotonic() < end:
            time.sleep(0.02)
        yield deployment


def test_message(deployment: Deployment) -> None:
    """A page's ticket opens a session at whichever node, and a message comes back."""
    token = deployment.node.token("alice")
    for number in range(4):
        with deployment.proxy.open(deployment.node, token, f"127.0.1.{number + 1}") as websocket:
            websocket.send_stomp("SUBSCRIBE", {"id": "0", "destination": "/topic/a"})
            websocket.send_stomp("SEND", {"destination": "/topic/a"}, b"hello")
            frame = websocket.frame()
            assert frame is not None
            assert frame[1].startswith(b"MESSAGE\n")
            assert frame[1].endswith(b"\n\nhello\0")
    for node in deployment.nodes:
        assert "connected" in node.log.read_text("utf-8")


def test_no_ticket_in_a_log(deployment: Deployment) -> None:
    """TK-16: the proxy logs the path and the client, and no query."""
    token = deployment.node.token("alice")
    with deployment.proxy.open(deployment.node, token, "127.0.2.1"):
        pass
    path = f"/stomp?ticket={UNKNOWN}"
    assert deployment.proxy.ask("GET", path, UPGRADE, "127.0.2.2")[0] == 401
    for line in (
        r'^127\.0\.2\.1\b.*POST /authenticate/token"',
        r'^127\.0\.2\.1\b.*GET /stomp"',
        r'^127\.0\.2\.2\b.*GET /stomp"',
    ):
        wait_for(deployment.proxy, line)
    logs = deployment.proxy.logs
    assert "ticket" not in logs
    assert UNKNOWN not in logs
    assert not [secret for secret in deployment.node.handed_out if secret in logs]


def test_address(deployment: Deployment) -> None:
    """HS-12: limits and audit events go by the client's address, whatever it says of itself."""
    token = deployment.node.token("bob")
    statuses = []
    with contextlib.ExitStack() as stack:
        for _ in deployment.nodes:
            stack.enter_context(deployment.proxy.open(deployment.node, token, "127.0.3.1"))
        for address, forwarded in (("127.0.3.1", "192.0.2.7"), ("127.0.3.2", "192.0.2.7")):
            ticket = deployment.proxy.ticket(token, address)
            deployment.node.handed_out.append(ticket)
            headers = {**UPGRADE, "X-Forwarded-For": forwarded}
            path = f"/stomp?ticket={ticket}"
            statuses.append(deployment.proxy.ask("GET", path, headers, address)[0])
    assert statuses == [429, 101]
    audit = deployment.audit()
    assert "of bob at 127.0.3.1 connected" in audit
    assert "ticket for bob at 127.0.3.2" in audit
    assert "192.0.2.7" not in audit


def test_cors(deployment: Deployment) -> None:
    """The ticket endpoint's CORS is the server's own, for a preflight and for what follows."""
    preflight = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    status, headers, _ = deployment.proxy.ask("OPTIONS", "/authenticate/token", preflight)
    assert status == 204
    assert headers["Access-Control-Allow-Headers"] == "authorization"
    status, headers, body = deployment.proxy.ask("POST", "/authenticate/token", {"Origin": ORIGIN})
    assert (status, json.loads(body)) == (401, {"error": "unauthorized"})
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert headers["WWW-Authenticate"] == "Bearer"
    assert headers["Cache-Control"] == "no-store"
    evil = preflight | {"Origin": "https://elsewhere.example"}
    assert deployment.proxy.ask("OPTIONS", "/authenticate/token", evil)[0] == 403


def test_nothing_else(deployment: Deployment) -> None:
    """What is not one of the two paths does not get to a node."""
    for path in ("/", "/metrics", "/stomp/", "/sessions"):
        status, headers, _ = deployment.proxy.ask("GET", path, {})
        assert status == 404
        # The server's own 404 has this.
        assert "X-Content-Type-Options" not in headers


@pytest.mark.parametrize("kind", KINDS)
def test_one_node(kind: str, tmp_path: Path) -> None:
    """While one node is down no client notices."""
    with deployed(kind, tmp_path, running=(1,)) as deployment:
        token = deployment.node.token("alice")
        for number in range(4):
            with deployment.proxy.open(deployment.node, token, f"127.0.1.{number + 1}"):
                pass


@pytest.mark.parametrize("kind", KINDS)
def test_no_node(kind: str, tmp_path: Path) -> None:
    """TK-16: while there is no node, a ticket is in no log either."""
    with deployed(kind, tmp_path, running=()) as deployment:
        status, *_ = deployment.proxy.ask("GET", f"/stomp?ticket={UNKNOWN}", UPGRADE)
        assert status in {502, 503}
        wait_for(deployment.proxy, "GET /stomp")
        logs = deployment.proxy.logs
        assert "ticket" not in logs
        assert UNKNOWN not in logs


def test_timeouts() -> None:
    """An idle session is kept open by the server's pings before a proxy ends it."""
    lines = (DEPLOY / "nginx.conf").read_text() + (DEPLOY / "haproxy.cfg").read_text()
    names = r"proxy_read_timeout|proxy_send_timeout|timeout tunnel"
    found = re.findall(rf"^ *(?:{names}) +(\d+)s", lines, re.M)
    assert len(found) == 3
    # 10 seconds more is when the server takes a client for dead.
    assert all(int(seconds) > WebSocketSettings().ping + 10 for seconds in found)


@pytest.mark.parametrize("kind", KINDS)
def test_page(kind: str, tmp_path: Path) -> None:
    """The page's lines are good in a whole configuration, for a listener that is not loopback."""
    (tmp_path / "secret").write_bytes(SECRET)
    rest = """
        [jwt]
        algorithms = ["HS256"]
        secret_file = "secret"
        issuer = "https://id.example.com/"
        audience = "chat"
        [websocket]
        origins = ["https://chat.example.com"]
        [[rules]]
        allow = ["subscribe"]
        destination = "/topic/**"
    """
    for number, snippet in enumerate(blocks(ROOT / "docs" / "howto" / f"{kind}.md")["toml"]):
        path = tmp_path / f"{number}.toml"
        path.write_text(snippet + rest)
        load(path)
