"""Tests of stompauth.service."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from stompauth import service as service_module
from stompauth.authorization.rules import Rule
from stompauth.broker.simple import SimpleBroker
from stompauth.config import BrokerConfig, load
from stompauth.interceptors.authenticate import Authenticate
from stompauth.interceptors.authorize import Authorize
from stompauth.parts import make_broker, make_verifier
from stompauth.relay.broker import BrokerRelay
from stompauth.service import make_application, make_service
from tests.wire import post_token, request

CONFIG = """
listen = ["tcp:8080:interface=127.0.0.1", "tcp:8081:interface=127.0.0.1"]

[jwt]
algorithms = ["HS256"]
secret_file = "secret"
issuer = "https://id.example.com/"
audience = "chat"

[websocket]
path = "/ws"
origins = ["https://chat.example.com"]

[limits]
sessions_per_user = 3

[[rules]]
allow = ["subscribe", "send"]
destination = "/topic/open"
"""


class MakeServiceTests(SynchronousTestCase):
    """What a configuration says is what runs."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "secret").write_bytes(b"0123456789abcdef0123456789abcdef")
        self.directory = directory
        file = directory / "stompauth.toml"
        file.write_text(CONFIG)
        self.config = load(file)

    def test_listens(self) -> None:
        """The configured endpoints are listened on."""
        service = make_service(self.config, self.reactor)
        service.startService()
        self.assertEqual([server[0] for server in self.reactor.tcpServers], [8080, 8081])

    def test_garbage(self) -> None:
        """What twistd runs freezes what is there at the start; what others run does not."""
        self.addCleanup(gc.unfreeze)
        before = gc.get_freeze_count()
        make_service(self.config, self.reactor).startService()
        self.assertEqual(gc.get_freeze_count(), before)
        service = make_service(self.config, self.reactor, lambda config: config)
        service.startService()
        self.addCleanup(service.stopService)
        self.assertGreater(gc.get_freeze_count(), before)

    def test_slim_transports(self) -> None:
        """Each listener of WebSockets, and no other, is told to make transports that are small."""
        opened: list[Any] = []
        self.patch(service_module, "slim_transports", opened.append)
        self.listening()
        self.assertEqual((len(opened), len(self.reactor.tcpServers)), (2, 3))

    def listening(self) -> dict[int, Any]:
        """The service of :data:`CONFIG` with a control resource and logout: factory by port."""
        (self.directory / "token").write_text("0123456789abcdef0123456789abcdef\n")
        config = load(
            self.directory / "stompauth.toml",
            {
                "control": {"listen": ["tcp:8082:interface=127.0.0.1"], "token_file": "token"},
                "logout": {"path": "/logout/backchannel"},
            },
        )
        self.service = make_service(config, self.reactor)
        self.service.privilegedStartService()
        return {server[0]: server[1] for server in self.reactor.tcpServers}

    def test_control(self) -> None:
        """OP-1: the control resource has listeners of its own, and is nowhere else."""
        sites = self.listening()
        self.assertEqual(sorted(sites), [8080, 8081, 8082])
        self.service.startService()
        self.assertEqual(len(self.reactor.tcpServers), 3)
        head = ["GET /sessions?user=alice HTTP/1.1", "Host: x"]
        authorization = "Authorization: Bearer 0123456789abcdef0123456789abcdef"
        response = request(sites[8082], [*head, authorization])
        self.assertEqual((response.status, response.json), (200, {"sessions": []}))
        self.assertEqual(request(sites[8082], head).status, 401)
        self.assertEqual(request(sites[8080], [*head, authorization]).status, 404)
        ticket = ["POST /authenticate/token HTTP/1.1", "Host: x", "Content-Length: 0"]
        self.assertEqual(request(sites[8082], ticket).status, 404)

    def test_operations_page(self) -> None:
        """OP-1: the operations page is beside the control resource, and nowhere else."""
        sites = self.listening()
        self.service.startService()
        for path, status in (("/", 200), ("/operations/stomp.js", 200), ("/operations/", 404)):
            head = [f"GET {path} HTTP/1.1", "Host: x"]
            self.assertEqual(request(sites[8082], head).status, status, path)
            self.assertEqual(request(sites[8080], head).status, 404)
        target = "/operations/ticket"
        token = "0123456789abcdef0123456789abcdef"
        self.assertEqual(post_token(sites[8082], token, None, target).status, 200)
        self.assertEqual(post_token(sites[8082], "x" * 32, None, target).status, 401)
        self.assertEqual(post_token(sites[8080], token, None, target).status, 404)
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_ops(self) -> None:
        """OP-1: so do health and metrics, which count while they can be asked for."""
        config = load(
            self.directory / "stompauth.toml", {"ops": {"listen": ["tcp:9090:interface=127.0.0.1"]}}
        )
        service = make_service(config, self.reactor)
        service.startService()
        sites = {server[0]: server[1] for server in self.reactor.tcpServers}
        for path, status in (("/health", 200), ("/ready", 200), ("/metrics", 200), ("/stomp", 404)):
            head = [f"GET {path} HTTP/1.1", "Host: x"]
            self.assertEqual(request(sites[9090], head).status, status, path)
            if path != "/stomp":
                self.assertEqual(request(sites[8080], head).status, 404)
        self.addCleanup(sites[9090].doStop)
        sites[9090].doStart()
        post_token(sites[8080], "x.y.z", "https://chat.example.com")
        metrics = request(sites[9090], ["GET /metrics HTTP/1.1", "Host: x"]).body.decode()
        self.assertIn('stompauth_tickets_refused_total{reason="unauthorized"} 1.0', metrics)

    def test_bodies(self) -> None:
        """TK-15: long bodies are for those who control the server; clients have none."""
        sites = self.listening()
        for port, path in ((8080, "/authenticate/token"), (8082, "/publish")):
            head = [f"POST {path} HTTP/1.1", "Host: x", "Content-Length: 1048577"]
            self.assertEqual(request(sites[port], head).status, 413)
        head = ["POST /publish HTTP/1.1", "Host: x", "Content-Length: 1048576"]
        self.assertEqual(request(sites[8082], head, b"x" * 1048576).status, 401)

    def test_logout(self) -> None:
        """Back-Channel Logout is where clients are, and by default nowhere."""
        sites = self.listening()
        head = ["POST /logout/backchannel HTTP/1.1", "Host: x", "Content-Length: 0"]
        response = request(sites[8080], head)
        self.assertEqual((response.status, response.json), (400, {"error": "invalid_request"}))
        self.assertEqual(request(sites[8082], head).status, 404)
        self.reactor.tcpServers.clear()
        make_service(self.config, self.reactor).startService()
        self.assertEqual(request(self.reactor.tcpServers[0][1], head).status, 404)

    def test_bus(self) -> None:
        """With a bus the nodes' broker runs and stops with the service."""
        (self.directory / "password").write_text("open sesame\n")
        config = replace(
            self.config,
            broker=BrokerConfig(
                bus="redis://127.0.0.1:6379/0",
                bus_password_file=str(self.directory / "password"),
            ),
        )
        service = make_service(config, self.reactor)
        service.startService()
        clients = [client for client in self.reactor.tcpClients if client[1] == 6379]
        self.assertEqual(len(clients), 2)
        self.successResultOf(service.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """The orderly stop covers all listeners, then sessions."""
        self.listening()
        self.service.startService()
        self.successResultOf(self.service.stopService())
        self.service.startService()
        self.assertEqual(len(self.reactor.tcpServers), 6)

    def test_roles(self) -> None:
        """A process of one role serves that one alone."""
        post = ["POST /authenticate/token HTTP/1.1", "Host: x", "Content-Length: 0"]
        get = ["GET /ws HTTP/1.1", "Host: x"]
        for roles, statuses in (
            (("tickets",), (401, 404)),
            (("websocket",), (404, 426)),
            (("websocket", "tickets"), (401, 426)),
        ):
            self.reactor.tcpServers.clear()
            make_service(replace(self.config, roles=roles), self.reactor).startService()
            site = self.reactor.tcpServers[0][1]
            self.assertEqual((request(site, post).status, request(site, get).status), statuses)

    def test_redis(self) -> None:
        """TK-7: a store in Redis is connected to while the service runs, by name and password."""
        (self.directory / "password").write_text("open sesame\n")
        tickets = {
            "store": "redis://alice@127.0.0.1:6380/7",
            "password_file": "password",
            "prefix": "p:",
            "timeout": 2,
            "max_outstanding": 3,
        }
        config = load(self.directory / "stompauth.toml", {"tickets": tickets})
        verifier = make_verifier(config.jwt, self.reactor)
        application = make_application(config, verifier, SimpleBroker(), self.reactor)
        self.assertIs(application.readiness()["tickets"], False)
        service = application.service()
        self.assertEqual(self.reactor.tcpClients, [])
        service.startService()
        host, port, factory = self.reactor.tcpClients[0][:3]
        self.assertEqual((host, port), ("127.0.0.1", 6380))
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        self.assertIn(b"AUTH\r\n$5\r\nalice\r\n$11\r\nopen sesame\r\n", transport.value())
        for _ in range(3):
            protocol.dataReceived(b"+OK\r\n")
        self.assertIn(b"SELECT\r\n$1\r\n7\r\n", transport.value())
        self.assertIs(application.readiness()["tickets"], True)
        stopped = service.stopService()
        self.assertIs(application.readiness()["tickets"], False)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(stopped)

    def test_rules_that_never_decide(self) -> None:
        """A rule that an earlier one covers whole is named in the log at start."""
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        make_service(self.config, self.reactor)
        self.assertEqual([event for event in events if "rule" in event], [])
        covered = Rule.__str__(self.config.rules[0])
        config = replace(self.config, rules=self.config.rules * 2)
        make_service(config, self.reactor)
        self.assertEqual([event["rule"] for event in events if "rule" in event], [covered])

    def test_application(self) -> None:
        """Limits, paths and the chain are those of the configuration."""
        verifier = make_verifier(self.config.jwt, self.reactor)
        application = make_application(
            self.config, verifier, SimpleBroker(clock=self.reactor), self.reactor
        )
        self.assertEqual(application.limits.sessions_per_user, 3)
        self.assertEqual(set(application.resources()), {b"/authenticate/token", b"/ws"})
        self.assertIsInstance(application.chain.interceptors[0], Authenticate)
        self.assertIsInstance(application.chain.interceptors[-1], Authorize)

    def test_relay(self) -> None:
        """RL-1: a relay logs in as the configuration says, with what is in the passcode's file."""
        passcode_file = Path(self.mktemp())
        passcode_file.write_text("correct horse\n", "utf-8")
        broker = replace(
            self.config.broker,
            kind="relay",
            endpoint="tcp:192.0.2.7:61613",
            login="chat",
            passcode_file=str(passcode_file),
            host="tests",
        )
        relay = make_broker(broker, self.config.limits, self.reactor)
        assert isinstance(relay, BrokerRelay)
        relay.startService()
        (host, port, factory, _, _), *_ = self.reactor.tcpClients
        self.assertEqual((host, port), ("192.0.2.7", 61613))
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        lines = transport.value().decode().splitlines()
        self.assertEqual({"login:chat", "passcode:correct horse", "host:tests"} - set(lines), set())
