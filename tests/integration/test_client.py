"""The client, with real sockets, against a server in a process of its own."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from stompauth import (
    MemoryTicketStore,
    PathRouter,
    Rules,
    SimpleBroker,
    StompAuth,
    StrictSite,
    allow,
)
from stompauth.client import (
    ClientEndpoints,
    ClientSettings,
    ConnectFailed,
    StompClientService,
    connect,
)
from stompauth.testing import FakeVerifier
from tests.integration.configured import ConfiguredServer, configured, free_port
from tests.integration.test_jwks import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from stompauth.client import ClientError, Message


async def until(condition: Callable[[], object], patience: float = 15) -> None:
    """Wait until something is so."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "that did not come to be"
        await deferLater(reactor, 0.02)


@contextlib.asynccontextmanager
async def serving(directory: Path, **arguments: Any) -> AsyncIterator[ConfiguredServer]:
    """Run a server for as long as the block lasts, and the reactor meanwhile."""
    manager = configured(directory, **arguments)
    server = await deferToThread(manager.__enter__)
    try:
        yield server
    finally:
        await deferToThread(manager.__exit__, None, None, None)


@pytest_twisted.ensureDeferred
async def test_chat(tmp_path: Path) -> None:
    """Two clients talk; what is large or no text arrives as it is; then both leave."""
    async with serving(tmp_path, frame=4 << 20, bytes_per_second=0) as server:
        alice, bob = [
            await connect(reactor, server.origin, lambda user=user: server.token(user))
            for user in ("alice", "bob")
        ]
        assert (alice.user, bob.user) == ("alice", "bob")
        heard: list[Message] = []
        subscription = await alice.subscribe("/topic/lobby", heard.append)
        bodies = [b"hello", "grüß Gott".encode(), b"\xff\0\n", secrets.token_bytes(800_000)]
        for body in bodies:
            await bob.send("/topic/lobby", body, {"kind": "a:b\nc"})
        await until(lambda: len(heard) == len(bodies))
        assert [message.body for message in heard] == bodies
        assert {message.headers["kind"] for message in heard} == {"a:b\nc"}
        await subscription.unsubscribe()
        await bob.send("/topic/lobby", "nobody hears this")
        await alice.disconnect()
        await bob.disconnect()
        assert len(heard) == len(bodies)


@pytest_twisted.ensureDeferred
async def test_queue(tmp_path: Path) -> None:
    """Each message of a queue goes to one of its workers, and a transaction to none by halves."""
    async with serving(tmp_path) as server:
        client = await connect(reactor, server.origin, lambda: server.token("alice"))
        done: list[str] = []

        async def work(message: Message) -> None:
            await deferLater(reactor, 0.01)
            await message.ack()
            done.append(message.text)

        for _ in range(2):
            await client.subscribe(
                "/queue/jobs", work, ack="client-individual", headers={"prefetch-count": "1"}
            )
        await client.begin("t")
        for number in range(10):
            await client.send("/queue/jobs", str(number), {"transaction": "t"})
        assert done == []
        await client.commit("t")
        await until(lambda: len(done) == 10)
        assert sorted(done) == [str(number) for number in range(10)]
        await client.disconnect()


@pytest_twisted.ensureDeferred
async def test_reconnect(tmp_path: Path) -> None:
    """A service comes back after the server does, with all that it had subscribed to."""
    port = free_port()
    servers: list[ConfiguredServer] = []
    heard: list[str] = []
    service = StompClientService(
        reactor, f"http://127.0.0.1:{port}", lambda: servers[-1].token("alice")
    )
    service.subscribe("/topic/lobby", lambda message: heard.append(message.text))
    for number in range(2):
        async with serving(tmp_path, port=port) as server:
            servers.append(server)
            if number == 0:
                service.startService()
            client = await service.when_connected()
            await client.send("/topic/lobby", f"hello {number}")
            await until(lambda number=number: f"hello {number}" in heard)
        await until(lambda: service.client is None)
        assert client.reason is not None
        assert client.reason.code == "drain"
    assert heard == ["hello 0", "hello 1"]
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_renewal(tmp_path: Path) -> None:
    """A session outlives its first token by showing another one."""
    async with serving(tmp_path) as server:
        shown: list[str] = []

        def token() -> str:
            shown.append(server.token("alice", lifetime=3))
            return shown[-1]

        client = await connect(reactor, server.origin, token)
        first_end = client.expires_at
        assert first_end is not None
        await until(lambda: time.time() > first_end + 1)
        await client.send("/topic/lobby", "still here")
        assert len(shown) >= 2
        assert client.expires_at is not None
        assert client.expires_at > first_end
        await client.disconnect()


def revoke(port: int, key: str, user: str) -> None:
    """Revoke a user who has one session, at the control resource."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/revoke",
        data=json.dumps({"user": user}).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response)["sessions"] == 1


@pytest_twisted.ensureDeferred
async def test_revoked(tmp_path: Path) -> None:
    """A service whose user is revoked is thrown out at once, and does not come back."""
    port = free_port()
    key = secrets.token_urlsafe(32)
    (tmp_path / "control.token").write_text(key)
    control = (
        f'[control]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\ntoken_file = "control.token"\n'
    )
    async with serving(tmp_path, more=control) as server:
        given_up: list[ClientError] = []
        service = StompClientService(
            reactor,
            server.origin,
            lambda: server.token("mallory"),
            on_give_up=given_up.append,
        )
        service.startService()
        await service.when_connected()
        revoke(port, key, "mallory")
        await until(lambda: given_up)
        assert (given_up[0].code, given_up[0].close_code) == ("revoked", 4403)
        with pytest.raises(type(given_up[0])):
            await service.when_connected()
        await service.stopService()


@pytest_twisted.ensureDeferred
async def test_tls(tmp_path: Path) -> None:
    """Over TLS, to a server with the right name and of a CA that is trusted, and to no other."""
    authority = Authority("the test's CA")
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    clock: Any = reactor
    verifier = FakeVerifier(clock)
    app = StompAuth(
        verifier=verifier,
        tickets=MemoryTicketStore(clock),
        broker=SimpleBroker(clock=clock),
        rules=Rules([allow("subscribe", "send", "/topic/**")]),
        origins=["https://client.example"],
        clock=clock,
    )
    site = StrictSite(PathRouter(app.resources()), clock)
    service = app.service()
    service.startService()
    endpoint = SSL4ServerEndpoint(reactor, 0, authority.certify("localhost"), interface="127.0.0.1")
    port = await endpoint.listen(site)
    settings = ClientSettings(origin="https://client.example")

    def attempt(host: str, endpoints: ClientEndpoints) -> Deferred[Any]:
        url = f"https://{host}:{port.getHost().port}"
        token = verifier.token("alice")
        return connect(reactor, url, lambda: token, settings=settings, endpoints=endpoints)

    client = await attempt("localhost", ClientEndpoints(reactor, ca_file))
    heard: list[Message] = []
    await client.subscribe("/topic/lobby", heard.append)
    await client.send("/topic/lobby", bytes(60_000))
    await until(lambda: heard)
    for host, endpoints in (
        ("127.0.0.1", ClientEndpoints(reactor, ca_file)),
        ("localhost", ClientEndpoints(reactor)),
    ):
        with pytest.raises(ConnectFailed) as caught:
            await attempt(host, endpoints)
        assert caught.value.code == "unreachable"
    await client.disconnect()
    await port.stopListening()
    await service.stopService()
