"""What a transaction does when it is committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stompauth.broker.message import Message
    from stompauth.broker.subscription import Delivery, Subscription


@dataclass(frozen=True, slots=True)
class Publish:
    """A SEND."""

    message: Message


@dataclass(frozen=True, slots=True)
class Settle:
    """An ACK, or a NACK where ``accepted`` is false."""

    subscription: Subscription
    deliveries: Sequence[Delivery]
    accepted: bool


Operation: TypeAlias = Publish | Settle
