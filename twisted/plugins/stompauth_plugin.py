"""The `stompauth` command of `twistd` and `twist`."""

from twisted.application.service import ServiceMaker

stompauth = ServiceMaker(
    "stompauth",
    "stompauth.tap",
    "STOMP over WebSocket, with clients that are really authenticated",
    "stompauth",
)
