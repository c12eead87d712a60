"""A small world of destinations, in which everything can be tried.

What a pattern covers is told here by the words of the specification, one segment after another,
and sets are compared by walking through all the destinations of this world. Patterns have up to
three segments, of which ``other`` is never spelled; destinations have up to four.
"""

from __future__ import annotations

from functools import cache
from itertools import product

from hypothesis import strategies as st

from stompauth.authorization.destination import Destination
from stompauth.identity.principal import Principal

SPELLED = ("topic", "queue", "user", "dlq.x", "a")

WORLD = [
    Destination.parse("/" + "/".join(segments))
    for length in range(1, 5)
    for segments in product((*SPELLED, "other"), repeat=length)
]


def is_covered(pattern: str, destination: Destination, principal: Principal) -> bool:
    """Whether the pattern, of a rule or of a SUBSCRIBE, covers the destination."""
    wanted = pattern[1:].split("/")
    found = destination.segments
    if wanted[-1] == "**":
        if len(found) < len(wanted):
            return False
        wanted[-1:] = ["*"] * (len(found) - len(wanted) + 1)
    if len(wanted) != len(found):
        return False
    for index, (want, segment) in enumerate(zip(wanted, found, strict=True)):
        is_reserved = index == 0 and segment in ("user", "session", "app", "temp-queue")
        is_dead = index == 1 and found[0] == "queue" and segment.startswith("dlq.")
        if want == "{user}":
            fits = segment == principal.name
        elif want.startswith("{claims."):
            fits = segment == principal.claims.get(want[8:-1])
        elif want == "*" or want.startswith("{"):
            fits = True
        else:
            if want != segment:
                return False
            continue
        if not fits or is_reserved or is_dead:
            return False
    return True


def covered(pattern: str, principal: Principal) -> list[Destination]:
    """All destinations that the pattern covers."""
    return [destination for destination in WORLD if is_covered(pattern, destination, principal)]


#: Every SUBSCRIBE's destination with wildcards in this world, which mean the same for everybody.
CLIENT_PATTERNS = [
    Destination.parse("/" + "/".join(segments), pattern=True)
    for length in range(1, 4)
    for segments in product((*SPELLED, "*", "**"), repeat=length)
    if "**" not in segments[:-1] and not {"*", "**"}.isdisjoint(segments)
]

client_patterns = st.sampled_from(CLIENT_PATTERNS)


@cache
def subscribed(path: str) -> frozenset[Destination]:
    """All destinations that a SUBSCRIBE's pattern covers."""
    return frozenset(covered(path, Principal("nobody", "issuer", 0, 0)))


@st.composite
def rule_patterns(draw: st.DrawFn) -> str:
    """A rule's pattern; its captures are called x0, x1 and x2."""
    length = draw(st.integers(min_value=1, max_value=3))
    segments = [
        draw(st.sampled_from([*SPELLED, "*", f"{{x{index}}}", "{user}", "{claims.c}"]))
        for index in range(length)
    ]
    if draw(st.booleans()):
        segments[-1] = "**"
    return "/" + "/".join(segments)


#: Principals whose names and claims mean something to the patterns, or must not.
principals = st.builds(
    Principal,
    name=st.sampled_from([*SPELLED, "a/b"]),
    issuer=st.just("issuer"),
    expires_at=st.just(0.0),
    issued_at=st.just(0.0),
    authorities=st.frozensets(st.sampled_from(["member", "admin"])),
    claims=st.dictionaries(
        st.sampled_from(["c", "d"]),
        st.one_of(
            st.sampled_from([*SPELLED, "*", "**", "", "..", "a/b", "{x1}", None, 1]),
            st.lists(st.sampled_from([*SPELLED, "*", None, 1]), max_size=3),
        ),
    ),
)
