"""What an authorizer answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

#: What a denial does: end the session, or tell the client by a notice.
OnDeny: TypeAlias = Literal["close", "notify"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether somebody may do something, and why.

    :ivar allowed: whether.
    :ivar rule: the name of the rule that decided, or its text when it has no name; None when none
        did.
    :ivar reason: a sentence for the audit log and the operator; a client never sees it.
    :ivar on_deny: what follows if it is not allowed.
    :ivar retain: whether an allowed SEND may have its message retained.
    """

    allowed: bool
    rule: str | None
    reason: str
    on_deny: OnDeny = "close"
    retain: bool = False
