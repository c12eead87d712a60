"""The two ends of a STOMP connection: which frame may come when.

The state is that of the connection, and the same at both ends; two tables say what a frame of the
client, and one of the server, makes of it. A frame that is not in its table must not come.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final

from stompauth.errors import LocalProtocolError, RemoteProtocolError
from stompauth.stomp import heartbeat
from stompauth.stomp.decoder import DecoderLimits, FrameDecoder
from stompauth.stomp.encoder import encode, encode_receipt
from stompauth.stomp.frame import (
    BODY_COMMANDS,
    UNKNOWN_COMMANDS,
    VERSIONS,
    Frame,
    lacks_header,
    refusal,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from stompauth.stomp.heartbeat import HeartBeat


class State(Enum):
    """Where a connection is.

    :cvar AWAITING_CONNECT: the client has to begin.
    :cvar CONNECTING: CONNECT was sent, and not answered.
    :cvar CONNECTED: it was answered with CONNECTED.
    :cvar DISCONNECTING: the client sent DISCONNECT, its last frame.
    :cvar CLOSED: after an ERROR, or when an end broke the specification.
    """

    AWAITING_CONNECT = auto()
    CONNECTING = auto()
    CONNECTED = auto()
    DISCONNECTING = auto()
    CLOSED = auto()


_CLIENT_FRAMES: Final[dict[State, dict[str, State]]] = {
    State.AWAITING_CONNECT: {
        "CONNECT": State.CONNECTING,
        "STOMP": State.CONNECTING,
    },
    State.CONNECTED: {
        "SEND": State.CONNECTED,
        "SUBSCRIBE": State.CONNECTED,
        "UNSUBSCRIBE": State.CONNECTED,
        "ACK": State.CONNECTED,
        "NACK": State.CONNECTED,
        "BEGIN": State.CONNECTED,
        "COMMIT": State.CONNECTED,
        "ABORT": State.CONNECTED,
        "DISCONNECT": State.DISCONNECTING,
    },
}

_SERVER_FRAMES: Final[dict[State, dict[str, State]]] = {
    State.AWAITING_CONNECT: {
        "ERROR": State.CLOSED,
    },
    State.CONNECTING: {
        "CONNECTED": State.CONNECTED,
        "ERROR": State.CLOSED,
    },
    State.CONNECTED: {
        "MESSAGE": State.CONNECTED,
        "RECEIPT": State.CONNECTED,
        "ERROR": State.CLOSED,
    },
    State.DISCONNECTING: {
        "MESSAGE": State.DISCONNECTING,
        "RECEIPT": State.DISCONNECTING,
        "ERROR": State.CLOSED,
    },
}


class _Connection:
    """What both ends have in common."""

    __slots__ = ("_decoder", "_heartbeat", "_peer_may", "heartbeat", "state", "version")

    _peer_frames: ClassVar[Mapping[State, Mapping[str, State]]]
    _deaf: ClassVar[tuple[State, ...]]

    def __init__(self, limits: DecoderLimits, heartbeat: tuple[float, float]) -> None:
        self._decoder = FrameDecoder(limits)
        self._heartbeat = heartbeat
        self.version: str | None = None
        self.heartbeat: HeartBeat | None = None
        self._enter(State.AWAITING_CONNECT)

    def _enter(self, state: State) -> None:
        self.state = state
        self._peer_may = self._peer_frames.get(state)
        if state in self._deaf:
            self._decoder.clear()

    @property
    def mid_frame(self) -> bool:
        """Whether the peer has begun a frame and not ended it.

        Holds after :meth:`next_frame` gave None; what waits for an answer to CONNECT does not
        count.
        """
        return self._peer_may is not None and self._decoder.mid_frame

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer, without looking at them; :meth:`next_frame` does that.

        Bytes behind the peer's last frame are dropped.
        """
        if self.state not in self._deaf:
            self._decoder.feed(data)

    def next_frame(self) -> Frame | None:
        """Return the next frame of the peer, or None if there is none now.

        The frame is good in this state and version, has the headers that it must have, and no body
        where it may have none.

        :raises RemoteProtocolError: the peer broke the specification. The connection is closed then
            and all that had been received is dropped. ``headers`` of the error belong into the
            ERROR; ``receipt-id`` is among them if the frame asked for a receipt.
        """
        peer_may = self._peer_may
        if peer_may is None:
            return None
        try:
            frame = self._decoder.next_frame()
            if frame is None:
                return None
            state = peer_may.get(frame.command)
            if state is self.state and frame.head is not None:
                return frame
            if state is None:
                raise refusal("unexpected-frame", frame)
            # Most frames are SENDs, of which nothing else can be wrong.
            if frame.command != "SEND" or "destination" not in frame.headers:
                self._check(frame)
            if state is not self.state:
                self._enter(state)
        except RemoteProtocolError:
            self._enter(State.CLOSED)
            raise
        return frame

    def _check(self, frame: Frame) -> None:
        if self.version is None:
            self._open(frame)
        # Only an ERROR before CONNECTED comes without a version.
        version = self.version or "1.0"
        if frame.command in UNKNOWN_COMMANDS[version]:
            raise refusal("unexpected-frame", frame)
        if lacks_header(frame, version):
            raise refusal("missing-header", frame)
        if frame.body and frame.command not in BODY_COMMANDS:
            # 1.0 did not forbid a body; nobody reads it.
            if version != "1.0":
                raise refusal("malformed", frame)
            frame.body = b""

    def _open(self, frame: Frame) -> None:
        """Read the handshake that the peer's first frame holds."""
        raise NotImplementedError


