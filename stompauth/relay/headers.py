"""Which headers go to RabbitMQ, and which come back.

RabbitMQ reads many headers for itself: arguments of queues, properties of AMQP, ``user-id``. Two of
them mean there what they mean here and go as they are. All others go behind a prefix, where nothing
is read and nothing lost; on the way back there is nothing else that is believed.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from stompauth.broker.message import Message
from stompauth.errors import Refused
from stompauth.session.firewall import pass_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stompauth.authorization.destination import Destination

#: What stands before the name of a custom header at RabbitMQ.
PREFIX: Final = "app-"

_ID: Final = "stompauth-id"
_EXPIRES: Final = "stompauth-expires"

#: Properties of AMQP that go as they are, if they are short enough.
_PROPERTIES: Final = ("content-type", "correlation-id")

#: Bytes of AMQP's short strings: names of headers, and those properties.
_SHORT: Final = 255

_SOUND_ID: Final = re.compile(r"[\x21-\x7e]{1,255}")


def to_broker(message: Message, address: str, now: float) -> dict[str, str]:
    """The headers of the SEND that carries the message on.

    :param address: where it goes.
    :param now: seconds since the epoch.
    :raises Refused: ``bad-header`` for a name that AMQP has no room for.
    """
    headers = {"destination": address, _ID: message.message_id}
    if address.startswith("/queue/"):
        headers["persistent"] = "true"
    if message.expires is not None:
        headers[_EXPIRES] = repr(message.expires)
        headers["expiration"] = str(max(0, math.ceil((message.expires - now) * 1000)))
    for name, value in message.headers.items():
        if name in _PROPERTIES and len(value.encode()) <= _SHORT:
            headers[name] = value
            continue
        if len(name.encode()) > _SHORT - len(PREFIX):
            raise Refused("bad-header")
        headers[PREFIX + name] = value
    return headers


def from_broker(
    headers: Mapping[str, str], body: bytes, destination: Destination, shown: str
) -> Message:
    """The message that a MESSAGE carries.

    It has the id that the sender's node gave it, the same at every delivery. Another application
    may give it one by AMQP's ``message-id``.

    :param shown: the destination that receivers see.
    """
    passed = {name: headers[name] for name in _PROPERTIES if name in headers}
    for name, value in headers.items():
        if name.startswith(PREFIX):
            passed[name.removeprefix(PREFIX)] = value
    expires = _expires(headers.get(_EXPIRES))
    reason = headers.get("x-first-death-reason")
    if reason is not None:
        # A dead letter stays until somebody takes it.
        expires = None
        passed["dlq-reason"] = "expired" if reason == "expired" else "max-deliveries"
        passed["dlq-origin"] = "/queue/" + headers.get("x-first-death-queue", "")
    message_id = headers.get(_ID) or headers.get("amqp-message-id", "")
    message = Message(
        destination,
        # Another application may have said what only the server says.
        pass_headers(passed, None),
        body,
        expires=expires,
        message_id=message_id if _SOUND_ID.fullmatch(message_id) else None,
    )
    message.shown = shown
    return message


def delivery_count(headers: Mapping[str, str]) -> int:
    """How many times it has been delivered, as far as RabbitMQ says.

    Quorum queues count; of others it is known only that it was delivered before, which is 2.
    """
    counted = headers.get("x-delivery-count", "")
    if re.fullmatch("[0-9]{1,9}", counted):
        return int(counted) + 1
    return 2 if headers.get("redelivered") == "true" else 1


def _expires(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
