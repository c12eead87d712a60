"""What destinations are called at RabbitMQ, and back.

==========================  ==================================================================
here                        there
==========================  ==================================================================
``/topic/a/b.c``            routing key ``a.b,c`` of the exchange ``amq.topic``
``/topic/a/*``              binding ``a.*``
``/topic/a/**``             binding ``a.*.#``: ``**`` is one segment or more, ``#`` may be none
``/queue/a/b.c``            the durable queue ``a/b.c``
a user's ``/queue/x``       routing key ``user;`` and a keyed hash, of the exchange ``amq.direct``
``/temp-queue/reply.{id}``  the queue ``temp;{id}``, exclusive to a session's connection
==========================  ==================================================================

The comma and the semicolon stand in no destination (:mod:`stompauth.authorization.destination`),
so that no two destinations have one name, and a client can spell neither of the last two. No name
is longer than the destination was, but for the two bytes of ``.#``; 255 is the most there, too.
"""

from __future__ import annotations

import hmac
from typing import Final
from urllib.parse import unquote_to_bytes

from stompauth.authorization.destination import Destination
from stompauth.errors import Refused

_TOPIC: Final = "/topic/"
_QUEUE: Final = "/queue/"
_EXCHANGE: Final = "/exchange/amq.topic/"

_TO_KEY: Final = str.maketrans("/.", ".,")
_FROM_KEY: Final = str.maketrans(".,", "/.")

#: Names of queues that RabbitMQ, or its STOMP plugin, makes up by itself.
_RESERVED_QUEUES: Final = ("amq.", "stomp-subscription-")


def topic_address(destination: Destination) -> str:
    """Where to SEND for a topic, or to SUBSCRIBE for one or a pattern."""
    path = destination.path.removeprefix(_TOPIC)
    rest = ""
    if destination.segments[-1] == "**":
        path = path.removesuffix("**") + "*"
        rest = ".#"
    return _EXCHANGE + path.translate(_TO_KEY) + rest


def topic_of(address: str) -> Destination | None:
    """The topic that a MESSAGE was sent to.

    :param address: its ``destination``. RabbitMQ writes ``amq.topic`` as ``/topic/``, and octets
        that are not plain ASCII as ``%XX``.
    :return: None for what :func:`topic_address` never makes; another application has sent it.
    """
    for prefix in (_TOPIC, _EXCHANGE):
        if address.startswith(prefix):
            break
    else:
        return None
    try:
        key = unquote_to_bytes(address.removeprefix(prefix)).decode()
        destination = Destination.parse(_TOPIC + key.translate(_FROM_KEY))
    except (UnicodeDecodeError, Refused):
        return None
    return destination if topic_address(destination) == _EXCHANGE + key else None


def queue_address(destination: Destination) -> str:
    """Where to SEND or SUBSCRIBE for a queue; RabbitMQ makes it if it is not there.

    :raises Refused: ``no-such-destination`` for a name that is RabbitMQ's own.
    """
    name = destination.path.removeprefix(_QUEUE)
    if name.startswith(_RESERVED_QUEUES):
        raise Refused("no-such-destination")
    return _QUEUE + name.replace("/", "%2F")


def reply_address(reply_name: str, *, subscribe: bool = False) -> str:
    """Where to SEND, or for its owner to SUBSCRIBE, for ``/temp-queue/reply.{id}``.

    To SEND makes no queue: what is sent to one that has gone goes nowhere.
    """
    name = "temp;" + reply_name.rpartition(".")[2]
    return f"/queue/{name}" if subscribe else f"/amq/queue/{name}"


def user_address(secret: bytes, user: str, path: str) -> str:
    """Where to SEND and SUBSCRIBE for a user's own ``/queue/**``.

    :param secret: what all nodes have in common, and nobody else.
    """
    digest = hmac.digest(secret, f"{user}\0{path}".encode(), "sha256").hex()
    return f"/exchange/amq.direct/user;{digest}"
