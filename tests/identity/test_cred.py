"""Tests of stompauth.identity.cred."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stompauth.errors import BadToken, TokenExpired
from stompauth.identity.cred import (
    BearerToken,
    BearerTokenChecker,
    IBearerToken,
    IPrincipal,
    PortalVerifier,
)
from stompauth.identity.principal import Principal
from stompauth.interfaces import ITokenVerifier
from tests.applications import NOW, Application, token


@implementer(IRealm)
class Members:
    """A realm that lets members in only."""

    def __init__(self) -> None:
        self.logouts = 0

    def requestAvatar(self, avatar_id: Any, mind: Any, *interfaces: Any) -> Any:
        if IPrincipal not in interfaces:
            raise NotImplementedError
        if avatar_id.name == "mallory":
            raise UnauthorizedLogin
        if avatar_id.name == "odd":
            return IPrincipal, "odd", self.logout
        return IPrincipal, avatar_id, self.logout

    def logout(self) -> None:
        self.logouts += 1


class PortalTests(SynchronousTestCase):
    """A Portal may decide who gets a ticket and who connects."""

    def setUp(self) -> None:
        self.realm = Members()
        verifier = Application().verifier
        self.checker = BearerTokenChecker(verifier)
        self.verifier = PortalVerifier(Portal(self.realm, [self.checker]), verifier.leeway)

    def test_interfaces(self) -> None:
        """The parts are what cred and stompauth want."""
        self.assertTrue(verifyObject(IBearerToken, BearerToken("x")))
        self.assertTrue(verifyObject(ICredentialsChecker, self.checker))
        self.assertTrue(verifyObject(ITokenVerifier, self.verifier))

    def test_no_secret(self) -> None:
        """The credentials do not show their token."""
        self.assertNotIn("secret", repr(BearerToken("secret")))

    def test_good(self) -> None:
        """A member's token gives his principal, and there is nothing left logged in."""
        principal = self.successResultOf(self.verifier.verify(token()))
        self.assertIsInstance(principal, Principal)
        self.assertEqual((principal.name, self.realm.logouts), ("alice", 1))

    def test_bad(self) -> None:
        """What the checker refuses is refused, an expired token as such."""
        self.failureResultOf(self.verifier.verify("a.b.c"), BadToken)
        expired = self.failureResultOf(self.verifier.verify(token(exp=int(NOW) - 100)))
        expired.trap(TokenExpired)

    def test_refused_by_the_realm(self) -> None:
        """So is whom the realm does not let in."""
        self.failureResultOf(self.verifier.verify(token("mallory")), BadToken)

    def test_odd_avatar(self) -> None:
        """A realm that gives something else is a mistake."""
        self.failureResultOf(self.verifier.verify(token("odd")), TypeError)

    def test_whole_way(self) -> None:
        """Ticket and CONNECT go by the Portal."""
        application = Application(verifier=self.verifier)
        self.assertIsNotNone(application.connect().connected)
        with self.assertRaises(KeyError):
            application.ticket("mallory")
