"""STOMP over WebSocket for Twisted, with clients that are really authenticated.

The parts are put together in :class:`StompAuth`; everything that an application needs to do so is
here. Plug points are in :mod:`stompauth.interfaces`, errors in :mod:`stompauth.errors`.
"""

from stompauth.application import StompAuth
from stompauth.authorization.decision import Decision
from stompauth.authorization.destination import Destination
from stompauth.authorization.rules import Rules, allow, deny
from stompauth.broker.simple import SimpleBroker
from stompauth.control import ControlResource
from stompauth.errors import BadToken, Denied, Refused, TokenExpired, Unavailable
from stompauth.handshake.site import PathRouter, StrictSite
from stompauth.identity.keys import JWKSet, StaticKey, jwks_agent
from stompauth.identity.logout import LogoutVerifier
from stompauth.identity.principal import Principal
from stompauth.identity.verifier import JWTVerifier
from stompauth.interceptors.interceptor import Interceptor
from stompauth.session.session import Session
from stompauth.settings import Limits, TicketSettings, WebSocketSettings
from stompauth.stomp.frame import Frame
from stompauth.tickets.grant import TicketGrant
from stompauth.tickets.memory import MemoryTicketStore
from stompauth.version import __version__

__all__ = [
    "BadToken",
    "ControlResource",
    "Decision",
    "Denied",
    "Destination",
    "Frame",
    "Interceptor",
    "JWKSet",
    "JWTVerifier",
    "Limits",
    "LogoutVerifier",
    "MemoryTicketStore",
    "PathRouter",
    "Principal",
    "Refused",
    "Rules",
    "Session",
    "SimpleBroker",
    "StaticKey",
    "StompAuth",
    "StrictSite",
    "TicketGrant",
    "TicketSettings",
    "TokenExpired",
    "Unavailable",
    "WebSocketSettings",
    "__version__",
    "allow",
    "deny",
    "jwks_agent",
]
