"""Tokens that were verified a moment ago: a client shows each at least twice."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from stompauth.identity.keys import KeySource
    from stompauth.identity.principal import Principal

#: Seconds for which a verification holds at most.
MAX_AGE: Final = 60.0


class VerifiedTokens:
    """Remembers whom good tokens speak for, by the tokens' hashes, and never a bad one.

    An entry holds until the token's ``exp``, for :data:`MAX_AGE` at most, and no longer than the
    keys stay the same. Of revocation nothing is known here: who takes tokens asks that each time.

    :param keys: what the tokens were verified with.
    :param clock: what time it is.
    :param max_entries: entries at most; the oldest give way.
    """

    def __init__(self, keys: KeySource, clock: IReactorTime, max_entries: int = 10_000) -> None:
        self._keys = keys
        self._clock = clock
        self._max_entries = max_entries
        self._generation = keys.generation
        # By the hash: when it was verified, and the principal; the oldest first.
        self._entries: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, token: str) -> Principal | None:
        """Whom the token speaks for, if that is known."""
        if self._keys.generation != self._generation:
            self._entries.clear()
            return None
        entry = self._entries.get(_hash(token))
        if entry is None:
            return None
        verified_at, principal = entry
        # The clock is the wall's, and may be set back.
        if 0 <= self._clock.seconds() - verified_at < MAX_AGE and (
            self._clock.seconds() < principal.expires_at
        ):
            return principal
        return None

    def add(self, token: str, principal: Principal, generation: int) -> None:
        """Remember a token that has been verified.

        :param generation: of the keys, as it was before they were asked for.
        """
        entries = self._entries
        if generation != self._keys.generation:
            return
        if generation != self._generation:
            entries.clear()
            self._generation = generation
        now = self._clock.seconds()
        key = _hash(token)
        entries[key] = now, principal
        entries.move_to_end(key)
        while len(entries) > self._max_entries or not (
            0 <= now - next(iter(entries.values()))[0] < MAX_AGE
        ):
            entries.popitem(last=False)


def _hash(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
