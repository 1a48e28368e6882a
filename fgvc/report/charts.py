"""Charts as SVG that takes its colours from the page: numbers in, a string out.

Shape letters: B bins.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple

STYLE = """
svg{display:block;width:100%;height:auto;overflow:visible;font:12px system-ui,sans-serif}
svg text{fill:var(--soft)}
svg .ink{fill:var(--ink)}
svg .grid{stroke:var(--line);stroke-width:1}
svg .ideal{stroke:var(--ink);stroke-width:1.5;stroke-dasharray:4 4;fill:none}
svg .reach{stroke:var(--ink);stroke-width:1.5;fill:none}
svg .edge{stroke:var(--ink);stroke-width:3}
svg .rail{fill:var(--line)}
svg .gap{fill:var(--c2)}
svg .many{fill:var(--soft)}
.line{fill:none;stroke:var(--c);stroke-width:2.25;stroke-linejoin:round;stroke-linecap:round}
.dot,.fill{fill:var(--c)}
.s0{--c:var(--c1)}.s1{--c:var(--c2);stroke-dasharray:8 4}.s2{--c:var(--c3);stroke-dasharray:2 5}
.s3{--c:var(--c4);stroke-dasharray:10 4 2 4}.s4{--c:var(--c5);stroke-dasharray:5 5}
.s5{--c:var(--c6);stroke-dasharray:1 4}
@media(max-width:600px){svg{font-size:15px}}
.legend{display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;list-style:none;margin:.5rem 0 0;padding:0;font-size:.85rem}
.legend svg{display:inline-block;width:28px;height:8px;margin-right:.4rem;vertical-align:middle}
"""
COLOURS = 6
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 460, 46, 12, 12, 38

Words = Callable[[float], str]


class Line(NamedTuple):
    """A named line through (x, y) points."""

    name: str
    points: Sequence[tuple[float, float]]


class Bar(NamedTuple):
    """A named bar of length value, of 0 to 1, with what is written beside it and the reach of its uncertainty."""

    name: str
    value: float
    text: str
    reach: tuple[float, float] | None = None


class Axes:
    """Places of numbers in a picture of WIDTH by height.

    Args:
        x, y: (least, most) of the numbers shown.
        height: of the picture.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float], height: int = 300) -> None:
        self.x, self.y, self.height = x, y, height

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the place of a point, from the upper left corner."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), self.height - BOTTOM - up * (self.height - TOP - BOTTOM)

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        """Return the d of a path through points."""
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (self.at(*point) for point in points))

    def grid(self, x_name: str, y_name: str, x_words: Words, y_words: Words, whole: bool = False) -> str:
        """Return the grid lines with their numbers, and the names of the axes.

        Args:
            x_name, y_name: what the axes show.
            x_words, y_words: how their numbers are written.
            whole: only whole numbers along x.
        """
        out = []
        for value in ticks(*self.y):
            (x1, y), (x2, _) = self.at(self.x[0], value), self.at(self.x[1], value)
            out.append(f'<path class="grid" d="M{x1:.1f} {y:.1f}H{x2:.1f}"/>')
            out.append(f'<text x="{x1 - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(y_words(value))}</text>')
        for value in ticks(*self.x, least=1.0 if whole else 0.0):
            x, y = self.at(value, self.y[0])
            out.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{escape(x_words(value))}</text>')
        middle, bottom = (LEFT + WIDTH - RIGHT) / 2, self.height - 4
        out.append(f'<text x="{middle}" y="{bottom}" text-anchor="middle">{escape(x_name)}</text>')
        out.append(f'<text x="0" y="-6" class="ink">{escape(y_name)}</text>')
        return "".join(out)


def ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """Return round numbers from low to high, about five of them and not nearer to each other than `least`."""
    step = _step(low, high, least)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 9) for i in range(first, last + 1)]


def percent(value: float) -> str:
    """Return a share as people write it."""
    return f"{value * 100:.0f}\u00a0%"


def plain(value: float) -> str:
    """Return a number without needless digits."""
    return f"{value:g}"


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_name: str,
    y_name: str,
    x_words: Words = plain,
    y_words: Words = plain,
    ideal: Sequence[tuple[float, float]] = (),
    whole: bool = False,
    from_zero: bool = False,
    most: float = math.inf,
) -> str:
    """Draw lines, each with a colour and a dash of its own; of few points each is a dot that says its number.

    Args:
        title: what a person who does not see it is told.
        lines: at least one point, all of them finite.
        x_name, y_name, x_words, y_words, whole: see `Axes.grid`.
        ideal: a dashed line to compare with.
        from_zero: both axes start at 0.
        most: y ends there at the latest.
    """
    points = [point for line in lines for point in line.points] + [*ideal] + [(0.0, 0.0)] * from_zero
    low, high = _rounded(y for _, y in points)
    axes = Axes(_range(x for x, _ in points), (0.0 if from_zero else low, min(high, most)))
    body = axes.grid(x_name, y_name, x_words, y_words, whole)
    body += f'<path class="ideal" d="{axes.path(ideal)}"/>' if ideal else ""
    for i, (name, drawn) in enumerate(lines):
        body += f'<path class="line s{i % COLOURS}" d="{axes.path(drawn)}"/>' if drawn else ""
        for x, y in drawn if len(drawn) <= 60 else ():
            (left, top), words = axes.at(x, y), escape(f"{name}: {y_words(y)} at {x_words(x)}")
            body += f'<circle class="dot s{i % COLOURS}" cx="{left:.1f}" cy="{top:.1f}" r="3">'
            body += f"<title>{words}</title></circle>"
    return _svg(title, axes.height, body)