class ServerConnection(_Connection):
    """The server's end.

    After CONNECT nothing is decoded until :meth:`accept`; what a client sends ahead waits, and has
    no effect if it is not accepted. How much that may be is for the caller to bound, who can pause
    the transport.

    :ivar state: see :class:`State`.
    :ivar version: the version for the client, None before its CONNECT.
    :ivar heartbeat: what was agreed upon, None before :meth:`accept` and if that is nothing.
    """

    __slots__ = ("_client_heartbeat", "_limits")

    _peer_frames = _CLIENT_FRAMES
    _deaf = (State.DISCONNECTING, State.CLOSED)

    def __init__(
        self,
        limits: DecoderLimits,
        limits_before_connect: DecoderLimits,
        heartbeat: tuple[float, float],
    ) -> None:
        """Begin.

        :param limits: of frames in a session.
        :param limits_before_connect: of the frame that begins it.
        :param heartbeat: seconds between two heart-beats that we send, and between two that we
            want; 0 for never.
        """
        super().__init__(limits_before_connect, heartbeat)
        self._limits = limits
        self._client_heartbeat = (0, 0)

    def _open(self, frame: Frame) -> None:
        headers = frame.headers
        # STOMP 1.2, "receipt": any frame but CONNECT.
        headers.pop("receipt", None)
        version = _best_version(headers.get("accept-version", "1.0"))
        if version is None:
            raise RemoteProtocolError("unknown-version", {"version": ",".join(VERSIONS)})
        self.version = self._decoder.version = version
        self._client_heartbeat = heartbeat.parse(headers.get("heart-beat"))

    def accept(self, now: float, headers: Mapping[str, str], jitter: float = 0.0) -> bytes:
        """Answer CONNECT: the session begins, heart-beats with it, and its limits hold.

        :param now: the time, in seconds.
        :param headers: of CONNECTED, but ``version`` and ``heart-beat``, which are added.
        :param jitter: see :class:`~stompauth.stomp.heartbeat.HeartBeat`.
        :return: the bytes of CONNECTED.
        :raises LocalProtocolError: no CONNECT waits, or a header cannot be expressed.
        """
        if self.state is not State.CONNECTING or self.version is None:
            raise LocalProtocolError("no CONNECT waits for an answer")
        ours = {"version": self.version, "heart-beat": heartbeat.write(self._heartbeat)}
        data = encode(Frame("CONNECTED", {**ours, **headers, **ours}), self.version)
        agreed = heartbeat.negotiate(self._heartbeat, self._client_heartbeat, jitter)
        if agreed.send_every or agreed.expect_every:
            agreed.sent(now)
            agreed.received(now)
            self.heartbeat = agreed
        self._client_heartbeat = heartbeat.NEVER
        self._decoder.limits = self._limits
        self._enter(State.CONNECTED)
        return data

    def receipt(self, receipt_id: str) -> bytes:
        """Return the RECEIPT for a frame that asked for it.

        :raises LocalProtocolError: as for :meth:`encode`.
        """
        if self.version is None or self.state not in (State.CONNECTED, State.DISCONNECTING):
            raise LocalProtocolError("there is no session")
        return encode_receipt(receipt_id, self.version)

    def error(self, headers: Mapping[str, str], body: bytes) -> bytes:
        """Return an ERROR; the connection is closed by it.

        It may be made in every state, once. Before a version is agreed upon it is written as 1.0
        does: a text without backslashes and line ends reads the same in every version then.
        """
        data = encode(Frame("ERROR", dict(headers), body), self.version or "1.0")
        self._enter(State.CLOSED)
        return data

    def encode(self, frame: Frame) -> bytes:
        """Return the bytes of a MESSAGE or RECEIPT for this client.

        :raises LocalProtocolError: the frame may not be sent now.
        """
        if self.version is None or self.state not in (State.CONNECTED, State.DISCONNECTING):
            raise LocalProtocolError("there is no session")
        if frame.command not in ("MESSAGE", "RECEIPT"):
            raise LocalProtocolError(f"{frame.command} is not sent that way")
        return encode(frame, self.version)


