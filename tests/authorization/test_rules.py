"""Tests for :mod:`stompauth.authorization.rules`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import event, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from stompauth.authorization.destination import Destination
from stompauth.authorization.rules import Rule, Rules, allow, deny
from stompauth.identity.principal import Principal
from stompauth.interfaces import IAuthorizer
from tests.authorization.brute_force import (
    CLIENT_PATTERNS,
    WORLD,
    client_patterns,
    covered,
    is_covered,
    principals,
    rule_patterns,
    subscribed,
)

if TYPE_CHECKING:
    from stompauth.authorization.decision import Decision


def bob(*authorities: str, **claims: object) -> Principal:
    """A principal of that name."""
    return Principal("bob", "issuer", 0, 0, frozenset(authorities), claims)


def check(rules: Rules, command: str, text: str, principal: Principal | None = None) -> Decision:
    """What the rules decide about a destination, which is written as in a frame."""
    destination = Destination.parse(text, pattern=command == "subscribe")
    return rules.check(principal or bob(), command, destination)


class RuleTests(SynchronousTestCase):
    """How rules are made, and how mistakes in them are named."""

    def test_mistakes(self) -> None:
        """AZ-1: a mistake is a ValueError that names it, not a rule that never matches."""
        for make, fault in (
            (lambda: allow(), "at least one command"),
            (lambda: allow("/topic/a"), "at least one command"),
            (lambda: allow("publish", "/topic/a"), "unknown command 'publish'"),
            (lambda: allow("SEND", "/topic/a"), "unknown command 'SEND'"),
            (lambda: allow("/topic/a", "send"), "unknown command '/topic/a'"),
            (lambda: deny("send", "topic/a"), "begins with a slash"),
            (lambda: allow("send", "/topic/{a}/{a}"), "occurs twice"),
            (lambda: allow("send", "/topic/a", authorities="chat"), "not one text"),
            (lambda: allow("send", "/topic/a", authorities=[1]), "1 is no authority"),
            (lambda: allow("send", "/topic/{a}", authorities=["{a}"]), "is no authority"),
            (lambda: allow("send", "/topic/{a}", claims={"x": "{b}"}), "'{b}', for claim 'x'"),
            (lambda: allow("send", "/topic/{a}", claims={"x": "room-{a}"}), "'room-{a}', for"),
            (lambda: allow("send", "/topic/a", claims={"x": "{claims.y}"}), "for claim 'x'"),
            (lambda: allow("send", "/topic/a", claims={"x": "}"}), "for claim 'x'"),
            (lambda: allow("send", "/topic/a", claims={"x": 1}), "claim 'x' is not a text"),
            (lambda: allow("send", "/topic/a", claims={"x": ["y"]}), "claim 'x' is not a text"),
            (lambda: allow("subscribe", "/topic/a", retain=True), "retain concerns SEND"),
            (lambda: deny("send", "/topic/a", on_deny="ignore"), "not 'ignore'"),
            (lambda: Rules([], on_deny="allow"), "not 'allow'"),
        ):
            with self.assertRaisesRegex(ValueError, fault):
                make()

    def test_text(self) -> None:
        """AZ-1: a rule without a name is known by a text that says all of it."""
        rule = allow(
            "send",
            "subscribe",
            "/topic/rooms/{room}",
            authorities=["chat", "admin"],
            claims={"rooms": "{room}", "tier": "gold"},
        )
        self.assertEqual(
            rule.label,
            "allow subscribe, send /topic/rooms/{room};"
            " authorities: admin, chat; claim rooms: {room}; claim tier: gold",
        )
        self.assertEqual(deny("send", "/queue/a", name="closed").label, "closed")
        self.assertEqual(str(deny("send", "/queue/a", name="closed")), "deny send /queue/a")


class CheckTests(SynchronousTestCase):
    """What rules decide about one destination."""

    def test_interface(self) -> None:
        """Rules are an authorizer like others."""
        verifyObject(IAuthorizer, Rules([]))

    def test_default(self) -> None:
        """AZ-1: what no rule matches is denied, as the list says."""
        for rules in (Rules([]), Rules([allow("send", "/topic/a")])):
            decision = check(rules, "subscribe", "/topic/a")
            self.assertEqual((decision.allowed, decision.rule), (False, None))
            self.assertEqual((decision.on_deny, decision.retain), ("close", False))
        notified = check(Rules([], on_deny="notify"), "send", "/topic/a")
        self.assertEqual((notified.allowed, notified.on_deny), (False, "notify"))

    def test_unknown_command(self) -> None:
        """AZ-1: a command that rules know nothing of is denied."""
        rules = Rules([allow("subscribe", "send", "/**")])
        self.assertFalse(check(rules, "unsubscribe", "/topic/a").allowed)

    def test_first_match(self) -> None:
        """AZ-1: of the rules that match the first decides, each for its own commands."""
        rules = Rules(
            [
                deny("send", "/topic/news", name="read only", on_deny="notify"),
                allow("subscribe", "send", "/topic/*", name="public", retain=True),
                deny("subscribe", "/topic/news", name="too late"),
            ],
            on_deny="close",
        )
        for command, text, allowed, name, on_deny, retain in (
            ("send", "/topic/news", False, "read only", "notify", False),
            ("subscribe", "/topic/news", True, "public", "close", True),
            ("send", "/topic/chat", True, "public", "close", True),
            ("send", "/topic/chat/a", False, None, "close", False),
        ):
            decision = check(rules, command, text)
            self.assertEqual(
                (decision.allowed, decision.rule, decision.on_deny, decision.retain),
                (allowed, name, on_deny, retain),
            )

    def test_order_over_first_segments(self) -> None:
        """AZ-1: the order of the list holds too between rules that spell the first segment and
        rules that do not.
        """
        rules = Rules(
            [
                deny("send", "/topic/secret", name="one"),
                allow("send", "/*/open", name="two"),
                deny("send", "/topic/**", name="three"),
                allow("send", "/**", name="four"),
            ]
        )
        for text, name in (
            ("/topic/secret", "one"),
            ("/topic/open", "two"),
            ("/topic/a", "three"),
            ("/elsewhere/open", "two"),
            ("/elsewhere/a", "four"),
        ):
            self.assertEqual(check(rules, "send", text).rule, name, text)

    def test_authorities(self) -> None:
        """AZ-1: one of the authorities is enough, and the spelling is exact."""
        rules = Rules([allow("send", "/topic/a", authorities=["chat", "admin"])])
        for held, allowed in (
            (["chat"], True),
            (["admin", "other"], True),
            (["Chat", "chat "], False),
            ([], False),
        ):
            self.assertIs(check(rules, "send", "/topic/a", bob(*held)).allowed, allowed, held)

    def test_claims(self) -> None:
        """AZ-4: a claim equals the value, or its list contains it; nothing else counts."""
        rules = Rules([allow("send", "/topic/rooms/{room}", claims={"rooms": "{room}"})])
        for claims, allowed in (
            ({"rooms": "7"}, True),
            ({"rooms": ["6", "7"]}, True),
            ({}, False),
            ({"rooms": None}, False),
            ({"rooms": []}, False),
            ({"rooms": 7}, False),
            ({"rooms": [7]}, False),
            ({"rooms": "6 7"}, False),
            ({"rooms": "77"}, False),
            ({"rooms": ["*"]}, False),
            ({"rooms": [["7"]]}, False),
            ({"rooms": {"7": True}}, False),
            ({"Rooms": "7"}, False),
        ):
            decision = check(rules, "send", "/topic/rooms/7", bob(**claims))
            self.assertIs(decision.allowed, allowed, claims)

    def test_all_claims(self) -> None:
        """AZ-1: all conditions have to hold: a text, the user, a capture, and the authorities."""
        rules = Rules(
            [
                allow(
                    "send",
                    "/topic/{team}/a",
                    authorities=["chat"],
                    claims={"tier": "gold", "owner": "{user}", "teams": "{team}"},
                )
            ]
        )
        claims: dict[str, object] = {"tier": "gold", "owner": ["bob"], "teams": ["red"]}
        self.assertTrue(check(rules, "send", "/topic/red/a", bob("chat", **claims)).allowed)
        self.assertFalse(check(rules, "send", "/topic/red/a", bob(**claims)).allowed)
        self.assertFalse(check(rules, "send", "/topic/blue/a", bob("chat", **claims)).allowed)
        for changed in ({"tier": "tin"}, {"owner": "alice"}, {"teams": "blue"}, {"tier": None}):
            principal = bob("chat", **{**claims, **changed})
            self.assertFalse(check(rules, "send", "/topic/red/a", principal).allowed, changed)

    def test_missing_claim_and_deny(self) -> None:
        """AZ-1: a condition on a missing claim holds for a deny no more than for an allow."""
        rules = Rules(
            [deny("send", "/topic/a", claims={"banned": "yes"}), allow("send", "/topic/a")]
        )
        self.assertTrue(check(rules, "send", "/topic/a").allowed)
        self.assertFalse(check(rules, "send", "/topic/a", bob(banned="yes")).allowed)

    def test_other_users(self) -> None:
        """AZ-6: to send to another user takes a rule of its own."""
        rules = Rules([allow("send", "/user/queue/**"), allow("send", "/user/support/queue/a")])
        for text, allowed in (
            ("/user/queue/a", True),
            ("/user/support/queue/a", True),
            ("/user/support/queue/b", False),
            ("/user/alice/queue/a", False),
        ):
            self.assertIs(check(rules, "send", text).allowed, allowed, text)
        everything = Rules([allow("subscribe", "send", "/**"), allow("send", "/{a}/{b}/queue/**")])
        self.assertFalse(check(everything, "send", "/user/alice/queue/a").allowed)

    def test_reasons_are_ours(self) -> None:
        """AZ-1: the reason names the rule, and repeats neither claims nor the destination."""
        rules = Rules([allow("send", "/topic/{a}", name="public", claims={"rooms": "{a}"})])
        principal = bob(rooms="secret")
        decision = check(rules, "send", "/topic/secret", principal)
        self.assertEqual(decision.reason, "rule 'public' allows it")
        self.assertNotIn("secret", repr(decision))


class WildcardTests(SynchronousTestCase):
    """What rules decide about a SUBSCRIBE with wildcards."""

    def test_examples(self) -> None:
        """AZ-3: the first rule that overlaps has to allow it all."""
        rooms = {"rooms": "{room}"}
        all_else = allow("subscribe", "/**")
        for text, rules, allowed in (
            ("/topic/*", [allow("subscribe", "/topic/*")], True),
            ("/topic/*", [allow("subscribe", "/topic/**")], True),
            ("/topic/a/*", [allow("subscribe", "/topic/{x}/{y}")], True),
            ("/topic/**", [allow("subscribe", "/topic/*")], False),
            ("/topic/*", [allow("subscribe", "/topic/a")], False),
            ("/topic/*", [allow("send", "/topic/*")], False),
            # The hole that patterns make where they are compared as texts.
            ("/topic/*", [deny("subscribe", "/topic/a"), allow("subscribe", "/topic/*")], False),
            ("/topic/*", [deny("send", "/topic/a"), allow("subscribe", "/topic/*")], True),
            ("/topic/*", [deny("subscribe", "/topic/a/b"), allow("subscribe", "/topic/*")], True),
            ("/topic/*", [allow("subscribe", "/topic/*"), deny("subscribe", "/topic/a")], True),
            # Two rules together are not put together.
            ("/topic/**", [allow("subscribe", "/topic/*"), allow("subscribe", "/**")], False),
            # Conditions.
            ("/topic/*", [allow("subscribe", "/topic/*", authorities=["chat"])], True),
            ("/topic/*", [allow("subscribe", "/topic/*", authorities=["admin"])], False),
            ("/topic/*", [deny("subscribe", "/topic/a", authorities=["admin"])], False),
            ("/topic/*", [allow("subscribe", "/topic/{room}", claims=rooms)], False),
            ("/topic/7/*", [allow("subscribe", "/topic/{room}/*", claims=rooms)], True),
            ("/topic/8/*", [allow("subscribe", "/topic/{room}/*", claims=rooms)], False),
            ("/topic/*/7", [allow("subscribe", "/topic/{room}/*", claims=rooms)], False),
            # Values of this principal.
            ("/topic/bob/*", [allow("subscribe", "/topic/{user}/*")], True),
            ("/topic/*/a", [allow("subscribe", "/topic/{user}/*")], False),
            ("/topic/**", [allow("subscribe", "/topic/{user}/**")], False),
            ("/topic/red/*", [allow("subscribe", "/topic/{claims.team}/*")], True),
            ("/topic/*", [allow("subscribe", "/topic/{claims.star}")], False),
            # A rule about a claim that is missing or impossible is about nothing.
            ("/topic/*", [deny("subscribe", "/topic/{claims.none}"), all_else], True),
            ("/topic/*", [deny("subscribe", "/topic/{claims.star}"), all_else], True),
            # What wildcards never cover does not stand in the way either.
            ("/*/*", [deny("subscribe", "/user/**"), allow("subscribe", "/**")], True),
            ("/queue/*", [deny("subscribe", "/queue/dlq.a"), allow("subscribe", "/**")], True),
            ("/*/dlq.a", [allow("subscribe", "/**")], False),
            ("/user/*", [allow("subscribe", "/**")], False),
        ):  # fmt: skip
            principal = bob("chat", rooms=["7", "*"], team="red", star="*")
            decision = check(Rules(rules), "subscribe", text, principal)
            self.assertIs(decision.allowed, allowed, (text, rules))

    def test_denials(self) -> None:
        """AZ-3: a denial names the rule that stood in the way, and what follows from it."""
        for rule, on_deny, reason in (
            (deny("subscribe", "/topic/a", name="r"), "close", "rule 'r' denies it"),
            (allow("subscribe", "/topic/a", name="r"), "notify", "only in part"),
            (
                allow("subscribe", "/topic/*", name="r", authorities=["x"]),
                "notify",
                "conditions do not hold",
            ),
        ):
            decision = check(Rules([rule], on_deny="notify"), "subscribe", "/topic/*")
            self.assertEqual(
                (decision.allowed, decision.rule, decision.on_deny), (False, "r", on_deny)
            )
            self.assertIn(reason, decision.reason)

    def test_send(self) -> None:
        """AZ-3: nothing is sent to a pattern."""
        rules = Rules([allow("subscribe", "send", "/**")])
        pattern = Destination.parse("/topic/*", pattern=True)
        self.assertFalse(rules.check(bob(), "send", pattern).allowed)
        self.assertTrue(rules.check(bob(), "subscribe", pattern).allowed)


class LongestTests(SynchronousTestCase):
    """Where a destination can have no more segments, `**` stands for one."""

    def test_claim_of_asterisks(self) -> None:
        """AZ-3: a claim that says "**" is no right to a wildcard."""
        path = "/topic" + "/a" * 14
        rules = Rules([allow("subscribe", path + "/{x}", claims={"x": "{x}"})])
        for wildcard in ("*", "**"):
            decision = check(rules, "subscribe", f"{path}/{wildcard}", bob(x=["*", "**"]))
            self.assertFalse(decision.allowed)


class ExplainTests(SynchronousTestCase):
    """What an operator is told."""

    def test_one_destination(self) -> None:
        """AZ-1: each rule up to the deciding one says why it did not, then comes the end."""
        rules = Rules(
            [
                deny("subscribe", "/topic/**", name="one"),
                allow("send", "/queue/**", name="two"),
                allow("send", "/topic/*", name="three", authorities=["admin"]),
                allow("send", "/topic/{a}", name="four", claims={"rooms": "{a}"}),
                deny("send", "/topic/*", name="five"),
                allow("send", "/topic/*", name="six"),
            ]
        )
        destination = Destination.parse("/topic/a")
        self.assertEqual(
            rules.explain(bob(), "send", destination).splitlines(),
            [
                "one: is about another command",
                "two: is about other destinations",
                "three: the principal has none of the authorities",
                "four: claim rooms does not hold {a}",
                "five: decides",
                "denied: rule 'five' denies it",
            ],
        )

    def test_wildcards(self) -> None:
        """AZ-3: for a pattern it is the first rule that overlaps which is named."""
        rules = Rules([allow("subscribe", "/queue/**", name="one"), deny("subscribe", "/topic/a")])
        pattern = Destination.parse("/topic/*", pattern=True)
        self.assertEqual(
            rules.explain(bob(), "subscribe", pattern).splitlines(),
            [
                "one: has nothing in common with the wildcards",
                "deny subscribe /topic/a: decides",
                "denied: rule 'deny subscribe /topic/a' denies it",
            ],
        )

    def test_no_rule(self) -> None:
        """AZ-1: where no rule decides, that is said."""
        explained = Rules([]).explain(bob(), "send", Destination.parse("/topic/a"))
        self.assertEqual(explained, "denied: no rule matches")


class UnreachableTests(SynchronousTestCase):
    """Rules that never decide."""

    def test_examples(self) -> None:
        """AZ-1: a rule behind others that cover it whole is found, and no other is."""
        for earlier, later, expected in (
            (allow("send", "/topic/*"), deny("send", "/topic/a"), True),
            (deny("send", "/topic/a"), allow("send", "/topic/a"), True),
            (allow("subscribe", "send", "/topic/**"), allow("send", "/topic/{a}/b"), True),
            (allow("send", "/topic/{user}"), deny("send", "/topic/{user}"), True),
            (allow("send", "/topic/*"), deny("send", "/topic/{user}"), True),
            (allow("send", "/topic/{claims.a}"), deny("send", "/topic/{claims.a}"), True),
            (allow("send", "/topic/{claims.a}"), deny("send", "/topic/{claims.b}"), False),
            (allow("send", "/topic/{user}"), deny("send", "/topic/*"), False),
            (allow("send", "/topic/{user}"), deny("send", "/topic/bob"), False),
            (allow("send", "/topic/*"), deny("subscribe", "send", "/topic/a"), False),
            (allow("send", "/topic/*"), deny("send", "/topic/**"), False),
            (allow("send", "/topic/*", authorities=["a"]), deny("send", "/topic/a"), False),
            (allow("send", "/topic/{a}", claims={"c": "{a}"}), deny("send", "/topic/a"), False),
            (allow("send", "/**"), allow("send", "/user/queue/a"), False),
            (allow("send", "/queue/**"), allow("send", "/queue/dlq.a"), False),
            (allow("send", "/*/*"), allow("send", "/*/dlq.a"), False),
            (allow("send", "/*/*"), allow("send", "/{claims.a}/dlq.a"), False),
            (allow("send", "/*/**"), allow("send", "/*/a"), True),
        ):
            found = Rules([earlier, later]).unreachable()
            self.assertEqual(found, [later] if expected else [], (str(earlier), str(later)))

    def test_by_command(self) -> None:
        """AZ-1: one rule may be covered by two, each for one command."""
        rules = [allow("send", "/topic/*"), deny("subscribe", "/topic/*")]
        last = allow("subscribe", "send", "/topic/a")
        self.assertEqual(Rules([*rules, last]).unreachable(), [last])
        self.assertEqual(Rules([rules[0], last]).unreachable(), [])


@st.composite
def rules_of(draw: st.DrawFn) -> Rule:
    """A rule for the small world."""
    pattern = draw(rule_patterns())
    commands = draw(st.sampled_from([["subscribe"], ["send"], ["subscribe", "send"]]))
    values = ["a", "topic", "*", "{user}"]
    values += [f"{{x{index}}}" for index in range(3) if f"{{x{index}}}" in pattern]
    claims = draw(st.dictionaries(st.sampled_from(["c", "d"]), st.sampled_from(values), max_size=1))
    authorities = draw(st.sampled_from([[], [], ["member"], ["member", "admin"]]))
    make = draw(st.sampled_from([allow, allow, deny]))
    return make(*commands, pattern, claims=claims, authorities=authorities)


#: Patterns that often cover one another.
COVERING = (
    "/**",
    "/*/**",
    "/*/*",
    "/*/dlq.x",
    "/{claims.c}/*",
    "/{claims.c}/dlq.x",
    "/{user}/a",
    "/topic/**",
    "/topic/{user}",
    "/topic/{claims.c}",
    "/topic/a",
    "/queue/*",
    "/queue/dlq.x",
    "/user/*",
)

rule_lists = st.lists(rules_of(), max_size=5)


def holds(rule: Rule, principal: Principal, segments: tuple[str, ...]) -> bool:
    """Whether the rule's conditions hold, by the words of the specification."""
    if rule.authorities and not rule.authorities & principal.authorities:
        return False
    pattern = rule.pattern.text[1:].split("/")
    for condition in rule.claims:
        wanted = condition.value
        if wanted == "{user}":
            wanted = principal.name
        elif wanted.startswith("{"):
            wanted = segments[pattern.index(wanted)]
            if wanted == "*":
                return False
        claim = principal.claims.get(condition.claim)
        if claim != wanted and not (isinstance(claim, list) and wanted in claim):
            return False
    return True


