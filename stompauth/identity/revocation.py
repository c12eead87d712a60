"""Tokens that are good and no longer taken."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zope.interface import implementer

from stompauth.errors import TokenRevoked
from stompauth.interfaces import ITokenVerifier

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from twisted.internet.interfaces import IReactorTime

    from stompauth.counters import Counters
    from stompauth.identity.logout import Logout
    from stompauth.identity.principal import Principal
    from stompauth.tickets.grant import TicketGrant


# The kind of an entry about the tokens of a subject that do not say of which session they are.
_SUBJECT_WITHOUT_SID: Final = "sub without sid"

# The kind of the entry that stands for all those that a full list has had to give up.
_FLOOR: Final = "floor"

#: What a revocation can be about.
KINDS: Final = ("user", "jti", "sid", "sub", _SUBJECT_WITHOUT_SID, _FLOOR)


@dataclass(frozen=True, slots=True)
class Revocation:
    """An entry of a deny list, which holds no token and no part of one.

    :ivar kind: one of :data:`KINDS`.
    :ivar name: of the user, the subject, the ``jti`` or the ``sid``; empty for a floor.
    :ivar revoked_at: seconds since the epoch.
    """

    kind: str
    name: str
    revoked_at: float

    def concerns(
        self, user: str, token_ids: Collection[str | None], holder: Principal | TicketGrant
    ) -> bool:
        """Whether a session of that user, from those tokens, has to end at once.

        However its tokens were issued: this is asked when the revocation comes.

        :param token_ids: ``jti`` of the tokens.
        :param holder: of the latest token, or what the ticket was issued for.
        """
        match self.kind:
            case "user":
                return user == self.name
            case "jti":
                return self.name in token_ids
            case "sid":
                return holder.provider_session == self.name
            case "sub":
                return holder.subject == self.name
        return (
            self.kind == _SUBJECT_WITHOUT_SID
            and holder.subject == self.name
            and holder.provider_session is None
        )


class Revocations:
    """A deny list of users, of single tokens, and of what an identity provider has logged out.

    It goes by who a token is for and when it was issued, or by its ``jti`` or ``sid``: never by its
    text, of which several spellings verify. An entry stays as long as a token that it is about can
    be good.

    :param clock: what time it is.
    :param lifetime: seconds for which a token can be good after it was issued: the verifier's
        ``max_lifetime`` and its leeway.
    :param max_entries: entries at most. When there are more, the oldest gives way to a floor: then
        no token that was issued up to its time is taken, whoever it is for.
    """

    def __init__(
        self, clock: IReactorTime, lifetime: float = 86400 + 60, max_entries: int = 100_000
    ) -> None:
        self._clock = clock
        self.lifetime = lifetime
        self.max_entries = max_entries
        # What it is about, to the time of the revocation; the oldest first.
        self._entries: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._floor = -math.inf

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Revocation]:
        """All entries, and the floor if there is one."""
        if self._floor > -math.inf:
            yield Revocation(_FLOOR, "", self._floor)
        for (kind, name), revoked_at in list(self._entries.items()):
            yield Revocation(kind, name, revoked_at)

    def revoke_user(self, user: str) -> Revocation:
        """Take no token of the user that was issued up to now."""
        return self._add_now("user", user)

    def revoke_token(self, token_id: str) -> Revocation:
        """Take no token with that ``jti``."""
        return self._add_now("jti", token_id)

    def log_out(self, logout: Logout) -> list[Revocation]:
        """Take no token that the logout concerns and that was issued up to now.

        Of those with its ``sid``, take none whenever it was issued.
        """
        added = []
        if logout.session is not None:
            added.append(self._add_now("sid", logout.session))
        if logout.subject is not None:
            kind = "sub" if logout.session is None else _SUBJECT_WITHOUT_SID
            added.append(self._add_now(kind, logout.subject))
        return added

    def add(self, revocation: Revocation) -> bool:
        """Enter what was revoked elsewhere, and say whether that was not known yet."""
        revoked_at = revocation.revoked_at
        if revocation.kind == _FLOOR:
            is_news = revoked_at > self._floor
            self._floor = max(self._floor, revoked_at)
            return is_news
        now = self._clock.seconds()
        key = (revocation.kind, revocation.name)
        entries = self._entries
        if revoked_at + self.lifetime < now or revoked_at <= entries.get(key, -math.inf):
            return False
        entries[key] = revoked_at
        entries.move_to_end(key)
        while next(iter(entries.values())) + self.lifetime < now:
            entries.popitem(last=False)
        while self.max_entries and len(entries) > self.max_entries:
            _, oldest = entries.popitem(last=False)
            self._floor = max(self._floor, oldest)
        return True

    def is_revoked(self, user: str, issued_at: float, token_id: str | None) -> bool:
        """Whether a token of that user, ``iat`` and ``jti`` is no longer taken."""
        if issued_at <= self._floor or self._is_before("user", user, issued_at):
            return True
        return token_id is not None and ("jti", token_id) in self._entries

    def refuses(self, principal: Principal) -> bool:
        """Whether the token of that principal is no longer taken."""
        return self._refuses(
            principal.name,
            principal.issued_at,
            principal.token_id,
            principal.subject,
            principal.provider_session,
        )

    def refuses_grant(self, grant: TicketGrant) -> bool:
        """Whether the token that a ticket was issued for is no longer taken."""
        return self._refuses(
            grant.user,
            grant.token_issued_at,
            grant.token_id,
            grant.subject,
            grant.provider_session,
        )

    def _refuses(
        self,
        user: str,
        issued_at: float,
        token_id: str | None,
        subject: str | None,
        provider_session: str | None,
    ) -> bool:
        if self.is_revoked(user, issued_at, token_id):
            return True
        if provider_session is not None and ("sid", provider_session) in self._entries:
            return True
        if subject is None:
            return False
        return self._is_before("sub", subject, issued_at) or (
            provider_session is None and self._is_before(_SUBJECT_WITHOUT_SID, subject, issued_at)
        )

    def _is_before(self, kind: str, name: str, issued_at: float) -> bool:
        # iat has whole seconds: one of the same second may be from before the revocation.
        return issued_at <= self._entries.get((kind, name), -math.inf)

    def _add_now(self, kind: str, name: str) -> Revocation:
        revocation = Revocation(kind, name, self._clock.seconds())
        self.add(revocation)
        return revocation


@implementer(ITokenVerifier)
class RevocableVerifier:
    """Verifies with another verifier, and then asks the deny list, each time.

    :param verifier: provider of :class:`.ITokenVerifier`.
    :param clock: for what it takes.
    :param counters: for how often, and how long.
    """

    def __init__(
        self,
        verifier: ITokenVerifier,
        revocations: Revocations,
        clock: IReactorTime,
        counters: Counters,
    ) -> None:
        self._verifier = verifier
        self._clock = clock
        self._counters = counters
        self._revocations = revocations
        self.leeway = verifier.leeway

    async def verify(self, token: str) -> Principal:
        """See :meth:`.ITokenVerifier.verify`.

        :raises TokenRevoked: the token is good, and revoked.
        """
        counters, since = self._counters, self._clock.seconds()
        try:
            principal = await self._verifier.verify(token)
        finally:
            counters.verifications += 1
            counters.verification_seconds += max(0.0, self._clock.seconds() - since)
        if self._revocations.refuses(principal):
            raise TokenRevoked
        return principal
