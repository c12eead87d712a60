"""Every plug point of stompauth.

An interface that may wait returns an awaitable, and we only await it: a Deferred, a coroutine or
anything else with ``__await__`` will do. What is on a frame's way may also answer at once, with a
plain value, and then costs no more than a call.

A ticket store, a broker, or what a verifier has as ``keys``, may be a Twisted service as well
(:class:`twisted.application.service.IService`): the application starts it, and stops it when all
sessions have ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Iterable, Sequence

    from stompauth.authorization.decision import Decision
    from stompauth.authorization.destination import Destination
    from stompauth.broker.message import Message
    from stompauth.broker.subscription import Delivery, Subscription
    from stompauth.broker.transaction import Operation
    from stompauth.errors import Denied
    from stompauth.handshake.admission import HandshakeRequest
    from stompauth.identity.principal import Principal
    from stompauth.session.session import Session
    from stompauth.stomp.frame import Frame
    from stompauth.tickets.grant import TicketGrant


class ITokenVerifier(Interface):
    """Tells whom a token speaks for."""

    leeway: float = Attribute(
        "Seconds after ``exp`` for which a token is taken, and a session that it opened goes on."
    )

    def verify(token: str) -> Awaitable[Principal]:
        """Verify a token whole: signature, times, issuer, audience.

        :param token: the token as it came, at most 8,000 characters.
        :raises BadToken: it is not good, :exc:`TokenExpired` when only its time is over.
        :raises Unavailable: the key that it needs cannot be had now.
        """


class IHandshakeInterceptor(Interface):
    """Sees every handshake whose origin and limits are right, before its ticket is taken."""

    def before_handshake(
        request: HandshakeRequest, attributes: dict[str, Any]
    ) -> Awaitable[None] | None:
        """A client wants in.

        :param attributes: will be those of the session; put in whatever belongs there.
        :raises Denied: turns it down with that status; its ticket is not burnt. Any other
            exception turns it down, too, with 503.
        """

    def after_handshake(request: HandshakeRequest, outcome: TicketGrant | Denied) -> None:
        """It was let in, as whom the grant says, or denied.

        Called in reverse order, for each whose ``before_handshake`` passed.
        """


class ITicketStore(Interface):
    """Keeps tickets between their issue and their only use."""

    def issue(grant: TicketGrant, ttl: float) -> Awaitable[str]:
        """Make a ticket for the grant.

        :param ttl: seconds for which it can be redeemed.
        :return: the ticket: at least 128 random bits, of ``A-Z a-z 0-9 - _`` only.
        :raises Unavailable: the store cannot be reached, or is full.
        """

    def redeem(ticket: str) -> Awaitable[TicketGrant]:
        """Take the ticket: of any number of calls for one ticket, at any time, one succeeds.

        :raises TicketRefused: it is unknown, expired, voided or used.
        :raises Unavailable: the store cannot be reached.
        """

    def revoke(issuer: str | None, user: str) -> Awaitable[int]:
        """Void all outstanding tickets of the user, of every issuer if None, and say how many."""


class IReadiness(Interface):
    """A part that depends on something outside, and cannot always do its work."""

    def is_ready() -> bool:
        """Whether it can now, as far as it knows."""


class IInterceptor(Interface):
    """Sees every frame on its way in, and every MESSAGE on its way out to one client.

    The first three moments are for a frame from a client; the names are those of Spring's
    ChannelInterceptor.
    """

    def pre_send(frame: Frame, session: Session) -> Frame | None | Awaitable[Frame | None]:
        """A frame came in. Return it, or another one in its place, to go on.

        None means that it is handled: its receipt is sent and nothing is delivered.

        :raises Refused: the client gets an ERROR with that code. Any other exception refuses the
            frame too, as ``internal``.
        """

    def post_send(frame: Frame, session: Session) -> None:
        """The frame was carried out."""

    def after_send_completion(frame: Frame, session: Session, failure: Exception | None) -> None:
        """The frame is over, well or not; in reverse order, for each whose pre_send passed."""

    def pre_receive(frame: Frame, session: Session) -> Frame | None:
        """A MESSAGE is about to go to this client. Return it, or another; None keeps it back."""

    def post_receive(frame: Frame, session: Session) -> None:
        """The MESSAGE was handed to the client's connection."""

    def after_receive_completion(frame: Frame, session: Session, failure: Exception | None) -> None:
        """The MESSAGE is over, in reverse order, for each whose pre_receive passed."""


