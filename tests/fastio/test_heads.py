"""Tests of stompauth.fastio.heads."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.fastio.heads import read_head

HEAD = (
    b"POST /authenticate/token?x=1 HTTP/1.1\r\n"
    b"Host: chat.example.com\r\n"
    b"Accept:\r\n"
    b"X-Forwarded-For: 192.0.2.1\r\n"
    b"x-forwarded-for:\t192.0.2.2 , 192.0.2.3 \r\n"
    b"Content-Length: 0\r\n"
    b"\r\n"
)


class ReadHeadTests(SynchronousTestCase):
    """HS-6, TK-17: only what is right in every point is read; all else is left to twisted.web."""

    def test_read(self) -> None:
        """A head comes out with its names in lower case, and its values in order and stripped."""
        head = read_head(HEAD)
        assert head is not None
        self.assertEqual(
            (head.method, head.target, head.version),
            (b"POST", b"/authenticate/token?x=1", b"HTTP/1.1"),
        )
        self.assertEqual(
            head.headers,
            {
                b"host": [b"chat.example.com"],
                b"accept": [b""],
                b"x-forwarded-for": [b"192.0.2.1", b"192.0.2.2 , 192.0.2.3"],
                b"content-length": [b"0"],
            },
        )
        self.assertEqual(head.values(b"origin"), ())

    def test_secret(self) -> None:
        """LG-1: it shows neither the query nor a header."""
        self.assertEqual(repr(read_head(HEAD)), "<RequestHead b'POST'>")

    def test_parts(self) -> None:
        """A part of it is not read, wherever it ends; nor is it with anything around it."""
        for cut in range(len(HEAD)):
            self.assertIsNone(read_head(HEAD[:cut]), cut)
        for around in (HEAD + b"x", HEAD + HEAD, b"\r\n" + HEAD, b" " + HEAD, HEAD + b"\r\n"):
            self.assertIsNone(read_head(around), around)

    def test_request_line(self) -> None:
        """Other methods, targets and versions than are usual here are for twisted.web."""
        for line in (
            b"post / HTTP/1.1",
            b"POST  / HTTP/1.1",
            b"POST / HTTP/1.1 ",
            b"POST\t/ HTTP/1.1",
            b"POST http://chat.example.com/ HTTP/1.1",
            b"POST * HTTP/1.1",
            b"POST / HTTP/1.0",
            b"POST / HTTP/2.0",
            b"POST / http/1.1",
            b"POST /",
            b"POST /\xe9 HTTP/1.1",
            b"POST /\x00 HTTP/1.1",
            b"",
        ):
            self.assertIsNone(read_head(line + b"\r\nHost: x\r\n\r\n"), line)
        self.assertIsNotNone(read_head(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"))

    def test_headers(self) -> None:
        """So is a head in which a line is not one plain field, or which says of more to come."""
        for line in (
            b" folded: x",
            b"\tfolded: x",
            b"no colon",
            b": no name",
            b"space : x",
            b"sp ace: x",
            b"n\xe4me: x",
            b"X: a\nY: b",
            b"X: a\rY: b",
            b"X: \x00",
            b"X: \x0b",
            b"X: \x1c",
            b"X: \x7f",
            b"X: \x85",
            b"Host: y",
            b"Content-Length: 1",
            b"Content-Length: 00",
            b"Content-Length: 0\r\nContent-Length: 0",
            b"Content-Length:",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: identity",
            b"Expect: 100-continue",
        ):
            head = b"GET / HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n"
            self.assertIsNone(read_head(head), line)
        self.assertIsNone(read_head(b"GET / HTTP/1.1\r\nX: y\r\n\r\n"))
        self.assertIsNone(read_head(b"GET / HTTP/1.1\r\n\r\n"))

    def test_bounds(self) -> None:
        """A hundred headers and 16 KiB are read, and no more."""
        start = b"GET / HTTP/1.1\r\nHost: x\r\n"
        for count, is_read in ((99, True), (100, False)):
            head = start + b"X: y\r\n" * count + b"\r\n"
            self.assertEqual(read_head(head) is not None, is_read)
        for size, is_read in ((16384, True), (16385, False)):
            head = start + b"X: " + b"y" * (size - len(start) - 7) + b"\r\n\r\n"
            self.assertEqual((len(head), read_head(head) is not None), (size, is_read))

    @settings(deadline=None)
    @given(st.binary(max_size=60), st.integers(0, len(HEAD)))
    def test_anything(self, data: bytes, place: int) -> None:
        """Whatever octets come, a head with other lines than it had is never made of them."""
        head = read_head(HEAD[:place] + data + HEAD[place:])
        if head is not None:
            values = [value for values in head.headers.values() for value in values]
            octets = b"".join([head.method, head.target, *head.headers, *values])
            self.assertNotRegex(octets, rb"[\r\n\0]")
            self.assertEqual(len(head.values(b"host")), 1)
