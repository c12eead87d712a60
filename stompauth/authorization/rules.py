"""Rules: who may subscribe to what, and send where."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zope.interface import implementer

from stompauth.authorization.decision import Decision, OnDeny
from stompauth.authorization.pattern import Pattern
from stompauth.identity.principal import Principal
from stompauth.interfaces import IAuthorizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stompauth.authorization.destination import Destination

#: What rules are about.
COMMANDS: Final = ("subscribe", "send")

#: Destinations for which it is kept which rules fit them.
_KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class ClaimCondition:
    """A claim is a string that equals a text, or a list that contains it.

    :ivar claim: the claim's name.
    :ivar value: the text, ``{user}``, or ``{name}`` of the pattern.
    :ivar segment: the index of the segment which ``{name}`` captures.
    """

    claim: str
    value: str
    segment: int | None = None

    def holds(self, principal: Principal, destination: Destination) -> bool:
        """Whether it is so; a claim that is missing, or of another type, never is."""
        if self.segment is not None:
            wanted = destination.segments[self.segment]
            if wanted in ("*", "**"):
                # Any segment, in a SUBSCRIBE; a claim that says "*" does not mean that.
                return False
        elif self.value == "{user}":
            wanted = principal.name
        else:
            wanted = self.value
        held = principal.claims.get(self.claim)
        if isinstance(held, str):
            return held == wanted
        return isinstance(held, (list, tuple)) and wanted in held


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; made by :func:`allow` and :func:`deny`.

    :ivar allows: whether it allows what matches, or denies it.
    :ivar commands: those of :data:`COMMANDS` that it is about.
    :ivar pattern: the destinations that it is about.
    :ivar authorities: of these the principal needs one, unless there are none.
    :ivar claims: of these all have to hold.
    :ivar name: what it is called in decisions, or an empty text.
    :ivar on_deny: what a denial by it does.
    :ivar retain: whether an allowed SEND may have its message retained.
    """

    allows: bool
    commands: tuple[str, ...]
    pattern: Pattern
    authorities: frozenset[str]
    claims: tuple[ClaimCondition, ...]
    name: str
    on_deny: OnDeny
    retain: bool

    def __str__(self) -> str:
        """The rule's text, without its name."""
        verb = "allow" if self.allows else "deny"
        parts = [f"{verb} {', '.join(self.commands)} {self.pattern.text}"]
        if self.authorities:
            parts.append(f"authorities: {', '.join(sorted(self.authorities))}")
        parts += [f"claim {condition.claim}: {condition.value}" for condition in self.claims]
        return "; ".join(parts)

    @property
    def label(self) -> str:
        """The name, or the text of a rule that has none."""
        return self.name or str(self)

    @property
    def is_conditional(self) -> bool:
        """Whether more than command and destination is asked for."""
        return bool(self.authorities or self.claims)

    def holds(self, principal: Principal, destination: Destination) -> bool:
        """Whether the conditions hold for a destination that the pattern covers.

        A condition on a captured segment does not hold where the destination has ``*`` there.
        """
        return self.has_authority(principal) and (
            not self.claims
            or all(condition.holds(principal, destination) for condition in self.claims)
        )

    def has_authority(self, principal: Principal) -> bool:
        """Whether the principal has one of the authorities, if there are any."""
        return not self.authorities or not self.authorities.isdisjoint(principal.authorities)


def allow(
    *commands_then_destination: str,
    authorities: Iterable[str] = (),
    claims: Mapping[str, str] | None = None,
    name: str = "",
    retain: bool = False,
) -> Rule:
    """Make a rule that allows: ``allow("subscribe", "send", "/topic/rooms/{room}")``.

    :param commands_then_destination: ``"subscribe"``, ``"send"`` or both, then the pattern of the
        destination: see :class:`~stompauth.authorization.pattern.Pattern`.
    :param authorities: of these the principal needs one.
    :param claims: claim to value; all have to hold. The claim equals the value, or is a list that
        contains it. The value is a text, or ``{user}``, or a ``{name}`` of the pattern.
    :param name: what the rule is called in decisions.
    :param retain: whether a SEND may have its message retained.
    :raises ValueError: there is a mistake in the rule; the text says which.
    """
    if retain and "send" not in commands_then_destination[:-1]:
        raise ValueError("retain concerns SEND, which the rule does not allow")
    return _rule(
        commands_then_destination,
        authorities,
        claims or {},
        allows=True,
        name=name,
        on_deny="close",
        retain=retain,
    )