class IAuthorizer(Interface):
    """Decides whether somebody may SUBSCRIBE or SEND to a destination."""

    def check(
        principal: Principal, command: str, destination: Destination
    ) -> Decision | Awaitable[Decision]:
        """Decide.

        :param command: ``"subscribe"`` or ``"send"``.
        """


class IBroker(Interface):
    """Carries messages to subscriptions.

    Methods that may have to wait, for another machine's confirm, return a Deferred then, and None
    when the work is done already. A subscriber may call any of them from within a delivery.

    A broker that needs another machine may lose it: then it ends those whose subscriptions were
    cut, by :meth:`.Subscriber.end`, and refuses with ``broker-unavailable``.
    """

    counts_here_only: bool = Attribute(
        "Whether :meth:`send_to_user` reaches sessions elsewhere, and counts those here alone."
    )

    def subscribe(subscription: Subscription) -> Awaitable[None] | None:
        """Begin to deliver to the subscription, perhaps before this returns.

        :raises Refused: ``no-such-destination``, ``bad-destination``, or ``limit`` when a bound is
            reached.
        """

    def unsubscribe(subscription: Subscription) -> Awaitable[None] | None:
        """Deliver no more to it, from this call on; what it holds unacknowledged goes back.

        What came from a queue gets its old place there, counts one more delivery, and may go to
        another consumer at once. A subscription that is not active is left as it is.
        """

    def pause(subscriptions: Iterable[Subscription]) -> None:
        """Take nothing from queues for these: their connection cannot take it for now.

        What is not kept for anybody, as in topics, is delivered all the same.
        """

    def resume(subscriptions: Iterable[Subscription]) -> None:
        """Take from queues for these again."""

    def send(message: Message) -> Awaitable[None] | None:
        """Accept a message.

        :raises Refused: ``no-such-destination``, ``bad-destination``, ``queue-full``, ``limit`` or
            ``broker-unavailable``; then nothing was kept of it.
        """

    def ack(subscription: Subscription, deliveries: Sequence[Delivery]) -> Awaitable[None] | None:
        """The client has dealt with these deliveries.

        :raises Refused: ``unknown-ack`` when the subscription does not hold one of them; then none
            of them is settled.
        """

    def nack(subscription: Subscription, deliveries: Sequence[Delivery]) -> Awaitable[None] | None:
        """The client will not deal with these deliveries; they go back to where they came from.

        :raises Refused: as for :meth:`ack`.
        """

    def commit(operations: Sequence[Operation]) -> Awaitable[None] | None:
        """Carry out a transaction's operations, all of them or none.

        :raises Refused: what one of them would be refused with; then nothing was done.
        """

    def send_to_user(
        user: str, message: Message, session_id: str | None = None
    ) -> Awaitable[int] | int:
        """Deliver to the user's subscriptions of ``/user`` + the message's destination.

        :param session_id: of the user's sessions in this process the only one that gets it, and
            then this does not wait; None for all, wherever they are.
        :return: to how many sessions it went.
        :raises Refused: ``no-such-destination`` when that destination is no ``/queue/**``.
        """

    def reply_name(session_id: str, reply_to: str) -> str:
        """The ``reply-to`` that receivers see, of a message from that session.

        For a temporary queue it is a name to which only those can send who were given it, until
        :meth:`session_ended`; every other value stays as it is.

        :raises Refused: ``bad-destination``, or ``limit`` when the session has too many names.
        """

    def session_ended(session_id: str, subscriptions: Collection[Subscription] = ()) -> None:
        """The session is over: unsubscribe what it still has, and drop its temporary queues.

        What one of the subscriptions holds unacknowledged is not given to another of them, as it
        could be if they were unsubscribed one by one.
        """
