"""Tests of stompauth.cluster.node and all_nodes: applications that act together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from stompauth.application import Revoked
from stompauth.authorization.decision import Decision
from stompauth.cluster.cluster import Cluster
from stompauth.cluster.messages import MAX_PAYLOAD
from stompauth.cluster.node import RECHECKED_AT_ONCE, message_of
from stompauth.cluster.replication import GATHER
from stompauth.cluster.requests import TIMEOUT
from stompauth.control import MAX_BODY, ControlResource
from stompauth.errors import Refused, Unavailable
from stompauth.handshake.site import StrictSite
from stompauth.identity.logout import Logout
from stompauth.interfaces import IAuthorizer
from stompauth.settings import Limits, TicketSettings
from stompauth.tickets.memory import MemoryTicketStore
from tests.applications import NOW, Application, StompClient, token
from tests.cluster.memory_bus import MemoryLog, MemoryNetwork
from tests.relay.scripted import RelayFixture
from tests.wire import Response, WebSocket, post_token, request

if TYPE_CHECKING:
    from stompauth.cluster.bus import NodeBus

TOKEN = "b1bCa8LY1g2vNxhbWnT0cQmqS5kJcYxk"


class ApplicationNode(Application):
    """An application that is a node among others."""

    def __init__(self, bus: Any, log: MemoryLog, clock: Clock, **settings: Any) -> None:
        self.bus = bus
        provided: NodeBus = bus
        self.cluster = Cluster(provided, clock, log)
        super().__init__(clock=clock, cluster=self.cluster, **settings)
        self.service = self.stompauth.service()

    def session_of(self, client: StompClient) -> str:
        assert client.connected is not None
        return client.connected.headers["session"]


class NodesCase(SynchronousTestCase):
    """Two applications, with one ticket store, and a third when it is wanted."""

    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.network = MemoryNetwork()
        self.log = MemoryLog()
        self.tickets = MemoryTicketStore(self.clock)
        self.one, self.two = self.node(), self.node()
        self.settle()

    def node(self) -> ApplicationNode:
        node = ApplicationNode(
            self.network.bus(), self.log, self.clock, tickets=self.tickets, **self.settings
        )
        node.service.startService()
        return node

    def settle(self) -> None:
        self.network.deliver()
        self.clock.advance(GATHER)
        self.network.deliver()

    def result(self, waiting: Deferred[Any]) -> Any:
        self.network.deliver()
        return self.successResultOf(waiting)

    def connect(self, node: ApplicationNode, user: str = "alice", **arguments: Any) -> StompClient:
        client = node.connect(user, **arguments)
        self.settle()
        return client

    def assert_ended(self, client: StompClient, code: str) -> None:
        self.assertEqual(client.frames()[-1].headers["code"], code)

    def assert_open(self, client: StompClient) -> None:
        self.assertEqual((client.frames(), client.close_code), ([], None))


class RevocationTests(NodesCase):
    """JW-13: what is revoked on one node is over on all nodes."""

    def test_user(self) -> None:
        """The user's sessions end on both nodes, tickets are void, tokens are not taken."""
        alice, again = self.connect(self.one), self.connect(self.two)
        bob = self.connect(self.two, "bob")
        self.one.ticket()
        revoked = self.result(self.one.stompauth.revoke(user="alice"))
        self.assertEqual(revoked, Revoked(2, 1))
        for client in (alice, again):
            self.assert_ended(client, "revoked")
            self.assertEqual(client.close_code, 4403)
        self.assert_open(bob)
        for node in (self.one, self.two, self.node()):
            response = post_token(node.site, token())
            self.assertEqual((response.status, response.json), (403, {"error": "revoked"}))

    def test_ticket_of_another_node(self) -> None:
        """A ticket from before opens nothing on a node whose store does not know better."""
        ticket = self.one.ticket()
        self.two.stompauth._tickets = MemoryTicketStore(self.clock)
        self.result(self.two.stompauth.revoke(user="alice"))
        self.assertEqual(WebSocket(self.one.site, f"/stomp?ticket={ticket}").status, 401)

    def test_token(self) -> None:
        """By the jti of a token, its sessions end on all nodes and it is not taken."""
        alice = self.two.open()
        alice.connect(token(jti="j1"))
        other = self.connect(self.two)
        self.assertEqual(self.result(self.one.stompauth.revoke(token_id="j1")), Revoked(1, 0))
        self.assert_ended(alice, "revoked")
        self.assert_open(other)
        self.assertEqual(post_token(self.two.site, token(jti="j1")).status, 403)

    def test_session(self) -> None:
        """A session ends on whatever node it is."""
        alice, again = self.connect(self.two), self.connect(self.two)
        session = self.two.session_of(alice)
        revoked = self.result(self.one.stompauth.revoke(session=session))
        self.assertEqual(revoked, Revoked(1, 0))
        self.assert_ended(alice, "revoked")
        self.assert_open(again)
        self.assertEqual(self.result(self.one.stompauth.revoke(session=session)), Revoked(0, 0))

    def test_before_connect(self) -> None:
        """A socket that has not sent CONNECT ends, too."""
        alice = self.two.open()
        self.assertEqual(self.result(self.one.stompauth.revoke(user="alice")), Revoked(1, 0))
        self.assert_ended(alice, "revoked")

    def test_logout(self) -> None:
        """What the identity provider logs out is over on all nodes."""
        for logout in (
            Logout("alice", None, "alice", "j1"),
            Logout("alice", None, None, "j2"),
            Logout(None, "s1", None, "j3"),
            Logout("alice", "s1", None, "j4"),
        ):
            claims = {"sid": "s1", "iat": self.clock.seconds()}
            alice = self.two.open()
            alice.connect(token(**claims))
            bob = self.connect(self.two, "bob")
            logged_out = Deferred.fromCoroutine(self.one.stompauth._log_out(logout))
            self.result(logged_out)
            self.assert_ended(alice, "revoked")
            self.assert_open(bob)
            self.assertEqual(post_token(self.two.site, token(**claims)).status, 403)
            bob.websocket.socket.lose()
            self.setUp()

    def test_other_node_away(self) -> None:
        """What was done here is done, and the caller is told that others did not confirm."""
        alice, again = self.connect(self.one), self.connect(self.two)
        self.two.bus.is_cut = True
        revoked = self.one.stompauth.revoke(user="alice")
        self.assert_ended(alice, "revoked")
        self.clock.advance(TIMEOUT)
        self.failureResultOf(revoked, Unavailable)
        self.assert_open(again)

    def test_cut_off(self) -> None:
        """A node that is cut off ends what is here at once; the rest when it is back."""
        alice, again = self.connect(self.one), self.connect(self.two)
        self.one.bus.cut()
        self.failureResultOf(self.one.stompauth.revoke(user="alice"), Unavailable)
        self.assert_ended(alice, "revoked")
        self.assert_open(again)
        self.one.bus.heal()
        self.settle()
        self.assert_ended(again, "revoked")


