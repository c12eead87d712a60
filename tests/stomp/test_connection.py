"""Both ends of a connection, each by itself and joined by bytes."""

from __future__ import annotations

import contextlib

from twisted.trial.unittest import SynchronousTestCase

from stompauth.errors import LocalProtocolError, RemoteProtocolError
from stompauth.stomp.connection import (
    ClientConnection,
    PersistentClientConnection,
    ServerConnection,
    State,
)
from stompauth.stomp.decoder import DecoderLimits
from stompauth.stomp.encoder import encode
from stompauth.stomp.frame import (
    BODY_COMMANDS,
    CLIENT_COMMANDS,
    COMMANDS,
    REQUIRED_HEADERS,
    SERVER_COMMANDS,
    VERSIONS,
    Frame,
)

LIMITS = DecoderLimits(frame=1000, headers=20, header_line=200)
BEFORE_CONNECT = DecoderLimits(frame=200, headers=10, header_line=100)


def server(heartbeat: tuple[float, float] = (10, 10)) -> ServerConnection:
    """Return a server's end."""
    return ServerConnection(LIMITS, BEFORE_CONNECT, heartbeat)


def good_frame(command: str, version: str) -> Frame:
    """Return a frame of the command, with all that the version requires."""
    headers = dict.fromkeys(REQUIRED_HEADERS[version].get(command, ()), "x")
    if command == "UNSUBSCRIBE":
        headers["id"] = "x"
    if command in ("CONNECT", "STOMP"):
        headers = {"accept-version": version}
    if command == "CONNECTED":
        headers = {"version": version}
    return Frame(command, headers)


def good_bytes(command: str, version: str) -> bytes:
    """Return the same frame as bytes."""
    return encode(good_frame(command, version), version)


def server_in(state: State, version: str) -> ServerConnection:
    """Return a server's end that has come to that state."""
    connection = server()
    if state is State.AWAITING_CONNECT:
        return connection
    connection.receive_data(good_bytes("CONNECT", version))
    connection.next_frame()
    if state is State.CONNECTING:
        return connection
    connection.accept(0, {})
    if state is State.DISCONNECTING:
        connection.receive_data(good_bytes("DISCONNECT", version))
        connection.next_frame()
    elif state is State.CLOSED:
        connection.error({}, b"")
    return connection


def client_in(state: State, version: str) -> ClientConnection:
    """Return a client's end that has come to that state."""
    connection = ClientConnection(LIMITS)
    if state is State.AWAITING_CONNECT:
        return connection
    connection.connect({"host": "x"})
    if state is State.CONNECTING:
        return connection
    connection.receive_data(good_bytes("CONNECTED", version))
    connection.next_frame()
    if state is State.DISCONNECTING:
        connection.send(Frame("DISCONNECT"))
    elif state is State.CLOSED:
        connection.receive_data(good_bytes("ERROR", version))
        connection.next_frame()
    return connection


class ConnectionTestCase(SynchronousTestCase):
    """Ways to say what a connection makes of bytes."""

    def assertRefused(
        self,
        connection: ServerConnection | ClientConnection,
        data: bytes,
        code: str,
        headers: dict[str, str] | None = None,
    ) -> None:
        """The bytes are refused with this code, and end the connection."""
        connection.receive_data(data)
        error = self.assertRaises(RemoteProtocolError, connection.next_frame)
        self.assertEqual((error.code, error.headers), (code, headers or {}))
        self.assertIs(connection.state, State.CLOSED)
        self.assertIsNone(connection.next_frame())


