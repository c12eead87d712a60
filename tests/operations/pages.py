"""An operations page in memory, beside the application that it is about."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from stompauth.control import MAX_BODY, ControlResource
from stompauth.handshake.site import PathRouter, StrictSite
from stompauth.operations.operations import Operations
from tests.applications import Application, StompClient
from tests.wire import WebSocket, post_token

if TYPE_CHECKING:
    from stompauth.stomp.frame import Frame

TOKEN = "b1bCa8LY1g2vNxhbWnT0cQmqS5kJcYxk"

#: The page's own origin: tests.wire asks for this host.
ORIGIN = "http://chat.example.com"


class OperatorClient(StompClient):
    """What the page is to the server.

    :ivar live: the reports so far.
    :ivar traced: the reports of traces so far.
    """

    def __init__(self, websocket: WebSocket) -> None:
        super().__init__(websocket)
        self.live: list[Any] = []
        self.traced: list[Any] = []
        self._answers: dict[str, Any] = {}
        self._asked = 0

    def look_on(self) -> None:
        """Subscribe to all that there is."""
        self.send("SUBSCRIBE", id="answers", destination="/user/queue/ops/answers")
        self.send("SUBSCRIBE", id="trace", destination="/user/queue/ops/trace")
        self.send("SUBSCRIBE", id="live", destination="/topic/ops/live")

    def ask(self, name: str, **question: Any) -> Any:
        """Ask, and give the answer."""
        self._asked += 1
        self.send(
            "SEND",
            json.dumps(question).encode(),
            destination=f"/app/ops/{name}",
            correlation_id=str(self._asked),
        )
        self.read()
        return self._answers.pop(str(self._asked))

    def read(self) -> list[Frame]:
        """Sort what has come; give what is no report and no answer."""
        others = []
        for frame in self.frames():
            match frame.headers.get("subscription"):
                case "live":
                    self.live.append(json.loads(frame.body))
                case "trace":
                    self.traced.append(json.loads(frame.body))
                case "answers":
                    self._answers[frame.headers["correlation-id"]] = json.loads(frame.body)
                case _:
                    others.append(frame)
        return others


class PageCase(SynchronousTestCase):
    """An application, its control resource, and the page beside that."""

    def setUp(self) -> None:
        self.application = Application()
        self.clock = self.application.clock
        self.operations = Operations(self.application.stompauth, token=TOKEN, clock=self.clock)
        service = self.operations.service()
        service.startService()
        self.addCleanup(service.stopService)
        control = ControlResource(self.application.stompauth, token=TOKEN, clock=self.clock)
        root = PathRouter(self.operations.resources(), control)
        self.site = StrictSite(root, self.clock, max_body=MAX_BODY)

    def ticket(self) -> str:
        """Trade the control token for a ticket."""
        response = post_token(self.site, TOKEN, ORIGIN, "/operations/ticket")
        self.assertEqual(response.status, 200, response.body)
        ticket: str = response.json["ticket"]
        return ticket

    def open(self) -> OperatorClient:
        """Open the page's WebSocket."""
        target = f"/operations/stomp?ticket={self.ticket()}"
        return OperatorClient(WebSocket(self.site, target, ORIGIN))

    def operator(self) -> OperatorClient:
        """Somebody who looks on."""
        client = self.open()
        client.connect(TOKEN)
        client.look_on()
        self.addCleanup(client.websocket.socket.lose)
        return client
