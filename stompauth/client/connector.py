"""From a token to a session: ticket, WebSocket, CONNECT."""

from __future__ import annotations

from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.web.client import URI, Agent, ResponseFailed

from stompauth.client.endpoints import ClientEndpoints
from stompauth.client.settings import ClientSettings
from stompauth.client.stomp_client import StompClient
from stompauth.client.ticket import fetch_ticket
from stompauth.client.websocket import open_websocket
from stompauth.errors import ClientError, ConnectFailed
from stompauth.identity.bearer import parse_bearer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from twisted.web.iweb import IAgentEndpointFactory

    from stompauth.errors import Disconnected, FrameRefused


def connect(
    reactor: Any,
    url: str,
    token: Callable[[], str | Awaitable[str]],
    *,
    settings: ClientSettings | None = None,
    endpoints: IAgentEndpointFactory | None = None,
    on_disconnect: Callable[[Disconnected], object] | None = None,
    on_notice: Callable[[FrameRefused], object] | None = None,
) -> Deferred[StompClient]:
    """Make a session with a server: trade a token for a ticket, open the WebSocket, CONNECT.

    :param reactor: the reactor; with ``endpoints`` of your own a clock is enough.
    :param url: the server's, such as ``https://chat.example.com``. A token goes out over plain
        ``http`` to this machine only, unless you say by ``endpoints`` how it gets elsewhere.
    :param token: returns a JWT, or what gives one when awaited; called for each connection, and
        again before the session ends.
    :param endpoints: how to reach the server; by default :class:`.ClientEndpoints`.
    :param on_disconnect: called once when the session is over, with the reason.
    :param on_notice: called with what the server refuses and nobody waits for, as a subscription
        that a new token does not allow any more; by default it is logged.
    :return: fires when the server has accepted the token.
    :raises ValueError: the URL cannot be used.
    :raises ConnectFailed: by the Deferred.
    :raises Exception: by the Deferred: whatever ``token`` raises.
    """
    connector = Connector(reactor, url, token, settings or ClientSettings(), endpoints)
    return connector.connect(on_disconnect, on_notice)


class Connector:
    """Makes sessions with one server; parameters are those of :func:`connect`."""

    def __init__(
        self,
        reactor: Any,
        url: str,
        token: Callable[[], str | Awaitable[str]],
        settings: ClientSettings,
        endpoints: IAgentEndpointFactory | None,
    ) -> None:
        self.url = url
        self._clock = reactor
        self._token = token
        self._settings = settings
        self._ticket_url = urljoin(url, settings.ticket_path)
        websocket_url = urljoin(url, settings.websocket_path)
        for each in (self._ticket_url, websocket_url):
            _check_url(each, plain_anywhere=endpoints is not None)
        self._endpoints: Any = endpoints or ClientEndpoints(reactor)
        self._uri = URI.fromBytes(websocket_url.encode("ascii"))
        self._agent = Agent.usingEndpointFactory(reactor, self._endpoints)

    def connect(
        self,
        on_disconnect: Callable[[Disconnected], object] | None = None,
        on_notice: Callable[[FrameRefused], object] | None = None,
    ) -> Deferred[StompClient]:
        """Make a session; see :func:`connect`."""
        return Deferred.fromCoroutine(self._connect_in_time(on_disconnect, on_notice))

    async def _connect_in_time(
        self,
        on_disconnect: Callable[[Disconnected], object] | None,
        on_notice: Callable[[FrameRefused], object] | None,
    ) -> StompClient:
        connecting = Deferred.fromCoroutine(self._connect(on_disconnect, on_notice))
        connecting.addTimeout(self._settings.connect_timeout, self._clock)
        try:
            return await connecting
        except defer.TimeoutError:
            raise ConnectFailed("connect-timeout") from None

    async def _connect(
        self,
        on_disconnect: Callable[[Disconnected], object] | None,
        on_notice: Callable[[FrameRefused], object] | None,
    ) -> StompClient:
        settings = self._settings
        token = await self.ask_for_token()
        ticket = await self.fetch_ticket(token)
        with _network():
            websocket = await open_websocket(
                self._endpoints.endpointForURI(self._uri),
                self._uri,
                ticket,
                origin=settings.origin,
                frame=settings.frame,
                clock=self._clock,
            )
        client = StompClient(
            websocket,
            token=self.ask_for_token,
            clock=self._clock,
            settings=settings,
            on_disconnect=on_disconnect,
            on_notice=on_notice,
        )
        await client._begin(token, self._uri.host.decode("ascii"))
        return client

    async def ask_for_token(self) -> str:
        """Have a token of the caller's.

        :raises ValueError: what it gave cannot be one.
        """
        token = self._token()
        if not isinstance(token, str):
            token = await token
        if parse_bearer(f"Bearer {token}") is None:
            raise ValueError("what should be a token cannot be one")
        return token

    async def fetch_ticket(self, token: str) -> str:
        """Trade a token for a ticket.

        :raises ConnectFailed: there is none.
        """
        with _network():
            return await fetch_ticket(self._agent, self._ticket_url, token, self._settings.origin)


@contextmanager
def _network() -> Iterator[None]:
    """Make one error of the many that the network has, but for our own cancelling."""
    try:
        yield
    except ClientError:
        raise
    except Exception as error:
        if _is_cancelled(error):
            raise CancelledError from error
        raise ConnectFailed("unreachable") from error


def _is_cancelled(error: Exception) -> bool:
    """Whether this is how Agent or an endpoint tells that it was cancelled."""
    if isinstance(error, ResponseFailed):
        return any(_is_cancelled(reason.value) for reason in error.reasons)
    return isinstance(error, CancelledError | ConnectingCancelledError)


def _check_url(url: str, *, plain_anywhere: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
        raise ValueError("a server's URL begins with https://")
    if parts.username is not None or parts.query or parts.fragment or not url.isascii():
        raise ValueError("a server's URL has a host, a port and a path only")
    if parts.scheme in ("http", "ws") and not plain_anywhere and not _is_here(parts.hostname):
        raise ValueError("a token goes to another machine by https:// only")


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
