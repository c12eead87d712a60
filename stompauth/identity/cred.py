"""Bearer tokens in twisted.cred: a Portal decides who gets a ticket and who connects.

The tokens are credentials, a verifier is a checker, and a Portal is a verifier: so a Portal that an
application has can stand wherever stompauth wants an :class:`.ITokenVerifier`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from stompauth.errors import BadToken
from stompauth.identity.principal import Principal
from stompauth.interfaces import ITokenVerifier

if TYPE_CHECKING:
    from twisted.cred.portal import Portal


class IBearerToken(ICredentials):
    """A token that speaks for whoever shows it (RFC 6750)."""


@implementer(IBearerToken)
class BearerToken:
    """A token as credentials.

    :ivar token: the token, as it came.
    """

    def __init__(self, token: str) -> None:
        self.token = token

    def __repr__(self) -> str:
        return "<BearerToken>"


class IPrincipal(Interface):
    """What a realm is asked for: a :class:`.Principal`."""


@implementer(ICredentialsChecker)
class BearerTokenChecker:
    """Checks bearer tokens with a verifier; the avatar id is the :class:`.Principal`.

    :param verifier: provider of :class:`.ITokenVerifier`.
    """

    credentialInterfaces = (IBearerToken,)

    def __init__(self, verifier: ITokenVerifier) -> None:
        self._verifier = verifier

    def requestAvatarId(self, credentials: BearerToken) -> Deferred[Any]:
        """Verify the token.

        cred's own avatar ids are octets; a realm for principals knows that these are not.

        :return: fires with the principal; fails with UnauthorizedLogin when the token is not good,
            or with :exc:`.Unavailable`.
        """
        return Deferred.fromCoroutine(self._principal(credentials))

    async def _principal(self, credentials: BearerToken) -> Principal:
        try:
            return await self._verifier.verify(credentials.token)
        except BadToken as bad:
            raise UnauthorizedLogin(bad.reason) from bad


@implementer(ITokenVerifier)
class PortalVerifier:
    """Verifies tokens by logging in at a Portal.

    The realm is asked for :class:`IPrincipal`, and gives the :class:`.Principal`: the one that its
    checker has found, or another; or refuses with UnauthorizedLogin. There is nothing to log out
    of: its logout is called at once.

    :param portal: with a checker for :class:`IBearerToken`.
    :param leeway: seconds for which a session goes on after its token's ``exp``; the same as the
        checker's.
    """

    def __init__(self, portal: Portal, leeway: float = 10) -> None:
        self._portal = portal
        self.leeway = leeway

    def verify(self, token: str) -> Deferred[Principal]:
        """See :meth:`.ITokenVerifier.verify`."""
        return Deferred.fromCoroutine(self._verify(token))

    async def _verify(self, token: str) -> Principal:
        try:
            _, avatar, logout = await self._portal.login(BearerToken(token), None, IPrincipal)
        except UnauthorizedLogin as unauthorized:
            # An expired or revoked token is told from a bad one, where the checker was ours.
            if isinstance(unauthorized.__cause__, BadToken):
                raise unauthorized.__cause__ from None
            raise BadToken("the portal refused it") from None
        logout()
        if not isinstance(avatar, Principal):
            raise TypeError("the realm gave something else than a Principal")
        return avatar
