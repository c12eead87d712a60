"""A plot of what a delivery costs, by the number of subscribers, as SVG."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Seen apart by the colour-blind too (Okabe and Ito).
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")

_WIDTH: Final = 640
_HEIGHT: Final = 400
_LEFT: Final = 64
_RIGHT: Final = 16
_TOP: Final = 16
_BOTTOM: Final = 48


def draw(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Draw the curves, with both axes logarithmic.

    :param curves: by the server, microseconds of CPU time per delivery by subscribers.
    """
    points = [point for curve in curves.values() for point in curve]
    across = _decades([x for x, _ in points])
    up = _decades([y for _, y in points])

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (_WIDTH - _LEFT - _RIGHT) * _part(x, across),
            _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * _part(y, up),
        )

    shapes = [f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>']
    for x in across:
        left, top = at(x, up[-1])
        _, bottom = at(x, up[0])
        shapes.append(_line(left, top, left, bottom))
        shapes.append(_text(left, bottom + 18, f"{x:,g}", "middle"))
    for y in up:
        left, top = at(across[0], y)
        right, _ = at(across[-1], y)
        shapes.append(_line(left, top, right, top))
        shapes.append(_text(left - 8, top + 4, f"{y:,g}", "end"))
    middle = (_WIDTH + _LEFT - _RIGHT) / 2
    shapes.append(_text(middle, _HEIGHT - 10, "subscribers, one publish in flight", "middle"))
    shapes.append(
        f'<g transform="translate(16 {(_HEIGHT - _BOTTOM + _TOP) / 2}) rotate(-90)">'
        f"{_text(0, 0, 'µs of CPU time per delivery', 'middle')}</g>"
    )
    for number, (server, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [at(*point) for point in curve]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places]
        line = _TOP + 20 + 18 * number
        shapes.append(f'<circle cx="{_WIDTH - 190}" cy="{line - 4}" r="4" fill="{colour}"/>')
        shapes.append(_text(_WIDTH - 180, line, server, "start"))
    box = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    font = 'font-family="sans-serif" font-size="12"'
    body = "\n".join(shapes)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} {font}>\n{body}\n</svg>\n'


def _decades(values: Sequence[float]) -> list[float]:
    """The powers of ten around the values, at least two."""
    first = math.floor(math.log10(min(values)))
    last = max(math.ceil(math.log10(max(values))), first + 1)
    return [10.0**power for power in range(first, last + 1)]


def _part(value: float, axis: Sequence[float]) -> float:
    """How far along the axis the value is, from 0 to 1."""
    return math.log10(value / axis[0]) / math.log10(axis[-1] / axis[0])


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
