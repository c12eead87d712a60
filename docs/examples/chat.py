"""A chat with rooms, their history, and private messages: ``twistd -ny chat.py``."""

import os
from collections import deque
from pathlib import Path

from twisted.application.service import Application
from twisted.application.strports import service as listener
from twisted.internet import reactor
from twisted.web.static import File

import stompauth
from stompauth import Principal, allow
from stompauth.demo.demo import SignInResource, TokenIssuer

port = os.environ.get("PORT", "8080")
login = TokenIssuer(reactor)  # the demo's, which signs in whoever asks; put yours in its place
history = {room: deque[dict[str, str]](maxlen=100) for room in ("lobby", "library")}
rules = [
    allow("subscribe", "send", "/app/rooms/{room}", claims={"rooms": "{room}"}),
    allow("subscribe", "/topic/rooms/{room}", claims={"rooms": "{room}"}),
    allow("subscribe", "/user/queue/private"),
    allow("send", "/user/{name}/queue/private"),
]
app = stompauth.StompAuth(
    verifier=login.verifier(),
    tickets=stompauth.MemoryTicketStore(reactor),
    broker=stompauth.SimpleBroker(),
    rules=stompauth.Rules(rules),
    origins=[f"http://127.0.0.1:{port}"],
    clock=reactor,
    stamp_sender=True,
)


@app.on_subscribe("/app/rooms/{room}")
def past(room: str) -> list[dict[str, str]]:
    return list(history[room])


@app.on_send("/app/rooms/{room}", send_to="/topic/rooms/{room}")
def say(room: str, body: str, user: Principal) -> dict[str, str]:
    history[room].append({"sender": user.name, "text": body})
    return history[room][-1]


home = Path(__file__).resolve().parents[2]
files = {
    b"/": "docs/examples/chat.html",
    b"/connection.js": "stompauth/demo/static/connection.js",
    b"/stomp.js": "node_modules/@stomp/stompjs/bundles/stomp.umd.min.js",
}
routes = {path: File(str(home / file)) for path, file in files.items()}
sign_in = {b"/sign-in": SignInResource(login, app.origins)}
site = stompauth.StrictSite(stompauth.PathRouter(app.resources() | sign_in | routes), reactor)
application = Application("chat")
app.service().setServiceParent(application)
listener(f"tcp:{port}:interface=127.0.0.1", site).setServiceParent(application)
