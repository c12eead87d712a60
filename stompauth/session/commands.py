"""What each command of a connected client does (STOMP 1.2, "Client Frames")."""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Final

from stompauth.authorization.destination import Destination, Kind
from stompauth.broker.message import Message
from stompauth.broker.subscription import NOTHING, Subscription
from stompauth.broker.transaction import Publish, Settle
from stompauth.errors import Refused, RemoteProtocolError
from stompauth.interceptors.authenticate import RENEWAL
from stompauth.session.firewall import pass_headers
from stompauth.session.transactions import Transactions
from stompauth.stomp.encoder import encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from stompauth.broker.subscription import Delivery
    from stompauth.broker.transaction import Operation
    from stompauth.session.session import Session, SessionFactory
    from stompauth.stomp.frame import Frame, KnownHead

#: Characters of a subscription's id: each of its messages repeats it.
MAX_ID: Final = 256

_ACK_MODES: Final = {
    "1.0": ("auto", "client"),
    "1.1": ("auto", "client", "client-individual"),
    "1.2": ("auto", "client", "client-individual"),
}


class Commands:
    """Carries out a session's frames; holds its subscriptions and transactions.

    :ivar subscriptions: by id. In STOMP 1.0 a subscription may have none; its key is then its
        destination behind a NUL, which no header can hold.
    """

    __slots__ = (
        "_by_token",
        "_factory",
        "_refused",
        "_session",
        "_tokens",
        "_transactions",
        "subscriptions",
    )

    def __init__(self, session: Session, factory: SessionFactory) -> None:
        self._session = session
        self._factory = factory
        self.subscriptions: dict[str, Subscription] = {}
        # Most sessions never have any of these.
        self._by_token: dict[str, Subscription] = NOTHING
        self._tokens = 0
        self._refused: dict[str, None] = NOTHING
        self._transactions: Transactions | None = None

    def carry_out(self, frame: Frame) -> Awaitable[None] | None:
        """Do what the frame asks for.

        :return: None when it is done, else an awaitable.
        :raises Refused: it cannot be done.
        """
        return _COMMANDS[frame.command](self, frame)

    def finish(self) -> None:
        """The session is over: what it holds goes back, what it had open is gone."""
        self._transactions = None
        subscriptions = list(self.subscriptions.values())
        self.subscriptions.clear()
        self._by_token.clear()
        self._factory.broker.session_ended(self._session.session_id, subscriptions)
        for subscription in subscriptions:
            self._tell_unsubscribed(subscription)

    def acknowledgement(self, subscription: Subscription, delivery: Delivery) -> str | None:
        """The ``ack`` header of a MESSAGE, which an ACK or NACK has to repeat (STOMP 1.2)."""
        message_id = delivery.message.message_id
        if self._session.version != "1.2" or message_id not in subscription.unacked:
            return None
        return f"{subscription.token}-{delivery.count}-{message_id}"

    def subscription_of(self, path: str) -> Subscription | None:
        """A subscription of exactly that destination, if there is one."""
        for subscription in self.subscriptions.values():
            if subscription.destination.path == path:
                return subscription
        return None

    def drop(self, subscription: Subscription) -> Awaitable[None] | None:
        """End a subscription that the session may not keep; its id may still be unsubscribed."""
        self.note_refused(subscription.id)
        return self._remove(subscription)

    def note_refused(self, subscription_id: str) -> None:
        """Remember an id that was refused or revoked: its UNSUBSCRIBE does no harm."""
        if self._refused is NOTHING:
            self._refused = {}
        self._refused[subscription_id] = None
        limit = self._factory.limits.subscriptions
        if limit and len(self._refused) > limit:
            del self._refused[next(iter(self._refused))]

    def chain_changed(self) -> None:
        """The session has other interceptors: whether it may share octets with others is new."""
        for subscription in self.subscriptions.values():
            self._share(subscription)

    def _share(self, subscription: Subscription) -> None:
        if subscription.ack == "auto" and not self._session.chain.has_outbound:
            subscription.audience = intern(f"{self._session.version} {subscription.id}")
            subscription.outlet = self._session.outbound
        else:
            subscription.audience = None

    def _subscribe(self, frame: Frame) -> Awaitable[None] | None:
        headers = frame.headers
        limits = self._factory.limits
        # 1.1 and 1.2 require an id; without one, in 1.0, the destination names the subscription.
        key = headers.get("id", "\0" + headers["destination"])
        if len(key) > MAX_ID:
            raise RemoteProtocolError("bad-header")
        if key in self.subscriptions:
            raise RemoteProtocolError("duplicate-id")
        if limits.subscriptions and len(self.subscriptions) >= limits.subscriptions:
            raise Refused("limit")
        ack = headers.get("ack", "auto")
        if ack not in _ACK_MODES[self._session.version]:
            raise RemoteProtocolError("bad-header")
        token = ""
        if ack != "auto":
            self._tokens += 1
            token = str(self._tokens)
        subscription = Subscription(
            id=key,
            destination=Destination.parse(headers["destination"], pattern=True),
            ack=intern(ack),
            prefetch=_prefetch(headers.get("prefetch-count"), limits.prefetch),
            subscriber=self._session,
            token=token,
        )
        self._share(subscription)
        # A retained message or a queue's backlog may come back from within subscribe().
        self.subscriptions[key] = subscription
        if ack != "auto":
            if self._by_token is NOTHING:
                self._by_token = {}
            self._by_token[subscription.token] = subscription
        self._refused.pop(key, None)
        try:
            if subscription.destination.kind is Kind.APP:
                # Answered once; the broker does not know of it.
                waiting = self._factory.handlers.subscribe(frame, self._session, subscription)
            else:
                waiting = self._factory.broker.subscribe(subscription)
        except Refused:
            self._forget(subscription)
            raise
        if waiting is not None:
            return self._subscribed_later(subscription, waiting)
        self._tell_subscribed(subscription)
        return None

    async def _subscribed_later(self, subscription: Subscription, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except Refused:
            self._forget(subscription)
            raise
        self._tell_subscribed(subscription)

    def _tell_subscribed(self, subscription: Subscription) -> None:
        # What was delivered at once may have ended the session already.
        if subscription.active:
            subscription.told = True
            self._session.tell("subscribed", subscription)

    def _tell_unsubscribed(self, subscription: Subscription) -> None:
        if subscription.told:
            subscription.told = False
            self._session.tell("unsubscribed", subscription)

    def _unsubscribe(self, frame: Frame) -> Awaitable[None] | None:
        headers = frame.headers
        key = headers["id"] if "id" in headers else "\0" + headers["destination"]
        subscription = self.subscriptions.get(key)
        if subscription is not None:
            return self._remove(subscription)
        if key in self._refused:
            del self._refused[key]
            return None
        raise RemoteProtocolError("unknown-subscription")

    def _remove(self, subscription: Subscription) -> Awaitable[None] | None:
        self._forget(subscription)
        waiting = self._factory.broker.unsubscribe(subscription)
        self._tell_unsubscribed(subscription)
        return waiting

    def _forget(self, subscription: Subscription) -> None:
        # The session's end may have come first.
        self.subscriptions.pop(subscription.id, None)
        self._by_token.pop(subscription.token, None)

    def _send(self, frame: Frame) -> Awaitable[None] | None:
        head = frame.head
        if head is not None and _is_unchanged(head, frame.headers):
            meaning = head.meaning or _find_meaning(head)
            if meaning is not None:
                destination, passed = meaning
                session = self._session
                user = session.grant.user
                if self._factory.stamp_sender:
                    passed = pass_headers(passed, user)
                return self._factory.broker.send(
                    Message(
                        destination,
                        passed,
                        frame.body,
                        sender_user=user,
                        sender_session=session.session_id,
                    )
                )
        if "transaction" in frame.headers:
            self._opened_transactions().add(frame.headers["transaction"], frame)
            return None
        if frame.headers["destination"] == RENEWAL:
            # The first interceptor has renewed the session already.
            return None
        return self._carry_out_send(frame)

    def _carry_out_send(self, frame: Frame) -> Awaitable[None] | None:
        destination = Destination.parse(frame.headers["destination"])
        if destination.kind is Kind.APP:
            return self._factory.handlers.send(frame, self._session)
        return self._factory.broker.send(self._message(frame, destination))

    def _message(self, frame: Frame, destination: Destination) -> Message:
        session = self._session
        headers = frame.headers
        passed = pass_headers(headers, session.user if self._factory.stamp_sender else None)
        reply_to = headers.get("reply-to")
        if reply_to is not None:
            passed["reply-to"] = self._factory.broker.reply_name(session.session_id, reply_to)
        return Message(
            destination=destination,
            headers=passed,
            body=frame.body,
            sender_user=session.user,
            sender_session=session.session_id,
            expires=_expires(headers.get("expires")),
            retain=headers.get("retain") == "true",
        )

    def _acknowledge(self, frame: Frame) -> Awaitable[None] | None:
        subscription, deliveries = self._named_deliveries(frame)
        if "transaction" in frame.headers:
            transactions = self._opened_transactions()
            transactions.add(frame.headers["transaction"], frame, len(deliveries))
            return None
        if frame.command == "ACK":
            return self._factory.broker.ack(subscription, deliveries)
        return self._factory.broker.nack(subscription, deliveries)

    def _named_deliveries(self, frame: Frame) -> tuple[Subscription, list[Delivery]]:
        """The deliveries that an ACK or NACK is about; in ``client`` mode all up to the named."""
        subscription, delivery = self._named_delivery(frame)
        if subscription is None or delivery is None:
            raise RemoteProtocolError("unknown-ack")
        if subscription.ack == "client-individual":
            return subscription, [delivery]
        deliveries = []
        for held in subscription.unacked.values():
            deliveries.append(held)
            if held is delivery:
                break
        return subscription, deliveries

    def _named_delivery(self, frame: Frame) -> tuple[Subscription | None, Delivery | None]:
        headers = frame.headers
        if self._session.version == "1.2":
            token, _, rest = headers["id"].partition("-")
            count, _, message_id = rest.partition("-")
            subscription = self._by_token.get(token)
            delivery = subscription.unacked.get(message_id) if subscription else None
            # A delivery that was given back and came again has another id.
            if delivery is not None and str(delivery.count) != count:
                delivery = None
            return subscription, delivery
        message_id = headers["message-id"]
        if "subscription" in headers:
            subscription = self.subscriptions.get(headers["subscription"])
            return subscription, subscription.unacked.get(message_id) if subscription else None
        if self._session.version == "1.0":
            for subscription in self.subscriptions.values():
                if message_id in subscription.unacked:
                    return subscription, subscription.unacked[message_id]
        return None, None

    def _opened_transactions(self) -> Transactions:
        if self._transactions is None:
            self._transactions = Transactions(self._factory.limits)
        return self._transactions

    def _begin(self, frame: Frame) -> None:
        self._opened_transactions().begin(frame.headers["transaction"])

    def _abort(self, frame: Frame) -> None:
        self._opened_transactions().end(frame.headers["transaction"])

    def _commit(self, frame: Frame) -> Awaitable[None]:
        frames = self._opened_transactions().end(frame.headers["transaction"])
        return self._commit_later(frames)

    async def _commit_later(self, frames: list[Frame]) -> None:
        # Rules and token may have changed since the SENDs were allowed.
        for frame in frames:
            if frame.command == "SEND":
                waiting = self._session.authorize(frame)
                if waiting is not None:
                    await waiting
        operations: list[Operation] = []
        calls = []
        at_once = 0
        for frame in frames:
            if frame.command != "SEND":
                subscription, deliveries = self._named_deliveries(frame)
                operations.append(Settle(subscription, deliveries, frame.command == "ACK"))
                continue
            destination = Destination.parse(frame.headers["destination"])
            if destination.kind is Kind.APP:
                calls.append(frame)
            else:
                message = self._message(frame, destination)
                if message.destination.kind is not Kind.QUEUE:
                    # As receivers get it: headers count, and escapes make them longer.
                    at_once += len(encode(message.frame(None), "1.2"))
                operations.append(Publish(message))
        send_buffer = self._factory.limits.send_buffer
        if send_buffer and at_once > send_buffer // 2:
            # Receivers could not read as fast as that, and would be cut off for it.
            raise Refused("limit")
        done = self._factory.broker.commit(operations)
        if done is not None:
            await done
        # What a handler does cannot be undone, so handlers come when all else has succeeded.
        for frame in calls:
            waiting = self._factory.handlers.send(frame, self._session)
            if waiting is not None:
                await waiting

    def _disconnect(self, frame: Frame) -> None:
        """The session sends the receipt and closes."""


_COMMANDS: Final[dict[str, Callable[[Commands, Frame], Awaitable[None] | None]]] = {
    "SEND": Commands._send,
    "SUBSCRIBE": Commands._subscribe,
    "UNSUBSCRIBE": Commands._unsubscribe,
    "ACK": Commands._acknowledge,
    "NACK": Commands._acknowledge,
    "BEGIN": Commands._begin,
    "COMMIT": Commands._commit,
    "ABORT": Commands._abort,
    "DISCONNECT": Commands._disconnect,
}


def _is_unchanged(head: KnownHead, headers: dict[str, str]) -> bool:
    """Whether a SEND has the headers of its head still, and beside them a receipt at most."""
    known = head.headers
    return known == headers or (
        "receipt" in headers and len(headers) == len(known) + 1 and known.items() <= headers.items()
    )


def _find_meaning(head: KnownHead) -> tuple[Destination, Mapping[str, str]] | None:
    """What the broker needs of a head; None if the SEND is nothing for it.

    Of the headers of which heads are kept none asks for more.
    """
    destination = Destination.parse(head.headers["destination"])
    if destination.kind is not Kind.TOPIC and destination.kind is not Kind.QUEUE:
        return None
    head.meaning = meaning = destination, pass_headers(head.headers, None)
    return meaning


def _prefetch(text: str | None, limit: int) -> int:
    if text is None:
        return limit
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text)):
        raise RemoteProtocolError("bad-header")
    return min(int(text), limit) if limit else int(text)


def _expires(text: str | None) -> float | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise RemoteProtocolError("bad-header")
    return int(text) / 1000
