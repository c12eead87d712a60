"""A Twisted service of your own, with stompauth in it: ``twistd -ny embedded.py``."""

import os
import secrets

from twisted.application.service import Application, MultiService
from twisted.application.strports import service as listener
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.web.resource import Resource
from zope.interface import implementer

import stompauth
from stompauth import Frame, Session, TicketGrant
from stompauth.errors import TicketRefused
from stompauth.interfaces import ITicketStore

ORIGIN = os.environ.get("ORIGIN", "https://chat.example.com")


@implementer(ITicketStore)
class MyTickets:  # your database here; this one forgets nothing until it is used
    def __init__(self) -> None:
        self.grants: dict[str, tuple[TicketGrant, float]] = {}

    def issue(self, grant: TicketGrant, ttl: float) -> Deferred[str]:
        ticket = secrets.token_urlsafe(32)
        self.grants[ticket] = (grant, reactor.seconds() + ttl)
        return succeed(ticket)

    def redeem(self, ticket: str) -> Deferred[TicketGrant]:
        grant, end = self.grants.pop(ticket, (None, 0))
        return succeed(grant) if grant and reactor.seconds() < end else fail(TicketRefused())

    def revoke(self, issuer: str | None, user: str) -> Deferred[int]:
        mine = [ticket for ticket, (grant, _) in self.grants.items() if grant.user == user]
        return succeed(sum(self.grants.pop(ticket) is not None for ticket in mine))


class Shouting(stompauth.Interceptor):
    def pre_send(self, frame: Frame, session: Session) -> Frame:
        if frame.command == "SEND" and frame.body.isupper():
            raise stompauth.Refused("too-loud", notify=True, explanation="Please do not shout.")
        return frame


key = stompauth.StaticKey.from_secret_files(os.environ.get("JWT_SECRET", "jwt.secret"))
app = stompauth.StompAuth(
    verifier=stompauth.JWTVerifier(
        key, algorithms=["HS256"], issuer="https://id.example.com/", audience="chat", clock=reactor
    ),
    tickets=MyTickets(),
    broker=stompauth.SimpleBroker(),
    rules=stompauth.Rules([stompauth.allow("send", "subscribe", "/app/*")]),
    origins=[ORIGIN],
    clock=reactor,
    interceptors=[Shouting()],
)


@app.on_subscribe("/app/time")
def time() -> dict[str, float]:
    return {"seconds": reactor.seconds()}


root = Resource()
root.putChild(b"ticket", app.ticket_resource())
root.putChild(b"stomp", app.websocket_resource())
mine = MultiService()
app.service().setServiceParent(mine)
port = os.environ.get("LISTEN", "tcp:8080:interface=127.0.0.1")
listener(port, stompauth.StrictSite(root, reactor)).setServiceParent(mine)
application = Application("mine")
mine.setServiceParent(application)