class EveryCommandTests(SynchronousTestCase):
    """ST-8: every command, in every state, in every version, at both ends."""

    sendable = CLIENT_COMMANDS - {"CONNECT", "STOMP"}

    def outcome(self, connection: ServerConnection | ClientConnection) -> str:
        """Return what comes of the bytes that the connection was given."""
        try:
            frame = connection.next_frame()
        except RemoteProtocolError as error:
            return error.code
        return "nothing" if frame is None else frame.command

    def test_server_receives(self) -> None:
        """A client connects, does what it likes, and disconnects."""
        for version in VERSIONS:
            for state in State:
                for command in COMMANDS:
                    connection = server_in(state, version)
                    self.assertIs(connection.state, state)
                    after = state
                    expected = "nothing"
                    if state is State.AWAITING_CONNECT:
                        good = command in ("CONNECT", "STOMP")
                        after = State.CONNECTING if good else State.CLOSED
                        expected = command if good else "unexpected-frame"
                    elif state is State.CONNECTED:
                        good = command in self.sendable and (command, version) != ("NACK", "1.0")
                        after = State.CONNECTED if good else State.CLOSED
                        after = State.DISCONNECTING if command == "DISCONNECT" else after
                        expected = command if good else "unexpected-frame"
                    connection.receive_data(good_bytes(command, version))
                    case = (version, state, command)
                    self.assertEqual(self.outcome(connection), expected, case)
                    self.assertIs(connection.state, after, case)

    def test_client_receives(self) -> None:
        """A server answers CONNECT once, and speaks until its ERROR."""
        in_session = {"MESSAGE", "RECEIPT", "ERROR"}
        allowed = {
            State.AWAITING_CONNECT: {"ERROR"},
            State.CONNECTING: {"CONNECTED", "ERROR"},
            State.CONNECTED: in_session,
            State.DISCONNECTING: in_session,
        }
        for version in VERSIONS:
            for state in State:
                for command in COMMANDS:
                    connection = client_in(state, version)
                    self.assertIs(connection.state, state)
                    good = command in allowed.get(state, ())
                    expected = command if good else "unexpected-frame"
                    after = state if good else State.CLOSED
                    if state is State.CLOSED:
                        expected = "nothing"
                    elif command == "ERROR":
                        after = State.CLOSED
                    elif good and command == "CONNECTED":
                        after = State.CONNECTED
                    connection.receive_data(good_bytes(command, version))
                    case = (version, state, command)
                    self.assertEqual(self.outcome(connection), expected, case)
                    self.assertIs(connection.state, after, case)

    def test_client_sends(self) -> None:
        """What the server would refuse is not even sent."""
        for version in VERSIONS:
            for state in State:
                for command in COMMANDS:
                    connection = client_in(state, version)
                    frame = good_frame(command, version)
                    if (
                        state is State.CONNECTED
                        and command in self.sendable
                        and (command, version) != ("NACK", "1.0")
                    ):
                        self.assertEqual(connection.send(frame), encode(frame, version))
                        self.assertIs(
                            connection.state,
                            State.DISCONNECTING if command == "DISCONNECT" else state,
                        )
                    else:
                        self.assertRaises(LocalProtocolError, connection.send, frame)
                        self.assertIs(connection.state, state)

    def test_server_sends(self) -> None:
        """MESSAGE and RECEIPT are for sessions; the rest has methods of its own."""
        for version in VERSIONS:
            for state in State:
                for command in COMMANDS:
                    connection = server_in(state, version)
                    frame = good_frame(command, version)
                    if command in ("MESSAGE", "RECEIPT") and state in (
                        State.CONNECTED,
                        State.DISCONNECTING,
                    ):
                        self.assertEqual(connection.encode(frame), encode(frame, version))
                    else:
                        self.assertRaises(LocalProtocolError, connection.encode, frame)
                    self.assertIs(connection.state, state)


