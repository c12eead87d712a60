"""Tokens that are good and no longer taken."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from zope.interface import implementer

from stompauth.errors import TokenRevoked
from stompauth.interfaces import ITokenVerifier

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from stompauth.identity.principal import Principal


class Revocations:
    """A deny list of users and of single tokens.

    It goes by who a token is for and when it was issued, or by its ``jti``: never by its text, of
    which several spellings verify. An entry stays as long as a token that it is about can be good.

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
        self._lifetime = lifetime
        self._max_entries = max_entries
        # Key to the time of the revocation; the oldest first.
        self._users: OrderedDict[str, float] = OrderedDict()
        self._tokens: OrderedDict[str, float] = OrderedDict()
        self._floor = 0.0

    def __len__(self) -> int:
        return len(self._users) + len(self._tokens)

    def revoke_user(self, user: str) -> None:
        """Take no token of the user that was issued up to now."""
        self._add(self._users, user)

    def revoke_token(self, token_id: str) -> None:
        """Take no token with that ``jti``."""
        self._add(self._tokens, token_id)

    def is_revoked(self, user: str, issued_at: float, token_id: str | None) -> bool:
        """Whether a token of that user, ``iat`` and ``jti`` is no longer taken."""
        # iat has whole seconds: one of the same second may be from before the revocation.
        if issued_at <= max(self._users.get(user, 0.0), self._floor):
            return True
        return token_id is not None and token_id in self._tokens

    def _add(self, entries: OrderedDict[str, float], key: str) -> None:
        now = self._clock.seconds()
        entries[key] = now
        entries.move_to_end(key)
        for table in (self._users, self._tokens):
            while table and next(iter(table.values())) + self._lifetime < now:
                table.popitem(last=False)
        while self._max_entries and len(self) > self._max_entries:
            _, revoked_at = entries.popitem(last=False)
            self._floor = max(self._floor, revoked_at)


@implementer(ITokenVerifier)
class RevocableVerifier:
    """Verifies with another verifier, and then asks the deny list, each time.

    :param verifier: provider of :class:`.ITokenVerifier`.
    """

    def __init__(self, verifier: ITokenVerifier, revocations: Revocations) -> None:
        self._verifier = verifier
        self._revocations = revocations
        self.leeway = verifier.leeway

    def verify(self, token: str) -> Deferred[Principal]:
        """See :meth:`.ITokenVerifier.verify`.

        :raises TokenRevoked: the token is good, and revoked.
        """
        return Deferred.fromCoroutine(self._verify(token))

    async def _verify(self, token: str) -> Principal:
        principal = await self._verifier.verify(token)
        if self._revocations.is_revoked(principal.name, principal.issued_at, principal.token_id):
            raise TokenRevoked
        return principal