def deny(
    *commands_then_destination: str,
    authorities: Iterable[str] = (),
    claims: Mapping[str, str] | None = None,
    name: str = "",
    on_deny: OnDeny = "close",
) -> Rule:
    """Make a rule that denies; as :func:`allow`, but for one parameter.

    :param on_deny: ``"close"`` to end the session, ``"notify"`` to tell the client by a notice.
    :raises ValueError: there is a mistake in the rule; the text says which.
    """
    return _rule(
        commands_then_destination,
        authorities,
        claims or {},
        allows=False,
        name=name,
        on_deny=_checked_on_deny(on_deny),
        retain=False,
    )


@implementer(IAuthorizer)
class Rules:
    """A list of rules: the first that matches decides, and none is a denial.

    A SUBSCRIBE with wildcards is allowed by the first rule that overlaps its pattern, conditions
    aside, if that is an allow which covers the pattern whole and whose conditions hold. Then the
    rules allow every destination that the pattern covers; the pattern covers no dead-letter queue
    and, where its first segment is a wildcard, nothing that is reserved.

    :param on_deny: what a denial does when no rule matches; ValueError if it is something else.
    :ivar rules: the rules, in order.
    """

    def __init__(self, rules: Iterable[Rule], on_deny: OnDeny = "close") -> None:
        self.rules = tuple(rules)
        self._on_deny = _checked_on_deny(on_deny)
        self._no_rule = Decision(False, None, "no rule matches", self._on_deny)
        self._judged = tuple((rule, _decision(rule)) for rule in self.rules)
        # By command and first segment; under None, what does not spell its first segment.
        firsts = {rule.pattern.first for rule in self.rules} | {None}
        self._candidates = {
            (command, first): tuple(
                (rule, decision)
                for rule, decision in self._judged
                if command in rule.commands and rule.pattern.first in (first, None)
            )
            for command in COMMANDS
            for first in firsts
        }
        # What fits a destination, by command and path: as long as the rules are the same, so is
        # this, whoever asks.
        self._fitting: defaultdict[str, dict[str, tuple[tuple[Rule, Decision], ...]]] = defaultdict(
            dict
        )

    def check(self, principal: Principal, command: str, destination: Destination) -> Decision:
        """Decide; see :meth:`stompauth.interfaces.IAuthorizer.check`."""
        if destination.is_pattern:
            return self._check_pattern(principal, command, destination)
        fitting = self._fitting[command].get(destination.path)
        if fitting is None:
            fitting = self._find_fitting(command, destination)
        for rule, decision in fitting:
            if rule.pattern.binds(destination, principal) and rule.holds(principal, destination):
                return decision
        return self._no_rule

    def _find_fitting(
        self, command: str, destination: Destination
    ) -> tuple[tuple[Rule, Decision], ...]:
        candidates = self._candidates.get((command, destination.segments[0]))
        if candidates is None:
            candidates = self._candidates.get((command, None), ())
        fitting = tuple(judged for judged in candidates if judged[0].pattern.fits(destination))
        kept = self._fitting[command]
        if len(kept) >= _KEPT:
            kept.clear()
        kept[destination.path] = fitting
        return fitting

    def _check_pattern(
        self, principal: Principal, command: str, destination: Destination
    ) -> Decision:
        if command != "subscribe":
            return Decision(False, None, "only SUBSCRIBE may have wildcards", self._on_deny)
        for rule, decision in self._judged:
            if command not in rule.commands or not rule.pattern.overlaps(destination, principal):
                continue
            if not rule.allows:
                return decision
            if not rule.pattern.covers(destination, principal):
                reason = f"rule {rule.label!r} comes first, and covers the wildcards only in part"
            elif not rule.holds(principal, destination):
                reason = f"rule {rule.label!r} comes first, and its conditions do not hold"
            else:
                return decision
            return Decision(False, rule.label, reason, self._on_deny)
        return self._no_rule

    def explain(self, principal: Principal, command: str, destination: Destination) -> str:
        """Say why, for an operator: a line for each rule up to the deciding one, then the end."""
        lines = []
        for rule in self.rules:
            fault = _fault(rule, principal, command, destination)
            lines.append(f"{rule.label}: {fault or 'decides'}")
            if fault is None:
                break
        decision = self.check(principal, command, destination)
        lines.append(f"{'allowed' if decision.allowed else 'denied'}: {decision.reason}")
        return "\n".join(lines)

    def unreachable(self) -> list[Rule]:
        """The rules that never decide, because earlier ones without conditions cover them.

        Whoever is named here is so for certain; not everyone is found.
        """
        claims = {
            claim: f"{{claims.{claim}}}"
            for rule in self.rules
            for _, claim in rule.pattern.variables
            if claim is not None
        }
        anybody = Principal("{user}", "", 0, 0, claims=claims)
        return [
            rule
            for position, rule in enumerate(self.rules)
            if all(
                any(
                    command in earlier.commands
                    and not earlier.is_conditional
                    and earlier.pattern.covers_pattern(rule.pattern, anybody)
                    for earlier in self.rules[:position]
                )
                for command in rule.commands
            )
        ]


