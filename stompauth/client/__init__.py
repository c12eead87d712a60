"""A client for Twisted services: from a token to a STOMP session, and back to one when it is lost.

:func:`connect` makes one session; :class:`StompClientService` keeps one. Errors are
:exc:`~stompauth.errors.ClientError` and its kin.
"""

from stompauth.client.connector import connect
from stompauth.client.endpoints import ClientEndpoints
from stompauth.client.service import LastingSubscription, StompClientService
from stompauth.client.settings import ClientSettings
from stompauth.client.stomp_client import StompClient
from stompauth.client.subscription import Message, Subscription
from stompauth.errors import ClientError, ConnectFailed, Disconnected, FrameRefused, NoReceipt

__all__ = [
    "ClientEndpoints",
    "ClientError",
    "ClientSettings",
    "ConnectFailed",
    "Disconnected",
    "FrameRefused",
    "LastingSubscription",
    "Message",
    "NoReceipt",
    "StompClient",
    "StompClientService",
    "Subscription",
    "connect",
]
