"""The table that throughput.py prints."""

import statistics
from typing import NamedTuple

HEADER = f"{'':<30} {'ours/s':>9} {'bare/s':>9} {'ratio':>7}   {'spread':<14}   aim"


class Row(NamedTuple):
    """One line of the table: images per second of every turn, and what their ratio should be, where there is an aim."""

    what: str
    ours: list[float]
    theirs: list[float]
    aim: float | None = None

    def __str__(self) -> str:
        ratios = sorted(a / b for a, b in zip(self.ours, self.theirs, strict=True))
        median = statistics.median(ratios)
        verdict = f"{self.aim:.2f} {'reached' if median >= self.aim else 'missed'}" if self.aim else "-"
        return (
            f"{self.what:<30} {statistics.median(self.ours):>9.1f} {statistics.median(self.theirs):>9.1f} "
            f"{median:>7.3f}   {ratios[0]:.3f} to {ratios[-1]:.3f}   {verdict}"
        )