class BruteForceTests(SynchronousTestCase):
    """Rules in a small world, where everything can be tried."""

    @given(rule_lists, principals, st.sampled_from(["subscribe", "send"]))
    @settings(deadline=None, max_examples=100)
    def test_check(self, rules: list[Rule], principal: Principal, command: str) -> None:
        """AZ-1: the first rule whose command, destination and conditions match decides."""
        tested = Rules(rules)
        for destination in WORLD[:258]:
            expected = next(
                (
                    rule
                    for rule in rules
                    if command in rule.commands
                    and is_covered(rule.pattern.text, destination, principal)
                    and holds(rule, principal, destination.segments)
                ),
                None,
            )
            decision = tested.check(principal, command, destination)
            self.assertEqual(
                (decision.allowed, decision.rule),
                (expected.allows, expected.label) if expected else (False, None),
            )

    @given(rule_lists, principals, client_patterns)
    @settings(deadline=None, max_examples=100)
    def test_wildcards(self, rules: list[Rule], principal: Principal, pattern: Destination) -> None:
        """AZ-3: of the rules about SUBSCRIBE the first that overlaps decides, and it allows only
        if it covers the pattern whole and holds.
        """
        theirs = subscribed(pattern.path)
        expected: tuple[bool, str | None] = (False, None)
        for rule in rules:
            ours = set(covered(rule.pattern.text, principal))
            if "subscribe" in rule.commands and ours & theirs:
                allowed = rule.allows and theirs <= ours
                allowed = allowed and holds(rule, principal, pattern.segments)
                expected = (allowed, rule.label)
                break
        decision = Rules(rules).check(principal, "subscribe", pattern)
        self.assertEqual((decision.allowed, decision.rule), expected)

    @given(rule_lists, principals)
    @settings(deadline=None, max_examples=100)
    def test_allowed_wildcards(self, rules: list[Rule], principal: Principal) -> None:
        """AZ-3: who may subscribe to a pattern may subscribe to everything that it covers."""
        tested = Rules(rules)
        denied = {
            destination
            for destination in WORLD
            if not tested.check(principal, "subscribe", destination).allowed
        }
        for pattern in CLIENT_PATTERNS:
            if tested.check(principal, "subscribe", pattern).allowed:
                event("allowed")
                self.assertEqual(denied & subscribed(pattern.path), set(), pattern)

    @given(rule_lists, principals, st.one_of(client_patterns, st.sampled_from(WORLD)))
    @settings(deadline=None, max_examples=100)
    def test_explain(
        self, rules: list[Rule], principal: Principal, destination: Destination
    ) -> None:
        """AZ-1: what is explained is what is decided."""
        tested = Rules(rules)
        decision = tested.check(principal, "subscribe", destination)
        *lines, end = tested.explain(principal, "subscribe", destination).splitlines()
        verdict = "allowed" if decision.allowed else "denied"
        self.assertEqual(end, f"{verdict}: {decision.reason}")
        deciding = [line.removesuffix(": decides") for line in lines if line.endswith(": decides")]
        self.assertEqual(deciding, [decision.rule] if decision.rule else [])

    @given(
        st.lists(st.tuples(rules_of(), st.sampled_from(COVERING)), min_size=2, max_size=4),
        principals,
    )
    @settings(deadline=None, max_examples=100)
    def test_unreachable(self, made: list[tuple[Rule, str]], principal: Principal) -> None:
        """AZ-1: a rule that is called unreachable never decides."""
        rules = [
            allow(*rule.commands, pattern, authorities=rule.authorities, name=str(number))
            for number, (rule, pattern) in enumerate(made)
        ]
        tested = Rules(rules)
        unreachable = {rule.name for rule in tested.unreachable()}
        event(f"{len(unreachable)} unreachable")
        for command in ("subscribe", "send"):
            for destination in WORLD:
                decision = tested.check(principal, command, destination)
                self.assertNotIn(decision.rule, unreachable)


