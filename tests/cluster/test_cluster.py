"""Tests of stompauth.cluster.cluster."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from stompauth.cluster import cluster as cluster_module
from stompauth.cluster.messages import MAX_NAME, Delta, Page, Request, decode, encode
from stompauth.cluster.replication import ANNOUNCE_EVERY, ASK_AGAIN, GATHER, PAGE
from stompauth.cluster.requests import TIMEOUT
from stompauth.errors import Unavailable
from stompauth.identity.revocation import Revocation
from tests.cluster.nodes import ISSUER, NOW, ClusterNode, Nodes


class DirectoryTests(SynchronousTestCase):
    """Every node knows the sessions of all."""

    def assert_known(self, nodes: Nodes) -> None:
        """What each node knows of each other one is the truth."""
        for one in nodes.all:
            others = {other.bus.node_id: other for other in nodes.all if other is not one}
            self.assertEqual(set(one.cluster.nodes), set(others))
            for other in others.values():
                self.assertEqual(one.knows_of(other), other.here())

    def test_sessions_come_and_go(self) -> None:
        """A session that begins or ends is known everywhere once changes are told."""
        nodes = Nodes(3)
        alice, bob = nodes[0].open("alice"), nodes[1].open("bob")
        nodes.settle(GATHER)
        self.assert_known(nodes)
        (presence,) = nodes[2].cluster.sessions_of("alice")
        self.assertEqual(
            (presence.session_id, presence.user, presence.issuer, presence.address),
            (alice.session_id, "alice", ISSUER, "192.0.2.1"),
        )
        self.assertEqual(nodes[0].cluster.count(ISSUER, "alice"), 0)
        self.assertEqual(nodes[1].cluster.count(ISSUER, "alice"), 1)
        self.assertEqual(nodes[1].cluster.count("https://elsewhere/", "alice"), 0)
        alice.end("shutdown")
        nodes.settle(GATHER)
        self.assert_known(nodes)
        self.assertEqual(nodes[2].cluster.sessions_of("alice"), [])
        self.assertEqual(len(nodes[0].cluster.sessions_of("bob")), 1)
        bob.end("shutdown")

    def test_changes_are_gathered(self) -> None:
        """Many changes at once make one message; what was too short to matter makes none."""
        nodes = Nodes(2)
        before = len(nodes.network.wire)
        for _ in range(20):
            nodes[0].open("alice")
        nodes[0].open("bob").end("shutdown")
        nodes.settle(GATHER)
        (payload,) = nodes.network.wire[before:]
        delta = decode(payload)
        assert isinstance(delta, Delta)
        self.assertEqual((len(delta.opened), delta.closed), (20, []))

    def test_late_node(self) -> None:
        """A node that starts later gets all sessions, page by page."""
        nodes = Nodes(1)
        for _ in range(2 * PAGE + 1):
            nodes[0].open("alice")
        nodes.add()
        nodes.settle()
        self.assert_known(nodes)
        pages = [page for page in map(decode, nodes.network.wire) if isinstance(page, Page)]
        self.assertEqual([len(page.sessions) for page in pages], [PAGE, PAGE, 1, 0])

    def test_changes_between_pages(self) -> None:
        """What begins and ends while pages are on their way is known in the end."""
        nodes = Nodes(1)
        sessions = [nodes[0].open("alice") for _ in range(3 * PAGE)]
        nodes.settle()
        ways: list[Deferred[None]] = []
        bus, send = nodes[0].bus, nodes[0].bus.send

        def slow(node_id: str, payload: bytes) -> Deferred[None]:
            send(node_id, payload)
            ways.append(Deferred())
            return ways[-1]

        bus.send = slow  # type: ignore[method-assign]
        nodes.add()
        while nodes.network.deliver(1):
            pass
        for index in (0, PAGE, 2 * PAGE):
            sessions[index].end("shutdown")
            nodes[0].open("bob")
            nodes.settle(GATHER)
            if ways:
                ways.pop().callback(None)
        while ways:
            ways.pop().callback(None)
            nodes.settle()
        self.assert_known(nodes)

    def test_missed_delta(self) -> None:
        """A gap in the numbers has a node ask for everything again."""
        nodes = Nodes(2)
        nodes[0].open("alice")
        nodes.clock.advance(GATHER)
        nodes.network.lose(nodes[0].bus.node_id)
        nodes[0].open("bob")
        nodes.settle(GATHER)
        self.assert_known(nodes)

    def test_missed_last_delta(self) -> None:
        """Also if nothing happens after the one that was missed."""
        nodes = Nodes(2)
        nodes[0].open("alice")
        nodes.clock.advance(GATHER)
        nodes.network.lose(nodes[0].bus.node_id)
        for _ in range(ANNOUNCE_EVERY + 1):
            nodes.settle(1)
        self.assert_known(nodes)

    def test_lost_question(self) -> None:
        """A question that got lost is asked again."""
        nodes = Nodes(1)
        nodes[0].open("alice")
        nodes.settle()
        late = nodes.add()
        nodes.network.lose(late.bus.node_id)
        for _ in range(int(ASK_AGAIN) + 1):
            nodes.settle(1)
        self.assert_known(nodes)

    def test_quiet(self) -> None:
        """Nodes that know everything ask nothing, and say one number each from time to time."""
        nodes = Nodes(3)
        nodes[0].open("alice")
        nodes.settle()
        before = len(nodes.network.wire)
        for _ in range(10 * ANNOUNCE_EVERY):
            nodes.settle(1)
        self.assertEqual(len(nodes.network.wire) - before, 30)

    def test_node_leaves(self) -> None:
        """With a node that stops, or crashes, its sessions are gone for the others."""
        nodes = Nodes(3)
        for node in nodes.all:
            node.open("alice")
        nodes.settle()
        self.successResultOf(nodes[2].cluster.stopService())
        nodes[1].bus.crash()
        nodes.settle()
        self.assertEqual(len(nodes[0].cluster.sessions_of("alice")), 1)
        self.assertEqual(nodes[0].cluster.nodes, [])
        self.assertEqual(nodes[0].cluster.count(ISSUER, "alice"), 0)
        nodes[2].sessions.end_where(lambda session: True, "shutdown")

    def test_cut_off(self) -> None:
        """A node that is cut off knows of itself alone, and of all when it is back."""
        nodes = Nodes(3)
        for node in nodes.all:
            node.open("alice")
        nodes.settle()
        for is_noticed in (True, False):
            nodes[0].bus.cut(is_noticed=is_noticed)
            self.assertEqual(len(nodes[0].cluster.sessions_of("alice")), len(nodes[0].here()))
            nodes[0].open("alice")
            nodes[1].open("alice")
            nodes.settle()
            nodes[0].bus.heal()
            for _ in range(int(ASK_AGAIN) + 1):
                nodes.settle(1)
            self.assert_known(nodes)

    def test_nothing_left_to_run(self) -> None:
        """A cluster that has stopped leaves no timer."""
        nodes = Nodes(2)
        nodes[0].open("alice")
        waiting = nodes[0].cluster.recheck("alice")
        for node in nodes.all:
            node.sessions.end_where(lambda session: True, "shutdown")
            self.successResultOf(node.cluster.stopService())
        self.failureResultOf(waiting, Unavailable)
        self.assertEqual(nodes.clock.getDelayedCalls(), [])

    def test_start_again(self) -> None:
        """A cluster that was stopped may start again."""
        nodes = Nodes(2)
        self.successResultOf(nodes[0].cluster.stopService())
        self.assertFalse(nodes[0].cluster.is_ready())
        nodes[1].open("alice")
        nodes.settle()
        nodes[0].cluster.startService()
        nodes.settle()
        self.assertTrue(nodes[0].cluster.is_ready())
        self.assert_known(nodes)

    def test_bound(self) -> None:
        """RS-2: of others' sessions there is a most, and one line tells that it is reached."""
        nodes = Nodes(2)
        nodes[1].directory._max_sessions = 3
        logged: list[LogEvent] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        sessions = [nodes[0].open("alice") for _ in range(5)]
        nodes.settle()
        self.assertEqual(nodes[1].cluster.count(ISSUER, "alice"), 3)
        self.assertEqual(len([event for event in logged if "more sessions" in text(event)]), 1)
        for session in sessions:
            session.end("shutdown")
        nodes.settle()
        self.assertEqual(len(nodes[1].directory), 0)