class ReplayTests(NodesCase):
    """A ticket that comes a second time, on another node."""

    settings = {"ticket": TicketSettings(on_replay="close")}

    def test_close(self) -> None:
        """JW-13: the session that it had opened ends, wherever it is, and no other."""
        ticket = self.one.ticket()
        alice = StompClient(WebSocket(self.one.site, f"/stomp?ticket={ticket}"))
        alice.connect(token())
        other = self.connect(self.one)
        self.assertEqual(WebSocket(self.two.site, f"/stomp?ticket={ticket}").status, 401)
        self.settle()
        self.assert_ended(alice, "replaced")
        self.assert_open(other)

    def test_cut_off(self) -> None:
        """If its node cannot be reached, it ends when it can."""
        ticket = self.one.ticket()
        alice = StompClient(WebSocket(self.one.site, f"/stomp?ticket={ticket}"))
        alice.connect(token())
        self.two.bus.cut()
        self.assertEqual(WebSocket(self.two.site, f"/stomp?ticket={ticket}").status, 401)
        self.two.bus.heal()
        self.settle()
        self.assert_ended(alice, "replaced")

    def test_race(self) -> None:
        """I2: the second use may be known before the first one has its answer: then none opens."""
        ticket = self.one.ticket()
        redeem, answer = self.tickets.redeem, Deferred[None]()

        def slowly(ticket: str) -> Deferred[Any]:
            redeemed = redeem(ticket)
            return answer.addCallback(lambda _: redeemed)

        self.patch(self.tickets, "redeem", slowly)
        first = WebSocket(self.one.site, f"/stomp?ticket={ticket}")
        self.patch(self.tickets, "redeem", redeem)
        self.assertEqual(WebSocket(self.two.site, f"/stomp?ticket={ticket}").status, 401)
        self.settle()
        answer.callback(None)
        first.read()
        self.assertEqual(first.status, 401)
        self.assertEqual(self.connect(self.one).close_code, None)

    def test_on_and_on(self) -> None:
        """RS-2: who repeats a used ticket makes the nodes look for its session once."""
        ticket = self.one.ticket()
        StompClient(WebSocket(self.one.site, f"/stomp?ticket={ticket}"))
        for _ in range(3):
            self.assertEqual(WebSocket(self.two.site, f"/stomp?ticket={ticket}").status, 401)
            self.settle()
        self.assertEqual(sum(b'"replayed"' in payload for payload in self.network.wire), 1)


