"""STOMP over WebSocket for Twisted, with clients that are really authenticated.

The parts are put together in :class:`StompAuth`; everything that an application needs to do so is
here. Plug points are in :mod:`stompauth.interfaces`, errors in :mod:`stompauth.errors`.
"""

from stompauth.application import Revoked, StompAuth
from stompauth.authorization.decision import Decision
from stompauth.authorization.destination import Destination
from stompauth.authorization.http import HTTPAuthorizer
from stompauth.authorization.rules import Rules, allow, deny
from stompauth.broker.distributed import DistributedBroker
from stompauth.broker.redis_bus import RedisBus
from stompauth.broker.simple import SimpleBroker
from stompauth.cluster.cluster import Cluster
from stompauth.cluster.redis import redis_cluster
from stompauth.control import ControlResource
from stompauth.errors import (
    BadToken,
    Denied,
    Refused,
    TicketRefused,
    TicketReplayed,
    TokenExpired,
    TokenRevoked,
    Unavailable,
)
from stompauth.handshake.admission import HandshakeRequest
from stompauth.handshake.origins import OriginPolicy
from stompauth.handshake.site import PathRouter, StrictSite
from stompauth.identity.keys import JWKSet, StaticKey, jwks_agent
from stompauth.identity.logout import LogoutVerifier
from stompauth.identity.principal import Principal
from stompauth.identity.verifier import JWTVerifier
from stompauth.interceptors.interceptor import Interceptor
from stompauth.operations.operations import Operations
from stompauth.relay.broker import BrokerRelay
from stompauth.session.session import Session
from stompauth.settings import Limits, TicketSettings, WebSocketSettings
from stompauth.stomp.frame import Frame
from stompauth.tickets.grant import TicketGrant
from stompauth.tickets.memory import MemoryTicketStore
from stompauth.tickets.redis import RedisTicketStore
from stompauth.version import __version__

__all__ = [
    "BadToken",
    "BrokerRelay",
    "Cluster",
    "ControlResource",
    "Decision",
    "Denied",
    "Destination",
    "DistributedBroker",
    "Frame",
    "HTTPAuthorizer",
    "HandshakeRequest",
    "Interceptor",
    "JWKSet",
    "JWTVerifier",
    "Limits",
    "LogoutVerifier",
    "MemoryTicketStore",
    "Operations",
    "OriginPolicy",
    "PathRouter",
    "Principal",
    "RedisBus",
    "RedisTicketStore",
    "Refused",
    "Revoked",
    "Rules",
    "Session",
    "SimpleBroker",
    "StaticKey",
    "StompAuth",
    "StrictSite",
    "TicketGrant",
    "TicketRefused",
    "TicketReplayed",
    "TicketSettings",
    "TokenExpired",
    "TokenRevoked",
    "Unavailable",
    "WebSocketSettings",
    "__version__",
    "allow",
    "deny",
    "jwks_agent",
    "redis_cluster",
]