_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["open", "close", "cut", "blink", "heal", "crash", "stop", "lose"]),
            st.integers(0, 3),
            st.integers(0, 3),
        ),
        st.tuples(st.just("add"), st.just(0), st.just(0)),
        st.tuples(st.just("arrive"), st.integers(1, 9), st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from([0, 1, 4]), st.just(0)),
    ),
    max_size=40,
)


class ModelTests(SynchronousTestCase):
    """Whatever happens to nodes and to what they say, in the end each knows the truth."""

    @given(steps=_STEPS)
    @settings(max_examples=150, deadline=None)
    def test_whatever_happens(self, steps: list[tuple[str, int, int]]) -> None:
        """Nodes that join, crash, are cut off and lose messages agree once they can."""
        nodes = Nodes(2)
        for step, one, other in steps:
            self.take(nodes, step, one, other)
        for node in nodes.all:
            if node.bus.is_cut:
                node.bus.heal()
        for _ in range(2 * int(ASK_AGAIN) + 2):
            nodes.settle(1)
        for one_node in nodes.all:
            self.assertEqual(len(one_node.cluster.nodes), len(nodes.all) - 1)
            for other_node in nodes.all:
                if other_node is not one_node:
                    self.assertEqual(one_node.knows_of(other_node), other_node.here())
            every = [node.here() for node in nodes.all]
            self.assertEqual(len(one_node.directory), sum(map(len, every)))
            known = [one_node.cluster.sessions_of(user) for user in USERS]
            self.assertEqual(
                {found.session_id for sessions in known for found in sessions}, set().union(*every)
            )
            for user in USERS:
                elsewhere = sum(
                    session.user == user
                    for node in nodes.all
                    if node is not one_node
                    for session in node.sessions.open_sessions
                )
                self.assertEqual(one_node.cluster.count(ISSUER, user), elsewhere)

    def take(self, nodes: Nodes, step: str, one: int, other: int) -> None:
        if step == "add":
            if len(nodes.all) < 5:
                nodes.add()
            return
        if step == "arrive":
            nodes.network.deliver(one)
            return
        if step == "wait":
            nodes.clock.advance(one or GATHER)
            return
        if one >= len(nodes.all):
            return
        node = nodes[one]
        match step:
            case "open":
                node.open(USERS[other])
            case "close":
                sessions = sorted(node.sessions.open_sessions, key=lambda found: found.session_id)
                if sessions:
                    sessions[other % len(sessions)].end("shutdown")
            case "cut" | "blink" if not node.bus.is_cut:
                node.bus.cut(is_noticed=step == "cut")
            case "heal" if node.bus.is_cut:
                node.bus.heal()
            case "lose" if not node.bus.is_cut:
                nodes.network.lose(node.bus.node_id, sender=node.bus.node_id)
            case "crash" | "stop" if len(nodes.all) > 1:
                nodes.all.remove(node)
                if step == "stop" and not node.bus.is_cut:
                    self.successResultOf(node.cluster.stopService())
                else:
                    node.bus.crash()


