"""Charts: where their lines, bars and numbers stand. `templates/charts.html.j2` draws them as SVG.

Shape letters: B bins.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 460, 46, 12, 12, 38
MATRIX_WIDTH, MATRIX_LABELS = 900, 170

Point = tuple[float, float]
Words = Callable[[float], str]


def percent(value: float) -> str:
    """Return a share as people write it."""
    return f"{value * 100:.0f}\u00a0%"


def plain(value: float) -> str:
    """Return a number without needless digits."""
    return f"{value:g}"


class Line(NamedTuple):
    """A named line through (x, y) points."""

    name: str
    points: Sequence[Point]


class Bar(NamedTuple):
    """A named bar of length value, of 0 to 1, with what is written beside it and the reach of its uncertainty."""

    name: str
    value: float
    text: str
    reach: Point | None = None

    @property
    def length(self) -> float:
        """The value, between 0 and 1 whatever it is."""
        return min(max(self.value, 0.0), 1.0) if math.isfinite(self.value) else 0.0


@dataclass(frozen=True)
class Axes:
    """Places of numbers in a picture of WIDTH by height.

    x, y: (least, most) of the numbers shown; x_name, y_name: what they are; x_words, y_words: how they are written.
    height: of the picture.
    whole: only whole numbers along x.
    """

    x: Point
    y: Point
    x_name: str = ""
    y_name: str = ""
    x_words: Words = plain
    y_words: Words = plain
    height: int = 300
    whole: bool = False

    def at(self, x: float, y: float) -> Point:
        """Return the place of a point, from the upper left corner."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), self.height - BOTTOM - up * (self.height - TOP - BOTTOM)

    def path(self, points: Iterable[Point]) -> str:
        """Return the d of a path through points."""
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (self.at(*point) for point in points))

    @property
    def columns(self) -> list[tuple[float, str]]:
        """Where numbers stand along x, and how they are written."""
        least = 1.0 if self.whole else 0.0
        return [(self.at(value, self.y[0])[0], self.x_words(value)) for value in ticks(*self.x, least)]

    @property
    def rows(self) -> list[tuple[float, str]]:
        """Where numbers stand along y, and how they are written."""
        return [(self.at(self.x[0], value)[1], self.y_words(value)) for value in ticks(*self.y)]


class LineChart(NamedTuple):
    """Lines, each with a colour and a dash of its own, and a dashed line to compare with.

    title: what a person who does not see the chart is told.
    """

    title: str
    axes: Axes
    lines: Sequence[Line]
    ideal: Sequence[Point] = ()


class Bin(NamedTuple):
    """A bar of a reliability diagram, in places of the picture.

    y: of its accuracy; wanted: of its mean confidence; floor: of 0; many: the height that stands for its images.
    """

    words: str
    left: float
    right: float
    y: float
    wanted: float
    floor: float
    many: float


class ReliabilityDiagram(NamedTuple):
    """Accuracy over confidence: an edge per bin, its gap to the confidence, and how many images are in it."""

    title: str
    axes: Axes
    bins: Sequence[Bin]


class Cell(NamedTuple):
    """A square of a confusion matrix: its upper left corner, images, opacity, and whether its answers are right."""

    words: str
    left: float
    top: float
    images: int
    opacity: float
    right: bool


class ConfusionChart(NamedTuple):
    """names: each class with the middle of its row and column. side: of a square. size: of the whole, square."""

    title: str
    names: Sequence[tuple[str, float]]
    cells: Sequence[Cell]
    side: float
    size: float


def ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """Return round numbers from low to high, about five of them and not nearer to each other than `least`."""
    step = _step(low, high, least)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 9) for i in range(first, last + 1)]


def line_chart(title: str, lines: Sequence[Line], axis: str, words: Words = plain, most: float = math.inf) -> LineChart:
    """Return curves over epochs.

    Args:
        title: what a person who does not see it is told.
        lines: at least one point, all of them finite.
        axis: what y shows.
        words: how y is written.
        most: y ends there at the latest.
    """
    points = [point for line in lines for point in line.points]
    low, high = _rounded(y for _, y in points)
    x = _range(x for x, _ in points)
    return LineChart(title, Axes(x, (low, min(high, most)), "epochs", axis, y_words=words, whole=True), lines)


def reliability_diagram(
    title: str, confidence: Sequence[float], accuracy: Sequence[float], counts: Sequence[int]
) -> ReliabilityDiagram:
    """Return the bars of accuracy over confidence; an empty bin has none.

    Args:
        title: what a person who does not see it is told.
        confidence, accuracy: (B,) means of the bins, any number for an empty one.
        counts: (B,) images in each.
    """
    axes = Axes((0.0, 1.0), (0.0, 1.0), "confidence", "accuracy", percent, percent, 330)
    bins = []
    for i, (sure, correct, count) in enumerate(zip(confidence, accuracy, counts, strict=True)):
        if count:
            (left, y), (right, wanted) = axes.at(i / len(counts), correct), axes.at((i + 1) / len(counts), sure)
            words = f"{count} images: confidence {percent(sure)}, accuracy {percent(correct)}"
            bins.append(Bin(words, left, right, y, wanted, axes.at(0, 0)[1], 42 * count / max(counts)))
    return ReliabilityDiagram(title, axes, bins)


def risk_coverage_curve(title: str, risk: Sequence[float], best: Sequence[float], points: int = 200) -> LineChart:
    """Return the share of mistakes over the share of images that are answered, the surest first.

    Args:
        title: what a person who does not see it is told.
        risk: share of mistakes among the 1, 2, ... surest images.
        best: the same for an ideal order, drawn dashed.
        points: how many of them are drawn at most.
    """
    shown = sorted({round((i + 1) * len(risk) / points) - 1 for i in range(points)} - {-1} | {len(risk) - 1})
    drawn, dashed = ([((i + 1) / len(risk), values[i]) for i in shown] for values in (risk, best))
    (_, across), (_, high) = _range([0.0, *(x for x, _ in drawn)]), _rounded([0.0, *(y for _, y in drawn + dashed)])
    axes = Axes((0.0, across), (0.0, min(high, 1.0)), "images answered, surest first", "mistakes", percent, percent)
    return LineChart(title, axes, [Line("mistakes", drawn)], dashed)


def confusion_chart(title: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> ConfusionChart:
    """Return the squares of a confusion matrix: a row for each truth, a column for each answer.

    Args:
        title: what a person who does not see it is told.
        names: of the C classes, C at least 1.
        counts: (C, C) images.
    """
    side = min(34.0, (MATRIX_WIDTH - MATRIX_LABELS) / len(names))
    cells = []
    for i, (truth, row) in enumerate(zip(names, counts, strict=True)):
        for j, (answer, count) in enumerate(zip(names, row, strict=True)):
            if count:
                words = f"{truth}, named {answer}: {count:,} of {sum(row):,} images"
                place = (MATRIX_LABELS + j * side, MATRIX_LABELS + i * side)
                cells.append(Cell(words, *place, count, 0.15 + 0.65 * count / sum(row), i == j))
    middles = [MATRIX_LABELS + (i + 0.5) * side for i in range(len(names))]
    return ConfusionChart(title, list(zip(names, middles, strict=True)), cells, side, MATRIX_LABELS + side * len(names))


def _step(low: float, high: float, least: float = 0.0) -> float:
    rough = max((high - low) / 5, least, 1e-9)
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _range(values: Iterable[float]) -> Point:
    low, high = min(values := list(values)), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _rounded(values: Iterable[float]) -> Point:
    """Return the range of the values, widened to round numbers."""
    low, high = _range(values)
    step = _step(low, high)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