@implementer(IAuthorizer)
class Switch:
    """Allows everything, or nothing."""

    def __init__(self) -> None:
        self.allows = True

    def check(self, principal: Any, command: str, destination: Any) -> Decision:
        return Decision(self.allows, None, "said so")


class RecheckTests(NodesCase):
    """The rules are asked again on all nodes."""

    def setUp(self) -> None:
        self.rules = Switch()
        self.settings = {"rules": self.rules}
        super().setUp()

    def subscribed(self, node: ApplicationNode, user: str = "alice") -> StompClient:
        client = self.connect(node, user)
        client.send("SUBSCRIBE", id="x", destination="/topic/x", receipt="r")
        self.assertEqual(client.frame().command, "RECEIPT")
        return client

    def assert_dropped(self, client: StompClient) -> None:
        self.assertEqual(client.frame().headers["code"], "access-denied")
        self.assertIsNone(client.close_code)

    def test_everywhere(self) -> None:
        """AZ-10: what is refused now is dropped on all nodes; the sessions are counted."""
        clients = [self.subscribed(self.one), self.subscribed(self.two)]
        bob = self.subscribed(self.two, "bob")
        self.rules.allows = False
        self.assertEqual(self.result(self.one.stompauth.recheck("alice")), 2)
        for client in clients:
            self.assert_dropped(client)
        self.assert_open(bob)
        self.assertEqual(self.result(self.one.stompauth.recheck()), 3)
        self.assert_dropped(bob)

    def test_here(self) -> None:
        """When one node alone has other rules, the others are not asked."""
        here, there = self.subscribed(self.one), self.subscribed(self.two)
        self.rules.allows = False
        self.assertEqual(self.result(self.one.stompauth.recheck_here()), 1)
        self.assert_dropped(here)
        self.assert_open(there)

    def test_cut_off(self) -> None:
        """A node that could not be asked rechecks when it is back."""
        here, there = self.subscribed(self.one), self.subscribed(self.two)
        self.two.bus.cut()
        self.rules.allows = False
        self.assertEqual(self.result(self.one.stompauth.recheck("alice")), 1)
        self.assert_dropped(here)
        self.assert_open(there)
        self.two.bus.heal()
        self.settle()
        self.assert_dropped(there)

    def test_asked_while_cut_off(self) -> None:
        """What was asked of a node that is cut off is done here, and elsewhere later."""
        here, there = self.subscribed(self.one), self.subscribed(self.two)
        self.one.bus.cut()
        self.rules.allows = False
        self.failureResultOf(self.one.stompauth.recheck("alice"), Unavailable)
        self.assert_dropped(here)
        self.one.bus.heal()
        self.settle()
        self.assert_dropped(there)

    def test_many(self) -> None:
        """RS-3: a recheck of very many sessions lets others have their turn."""
        session = self.one.stompauth.sessions.get(self.one.session_of(self.subscribed(self.one)))
        assert session is not None
        rechecked = Deferred.fromCoroutine(
            self.one.stompauth._node._recheck([session] * (RECHECKED_AT_ONCE + 1))
        )
        self.assertNoResult(rechecked)
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(rechecked), RECHECKED_AT_ONCE + 1)


