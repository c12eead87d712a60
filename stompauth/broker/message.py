"""A message on its way from a sender to subscriptions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from stompauth.stomp.encoder import MessageTemplate
from stompauth.stomp.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stompauth.authorization.destination import Destination

#: What a message that waits costs beside its body and headers, so that empty ones are bounded too.
MESSAGE_OVERHEAD: Final = 512

#: What a header costs beside its octets.
HEADER_OVERHEAD: Final = 96

# 96 random bits, as hexadecimal digits.
_ID_LENGTH = 24
_IDS_AT_ONCE = 256


class _MessageIds:
    """Random ids, cut from a buffer: a system call for each would cost more than the rest of it."""

    __slots__ = ("_buffer", "_position")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._buffer = ""
        self._position = 0

    def next(self) -> str:
        start = self._position
        if start >= len(self._buffer):
            self._buffer = os.urandom(_IDS_AT_ONCE * _ID_LENGTH // 2).hex()
            start = 0
        self._position = end = start + _ID_LENGTH
        return self._buffer[start:end]


_ids = _MessageIds()
# Two processes must not hand out what is left of one buffer.
os.register_at_fork(after_in_child=_ids.clear)


class Message:
    """What was sent, once; it is neither changed after it was sent nor sent again.

    :ivar destination: where it was sent to.
    :ivar headers: the sender's own headers, as far as they may cross to a receiver.
    :ivar body: the octets.
    :ivar message_id: 96 random bits unless one is given.
    :ivar sender_user: the user name of who sent it; None for the application.
    :ivar sender_session: the id of the session that sent it, or None.
    :ivar expires: seconds since the epoch, from when on nobody gets it; None for never.
    :ivar retain: whether its topic keeps it for later subscribers; nothing but a topic looks.
    :ivar framed: the octets that a session has sent last of it, for others to send them again.
    :ivar framed_for: the audience whose octets they are, as ``Subscription.audience``; empty
        for nobody's.
    :ivar shown: the ``destination`` header that receivers see. The broker sets it where that is
        not the destination: for what somebody else sees under another name.
    """

    __slots__ = (
        "_size",
        "_template",
        "body",
        "destination",
        "expires",
        "framed",
        "framed_for",
        "headers",
        "message_id",
        "retain",
        "sender_session",
        "sender_user",
        "shown",
    )

    def __init__(
        self,
        destination: Destination,
        headers: Mapping[str, str],
        body: bytes,
        *,
        sender_user: str | None = None,
        sender_session: str | None = None,
        expires: float | None = None,
        retain: bool = False,
        message_id: str | None = None,
    ) -> None:
        self.destination = destination
        self.headers = headers
        self.body = body
        self.message_id = message_id or _ids.next()
        self.sender_user = sender_user
        self.sender_session = sender_session
        self.expires = expires
        self.retain = retain
        self.shown = destination.path
        self._size: int | None = None
        self._template: MessageTemplate | None = None
        self.framed = b""
        self.framed_for = ""

    def __repr__(self) -> str:
        # Headers and bodies may hold secrets, and reprs end in logs.
        return f"<Message {self.message_id}, {len(self.body)} bytes>"

    @property
    def size(self) -> int:
        """What it counts where bytes are bounded: body, headers, and what holding them costs."""
        if self._size is None:
            self._size = MESSAGE_OVERHEAD + len(self.body)
            for name, value in self.headers.items():
                self._size += HEADER_OVERHEAD + len(name) + len(value)
        return self._size

    @property
    def template(self) -> MessageTemplate:
        """The MESSAGE frame, encoded once for all receivers."""
        if self._template is None:
            self._template = MessageTemplate(self.shown, self.message_id, self.headers, self.body)
        return self._template

    def forget_template(self) -> None:
        """Let go of the encoded frame, once nobody is about to get it.

        What waits for an ACK, or is retained, would hold its octets several times.
        """
        self._template = None
        self.framed = b""
        self.framed_for = ""

    def has_expired(self, now: Callable[[], float]) -> bool:
        """Whether nobody may get it any more.

        :param now: tells the seconds since the epoch; not asked about what never expires.
        """
        return self.expires is not None and self.expires <= now()

    def frame(
        self, subscription: str | None, *, ack: str | None = None, delivery_count: int = 1
    ) -> Frame:
        """The MESSAGE frame for one receiver, for those who want to look at it or change it.

        :param subscription: the subscription's id; None for one of STOMP 1.0 that has none.
        :param ack: the ``ack`` header, if it has one.
        :param delivery_count: 1 for the first delivery.
        """
        ours = {"destination": self.shown, "message-id": self.message_id}
        # Ours stand first, and are not the sender's to say.
        headers = {**ours, **self.headers, **ours}
        if subscription is not None:
            headers["subscription"] = subscription
        if ack is not None:
            headers["ack"] = ack
        if delivery_count > 1:
            headers["redelivered"] = "true"
            headers["delivery-count"] = str(delivery_count)
        return Frame("MESSAGE", headers, self.body)

    def derived(
        self,
        headers: Mapping[str, str],
        *,
        destination: Destination | None = None,
        expires: float | None = None,
    ) -> Message:
        """The same message, its id included, with further headers, here or elsewhere."""
        return Message(
            destination or self.destination,
            {**self.headers, **headers},
            self.body,
            sender_user=self.sender_user,
            sender_session=self.sender_session,
            expires=expires,
            message_id=self.message_id,
        )

    def without_content(self) -> Message:
        """Its id and destination alone."""
        return Message(self.destination, {}, b"", message_id=self.message_id)
