"""A subscription, who holds it, and a message that is delivered to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from stompauth.authorization.destination import Destination
    from stompauth.broker.message import Message
    from stompauth.errors import Refused


#: What may be appended to ``Outlet.begun``: so many octets, while it has fewer than so many.
SHORT: Final = 1024
BEGUN: Final = 64


class Subscriber(Protocol):
    """Who holds subscriptions: a session.

    The methods may call back into the broker, and never raise.
    """

    @property
    def session_id(self) -> str:
        """The id of the session."""

    @property
    def user(self) -> str:
        """The user name of the session."""

    def deliver(self, subscription: Subscription, delivery: Delivery) -> None:
        """Pass a message on to the client."""

    def handed_on(self, count: int) -> None:
        """So many deliveries, of whatever sessions, went out by their outlets."""

    def overflow(self, subscription: Subscription) -> None:
        """A message did not go to the subscription, which holds as many unacknowledged as it may.

        It is lost to the subscription: the session ends.
        """

    def end(self, reason: Refused) -> None:
        """The broker can serve the session no more, or something of what it wants was missed.

        The session ends with that code, so that the client knows.
        """


@dataclass(slots=True, eq=False)
class Delivery:
    """A message, as one or more subscriptions get it; not to be changed.

    :ivar count: how many times it has been delivered, this one included.
    :ivar place: its place in its queue, which it keeps when it comes back; 0 elsewhere.
    """

    message: Message
    count: int = 1
    place: int = 0


class Nothing(dict[Any, Any]):
    """A dictionary that stays empty: one for all who most likely need none of their own."""

    def __setitem__(self, key: object, value: object = None) -> None:
        raise TypeError("everybody has this one")

    setdefault = __setitem__

    def update(self, *others: object, **items: object) -> None:
        """Refuse that, too."""
        raise TypeError("everybody has this one")


NOTHING: Final = Nothing()


class Outlet(Protocol):
    """The way out to a client.

    :ivar begun: what was written in this turn. While there is something, but fewer than ``BEGUN``,
        octets may also be appended to it, ``SHORT`` at most.
    """

    begun: list[bytes]

    def write(self, frame: bytes) -> None:
        """Send octets as they are."""


class _NoOutlet:
    """Whoever sets an audience sets the outlet, too."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []

    def write(self, frame: bytes) -> None:
        """There is nobody."""


_NO_OUTLET: Final = _NoOutlet()


@dataclass(slots=True, eq=False)
class Subscription:
    """What a client asked for in a SUBSCRIBE; equal to itself only.

    :ivar id: as the client calls it; one without an id has a key that begins with a NUL.
    :ivar destination: may be a pattern.
    :ivar ack: ``"auto"``, ``"client"`` or ``"client-individual"``. How much an ACK covers is the
        session's business; to a broker the last two are the same.
    :ivar prefetch: how many messages of a queue it holds unacknowledged at most; 0 for any number.
    :ivar subscriber: whose it is.
    :ivar token: short, and unique in the session; set and used by the session.
    :ivar audience: what all subscriptions in ``auto`` have in common that get the same octets of a
        message; None if its deliveries differ. Set by the session.
    :ivar outlet: takes the octets that ``Message.framed`` holds for the audience. Set by the
        session where there is an audience.
    :ivar told: whether the application has heard of it. Set by the session.
    :ivar client_id: the id that the client gave it; None where it gave none, as STOMP 1.0 allows.
    :ivar unacked: what was delivered and is not acknowledged yet, by message id, in the order of
        the deliveries. The broker keeps it; it stays empty in ``auto``.
    :ivar active: whether the broker delivers to it. The broker keeps it.
    :ivar paused: whether queues hold back for now; see :meth:`.IBroker.pause`.
    """

    id: str
    destination: Destination
    ack: str
    prefetch: int
    subscriber: Subscriber
    token: str = ""
    audience: str | None = None
    told: bool = False
    outlet: Outlet = field(default=_NO_OUTLET, repr=False)
    unacked: dict[str, Delivery] = field(init=False, repr=False)
    active: bool = False
    paused: bool = False
    client_id: str | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.client_id = None if self.id.startswith("\0") else self.id
        self.unacked = NOTHING if self.ack == "auto" else {}

    @property
    def has_credit(self) -> bool:
        """Whether a queue may give it one more."""
        if self.paused:
            return False
        return self.ack == "auto" or not self.prefetch or len(self.unacked) < self.prefetch