class LimitTests(NodesCase):
    """Limits per user count over all nodes."""

    settings = {"limits": Limits(sessions_per_user=2)}

    def test_ticket_endpoint(self) -> None:
        """Who has as many sessions as he may, on whatever nodes, is told so there."""
        self.connect(self.one)
        alice = self.connect(self.two)
        for node in (self.one, self.two):
            response = post_token(node.site, token())
            self.assertEqual((response.status, response.json), (429, {"error": "sessions"}))
        alice.websocket.socket.lose()
        self.settle()
        self.assertEqual(post_token(self.one.site, token()).status, 200)
        self.assertEqual(post_token(self.one.site, token("bob")).status, 200)

    def test_handshake(self) -> None:
        """And at the handshake, if that changes in between."""
        tickets = [self.one.ticket() for _ in range(3)]
        self.connect(self.one)
        statuses = []
        for node, ticket in zip((self.two, self.one, self.two), tickets, strict=True):
            websocket = WebSocket(node.site, f"/stomp?ticket={ticket}")
            statuses.append(websocket.status)
            self.settle()
        self.assertEqual(statuses, [101, 429, 429])

    def test_race(self) -> None:
        """Nodes that have let in too many at the same time end the newest with ``limit``."""
        first = self.connect(self.one)
        tickets = [self.one.ticket(), self.one.ticket()]
        clients = []
        for node, ticket in zip((self.one, self.two), tickets, strict=True):
            clients.append(StompClient(WebSocket(node.site, f"/stomp?ticket={ticket}")))
            clients[-1].connect(token())
            self.clock.advance(GATHER / 4)
        self.settle()
        self.assert_open(first)
        self.assert_open(clients[0])
        self.assert_ended(clients[1], "limit")
        self.assertEqual(clients[1].close_code, 4429)


class StartTests(NodesCase):
    """A node that does not know what was revoked lets nobody in."""

    def test_not_ready(self) -> None:
        """Until it was connected once, tickets and handshakes get 503."""
        ticket = self.one.ticket()
        self.log.is_away = True
        late = self.node()
        response = post_token(late.site, token())
        self.assertEqual((response.status, response.json), (503, {"error": "unavailable"}))
        self.assertEqual(WebSocket(late.site, f"/stomp?ticket={ticket}").status, 503)
        self.assertIs(late.stompauth.readiness()["cluster"], False)
        self.log.is_away = False
        self.clock.advance(1)
        self.assertEqual(WebSocket(late.site, f"/stomp?ticket={ticket}").status, 101)
        self.assertIs(late.stompauth.readiness()["cluster"], True)

    def test_cut_off(self) -> None:
        """A node that is cut off later goes on, and lets in by what it knows."""
        alice = self.connect(self.one)
        self.one.bus.cut()
        self.assert_open(alice)
        self.assertEqual(post_token(self.one.site, token("bob")).status, 200)

    def test_stop(self) -> None:
        """A node that stops takes leave when its sessions have ended."""
        self.connect(self.two)
        stopped = self.two.service.stopService()
        self.network.deliver()
        self.clock.advance(10)
        self.network.deliver()
        self.successResultOf(stopped)
        self.assertEqual(self.one.cluster.sessions_of("alice"), [])
        self.assertEqual(self.one.cluster.nodes, [])