USERS = ("alice", "bob", "carol", "dave")


class LimitTests(SynchronousTestCase):
    """Two nodes that have admitted too many at once settle it."""

    def test_newest_ends(self) -> None:
        """The newest sessions end with ``limit``, on whatever node they are; others stay."""
        nodes = Nodes(3, most=2)
        first = nodes[0].open("alice")
        nodes.clock.advance(GATHER / 4)
        second = nodes[1].open("alice")
        nodes.clock.advance(GATHER / 4)
        third, fourth = nodes[0].open("alice"), nodes[2].open("bob")
        elsewhere = nodes[2].open("alice", issuer="https://elsewhere/")
        nodes.settle()
        nodes.settle()
        closed = [
            session._transport.closed for session in (first, second, third, fourth, elsewhere)
        ]
        self.assertEqual(closed, [None, None, (4429, "limit"), None, None])
        self.assertEqual(len(nodes[1].cluster.sessions_of("alice")), 3)

    def test_same_time(self) -> None:
        """Of sessions that begin at the same time exactly as many end as are too many."""
        nodes = Nodes(3, most=1)
        sessions = [node.open("alice") for node in nodes.all]
        nodes.settle()
        nodes.settle()
        closed = sorted(session._transport.closed is not None for session in sessions)
        self.assertEqual(closed, [False, True, True])

    def test_after_a_cut(self) -> None:
        """What was admitted while a node was cut off is settled when it is back."""
        nodes = Nodes(2, most=1)
        nodes[0].bus.cut()
        old = nodes[0].open("alice")
        nodes.clock.advance(1)
        new = nodes[1].open("alice")
        nodes.settle()
        self.assertEqual((old._transport.closed, new._transport.closed), (None, None))
        nodes[0].bus.heal()
        nodes.settle()
        self.assertEqual((old._transport.closed, new._transport.closed), (None, (4429, "limit")))


