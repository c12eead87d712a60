"""What a frame needs, and what it gives away."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.stomp.frame import (
    CLIENT_COMMANDS,
    COMMANDS,
    REQUIRED_HEADERS,
    SERVER_COMMANDS,
    VERSIONS,
    Frame,
    lacks_header,
    refusal,
)


class FrameTests(SynchronousTestCase):
    """The value itself."""

    def test_repr_tells_no_content(self) -> None:
        """A frame that ends in a log gives away neither headers nor body."""
        frame = Frame("CONNECT", {"Authorization": "Bearer s3cret"}, b"s3cret")
        self.assertEqual(repr(frame), "<Frame CONNECT, 1 headers, 6 bytes>")

    def test_commands_belong_to_one_side(self) -> None:
        """No command is both the client's and the server's, and every requirement is for one."""
        self.assertFalse(CLIENT_COMMANDS & SERVER_COMMANDS)
        self.assertEqual(set(REQUIRED_HEADERS), set(VERSIONS))
        for table in REQUIRED_HEADERS.values():
            self.assertLessEqual(set(table), COMMANDS)


class LacksHeaderTests(SynchronousTestCase):
    """Required headers, as "Standard Headers" of each version has them."""

    def test_each_required_header_is_missed(self) -> None:
        """With all of them a frame is whole; without any one of them it is not."""
        for version, table in REQUIRED_HEADERS.items():
            for command, names in table.items():
                headers = dict.fromkeys(names, "x")
                self.assertFalse(lacks_header(Frame(command, headers), version))
                for name in names:
                    rest = {other: "x" for other in names if other != name}
                    self.assertTrue(lacks_header(Frame(command, rest), version), (command, name))

    def test_names_are_compared_exactly(self) -> None:
        """A header in another case is another header."""
        self.assertTrue(lacks_header(Frame("SEND", {"Destination": "/topic/a"}), "1.2"))

    def test_unsubscribe_of_1_0(self) -> None:
        """STOMP 1.0 unsubscribes by id or by destination; later versions by id alone."""
        by_id = Frame("UNSUBSCRIBE", {"id": "1"})
        by_destination = Frame("UNSUBSCRIBE", {"destination": "/topic/a"})
        self.assertFalse(lacks_header(by_id, "1.0"))
        self.assertFalse(lacks_header(by_destination, "1.0"))
        self.assertTrue(lacks_header(Frame("UNSUBSCRIBE"), "1.0"))
        self.assertTrue(lacks_header(by_destination, "1.1"))
        self.assertTrue(lacks_header(by_destination, "1.2"))


class RefusalTests(SynchronousTestCase):
    """The error for a frame."""

    def test_receipt_is_passed_on(self) -> None:
        """ST-12: the ERROR for a frame that asked for a receipt can name it."""
        error = refusal("malformed", Frame("SEND", {"receipt": "r-1"}))
        self.assertEqual((error.code, error.headers), ("malformed", {"receipt-id": "r-1"}))

    def test_no_receipt(self) -> None:
        """Who did not ask gets no receipt-id."""
        self.assertEqual(refusal("malformed", Frame("SEND")).headers, {})

    def test_connect_has_no_receipt(self) -> None:
        """A ``receipt`` on CONNECT means nothing (STOMP 1.2, "receipt")."""
        for command in ("CONNECT", "STOMP"):
            self.assertEqual(refusal("malformed", Frame(command, {"receipt": "r"})).headers, {})
