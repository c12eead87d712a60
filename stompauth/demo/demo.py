"""The demo: made-up users, a page to chat on, and everything between them for real.

It is for one person on one machine. Whoever asks is signed in, so it listens on loopback only.
"""

from __future__ import annotations

import json
import secrets
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jwt
from twisted.internet.address import IPv6Address
from twisted.logger import Logger
from twisted.web.resource import Resource

from stompauth.application import StompAuth
from stompauth.authorization.rules import Rules, allow
from stompauth.broker.simple import SimpleBroker
from stompauth.config import Listener
from stompauth.errors import ConfigError, Denied, Mistake
from stompauth.handshake.origins import OriginPolicy
from stompauth.handshake.page import TYPES, Content, PageResource
from stompauth.handshake.responses import deny, json_body, set_security_headers
from stompauth.handshake.site import PathRouter, StrictSite
from stompauth.identity.keys import StaticKey
from stompauth.identity.verifier import JWTVerifier
from stompauth.listening import ListeningService
from stompauth.tickets.memory import MemoryTicketStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import IAddress, IReactorTime
    from twisted.web.server import Request

#: The users, and the rooms that each is a member of. That carol is not in the library is there to
#: be seen.
ROOMS: Final = {
    "alice": ("lobby", "library"),
    "bob": ("lobby", "library"),
    "carol": ("lobby",),
}

LISTEN: Final = ("tcp:8080:interface=127.0.0.1",)

_STATIC: Final = Path(__file__).with_name("static")
_STOMPJS: Final = Path("node_modules/@stomp/stompjs/bundles/stomp.umd.min.js")

#: stompjs sends its heart-beats from a worker, which it makes of a blob.
_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; connect-src 'self' ws:; worker-src blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def make_demo_service(listen: Sequence[str] | None, reactor: Any) -> IService:
    """Make the whole demo.

    :param listen: Twisted's endpoint descriptions, or None for :data:`LISTEN`.
    :raises ConfigError: one of them is not TCP on loopback.
    """
    endpoints = tuple(listen or LISTEN)
    if mistakes := [Mistake("listen", text) for text in map(_mistake, endpoints) if text]:
        raise ConfigError(mistakes)
    issuer = TokenIssuer(reactor)
    origins = OriginPolicy([])
    application = StompAuth(
        verifier=issuer.verifier(),
        tickets=MemoryTicketStore(reactor),
        broker=SimpleBroker(clock=reactor),
        rules=demo_rules(),
        origins=origins,
        clock=reactor,
        stamp_sender=True,
    )
    here = Path.cwd()
    stompjs = Stompjs(here, [here, *here.parents, *_STATIC.parents])
    files = {
        f"/{file.name}".encode(): PageResource(partial(Content.of, file), _CONTENT_SECURITY_POLICY)
        for file in _STATIC.iterdir()
        if file.suffix in TYPES
    }
    root = PathRouter(
        {
            **files,
            b"/": files[b"/index.html"],
            b"/stomp.js": PageResource(stompjs.content, _CONTENT_SECURITY_POLICY),
            b"/demo/sign-in": SignInResource(issuer, origins),
            **application.resources(),
        }
    )
    site = StrictSite(root, reactor, application.limits.http_timeout)

    def allow_pages_at(address: IAddress) -> None:
        origins.add(_origin("[::1]" if isinstance(address, IPv6Address) else "127.0.0.1", address))
        origins.add(_origin("localhost", address))

    stompjs.warn_if_missing()
    return ListeningService(endpoints, site, application.service(), reactor, allow_pages_at)


def demo_rules() -> Rules:
    """What the users may do: be in their rooms, and write to each other."""
    return Rules(
        [
            allow(
                *("subscribe", "send", "/topic/rooms/{room}"),
                authorities=["chat"],
                claims={"rooms": "{room}"},
                name="room members",
            ),
            allow("subscribe", "/user/queue/private", name="own private messages"),
            allow(
                *("send", "/user/{name}/queue/private"),
                authorities=["chat"],
                name="private messages to anybody",
            ),
        ]
    )