class HandshakeTests(ConnectionTestCase):
    """The server's side of CONNECT (STOMP 1.2, "Connecting")."""

    def test_best_common_version(self) -> None:
        """The best version that both know; without a list it is 1.0."""
        for offered, version in (
            (b"accept-version:1.0,1.1,1.2\n", "1.2"),
            (b"accept-version:1.2,1.1,1.0\n", "1.2"),
            (b"accept-version:1.1, 1.0\n", "1.1"),
            (b"accept-version: 1.1 ,2.0\n", "1.1"),
            (b"accept-version:1.0\n", "1.0"),
            (b"", "1.0"),
        ):
            for command in (b"CONNECT", b"STOMP"):
                connection = server()
                self.assertIsNone(connection.version)
                connection.receive_data(b"%b\n%b\n\0" % (command, offered))
                self.assertIsNotNone(connection.next_frame())
                self.assertEqual(connection.version, version)

    def test_no_common_version(self) -> None:
        """The ERROR says which versions there are (STOMP 1.2, "Protocol Negotiation")."""
        for offered in (b"", b"2.0", b"1.3,1.20", b"1", b"\xd9\xa1.2", b"1.2;1.1"):
            self.assertRefused(
                server(),
                b"CONNECT\naccept-version:%b\nreceipt:r\n\n\0" % offered,
                "unknown-version",
                {"version": "1.0,1.1,1.2"},
            )

    def test_accept(self) -> None:
        """CONNECTED begins with version and heart-beat, which nobody can override."""
        connection = server_in(State.CONNECTING, "1.1")
        data = connection.accept(5, {"session": "s", "version": "9", "heart-beat": "1,1"})
        self.assertEqual(data, b"CONNECTED\nversion:1.1\nheart-beat:10000,10000\nsession:s\n\n\0")
        self.assertIs(connection.state, State.CONNECTED)

    def test_accept_once(self) -> None:
        """There must be a CONNECT that waits."""
        for state in State:
            if state is not State.CONNECTING:
                connection = server_in(state, "1.2")
                self.assertRaises(LocalProtocolError, connection.accept, 0, {})
                self.assertIs(connection.state, state)

    def test_accept_with_a_header_that_cannot_be_written(self) -> None:
        """ST-5: a user name with a LF ends the attempt, not the header."""
        connection = server_in(State.CONNECTING, "1.2")
        self.assertRaises(LocalProtocolError, connection.accept, 0, {"user-name": "a\nb:c"})
        self.assertIs(connection.state, State.CONNECTING)
        self.assertIsNone(connection.heartbeat)

    def test_heart_beat(self) -> None:
        """It is agreed upon in CONNECT and runs from accept."""
        connection = server((10, 5))
        connection.receive_data(b"CONNECT\nheart-beat:20000,1000\n\n\0")
        connection.next_frame()
        self.assertIsNone(connection.heartbeat)
        connection.accept(1000, {})
        heartbeat = connection.heartbeat
        assert heartbeat is not None
        self.assertEqual((heartbeat.send_every, heartbeat.expect_every), (10, 20))
        self.assertFalse(heartbeat.is_dead(1039))
        self.assertTrue(heartbeat.is_dead(1040))
        self.assertTrue(heartbeat.send_due(1008))

    def test_bad_heart_beat(self) -> None:
        """ST-13: a heart-beat header that is none ends the attempt."""
        self.assertRefused(server(), b"CONNECT\nheart-beat:x\n\n\0", "bad-header")

    def test_receipt_on_connect_is_ignored(self) -> None:
        """CONNECT has no receipt (STOMP 1.2, "receipt"), so nobody finds one."""
        connection = server()
        connection.receive_data(b"CONNECT\nreceipt:r\nlogin:x\n\n\0")
        self.assertEqual(connection.next_frame(), Frame("CONNECT", {"login": "x"}))

    def test_limits_before_connect(self) -> None:
        """Until accepted a client can make us hold less."""
        big = b"destination:/topic/a\n" * 12
        self.assertRefused(server(), b"CONNECT\n" + big, "too-large")
        connection = server_in(State.CONNECTED, "1.2")
        connection.receive_data(b"SEND\n" + big + b"\n\0")
        self.assertIsNotNone(connection.next_frame())

    def test_nothing_is_looked_at_before_accept(self) -> None:
        """ST-8: frames behind CONNECT wait undecoded, good or bad, and follow in order."""
        connection = server()
        connection.receive_data(
            b"CONNECT\naccept-version:1.2\n\n\0" + b"SEND\ndestination:a\\cb\n\n1\0SEND\ndesti"
        )
        connection.next_frame()
        self.assertIsNone(connection.next_frame())
        connection.receive_data(b"nation:/topic/a\n\n2\0\xff\0")
        self.assertIsNone(connection.next_frame())
        self.assertFalse(connection.mid_frame)
        connection.accept(0, {})
        self.assertEqual(connection.next_frame(), Frame("SEND", {"destination": "a:b"}, b"1"))
        self.assertEqual(connection.next_frame(), Frame("SEND", {"destination": "/topic/a"}, b"2"))
        self.assertRaises(RemoteProtocolError, connection.next_frame)

    def test_nothing_behind_a_failed_connect_has_effect(self) -> None:
        """ST-8: a refused CONNECT takes with it what was sent behind it (CVE-2025-41254)."""
        behind = b"SEND\ndestination:/topic/a\n\n\0" * 3
        connection = server()
        connection.receive_data(b"CONNECT\n\n\0" + behind)
        connection.next_frame()
        connection.error({"message": "no"}, b"")
        self.assertIsNone(connection.next_frame())
        connection.receive_data(behind)
        self.assertIsNone(connection.next_frame())
        for bad in (b"CONNECT\naccept-version:3\n\n\0", b"CONNECT\nheart-beat:x\n\n\0", b"X\n\n\0"):
            connection = server()
            connection.receive_data(bad + behind)
            self.assertRaises(RemoteProtocolError, connection.next_frame)
            self.assertIsNone(connection.next_frame())
            self.assertFalse(connection.mid_frame)
            connection.receive_data(behind)
            self.assertIsNone(connection.next_frame())