class RevocationTests(SynchronousTestCase):
    """JW-13: what is revoked on one node is revoked on all."""

    def revoke(self, node: ClusterNode, user: str) -> Deferred[int]:
        revocation = node.node.revocations.revoke_user(user)
        node.node.revoke([revocation])
        return node.cluster.revoke([revocation])

    def is_refused(self, node: ClusterNode, user: str, issued_at: float = NOW) -> bool:
        return node.node.revocations.is_revoked(user, issued_at, None)

    def test_everywhere(self) -> None:
        """Sessions end, their number is told, and tokens of before are refused everywhere."""
        nodes = Nodes(3)
        sessions = [node.open("alice") for node in nodes.all]
        bob = nodes[1].open("bob")
        revoked = self.revoke(nodes[0], "alice")
        self.assertNoResult(revoked)
        nodes.network.deliver()
        self.assertEqual(self.successResultOf(revoked), 2)
        for session in sessions:
            self.assertEqual(session._transport.closed, (4403, "revoked"))
        self.assertIsNone(bob._transport.closed)
        for node in nodes.all:
            self.assertTrue(self.is_refused(node, "alice"))
            self.assertFalse(self.is_refused(node, "alice", nodes.clock.seconds() + 1))
            self.assertFalse(self.is_refused(node, "bob"))

    def test_clocks_that_differ(self) -> None:
        """A session ends also if its token is from after the time that the other node says."""
        nodes = Nodes(2)
        session = nodes[1].open("alice", issued_at=NOW + 5)
        self.revoke(nodes[0], "alice")
        nodes.settle()
        self.assertEqual(session._transport.closed, (4403, "revoked"))

    def test_all_nodes_start_again(self) -> None:
        """A revocation outlives all nodes."""
        nodes = Nodes(2)
        self.revoke(nodes[0], "alice")
        nodes.settle()
        for node in nodes.all:
            self.successResultOf(node.cluster.stopService())
        nodes.all.clear()
        nodes.add()
        self.assertTrue(self.is_refused(nodes[0], "alice"))

    def test_without_a_log(self) -> None:
        """Without a log, a node that comes learns it from those that are there."""
        nodes = Nodes(2, log=False)
        self.revoke(nodes[0], "alice")
        nodes.settle()
        nodes.add()
        nodes.settle()
        self.assertTrue(self.is_refused(nodes[2], "alice"))

    def test_not_ready_without_the_log(self) -> None:
        """Until it knows what was revoked, a node is not ready to let anybody in."""
        nodes = Nodes(1)
        self.revoke(nodes[0], "alice")
        assert nodes.log is not None
        nodes.log.is_away = True
        late = nodes.add()
        nodes.settle(1)
        self.assertFalse(late.cluster.is_ready())
        nodes.log.is_away = False
        nodes.settle(1)
        self.assertTrue(late.cluster.is_ready())
        self.assertTrue(self.is_refused(late, "alice"))

    def test_cut_off(self) -> None:
        """A node that is cut off says so, and what it has revoked is made good later."""
        nodes = Nodes(2)
        assert nodes.log is not None
        nodes[0].bus.cut()
        nodes.log.is_away = True
        session = nodes[1].open("alice")
        self.failureResultOf(self.revoke(nodes[0], "alice"), Unavailable)
        self.assertIsNone(session._transport.closed)
        nodes.log.is_away = False
        nodes[0].bus.heal()
        nodes.settle(1)
        self.assertEqual(session._transport.closed, (4403, "revoked"))
        self.assertIn(("user", "alice"), nodes.log.entries)
        self.assertTrue(self.is_refused(nodes[1], "alice"))

    def test_missed(self) -> None:
        """A node that was cut off learns what the others have revoked; fresh tokens are good."""
        nodes = Nodes(2)
        old = nodes[1].open("alice")
        nodes[1].bus.cut()
        nodes.clock.advance(10)
        self.assertEqual(self.successResultOf(self.revoke(nodes[0], "alice")), 0)
        nodes.clock.advance(10)
        new = nodes[1].open("alice", issued_at=nodes.clock.seconds())
        nodes[1].bus.heal()
        nodes.settle()
        self.assertEqual(old._transport.closed, (4403, "revoked"))
        self.assertIsNone(new._transport.closed)
        new.end("shutdown")

    def test_log_that_forgets(self) -> None:
        """What a log has lost, the nodes that still know it tell it again."""
        nodes = Nodes(1)
        assert nodes.log is not None
        self.revoke(nodes[0], "alice")
        nodes.log.entries.clear()
        nodes[0].bus.cut()
        nodes[0].bus.heal()
        self.assertIn(("user", "alice"), nodes.log.entries)

    def test_log_that_fails_once(self) -> None:
        """What could not be kept is kept later, also if the connection to the nodes was there."""
        nodes = Nodes(2)
        assert nodes.log is not None
        nodes.log.is_away = True
        session = nodes[1].open("alice")
        revoked = self.revoke(nodes[0], "alice")
        nodes.network.deliver()
        self.failureResultOf(revoked, Unavailable)
        self.assertEqual(session._transport.closed, (4403, "revoked"))
        nodes.settle(1)
        nodes.log.is_away = False
        nodes.settle(1)
        self.assertIn(("user", "alice"), nodes.log.entries)

    def test_started_before_it_was_kept(self) -> None:
        """JW-13: a node that starts while a revocation cannot be kept learns of it, too."""
        nodes = Nodes(2)
        assert nodes.log is not None

        def fails(*_: object) -> Deferred[None]:
            return fail(Unavailable("no room"))

        add = nodes.log.add
        self.patch(nodes.log, "add", fails)
        revoked = self.revoke(nodes[0], "alice")
        nodes.network.deliver()
        self.failureResultOf(revoked, Unavailable)
        late = nodes.add()
        nodes.settle(0.5)
        session = late.open("alice")
        self.patch(nodes.log, "add", add)
        nodes.settle(1)
        self.assertTrue(self.is_refused(late, "alice"))
        self.assertEqual(session._transport.closed, (4403, "revoked"))

    def test_silent_node(self) -> None:
        """A node that does not answer within a second is not said to have done it."""
        nodes = Nodes(3)
        nodes.network.lose(nodes[1].bus.node_id)
        revoked = self.revoke(nodes[0], "alice")
        nodes.network.lose(nodes[1].bus.node_id)
        nodes.network.deliver()
        nodes.clock.advance(TIMEOUT - 0.01)
        self.assertNoResult(revoked)
        nodes.clock.advance(0.01)
        self.failureResultOf(revoked, Unavailable)

    def test_node_that_leaves(self) -> None:
        """A node that is gone has nothing to confirm."""
        nodes = Nodes(3)
        nodes[1].open("alice")
        revoked = self.revoke(nodes[0], "alice")
        nodes[2].bus.crash()
        self.assertNoResult(revoked)
        nodes.network.deliver()
        self.assertEqual(self.successResultOf(revoked), 1)

    def test_one_session(self) -> None:
        """A session ends wherever it is; later if its node cannot be reached now."""
        nodes = Nodes(2)
        first, second = nodes[1].open("alice"), nodes[1].open("alice")
        ended = nodes[0].cluster.end(first.session_id)
        nodes.network.deliver()
        self.assertEqual(self.successResultOf(ended), 1)
        self.assertEqual(first._transport.closed, (4403, "revoked"))
        nodes[0].bus.cut()
        self.failureResultOf(nodes[0].cluster.end(second.session_id), Unavailable)
        nodes[0].bus.heal()
        nodes.settle()
        self.assertEqual(second._transport.closed, (4403, "revoked"))

    def test_unsent_is_bounded(self) -> None:
        """RS-2: what waits for a connection has a bound."""
        nodes = Nodes(2)
        nodes[0].bus.cut()
        for number in range(cluster_module.MAX_UNSENT + 10):
            self.failureResultOf(nodes[0].cluster.end(f"session-{number}"), Unavailable)
        self.assertEqual(len(nodes[0].cluster._unsent), cluster_module.MAX_UNSENT)

    def test_malformed_revocations(self) -> None:
        """What is no revocation is not carried out, not even in part."""
        nodes = Nodes(2)
        session = nodes[1].open("alice")
        entries: list[Any] = [["user", "alice", NOW], ["everybody", "x", NOW]]
        request = Request(1, "revoke", {"revocations": entries})
        nodes[1].cluster.received(nodes[0].bus.node_id, encode(request))
        self.assertIsNone(session._transport.closed)
        self.assertFalse(self.is_refused(nodes[1], "alice"))

    def test_pages(self) -> None:
        """Many revocations go in pages, in which the longest that there can be have room."""
        most = 2 * cluster_module.PAGE
        for log in (True, False):
            nodes = Nodes(2, log=log)
            nodes[0].bus.cut()
            for number in range(most):
                name = f"{number}".ljust(MAX_NAME, "\0")
                nodes[0].node.revocations.add(Revocation("jti", name, NOW))
            nodes[0].node.revocations.revoke_token("x" * (MAX_NAME + 1))
            nodes[0].bus.heal()
            nodes.settle()
            self.assertTrue(nodes[0].cluster.is_connected)
            self.assertEqual(len(nodes[1].node.revocations), most)

    def test_impossible_name(self) -> None:
        """A name that no token can have is not told to others."""
        nodes = Nodes(2)
        revocation = nodes[0].node.revocations.revoke_token("x" * (MAX_NAME + 1))
        revoked = nodes[0].cluster.revoke([revocation])
        nodes.network.deliver()
        self.assertEqual(self.successResultOf(revoked), 0)