def _mistake(endpoint: str) -> str:
    """What is wrong with an endpoint for the demo, or an empty text."""
    try:
        listener = Listener.parse(endpoint)
    except ValueError as error:
        return f"{endpoint} {error}"
    if listener.kind in ("tcp", "tcp6") and listener.is_loopback and not listener.is_haproxy:
        return ""
    return f"{endpoint} is not for the demo, which signs in whoever asks: only tcp: on 127.0.0.1"


def _origin(host: str, address: Any) -> str:
    """The origin of pages from there, as a browser writes it: without the default port."""
    return f"http://{host}" if address.port == 80 else f"http://{host}:{address.port}"


class TokenIssuer:
    """Signs tokens for the made-up users, with a key that ends with the process.

    :param clock: what time it is.
    """

    issuer = "stompauth-demo"
    audience = "stompauth-demo"
    lifetime = 300

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def token(self, user: str) -> str:
        """A token for one of the :data:`ROOMS`' users, good for :attr:`lifetime` seconds."""
        now = int(self._clock.seconds())
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": user,
            "iat": now,
            "exp": now + self.lifetime,
            "jti": secrets.token_urlsafe(12),
            "scope": "chat",
            "rooms": list(ROOMS[user]),
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    def verifier(self) -> JWTVerifier:
        """What accepts these tokens and no others."""
        return JWTVerifier(
            StaticKey.hmac(self._key),
            algorithms=["HS256"],
            issuer=self.issuer,
            audience=self.audience,
            clock=self._clock,
        )


class SignInResource(Resource):
    """``POST {"user": "alice"}`` for ``{"token": JWT}``: a login without passwords.

    :param origins: the pages that may ask; as at the ticket endpoint, no Origin at all will do.
    """

    isLeaf = True

    def __init__(self, issuer: TokenIssuer, origins: OriginPolicy) -> None:
        super().__init__()
        self._issuer = issuer
        self._origins = origins

    def render(self, request: Request) -> bytes:
        """Answer any method."""
        try:
            user = self._user(request)
        except Denied as denied:
            if denied.status == 405:
                request.responseHeaders.setRawHeaders("Allow", ["POST"])
            return deny(request, denied)
        set_security_headers(request)
        return json_body(request, {"token": self._issuer.token(user)})

    def _user(self, request: Request) -> str:
        if request.method != b"POST":
            raise Denied(405, "method")
        if getattr(request, "body_too_large", False):
            raise Denied(413, "too-large")
        if not self._origins.allows(request.requestHeaders.getRawHeaders(b"Origin", [])):
            raise Denied(403, "origin")
        try:
            body = json.loads(request.content.read() if request.content else b"")
        except (ValueError, RecursionError):
            raise Denied(400, "malformed") from None
        user = body.get("user") if isinstance(body, dict) else None
        if not isinstance(user, str) or user not in ROOMS:
            raise Denied(400, "unknown-user")
        return user


class Stompjs:
    """stompjs where npm has put it; looked for each time, as it may be installed at any time.

    :param home: where a reader is told to run npm.
    :param folders: where a ``node_modules`` may be.
    """

    _log = Logger()

    def __init__(self, home: Path, folders: Iterable[Path]) -> None:
        self._advice = f"stompjs is missing: run `npm install @stomp/stompjs` in {home}"
        self._files = [folder / _STOMPJS for folder in folders]

    def content(self) -> Content:
        """The script; or, with 404, what to do for it."""
        file = self._find()
        if file is not None:
            return Content.of(file)
        advice = f"{self._advice}, then reload this page."
        return Content("text/plain; charset=utf-8", advice.encode(), 404)

    def warn_if_missing(self) -> None:
        """Log what to do, unless it is there."""
        if self._find() is None:
            self._log.warn("{advice}", advice=self._advice)

    def _find(self) -> Path | None:
        return next((file for file in self._files if file.is_file()), None)