class SessionTests(ConnectionTestCase):
    """The server's side of a session."""

    def test_nothing_behind_disconnect(self) -> None:
        """ST-8: DISCONNECT is the client's last frame; its receipt can be sent."""
        connection = server_in(State.CONNECTED, "1.2")
        connection.receive_data(b"DISCONNECT\nreceipt:r\n\n\0SEND\ndestination:/topic/a\n\n\0SEN")
        self.assertEqual(connection.next_frame(), Frame("DISCONNECT", {"receipt": "r"}))
        self.assertIsNone(connection.next_frame())
        self.assertFalse(connection.mid_frame)
        connection.receive_data(b"\xff\n\n\0")
        self.assertIsNone(connection.next_frame())
        self.assertEqual(connection.receipt("r"), b"RECEIPT\nreceipt-id:r\n\n\0")

    def test_missing_header(self) -> None:
        """Each required header of each command and version is asked for."""
        for version in VERSIONS:
            for command, names in REQUIRED_HEADERS[version].items():
                if command in SERVER_COMMANDS:
                    continue
                for name in names:
                    frame = good_frame(command, version)
                    del frame.headers[name]
                    frame.headers["receipt"] = "r"
                    self.assertRefused(
                        server_in(State.CONNECTED, version),
                        encode(frame, version),
                        "missing-header",
                        {"receipt-id": "r"},
                    )

    def test_body_where_none_may_be(self) -> None:
        """A body is refused but in 1.0, where it is dropped (STOMP 1.2, "Body")."""
        for command in CLIENT_COMMANDS - BODY_COMMANDS - {"CONNECT", "STOMP", "NACK"}:
            for version in VERSIONS:
                connection = server_in(State.CONNECTED, version)
                data = good_bytes(command, version)[:-1] + b"body\0"
                if version == "1.0":
                    connection.receive_data(data)
                    self.assertEqual(connection.next_frame(), good_frame(command, version))
                else:
                    self.assertRefused(connection, data, "malformed")
        self.assertRefused(server(), b"CONNECT\naccept-version:1.2\n\nbody\0", "malformed")

    def test_receipt_of_a_refused_frame(self) -> None:
        """ST-12: the error names the receipt wherever the head could be read, unescaped."""
        for data, code in (
            (b"MESSAGE\nreceipt:r\\c1\n\n\0", "unexpected-frame"),
            (b"SEND\nreceipt:r\\c1\n\n\0", "missing-header"),
            (b"BEGIN\ntransaction:t\nreceipt:r\\c1\n\nx\0", "malformed"),
            (b"SEND\nreceipt:r\\c1\ncontent-length:9999\n\n", "too-large"),
        ):
            self.assertRefused(server_in(State.CONNECTED, "1.2"), data, code, {"receipt-id": "r:1"})

    def test_version_decides_about_escapes(self) -> None:
        """ST-4: the session's version holds for what comes in and goes out."""
        for version, value, written in (
            ("1.0", "a\\c", b"a\\c"),
            ("1.1", "a:", b"a\\c"),
            ("1.2", "a:", b"a\\c"),
        ):
            connection = server_in(State.CONNECTED, version)
            connection.receive_data(b"SEND\ndestination:a\\c\n\n\0")
            frame = connection.next_frame()
            assert frame is not None
            self.assertEqual(frame.headers["destination"], value)
            self.assertEqual(connection.receipt(value), b"RECEIPT\nreceipt-id:%b\n\n\0" % written)

    def test_mid_frame(self) -> None:
        """A begun frame is known to be begun; a heart-beat is none."""
        connection = server_in(State.CONNECTED, "1.2")
        for data, begun in ((b"\n\n", False), (b"BEG", True), (b"IN\ntransaction:t\n\n", True)):
            connection.receive_data(data)
            self.assertIsNone(connection.next_frame())
            self.assertEqual(connection.mid_frame, begun)
        connection.receive_data(b"\0\n")
        self.assertIsNotNone(connection.next_frame())
        self.assertIsNone(connection.next_frame())
        self.assertFalse(connection.mid_frame)

    def test_nothing_is_kept_after_the_end(self) -> None:
        """ST-8: what comes behind the last frame takes no memory, nor does what was held then."""
        for last in (b"DISCONNECT\n\n\0", b"CONNECT\n\n\0"):
            for before, behind in ((b"SEND\n", b""), (b"", b"SEND\n")):
                connection = server_in(State.CONNECTED, "1.2")
                connection.receive_data(last + before)
                with contextlib.suppress(RemoteProtocolError):
                    connection.next_frame()
                connection.receive_data(behind)
                self.assertFalse(connection._decoder.mid_frame)

    def test_error(self) -> None:
        """ST-8: an ERROR can be made in every state, and closes."""
        for version in VERSIONS:
            for state in State:
                connection = server_in(state, version)
                connection.receive_data(b"SEND\ndest")
                data = connection.error({"message": "no", "receipt-id": "r"}, b"why")
                self.assertEqual(
                    data, b"ERROR\nmessage:no\nreceipt-id:r\ncontent-length:3\n\nwhy\0"
                )
                self.assertIs(connection.state, State.CLOSED)
                self.assertFalse(connection.mid_frame)

    def test_error_is_written_in_the_session_s_version(self) -> None:
        """ST-5: in 1.0 until there is a version, then in that."""
        headers = {"receipt-id": "a:\\b", "x": "1\n2"}
        for connection, written in (
            (server(), b"receipt-id:a:\\b\n"),
            (server_in(State.CONNECTING, "1.0"), b"receipt-id:a:\\b\n"),
            (server_in(State.CONNECTING, "1.2"), b"receipt-id:a\\c\\\\b\nx:1\\n2\n"),
        ):
            self.assertEqual(connection.error(headers, b""), b"ERROR\n%b\n\0" % written)