def _rule(
    commands_then_destination: tuple[str, ...],
    authorities: Iterable[str],
    claims: Mapping[str, str],
    *,
    allows: bool,
    name: str,
    on_deny: OnDeny,
    retain: bool,
) -> Rule:
    if len(commands_then_destination) < 2:
        raise ValueError("a rule has at least one command, and then a destination")
    *commands, destination = commands_then_destination
    for command in commands:
        if command not in COMMANDS:
            raise ValueError(f"unknown command {command!r}; known are 'subscribe' and 'send'")
    pattern = Pattern.parse(destination)
    return Rule(
        allows=allows,
        commands=tuple(command for command in COMMANDS if command in commands),
        pattern=pattern,
        authorities=_checked_authorities(authorities),
        claims=tuple(_condition(claim, value, pattern) for claim, value in claims.items()),
        name=name,
        on_deny=on_deny,
        retain=retain,
    )


def _checked_authorities(authorities: Iterable[str]) -> frozenset[str]:
    if isinstance(authorities, str):
        raise ValueError("authorities are a list of texts, not one text")
    checked = frozenset(authorities)
    for authority in checked:
        if not isinstance(authority, str) or "{" in authority or "}" in authority:
            raise ValueError(f"{authority!r} is no authority; those are texts without variables")
    return checked


def _condition(claim: str, value: object, pattern: Pattern) -> ClaimCondition:
    if not isinstance(value, str):
        raise ValueError(f"the value for claim {claim!r} is not a text")
    if ("{" not in value and "}" not in value) or value == "{user}":
        return ClaimCondition(claim, value)
    for name, segment in pattern.captures:
        if value == f"{{{name}}}":
            return ClaimCondition(claim, value, segment)
    raise ValueError(
        f"{value!r}, for claim {claim!r}, is neither a text without braces, nor {{user}},"
        " nor a {NAME} of the destination"
    )


def _checked_on_deny(on_deny: OnDeny) -> OnDeny:
    if on_deny not in ("close", "notify"):
        raise ValueError(f"on_deny is 'close' or 'notify', not {on_deny!r}")
    return on_deny


def _decision(rule: Rule) -> Decision:
    verb = "allows" if rule.allows else "denies"
    return Decision(
        rule.allows, rule.label, f"rule {rule.label!r} {verb} it", rule.on_deny, rule.retain
    )


def _fault(rule: Rule, principal: Principal, command: str, destination: Destination) -> str | None:
    """Why the rule does not decide; None if it does, unless an earlier one did."""
    if command not in rule.commands:
        return "is about another command"
    if destination.is_pattern:
        overlaps = rule.pattern.overlaps(destination, principal)
        return None if overlaps else "has nothing in common with the wildcards"
    if not rule.pattern.matches(destination, principal):
        return "is about other destinations"
    if not rule.has_authority(principal):
        return "the principal has none of the authorities"
    for condition in rule.claims:
        if not condition.holds(principal, destination):
            return f"claim {condition.claim} does not hold {condition.value}"
    return None
