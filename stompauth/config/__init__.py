"""The configuration: TOML, read into values that the parts are built from."""

from stompauth.config.effective import effective
from stompauth.config.listener import Listener
from stompauth.config.reader import NOT_YET, from_mapping, load
from stompauth.config.values import (
    BrokerConfig,
    Config,
    InterceptorConfig,
    JwtConfig,
    TicketsConfig,
    WebSocketConfig,
)

__all__ = [
    "NOT_YET",
    "BrokerConfig",
    "Config",
    "InterceptorConfig",
    "JwtConfig",
    "Listener",
    "TicketsConfig",
    "WebSocketConfig",
    "effective",
    "from_mapping",
    "load",
]