class PersistentClientTests(ConnectionTestCase):
    """A client whose server goes on after an ERROR."""

    def test_error(self) -> None:
        """What comes after the ERROR is read, and frames can be sent; before CONNECTED it ends."""
        client = PersistentClientConnection(LIMITS)
        client.connect({})
        client.receive_data(b"CONNECTED\nversion:1.2\n\n\0ERROR\nmessage:x\n\n\0")
        client.receive_data(b"RECEIPT\nreceipt-id:1\n\n\0")
        commands = [frame.command for frame in iter(client.next_frame, None)]
        self.assertEqual(commands, ["CONNECTED", "ERROR", "RECEIPT"])
        client.send(Frame("DISCONNECT"))
        client.receive_data(b"ERROR\nmessage:x\n\n\0")
        self.assertEqual([frame.command for frame in iter(client.next_frame, None)], ["ERROR"])
        self.assertIs(client.state, State.DISCONNECTING)
        early = PersistentClientConnection(LIMITS)
        early.connect({})
        early.receive_data(b"ERROR\nmessage:x\n\n\0")
        early.next_frame()
        self.assertIs(early.state, State.CLOSED)


class ClientTests(ConnectionTestCase):
    """The client's end."""

    def test_connect(self) -> None:
        """CONNECT offers all versions unless told otherwise, and our heart-beat always."""
        self.assertEqual(
            ClientConnection(LIMITS, (10, 0)).connect({"host": "h", "heart-beat": "1,1"}),
            b"CONNECT\naccept-version:1.0,1.1,1.2\nhost:h\nheart-beat:10000,0\n\n\0",
        )
        self.assertIn(
            b"accept-version:1.2\n", ClientConnection(LIMITS).connect({"accept-version": "1.2"})
        )

    def test_connect_once(self) -> None:
        """A connection is begun once."""
        for state in State:
            if state is not State.AWAITING_CONNECT:
                connection = client_in(state, "1.2")
                self.assertRaises(LocalProtocolError, connection.connect, {})

    def test_connect_with_a_header_that_cannot_be_written(self) -> None:
        """ST-5: a login with a LF is no way into the broker's headers."""
        connection = ClientConnection(LIMITS)
        self.assertRaises(LocalProtocolError, connection.connect, {"login": "a\npasscode:x"})
        self.assertIs(connection.state, State.AWAITING_CONNECT)

    def test_connected(self) -> None:
        """CONNECTED settles version and heart-beat; without them it is 1.0 and never."""
        connection = ClientConnection(LIMITS, (10, 20))
        connection.connect({})
        connection.receive_data(b"CONNECTED\nversion:1.1\nheart-beat:5000,15000\n\n\0")
        connection.next_frame()
        heartbeat = connection.heartbeat
        assert heartbeat is not None
        self.assertEqual((heartbeat.send_every, heartbeat.expect_every), (15, 20))
        self.assertEqual(connection.version, "1.1")

        connection = ClientConnection(LIMITS, (10, 20))
        connection.connect({})
        connection.receive_data(b"CONNECTED\n\n\0")
        connection.next_frame()
        heartbeat = connection.heartbeat
        assert heartbeat is not None
        self.assertEqual((heartbeat.send_every, heartbeat.expect_every), (0, 0))
        self.assertEqual(connection.version, "1.0")

    def test_version_that_was_not_offered(self) -> None:
        """A server cannot choose what we did not offer."""
        for offered, version in (("1.2", b"1.1"), ("1.0,1.1,1.2", b"1.3"), ("1.3", b"1.3")):
            connection = ClientConnection(LIMITS)
            connection.connect({"accept-version": offered})
            self.assertRefused(
                connection, b"CONNECTED\nversion:%b\n\n\0" % version, "unknown-version"
            )
            self.assertIsNone(connection.version)

    def test_bad_heart_beat(self) -> None:
        """ST-13: a server's header is read as strictly as a client's."""
        connection = client_in(State.CONNECTING, "1.2")
        self.assertRefused(connection, b"CONNECTED\nheart-beat:-1,0\n\n\0", "bad-header")

    def test_missing_header(self) -> None:
        """What a server must send is asked for, and what we must send as well."""
        connection = client_in(State.CONNECTED, "1.2")
        self.assertRaises(LocalProtocolError, connection.send, Frame("SEND"))
        self.assertRaises(
            LocalProtocolError, connection.send, Frame("SUBSCRIBE", {"destination": "/topic/a"})
        )
        self.assertRefused(connection, b"RECEIPT\n\n\0", "missing-header")

    def test_messages_while_disconnecting(self) -> None:
        """After DISCONNECT a client still hears, to the receipt."""
        connection = client_in(State.DISCONNECTING, "1.2")
        connection.receive_data(good_bytes("MESSAGE", "1.2") + b"RECEIPT\nreceipt-id:r\n\n\0")
        commands = [frame.command for frame in iter(connection.next_frame, None)]
        self.assertEqual(commands, ["MESSAGE", "RECEIPT"])

    def test_nothing_behind_error(self) -> None:
        """ERROR is a server's last frame."""
        connection = client_in(State.CONNECTED, "1.2")
        connection.receive_data(b"ERROR\nmessage:no\n\nwhy\0" + good_bytes("MESSAGE", "1.2"))
        self.assertEqual(connection.next_frame(), Frame("ERROR", {"message": "no"}, b"why"))
        self.assertIs(connection.state, State.CLOSED)
        self.assertIsNone(connection.next_frame())


