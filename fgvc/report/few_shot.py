"""The page of a few-shot evaluation: what each method reached, with its interval."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fgvc.confidence.means import Mean
from fgvc.files.whole_files import write_text
from fgvc.report.charts import Bar
from fgvc.report.rendering import render


class Line(NamedTuple):
    """A row of the page.

    name: the method. reached: its accuracy. gap: to the control over the same episodes, or None.
    """

    name: str
    reached: Mean
    gap: Mean | None


class Section(NamedTuple):
    """A table and its bars.

    title: what it is of. note: what to know of it. lines: its rows.
    """

    title: str
    note: str
    lines: Sequence[Line]

    @property
    def bars(self) -> list[Bar]:
        """The rows as bars with the reach of their intervals."""
        return [
            Bar(one.name, one.reached.value, _percent(one.reached.value), _reach(one.reached)) for one in self.lines
        ]

    @property
    def cells(self) -> list[tuple[str, ...]]:
        """The rows as words."""
        return [
            (
                one.name,
                f"{_percent(one.reached.value)}\u00a0±\u00a0{100 * one.reached.half:.2f}",
                "" if one.gap is None else f"{100 * one.gap.value:+.2f}\u00a0±\u00a0{100 * one.gap.half:.2f}",
            )
            for one in self.lines
        ]


def write_page(path: Path, title: str, facts: Sequence[str], against: str, sections: Sequence[Section]) -> Path:
    """Write the page and return its path.

    Args:
        path: the HTML file.
        title: what was evaluated.
        facts: one line per network.
        against: the control.
        sections: one per kind of episodes and of method.

    Raises:
        FgvcError: it cannot be written.
    """
    write_text(path, render("few_shot.html.j2", title=title, facts=facts, against=against, sections=sections))
    return path


def _reach(reached: Mean) -> tuple[float, float] | None:
    if reached.half != reached.half:
        return None
    return max(0.0, reached.value - reached.half), min(1.0, reached.value + reached.half)


def _percent(value: float) -> str:
    return f"{100 * value:.2f}\u00a0%"
