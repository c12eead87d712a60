"""Tickets in a real Redis."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater

from stompauth.errors import TicketRefused, TicketReplayed, Unavailable
from stompauth.tickets.grant import TicketGrant
from stompauth.tickets.redis import RedisTicketStore
from tests.integration.redis_server import RedisServer, redis_server
from tests.integration.test_redis import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

GRANT = TicketGrant(
    issuer="https://id.example.com/",
    user="alice",
    path="/stomp",
    token_expires_at=2000.0,
    token_issued_at=1000.0,
    grant_id="007",
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server."""
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest_twisted.async_yield_fixture
async def stores(server: RedisServer) -> AsyncIterator[list[RedisTicketStore]]:
    """Two stores, as two processes have them."""
    stores = [
        RedisTicketStore(reactor, server.url, prefix="t:", timeout=0.5, max_outstanding=3)
        for _ in range(2)
    ]
    for store in stores:
        store.startService()
    await until(lambda: all(store.is_ready() for store in stores))
    yield stores
    for store in stores:
        await store.stopService()


async def refused(store: RedisTicketStore, ticket: str) -> TicketRefused:
    """The error with which the ticket is refused."""
    with pytest.raises(TicketRefused) as failure:
        await store.redeem(ticket)
    return failure.value


@pytest_twisted.ensureDeferred
async def test_another_takes(server: RedisServer, stores: list[RedisTicketStore]) -> None:
    """TK-6, TK-9: a ticket of one is taken by the other, once; all that is kept expires."""
    one, other = stores
    ticket = await one.issue(GRANT, 30)
    assert await other.redeem(ticket) == GRANT
    for store in stores:
        replayed = await refused(store, ticket)
        assert isinstance(replayed, TicketReplayed)
        assert replayed.grant == GRANT
        assert type(await refused(store, "x" * 43)) is TicketRefused
    keys = server.command("KEYS", "*").split()
    assert len(keys) == 2
    for key in keys:
        assert re.fullmatch("t:[a-z-]+:[0-9a-f]{64}", key)
        assert 0 < int(server.command("PTTL", key)) <= 30_000


@pytest_twisted.ensureDeferred
async def test_expiry(server: RedisServer, stores: list[RedisTicketStore]) -> None:
    """TK-9: a ticket's time is the server's, to the millisecond, and nothing is left of it."""
    one, other = stores
    late, used = await one.issue(GRANT, 0.3), await one.issue(GRANT, 0.3)
    await other.redeem(used)
    await deferLater(reactor, 0.35)
    assert type(await refused(other, late)) is TicketRefused
    assert type(await refused(other, used)) is TicketRefused
    assert server.command("KEYS", "*") == ""


@pytest_twisted.ensureDeferred
async def test_races(stores: list[RedisTicketStore]) -> None:
    """TK-6: of any number that take one ticket at once, over two processes, one has it."""
    for _ in range(20):
        ticket = await stores[0].issue(GRANT, 30)
        takes = [stores[n % 2].redeem(ticket) for n in range(100)]
        outcomes: Any = await DeferredList(takes, consumeErrors=True)
        assert sum(is_taken for is_taken, _ in outcomes) == 1
        assert all(
            outcome == GRANT if is_taken else outcome.check(TicketReplayed)
            for is_taken, outcome in outcomes
        )


@pytest_twisted.ensureDeferred
async def test_oldest_gives_way(server: RedisServer, stores: list[RedisTicketStore]) -> None:
    """TK-11: a further ticket voids the subject's oldest, whoever issued it, and nobody else's."""
    one, other = stores
    bobs = await one.issue(replace(GRANT, user="bob"), 30)
    others = await one.issue(replace(GRANT, issuer="https://other.example.com/"), 30)
    tickets = [await stores[n % 2].issue(GRANT, 30 - n) for n in range(5)]
    for ticket in tickets[:2]:
        assert type(await refused(other, ticket)) is TicketRefused
    for ticket in (*tickets[2:], bobs, others):
        await one.redeem(ticket)
    # Used tickets count no more, and no list outlives its tickets.
    kept = [await one.issue(GRANT, 30) for _ in range(3)]
    for _ in range(5):
        await one.redeem(kept.pop())
        kept.append(await one.issue(GRANT, 30))
    assert len(kept) == 3
    lengths = [
        int(server.command("LLEN", key)) for key in server.command("KEYS", "t:tickets-of:*").split()
    ]
    assert sorted(lengths) == [1, 3]


@pytest_twisted.ensureDeferred
async def test_no_cap(server: RedisServer, stores: list[RedisTicketStore]) -> None:
    """With 0 there may be any number, and the list holds no more than there are."""
    store = RedisTicketStore(reactor, server.url, max_outstanding=0)
    stores.append(store)
    store.startService()
    await until(lambda: store.is_ready())
    tickets = [await store.issue(GRANT, 30) for _ in range(50)]
    for ticket in tickets:
        await store.redeem(ticket)
    await store.issue(GRANT, 30)
    (name,) = server.command("KEYS", "stompauth:tickets-of:*").split()
    assert server.command("LLEN", name) == "1"


@pytest_twisted.ensureDeferred
async def test_revoke(stores: list[RedisTicketStore]) -> None:
    """Revoking voids a user's unused tickets, of one issuer or of all, from any process."""
    one, other = stores
    used, mine, foreign, bobs = [
        await one.issue(grant, 30)
        for grant in (
            GRANT,
            GRANT,
            replace(GRANT, issuer="https://other.example.com/"),
            replace(GRANT, user="bob"),
        )
    ]
    await one.redeem(used)
    assert await other.revoke("https://id.example.com/", "alice") == 1
    assert type(await refused(one, mine)) is TicketRefused
    assert await other.revoke(None, "alice") == 1
    assert await other.revoke(None, "alice") == 0
    assert type(await refused(one, foreign)) is TicketRefused
    assert (await one.redeem(bobs)).user == "bob"


@pytest_twisted.ensureDeferred
async def test_away(server: RedisServer, stores: list[RedisTicketStore]) -> None:
    """TK-7: killed, frozen or read-only, Redis gives and takes no ticket; and then does again."""
    store = stores[0]
    for harm, mend in (
        (server.kill, server.start),
        (server.freeze, server.thaw),
        (
            lambda: server.command("REPLICAOF", "127.0.0.1", "1"),
            lambda: server.command("REPLICAOF", "NO", "ONE"),
        ),
    ):
        ticket = await store.issue(GRANT, 30)
        harm()
        for _ in range(2):
            for call in (
                lambda: store.issue(GRANT, 30),
                lambda ticket=ticket: store.redeem(ticket),
            ):
                with pytest.raises(Unavailable):
                    await call()
            await deferLater(reactor, 0.1)
        mend()
        await until(lambda: store.is_ready())
        await store.redeem(await store.issue(GRANT, 30))


@pytest_twisted.ensureDeferred
async def test_in_step(server: RedisServer, stores: list[RedisTicketStore]) -> None:
    """TK-8: whoever gives up waiting, nobody gets the grant of another's ticket."""
    store = stores[0]
    users = [f"user-{n}" for n in range(40)]
    tickets = {user: await store.issue(replace(GRANT, user=user), 30) for user in users}
    for step, user in enumerate(users):
        taken = store.redeem(tickets[user])
        if step % 4 == 1:
            taken.cancel()
            await DeferredList([taken], consumeErrors=True)
        elif step % 8 == 3:
            server.freeze()
            with pytest.raises(Unavailable):
                await taken
            server.thaw()
            await until(lambda: store.is_ready())
        else:
            assert (await taken).user == user