class ClientConnection(_Connection):
    """The client's end.

    :ivar state: see :class:`State`.
    :ivar version: the version that the server chose, None before its CONNECTED.
    :ivar heartbeat: what was agreed upon, None before CONNECTED. It begins with the caller's first
        ``sent`` and ``received``.
    """

    __slots__ = ("_offered",)

    _peer_frames = _SERVER_FRAMES
    _deaf = (State.CLOSED,)

    def __init__(self, limits: DecoderLimits, heartbeat: tuple[float, float] = (0.0, 0.0)) -> None:
        """Begin.

        :param limits: of the server's frames.
        :param heartbeat: seconds between two heart-beats that we send, and between two that we
            want; 0 for never.
        """
        super().__init__(limits, heartbeat)
        self._offered: Collection[str] = ()

    def connect(self, headers: Mapping[str, str]) -> bytes:
        """Return the CONNECT that begins.

        :param headers: of CONNECT, but ``heart-beat``, which is added. Without an
            ``accept-version`` all versions are offered.
        :raises LocalProtocolError: it has begun already, or a header cannot be expressed.
        """
        if self.state is not State.AWAITING_CONNECT:
            raise LocalProtocolError("CONNECT is sent once")
        ours = {"heart-beat": heartbeat.write(self._heartbeat)}
        headers = {"accept-version": ",".join(VERSIONS), **headers, **ours}
        data = encode(Frame("CONNECT", headers), "1.0")
        self._offered = _split_versions(headers["accept-version"])
        self._enter(State.CONNECTING)
        return data

    def _open(self, frame: Frame) -> None:
        if frame.command == "ERROR":
            return
        headers = frame.headers
        version = headers.get("version", "1.0")
        if version not in VERSIONS or version not in self._offered:
            raise RemoteProtocolError("unknown-version")
        self.version = self._decoder.version = version
        self.heartbeat = heartbeat.negotiate(
            self._heartbeat, heartbeat.parse(headers.get("heart-beat"))
        )

    def send(self, frame: Frame) -> bytes:
        """Return the bytes of a frame for the server.

        :raises LocalProtocolError: the frame may not be sent now, does not exist in this version,
            or lacks a header that it must have.
        """
        state = _CLIENT_FRAMES.get(self.state, {}).get(frame.command)
        version = self.version
        if state is None or version is None or frame.command in UNKNOWN_COMMANDS[version]:
            raise LocalProtocolError(f"{frame.command} may not be sent now")
        if lacks_header(frame, version):
            raise LocalProtocolError(f"{frame.command} lacks a header")
        data = encode(frame, version)
        if state is not self.state:
            self._enter(state)
        return data


class PersistentClientConnection(ClientConnection):
    """The client's end, towards a server that goes on after an ERROR.

    STOMP 1.2 ("ERROR") has the server close the connection. RabbitMQ does not do so after each, and
    sends some that are of no consequence; so it is for the caller to decide.
    """

    __slots__ = ()

    _peer_frames = {
        **_SERVER_FRAMES,
        State.CONNECTED: {**_SERVER_FRAMES[State.CONNECTED], "ERROR": State.CONNECTED},
        State.DISCONNECTING: {**_SERVER_FRAMES[State.DISCONNECTING], "ERROR": State.DISCONNECTING},
    }


def _split_versions(accept_version: str) -> set[str]:
    return {version.strip(" ") for version in accept_version.split(",")}


@lru_cache(maxsize=32)
def _best_version(accept_version: str) -> str | None:
    """Return the best version that is in the list, or None."""
    offered = _split_versions(accept_version)
    return max((version for version in VERSIONS if version in offered), default=None)
