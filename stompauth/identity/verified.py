"""Tokens that were verified a moment ago: a client shows each at least twice."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from stompauth.identity.keys import KeySource
    from stompauth.identity.principal import Principal

#: Seconds for which a verification holds at most, and at least half as long.
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
        self._max_recent = max_entries // 2
        self._generation = keys.generation
        # By the hash. An entry knows no age of its own: half of MAX_AGE after the first of the
        # recent ones all of them become the earlier ones, which are gone when the next do.
        self._recent: dict[bytes, Principal] = {}
        self._earlier: dict[bytes, Principal] = {}
        self._since = clock.seconds()

    def __len__(self) -> int:
        return len(self._recent) + len(self._earlier)

    def get(self, token: str) -> Principal | None:
        """Whom the token speaks for, if that is known."""
        if self._keys.generation != self._generation:
            self._clear()
            return None
        now = self._clock.seconds()
        self._age(now)
        key = _hash(token)
        principal = self._recent.get(key) or self._earlier.get(key)
        return principal if principal is not None and now < principal.expires_at else None

    def add(self, token: str, principal: Principal, generation: int) -> None:
        """Remember a token that has been verified.

        :param generation: of the keys, as it was before they were asked for.
        """
        if generation != self._keys.generation:
            return
        if generation != self._generation:
            self._clear()
            self._generation = generation
        now = self._clock.seconds()
        self._age(now)
        if len(self._recent) >= self._max_recent:
            self._earlier, self._recent = self._recent, {}
            self._since = now
        self._recent[_hash(token)] = principal

    def _age(self, now: float) -> None:
        age = now - self._since
        # The clock is the wall's, and may be set back.
        if not 0 <= age < MAX_AGE:
            self._clear()
            self._since = now
        elif age >= MAX_AGE / 2:
            self._earlier, self._recent = self._recent, {}
            self._since += MAX_AGE / 2

    def _clear(self) -> None:
        self._recent.clear()
        self._earlier.clear()


def _hash(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
