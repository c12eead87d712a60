"""The configuration: TOML and the environment, read into values that the parts are built from."""

from stompauth.config.effective import effective
from stompauth.config.listener import Listener
from stompauth.config.reader import from_mapping
from stompauth.config.sources import Given, load
from stompauth.config.values import (
    BrokerConfig,
    ClusterConfig,
    Config,
    InterceptorConfig,
    JwtConfig,
    TicketsConfig,
    WebSocketConfig,
)

__all__ = [
    "BrokerConfig",
    "ClusterConfig",
    "Config",
    "Given",
    "InterceptorConfig",
    "JwtConfig",
    "Listener",
    "TicketsConfig",
    "WebSocketConfig",
    "effective",
    "from_mapping",
    "load",
]
