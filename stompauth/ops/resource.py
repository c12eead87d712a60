"""``/health``, ``/ready`` and ``/metrics``, for those who watch over the server."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from twisted.web.resource import Resource

from stompauth.errors import Denied
from stompauth.handshake.responses import deny, json_body, set_security_headers, unauthorized
from stompauth.handshake.site import StrictSite
from stompauth.identity.bearer import SecretToken

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from stompauth.application import StompAuth


class MetricsText(Protocol):
    """What :class:`.Metrics` is to this module."""

    content_type: bytes

    def start(self) -> None:
        """Begin to count."""

    def stop(self) -> None:
        """Count no more."""

    def text(self) -> bytes:
        """All metrics as they are now."""


class OpsResource(Resource):
    """What is asked over HTTP, by GET or HEAD.

    - ``/health``: 200 while the process answers.
    - ``/ready``: 200, or 503 while tickets, keys or the broker cannot be had, and while the server
      drains. That is all it says; the metrics tell which part it is.
    - ``/metrics``: for Prometheus; 404 without them.

    :param application: whose readiness it is.
    :param metrics: None where prometheus-client is not installed.
    :param token: what ``/metrics`` asks for as ``Authorization: Bearer``; empty for nothing.
    :raises ValueError: the token is too short, or cannot be sent.
    """

    isLeaf = True

    def __init__(
        self, application: StompAuth, metrics: MetricsText | None = None, token: str = ""
    ) -> None:
        super().__init__()
        self._token = SecretToken(token) if token else None
        self._application = application
        self._answers: dict[bytes, Callable[[Request], bytes]] = {
            b"/health": self._health,
            b"/ready": self._ready,
        }
        if metrics is not None:
            self._answers[b"/metrics"] = partial(self._show_metrics, metrics)

    def render(self, request: Request) -> bytes:
        """Answer any request."""
        try:
            answer = self._answers.get(request.path)
            if answer is None:
                raise Denied(404, "not-found")
            if request.method not in (b"GET", b"HEAD"):
                request.responseHeaders.setRawHeaders(b"Allow", [b"GET, HEAD"])
                raise Denied(405, "method")
            return answer(request)
        except Denied as denied:
            return deny(request, denied)

    def _health(self, request: Request) -> bytes:
        set_security_headers(request)
        return json_body(request, {"up": True})

    def _ready(self, request: Request) -> bytes:
        set_security_headers(request)
        ready = all(self._application.readiness().values())
        if not ready:
            request.setResponseCode(503)
        return json_body(request, {"ready": ready})

    def _show_metrics(self, metrics: MetricsText, request: Request) -> bytes:
        self._authenticate(request)
        set_security_headers(request)
        request.responseHeaders.setRawHeaders(b"Content-Type", [metrics.content_type])
        return metrics.text()

    def _authenticate(self, request: Request) -> None:
        """OP-1: with a token, nobody reads the metrics without it."""
        values = request.requestHeaders.getRawHeaders(b"Authorization", [])
        if self._token is not None and not self._token.is_in(values):
            raise unauthorized(request, token_sent=bool(values))


class OpsSite(StrictSite):
    """The resource behind a listener; the metrics count while there is one.

    :param application: whose it is.
    :param metrics: None where prometheus-client is not installed.
    :param token: see :class:`OpsResource`.
    :param http_timeout: seconds that a whole request may take.
    """

    def __init__(
        self,
        application: StompAuth,
        clock: IReactorTime,
        metrics: MetricsText | None,
        token: str = "",
        http_timeout: float = 10,
    ) -> None:
        super().__init__(
            OpsResource(application, metrics, token), clock, http_timeout, connections=100
        )
        self._metrics = metrics

    def startFactory(self) -> None:
        """Begin to count, with the first listener."""
        super().startFactory()
        if self._metrics is not None:
            self._metrics.start()

    def stopFactory(self) -> None:
        """Count no more, after the last one."""
        if self._metrics is not None:
            self._metrics.stop()
        super().stopFactory()