def legend(names: Sequence[str]) -> str:
    """Return the list that says which line is which, in the order of the lines."""
    key = '<svg viewBox="0 0 28 8" aria-hidden="true"><path class="line s{}" d="M1 4H27"/></svg>'
    items = (f"<li>{key.format(i % COLOURS)}{escape(name)}</li>" for i, name in enumerate(names))
    return f'<ul class="legend">{"".join(items)}</ul>'


def bars(title: str, rows: Sequence[Bar], room: int = 130) -> str:
    """Draw bars below one another, their names on the left and their numbers on the right.

    Args:
        title: what a person who does not see it is told.
        rows: from top to bottom.
        room: the width that names may take.
    """
    body, high, long = "", 30, WIDTH - room - 66
    for i, (name, value, text, reach) in enumerate(rows):
        y, value = i * high + 6, min(max(value if math.isfinite(value) else 0.0, 0.0), 1.0)
        short = name if len(name) <= room // 8 else name[: room // 8 - 1] + "…"
        body += (
            f'<g><title>{escape(f"{name}: {text}")}</title><text class="ink" x="0" y="{y + 14}">{escape(short)}</text>'
        )
        body += f'<rect class="rail" x="{room}" y="{y}" width="{long}" height="18" rx="3"/>'
        body += f'<rect class="fill s0" x="{room}" y="{y}" width="{value * long:.1f}" height="18" rx="3"/>'
        if reach:
            low, top = (room + end * long for end in reach)
            body += f'<path class="reach" d="M{low:.1f} {y + 5}v8m0 -4H{top:.1f}m0 -4v8"/>'
        body += f'<text class="ink" x="{WIDTH}" y="{y + 14}" text-anchor="end">{escape(text)}</text></g>'
    return _svg(title, len(rows) * high + 6, body, above=0)


def reliability_diagram(
    title: str, confidence: Sequence[float], accuracy: Sequence[float], counts: Sequence[int]
) -> str:
    """Draw accuracy over confidence: an edge per bin, the gap to what was promised, and how many images are in it.

    Args:
        title: what a person who does not see it is told.
        confidence, accuracy: (B,) means of the bins, any number for an empty one.
        counts: (B,) images in each.
    """
    axes, bins, most = Axes((0.0, 1.0), (0.0, 1.0), 330), len(counts), max([*counts, 1])
    body = axes.grid("confidence", "accuracy", percent, percent)
    for i, (promised, kept, count) in enumerate(zip(confidence, accuracy, counts, strict=True)):
        if not count:
            continue
        (x1, _), (x2, _) = axes.at(i / bins, 0), axes.at((i + 1) / bins, 0)
        (_, floor), (_, y), (_, wanted) = axes.at(0, 0), axes.at(0, kept), axes.at(0, promised)
        many = 42 * count / most
        words = f"{count} images: confidence {percent(promised)}, accuracy {percent(kept)}"
        body += f"<g><title>{escape(words)}</title>"
        body += _rect("fill s0", x1 + 1, max(y, wanted), x2 - x1 - 2, floor - max(y, wanted))
        body += _rect("gap", x1 + 1, min(y, wanted), x2 - x1 - 2, abs(y - wanted))
        body += f'<path class="edge" d="M{x1 + 1:.1f} {y:.1f}H{x2 - 1:.1f}"/>'
        body += _rect("many", x1 + 1, axes.height + 48 - many, x2 - x1 - 2, many) + "</g>"
    body += f'<path class="ideal" d="{axes.path([(0, 0), (1, 1)])}"/>'
    body += f'<text x="{LEFT - 6}" y="{axes.height + 48}" text-anchor="end">images</text>'
    return _svg(title, axes.height + 52, body)


def risk_coverage_curve(title: str, risk: Sequence[float], best: Sequence[float], points: int = 200) -> str:
    """Draw the share of mistakes over the share of images that are answered, the surest first.

    Args:
        title: what a person who does not see it is told.
        risk: share of mistakes among the 1, 2, ... surest images.
        best: the same for an ideal order, drawn dashed.
        points: how many of them are drawn at most.
    """
    kept = sorted({round((i + 1) * len(risk) / points) - 1 for i in range(points)} - {-1} | {len(risk) - 1})
    drawn, dashed = ([((i + 1) / len(risk), values[i]) for i in kept] for values in (risk, best))
    name = "images answered, surest first"
    return line_chart(
        title, [Line("mistakes", drawn)], name, "mistakes", percent, percent, dashed, from_zero=True, most=1.0
    )


def _step(low: float, high: float, least: float = 0.0) -> float:
    rough = max((high - low) / 5, least, 1e-9)
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _range(values: Iterable[float]) -> tuple[float, float]:
    low, high = min(values := list(values)), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _rounded(values: Iterable[float]) -> tuple[float, float]:
    """Return the range of the values, widened to round numbers."""
    low, high = _range(values)
    step = _step(low, high)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}"/>'


def _svg(title: str, height: int, body: str, above: int = 16) -> str:
    box = f"0 {-above} {WIDTH} {height + above}"
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(title)}">{body}</svg>'
