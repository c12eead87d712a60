"""From a logout token to whom it logs out (OpenID Connect Back-Channel Logout 1.0)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred

from stompauth.errors import BadToken, TokenExpired
from stompauth.identity.verifier import SignedClaims, check_parties, optional_string, time_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IReactorTime

    from stompauth.identity.verifier import JWTVerifier

#: The member of ``events`` that makes a JWT a logout token.
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"

#: Seconds after its ``iat`` for which a logout token is taken, whatever its ``exp`` says.
MAX_AGE: Final = 300

# Explicit typing is recommended to providers, and there are those that do without.
_TYPES: Final = frozenset({None, "jwt", "logout+jwt"})

_MAX_NAME: Final = 255


@dataclass(frozen=True, slots=True)
class Logout:
    """Whom the identity provider has logged out: of ``subject`` and ``session`` one is there.

    :ivar subject: ``sub``, or None.
    :ivar session: ``sid``, or None. Then it is about this session at the provider and no other.
    :ivar user: the user name, where ``sub`` is that, and all of the user's sessions are meant.
    :ivar token_id: ``jti`` of the logout token.
    """

    subject: str | None
    session: str | None
    user: str | None
    token_id: str


class LogoutVerifier:
    """Verifies the logout tokens of the issuer whose access tokens another verifier verifies.

    A logout token must have ``iss``, ``aud``, ``iat``, ``jti``, the logout event, ``sub`` or
    ``sid`` or both, and no ``nonce``; ``exp`` and ``nbf`` are checked where present. Its header's
    ``typ`` is ``logout+jwt``, ``JWT`` or missing. An access token has no ``events``, and one that
    has is no access token: neither can stand for the other.

    Each ``jti`` is taken once.

    :param access: verifies the access tokens; keys, algorithms, issuer and leeway are the same.
    :param clock: tells the time, in seconds since the epoch.
    :param audience: what ``aud`` must be or contain: our ``client_id`` at the provider. If empty,
        that of the access tokens.
    :param max_entries: how many used ``jti`` are remembered. When there are more, the oldest is
        forgotten: to repeat a logout does less harm than not to carry one out.
    """

    def __init__(
        self,
        access: JWTVerifier,
        clock: IReactorTime,
        audience: str = "",
        max_entries: int = 100_000,
    ) -> None:
        self._signed = SignedClaims(access.keys, access.algorithms, _TYPES)
        self._issuer = access.issuer
        self._audience = audience or access.audience
        self._leeway = access.leeway
        self._subject_is_user = access.user_claim == "sub"
        self._clock = clock
        self._max_entries = max_entries
        # jti to the time of its use; the oldest first.
        self._used: OrderedDict[str, float] = OrderedDict()

    def verify(self, token: str) -> Deferred[Logout]:
        """Verify a token, and take note of its ``jti``.

        :raises BadToken: it is not good, or not for the first time.
        :raises Unavailable: the keys cannot be had now.
        """
        return Deferred.fromCoroutine(self._verify(token))

    def forget(self, logout: Logout) -> None:
        """Let the token come again: what it asks for could not be done."""
        self._used.pop(logout.token_id, None)

    async def _verify(self, token: str) -> Logout:
        claims = await self._signed.of(token)
        check_parties(claims, self._issuer, self._audience)
        self._check_times(claims)
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
            raise BadToken("events")
        if "nonce" in claims:
            raise BadToken("nonce")
        subject, session = _name(claims, "sub"), _name(claims, "sid")
        if subject is None and session is None:
            raise BadToken("sub")
        token_id = _name(claims, "jti")
        if token_id is None:
            raise BadToken("jti")
        self._use(token_id)
        user = subject if self._subject_is_user and session is None else None
        return Logout(subject, session, user, token_id)

    def _check_times(self, claims: Mapping[str, object]) -> None:
        now = self._clock.seconds()
        age = now - time_of(claims, "iat")
        if not -self._leeway <= age <= MAX_AGE + self._leeway:
            raise BadToken("iat")
        if "nbf" in claims and time_of(claims, "nbf") > now + self._leeway:
            raise BadToken("nbf")
        if "exp" in claims and now >= time_of(claims, "exp") + self._leeway:
            raise TokenExpired

    def _use(self, token_id: str) -> None:
        now = self._clock.seconds()
        used = self._used
        # From a leeway before its iat on a token is good for its age and another leeway.
        lifetime = MAX_AGE + 2 * self._leeway
        while used and next(iter(used.values())) + lifetime < now:
            used.popitem(last=False)
        if token_id in used:
            raise BadToken("used before")
        used[token_id] = now
        if len(used) > self._max_entries:
            used.popitem(last=False)


def _name(claims: Mapping[str, object], claim: str) -> str | None:
    """Take a claim that may be missing, but not be empty, or too long to be remembered."""
    name = optional_string(claims, claim)
    if name is not None and not 0 < len(name) <= _MAX_NAME:
        raise BadToken(claim)
    return name
