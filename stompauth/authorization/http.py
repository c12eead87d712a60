"""An authorizer that asks an HTTP service."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from zope.interface import implementer

from stompauth.authorization.decision import Decision
from stompauth.errors import Refused
from stompauth.fetch import fetch
from stompauth.interfaces import IAuthorizer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.iweb import IAgent

    from stompauth.authorization.destination import Destination
    from stompauth.identity.principal import Principal

#: Octets of an answer at most.
MAX_ANSWER: Final = 16384

#: Decisions that are kept at most.
MAX_CACHED: Final = 10_000


@implementer(IAuthorizer)
class HTTPAuthorizer:
    """Asks a service whether a principal may SUBSCRIBE or SEND to a destination.

    The request is a POST of JSON: ``user``, ``issuer``, ``authorities``, ``command`` (``subscribe``
    or ``send``) and ``destination``; never the token. The answer is JSON with ``allow``, true or
    false, and perhaps ``reason``, for the log, and ``retain``, whether a SEND may have its message
    retained.

    No answer in time, another status than 200 or anything else than such an answer refuses the
    frame as ``internal``: that is no denial, and the client may come back.

    :param agent: makes the requests.
    :param url: the service's.
    :param clock: for the time-out and the cache.
    :param timeout: seconds that an answer may take.
    :param cache: seconds for which an answer is kept, by principal, command and destination; 0 to
        ask each time. A principal with a new token is another one.
    """

    _log = Logger()

    def __init__(
        self,
        agent: IAgent,
        url: str,
        *,
        clock: IReactorTime,
        timeout: float = 1.0,
        cache: float = 0.0,
    ) -> None:
        self._agent = agent
        self._url = url
        self._clock = clock
        self._timeout = timeout
        self._cache = cache
        self._decisions: OrderedDict[tuple[Principal, str, str], tuple[Decision, float]] = (
            OrderedDict()
        )

    def check(
        self, principal: Principal, command: str, destination: Destination
    ) -> Decision | Deferred[Decision]:
        """See :meth:`.IAuthorizer.check`."""
        key = (principal, command, destination.path)
        decision, end = self._decisions.get(key, (None, 0.0))
        if decision is not None and self._clock.seconds() < end:
            return decision
        asked = Deferred.fromCoroutine(self._ask(principal, command, destination.path))
        asked.addTimeout(self._timeout, self._clock)
        asked.addErrback(self._no_answer)
        if self._cache:
            asked.addCallback(self._keep, key)
        return asked

    async def _ask(self, principal: Principal, command: str, destination: str) -> Decision:
        question = {
            "user": principal.name,
            "issuer": principal.issuer,
            "authorities": sorted(principal.authorities),
            "command": command,
            "destination": destination,
        }
        answer = json.loads(
            await fetch(
                self._agent,
                "POST",
                self._url,
                headers={"Content-Type": ["application/json"], "Accept": ["application/json"]},
                body=json.dumps(question).encode(),
                limit=MAX_ANSWER,
            )
        )
        allow = answer["allow"]
        reason = answer.get("reason", "the authorization service said so")
        retain = answer.get("retain", False)
        if not (isinstance(allow, bool) and isinstance(reason, str) and isinstance(retain, bool)):
            raise TypeError("the answer has members of other types than it should")
        return Decision(allow, None, reason, retain=retain)

    def _no_answer(self, failure: object) -> Decision:
        error = getattr(failure, "value", None)
        if isinstance(error, CancelledError):
            # By a session that has ended; nobody waits.
            raise error
        self._log.warn(
            "no answer from the authorization service: {kind}", kind=type(error).__qualname__
        )
        raise Refused("internal")

    def _keep(self, decision: Decision, key: tuple[Principal, str, str]) -> Decision:
        self._decisions[key] = (decision, self._clock.seconds() + self._cache)
        self._decisions.move_to_end(key)
        if len(self._decisions) > MAX_CACHED:
            self._decisions.popitem(last=False)
        return decision
