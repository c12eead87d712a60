"""Clients that read slowly, or not at all, with fast I/O and without it, and over TLS."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from stompauth.stomp.decoder import DecoderLimits, FrameDecoder
from tests.integration.configured import FOR_CLIENTS, ConfiguredServer, configured
from tests.integration.raw import CLOSE, PATIENCE, PING, PONG, RawWebSocket, status_of
from tests.wire import client_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stompauth.stomp.frame import Frame

SEND_BUFFER = 16 << 20


@pytest.fixture(
    scope="module",
    params=[(True, False), (True, True), (False, False), (False, True)],
    ids=["fast", "fast with TLS", "plain", "plain with TLS"],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConfiguredServer]:
    """A server with room for what a test sends."""
    fast_io, tls = request.param
    limits = {**FOR_CLIENTS, "heartbeat": [0, 0], "send_buffer": SEND_BUFFER}
    with configured(
        tmp_path_factory.mktemp("slow"), fast_io=fast_io, tls=tls, **limits
    ) as configured_server:
        yield configured_server


def connect(server: ConfiguredServer, user: str, *, deaf: bool = False) -> RawWebSocket:
    """Open a session."""
    token = server.token(user)
    client = RawWebSocket(server, token, deaf=deaf)
    client.connect(token)
    return client


def wait_for_log(server: ConfiguredServer, pattern: str) -> None:
    """Wait for a line of the server's log."""
    end = time.monotonic() + PATIENCE
    while not re.search(pattern, server.log.read_text("utf-8")):
        assert time.monotonic() < end, pattern
        time.sleep(0.05)


def stomp(frame: tuple[int, bytes] | None) -> Frame:
    """Read a STOMP frame off a WebSocket frame."""
    assert frame is not None
    decoder = FrameDecoder(DecoderLimits(0, 0, 0))
    decoder.version = "1.2"
    decoder.feed(frame[1])
    read = decoder.next_frame()
    assert read is not None, frame
    return read


def publish(client: RawWebSocket, topic: str, size: int, times: int) -> list[bytes]:
    """Publish bodies of that size, each one with its number, and wait until all are accepted."""
    bodies = []
    for number in range(times):
        body = (b"%d." % number).ljust(size, b"x")
        bodies.append(body)
        receipt = {"receipt": "all"} if number == times - 1 else {}
        client.send_stomp("SEND", {"destination": topic, **receipt}, body)
    assert stomp(client.frame()).command == "RECEIPT"
    return bodies


@pytest.mark.parametrize("kilobytes", [1, 40, 200])
def test_half_slow(server: ConfiguredServer, kilobytes: int) -> None:
    """RS-1: who reads late and little at a time gets everything in order, to the last frame."""
    size = kilobytes * 1024
    times = min(2000, (SEND_BUFFER // 2) // size)
    topic = f"/topic/{kilobytes}"
    with connect(server, "slow", deaf=True) as slow, connect(server, "bob") as sender:
        slow.send_stomp("SUBSCRIBE", {"id": "1", "destination": topic, "receipt": "s"})
        assert stomp(slow.frame()).command == "RECEIPT"
        bodies = publish(sender, topic, size, times // 2)
        slow.send(client_frame(PING, b"between"))
        time.sleep(0.2)
        bodies += publish(sender, topic, size, times // 2)
        slow.send_stomp("DISCONNECT", {"receipt": "bye"})
        read: list[bytes] = []
        others = []
        while (frame := slow.frame()) is not None and frame[0] != CLOSE:
            if frame[0] == PONG:
                others.append((len(read), "pong"))
            elif (message := stomp(frame)).command == "MESSAGE":
                read.append(message.body)
            else:
                others.append((len(read), message.headers["receipt-id"]))
            if len(read) % 50 == 1:
                time.sleep(0.005)
        assert read == bodies
        assert frame is not None
        assert status_of(frame[1]) == 1000
        assert [name for _, name in others] == ["pong", "bye"]
        assert others[-1][0] == len(bodies), "the receipt has overtaken messages"


def test_stalled(server: ConfiguredServer) -> None:
    """RS-1: who reads nothing is cut off, and others get everything meanwhile."""
    size, times = 40 << 10, 2 * SEND_BUFFER // (40 << 10)
    with (
        connect(server, "deaf", deaf=True) as deaf,
        connect(server, "fast") as fast,
        connect(server, "bob") as sender,
    ):
        for client in (deaf, fast):
            client.send_stomp(
                "SUBSCRIBE", {"id": "1", "destination": "/topic/stalled", "receipt": "s"}
            )
            assert stomp(client.frame()).command == "RECEIPT"
        bodies = []
        for start in range(0, times, 50):
            bodies += publish(sender, "/topic/stalled", size, 50)
            for body in bodies[start:]:
                assert stomp(fast.frame()).body == body
        wait_for_log(server, r"of deaf at .* ended: slow-consumer")
        assert deaf.is_dropped()
