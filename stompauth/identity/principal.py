"""Who a token speaks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Principal:
    """The verified holder of a token.

    :ivar name: the user name, from the claim that ``jwt.user_claim`` names.
    :ivar issuer: the token's ``iss``.
    :ivar expires_at: the token's ``exp``, in seconds since the epoch.
    :ivar issued_at: the token's ``iat``, likewise.
    :ivar authorities: what rules with ``authorities`` compare.
    :ivar claims: all claims of the token, as decoded from JSON.
    :ivar token_id: the token's ``jti``, or None.
    """

    name: str
    issuer: str
    expires_at: float
    issued_at: float
    authorities: frozenset[str] = frozenset()
    claims: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)
    token_id: str | None = field(default=None, repr=False)

    @property
    def subject(self) -> str | None:
        """The token's ``sub``, if it is a string."""
        return self._string("sub")

    @property
    def provider_session(self) -> str | None:
        """The token's ``sid``, its session at the identity provider, if it is a string."""
        return self._string("sid")

    def _string(self, claim: str) -> str | None:
        value = self.claims.get(claim)
        return value if isinstance(value, str) else None

    def is_same_subject(self, issuer: str, name: str) -> bool:
        """Whether that is this subject: equal issuer and equal name, compared exactly."""
        return self.issuer == issuer and self.name == name