class PairTests(SynchronousTestCase):
    """A client and a server, joined by bytes."""

    def test_session(self) -> None:
        """What one end writes the other one reads, from CONNECT to the last receipt."""
        for version in VERSIONS:
            client = ClientConnection(LIMITS, (10, 10))
            here = server()
            here.receive_data(client.connect({"accept-version": version, "host": "h"}))
            frame = here.next_frame()
            assert frame is not None
            self.assertEqual(frame.headers["host"], "h")
            client.receive_data(here.accept(0, {"user-name": "a:b\\n"}))
            frame = client.next_frame()
            assert frame is not None
            self.assertEqual(frame.headers["user-name"], "a:b\\n")
            self.assertEqual((client.version, here.version), (version, version))

            sent = [
                Frame("SUBSCRIBE", {"id": "1:1", "destination": "/topic/\u00eb\\c"}),
                Frame("SEND", {"destination": "/topic/a", "receipt": "r\\n"}, b"a\0b\xff"),
                Frame("DISCONNECT", {"receipt": "bye"}),
            ]
            for frame in sent:
                here.receive_data(client.send(frame))
            received = list(iter(here.next_frame, None))
            received[1].headers.pop("content-length")
            self.assertEqual(received, sent)

            client.receive_data(here.receipt("r\\n") + here.receipt("bye"))
            receipts = [frame.headers["receipt-id"] for frame in iter(client.next_frame, None)]
            self.assertEqual(receipts, ["r\\n", "bye"])
            self.assertEqual((client.state, here.state), (State.DISCONNECTING, State.DISCONNECTING))

    def test_error(self) -> None:
        """A refusal reaches the client, and both ends are closed."""
        client = ClientConnection(LIMITS)
        here = server()
        here.receive_data(client.connect({}))
        here.next_frame()
        client.receive_data(here.error({"message": "Bad token", "code": "bad-token"}, b"Sorry."))
        frame = client.next_frame()
        assert frame is not None
        self.assertEqual((frame.headers["code"], frame.body), ("bad-token", b"Sorry."))
        self.assertEqual((client.state, here.state), (State.CLOSED, State.CLOSED))