class AgainTests(SynchronousTestCase):
    """What is kept of one question does not answer another."""

    def test_another_principal(self) -> None:
        """AZ-1: the same destination is decided anew for each principal, command and time."""
        rules = Rules(
            [
                allow("send", "/topic/users/{user}"),
                allow("subscribe", "send", "/topic/{claims.team}/x"),
                allow("send", "/topic/rooms/{room}", claims={"rooms": "{room}"}),
                allow("send", "/topic/**", authorities=["admin"]),
            ]
        )
        eve = Principal("eve", "issuer", 0, 0)
        for _ in range(2):
            for command, text, principal, allowed in (
                ("send", "/topic/users/bob", bob(), True),
                ("send", "/topic/users/bob", eve, False),
                ("subscribe", "/topic/users/bob", bob(), False),
                ("send", "/topic/users/bob", bob("admin"), True),
                ("send", "/topic/red/x", bob(team="red"), True),
                ("send", "/topic/red/x", bob(team="blue"), False),
                ("subscribe", "/topic/red/x", bob(team="red"), True),
                ("subscribe", "/topic/red/x", bob("admin"), False),
                ("send", "/topic/rooms/1", bob(rooms=["1"]), True),
                ("send", "/topic/rooms/1", bob(rooms=["2"]), False),
            ):
                decision = check(rules, command, text, principal)
                self.assertEqual(decision.allowed, allowed, (command, text))

    def test_bound(self) -> None:
        """AZ-1: what is kept has a bound, whatever clients ask for."""
        rules = Rules([allow("send", "/topic/*")])
        for number in range(10_000):
            self.assertTrue(check(rules, "send", f"/topic/{number}").allowed)
        self.assertLessEqual(max(map(len, rules._fitting.values())), 4096)
