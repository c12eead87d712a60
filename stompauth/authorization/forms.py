"""What a destination's form alone decides, before any rule is asked.

========================= =========================== ==========================
form                      SEND                        SUBSCRIBE
========================= =========================== ==========================
``/user/queue/errors``    rules                       always
``/user/queue/**``        rules                       rules
``/user/{name}/queue/**`` rules                       never: ``access-denied``
``/temp-queue/**``        always, as far as rules go  always
``/session/token``        always                      never: ``access-denied``
``/topic/**`` pattern     (does not parse)            rules
any other pattern         (does not parse)            ``no-such-destination``
other ``/user/**``        ``no-such-destination``     ``no-such-destination``
other ``/session/**``     ``no-such-destination``     ``no-such-destination``
everything else           rules                       rules
========================= =========================== ==========================

Only topics have wildcards: a queue gives a message to one subscriber, and who that is must not
depend on who casts the wider net; the others are private, or answered by a handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stompauth.authorization.destination import Kind
from stompauth.errors import Refused

if TYPE_CHECKING:
    from stompauth.authorization.destination import Destination


def needs_rule(command: str, destination: Destination) -> bool:
    """Whether an :class:`~stompauth.interfaces.IAuthorizer` has to allow this.

    That a SEND to ``/temp-queue/**`` has a name that was received in a ``reply-to`` is not known
    here, and is for the broker to see to.

    :param command: ``"subscribe"`` or ``"send"``.
    :raises Refused: ``access-denied`` for what nobody may, ``no-such-destination`` for what can
        never be.
    """
    kind = destination.kind
    if destination.is_pattern and (command != "subscribe" or kind is not Kind.TOPIC):
        raise Refused("no-such-destination")
    if kind is Kind.TOPIC or kind is Kind.QUEUE:
        return True
    match kind:
        case Kind.TEMP_QUEUE:
            return False
        case Kind.SESSION:
            if destination.path != "/session/token":
                raise Refused("no-such-destination")
            if command != "send":
                raise Refused("access-denied")
            return False
        case Kind.USER:
            if destination.user_path is None:
                raise Refused("no-such-destination")
            if command == "send":
                return True
            if destination.user_name is not None:
                raise Refused("access-denied")
            return destination.path != "/user/queue/errors"
    return True