class MessageTests(NodesCase):
    """Messages to a session on another node, and how many sessions would get one."""

    def subscribed(self, node: ApplicationNode, user: str = "alice") -> StompClient:
        client = self.connect(node, user)
        client.send("SUBSCRIBE", id="p", destination="/user/queue/private", receipt="r")
        self.assertEqual(client.frame().command, "RECEIPT")
        return client

    def test_send_to_session(self) -> None:
        """It goes to that session and no other, with body and headers as they were."""
        alice, other = self.subscribed(self.two), self.subscribed(self.two)
        body = bytes(range(256))
        sent = self.one.stompauth.send_to_session(
            self.two.session_of(alice), "/queue/private", body, {"x": "ü:\n", "authorization": "no"}
        )
        self.assertIs(self.result(sent), True)
        message = alice.frame()
        self.assertEqual((message.body, message.headers["x"]), (body, "ü:\n"))
        self.assertEqual(message.headers["destination"], "/user/queue/private")
        self.assertNotIn("authorization", message.headers)
        self.assert_open(other)

    def test_nobody_there(self) -> None:
        """It does not go to a session that has not subscribed, or is not there."""
        alice = self.connect(self.two)
        for session in (self.two.session_of(alice), "no-such-session"):
            sent = self.one.stompauth.send_to_session(session, "/queue/private", "x")
            self.assertIs(self.result(sent), False)

    def test_refused(self) -> None:
        """What cannot be delivered is refused before it is sent."""
        session = self.two.session_of(self.subscribed(self.two))
        for destination, body, code in (
            ("/topic/x", b"x", "no-such-destination"),
            ("queue", b"x", "bad-destination"),
            ("/queue/private", b"x" * MAX_PAYLOAD, "too-large"),
        ):
            sent = self.one.stompauth.send_to_session(session, destination, body)
            self.assertEqual(self.failureResultOf(sent, Refused).value.code, code)

    def test_no_answer(self) -> None:
        """If the other node does not answer, that is said."""
        session = self.two.session_of(self.subscribed(self.two))
        self.two.bus.is_cut = True
        sent = self.one.stompauth.send_to_session(session, "/queue/private", "x")
        self.clock.advance(TIMEOUT)
        self.failureResultOf(sent, Unavailable)

    def test_count(self) -> None:
        """The sessions on other nodes that subscribe to a user destination are counted."""
        self.subscribed(self.two)
        self.subscribed(self.two)
        self.connect(self.two)
        self.subscribed(self.one)
        self.subscribed(self.two, "bob")
        for path, count in (("/queue/private", 2), ("/queue/other", 0)):
            counted = self.one.cluster.count_subscribed("alice", path)
            self.assertEqual(self.result(counted), count)
        asked = len(self.network.wire)
        self.assertEqual(self.result(self.one.cluster.count_subscribed("x", "/queue/private")), 0)
        self.assertEqual(len(self.network.wire), asked)

    def test_relayed(self) -> None:
        """What the relay takes to a user's sessions on other nodes, is counted there."""
        self.subscribed(self.two)
        self.subscribed(self.two)
        relay = RelayFixture()
        self.one.stompauth._broker = relay.relay
        for is_cut, count in ((False, 2), (True, 0)):
            self.two.bus.is_cut = is_cut
            sent = self.one.stompauth.send_to_user("alice", "/queue/private", "x")
            relay.broker.settle()
            self.network.deliver()
            self.clock.advance(TIMEOUT)
            self.assertEqual(self.result(sent), count)

    def test_malformed(self) -> None:
        """What is no message of ours is none."""
        good = {"id": "i", "destination": "/queue/x", "headers": {}, "body": ""}
        self.assertEqual(message_of(good).destination.path, "/queue/x")
        for wrong in (
            {},
            {**good, "destination": "x"},
            {**good, "headers": {"x": 1}},
            {**good, "headers": []},
            {**good, "body": "*"},
            {**good, "body": "ü"},
            {**good, "id": None},
        ):
            with self.assertRaises(ValueError):
                message_of(wrong)