def text(event: LogEvent) -> str:
    """What an event says, with its facts left open."""
    return str(event.get("log_format", ""))


class ForeignTests(SynchronousTestCase):
    """What is not ours, from whoever can write to the bus."""

    def test_dropped(self) -> None:
        """What cannot be read is dropped, with one line for each node, that does not repeat it."""
        nodes = Nodes(2)
        logged: list[LogEvent] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        for payload in (
            b"",
            b"\xff",
            b"secret",
            b'[2, "at", 5]',
            b'[1, "request", 1, "nothing", {}]',
            b'[1, "request", 1, "send", {"session": "x", "message": {}}]',
            b"[" * 100_000,
        ):
            nodes[0].cluster.received(nodes[1].bus.node_id, payload)
        (event,) = [event for event in logged if "dropped" in text(event)]
        self.assertNotIn("secret", str(event))
        nodes[1].open("alice")
        nodes.settle()
        self.assertEqual(nodes[0].cluster.count(ISSUER, "alice"), 1)

    def test_answers_to_nothing(self) -> None:
        """An answer that nobody waits for is passed over, also one of a node that was not asked."""
        nodes = Nodes(3)
        answered = nodes[0].cluster.end("x")
        payload = b'[1, "answer", 1, 7]'
        nodes[0].cluster.received(nodes[1].bus.node_id, payload)
        nodes[0].cluster.received(nodes[1].bus.node_id, payload)
        nodes[0].cluster.received(nodes[1].bus.node_id, b'[1, "answer", 99, 7]')
        self.assertNoResult(answered)
        nodes.network.deliver()
        self.assertEqual(self.successResultOf(answered), 7)