class ControlTests(NodesCase):
    """The control resource of one node, about all."""

    def setUp(self) -> None:
        super().setUp()
        resource = ControlResource(self.one.stompauth, token=TOKEN, clock=self.clock)
        self.site = StrictSite(resource, self.clock, max_body=MAX_BODY)

    def ask(self, method: str, target: str, body: Any = None) -> Response:
        octets = b"" if body is None else json.dumps(body).encode()
        head = [
            f"{method} {target} HTTP/1.1",
            "Host: x",
            f"Content-Length: {len(octets)}",
            f"Authorization: Bearer {TOKEN}",
        ]
        return request(self.site, head, octets)

    def test_sessions(self) -> None:
        """A user's sessions are listed wherever they are, alike."""
        alice, again = self.connect(self.one), self.connect(self.two)
        again.send("SUBSCRIBE", id="room", destination="/topic/rooms/lobby")
        described = self.result(self.one.stompauth.describe(user="alice"))
        ids = [self.one.session_of(alice), self.two.session_of(again)]
        self.assertEqual([found["id"] for found in described], ids)
        (remote,) = self.result(self.one.stompauth.describe(session=ids[1]))
        self.assertEqual(remote, described[1])
        self.assertEqual(set(described[0]), set(described[1]))
        self.assertEqual(
            remote["subscriptions"],
            [{"id": "room", "destination": "/topic/rooms/lobby", "ack": "auto"}],
        )
        self.assertEqual(self.result(self.one.stompauth.describe(session="x")), [])
        with self.assertRaises(ValueError):
            self.one.stompauth.describe()

    def test_requests(self) -> None:
        """GET and DELETE of a session on another node, and the list, work as for one here."""
        alice = self.connect(self.two)
        session = self.two.session_of(alice)
        self.network.is_instant = True
        shown = self.ask("GET", f"/sessions/{session}")
        self.assertEqual((shown.status, shown.json["user"]), (200, "alice"))
        listed = self.ask("GET", "/sessions?user=alice")
        self.assertEqual(listed.json, {"sessions": [shown.json]})
        ended = self.ask("DELETE", f"/sessions/{session}")
        self.assertEqual((ended.status, ended.json), (200, {"sessions": 1, "tickets": 0}))
        self.assert_ended(alice, "revoked")
        self.assertEqual(self.ask("DELETE", f"/sessions/{session}").status, 404)

    def test_cut_off(self) -> None:
        """A revocation that others have not heard of is 503; here it is done."""
        alice = self.connect(self.one)
        self.one.bus.cut()
        response = self.ask("POST", "/revoke", {"user": "alice"})
        self.assertEqual((response.status, response.json["error"]), (503, "unavailable"))
        self.assert_ended(alice, "revoked")


class SecretTests(NodesCase):
    """LG-1: nothing secret is said from node to node, or kept."""

    def test_wire(self) -> None:
        """Tokens, tickets and their parts are nowhere in what nodes have said."""
        settings = {"sid": "s1", "jti": "j1"}
        secrets = [token(**settings), token("bob", **settings)]
        ticket = post_token(self.one.site, secrets[0]).json["ticket"]
        alice = StompClient(WebSocket(self.one.site, f"/stomp?ticket={ticket}"))
        alice.connect(secrets[0])
        self.settle()
        self.result(self.two.stompauth.describe(user="alice"))
        self.result(self.two.stompauth.recheck())
        self.result(self.two.stompauth.revoke(user="alice"))
        self.node()
        self.settle()
        wire = b"".join(self.network.wire) + repr(self.log.entries).encode()
        self.assertIn(b"alice", wire)
        for secret in [ticket, *(part for text in secrets for part in text.split("."))]:
            self.assertNotIn(secret.encode(), wire)
        self.assertNotIn(b"Bearer", wire)
