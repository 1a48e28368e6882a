"""The answers of folds in one table, every training image once, and their scores with mean and spread."""

import csv
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fgvc.errors import FgvcError
from fgvc.files.answer_table import Table, read
from fgvc.files.run_folder import ANSWERS, FINAL
from fgvc.files.whole_files import open_whole, write_text

TABLE, SUMMARY = "out_of_fold.csv", "out_of_fold.json"
FOLD = "fold"
"""The column that the joined table has more than those of the folds."""


class Spread(NamedTuple):
    """A score over folds: its mean, its standard deviation (of a sample), and each of them."""

    mean: float
    std: float
    of_folds: list[float]


def join(runs: Sequence[Path], folder: Path) -> int:
    """Write the answers of the test images of runs into one table, and return how many there are.

    Raises:
        FgvcError: a run without answers, one image in two folds, or a table that cannot be written.
    """
    tables = [read(run / ANSWERS) for run in runs]
    seen: dict[str, Path] = {}
    for run, table in zip(runs, tables, strict=True):
        for path in table.column("path"):
            if seen.setdefault(path, run) != run:
                raise FgvcError(f"{path}: answered in {seen[path]} and in {run}; the data changed between the folds")
    with open_whole(folder / TABLE) as file:
        writer = csv.writer(file)
        writer.writerow([*tables[0].columns, FOLD])
        for number, table in enumerate(tables, start=1):
            writer.writerows([*cells, number] for cells in _rows(table, list(tables[0].columns)))
    return len(seen)


def summarise(runs: Sequence[Path], folder: Path) -> dict[str, Spread]:
    """Write and return the mean and the spread of each score that the tests of all runs have."""
    scores = [json.loads((run / FINAL).read_text(encoding="utf-8")) for run in runs]
    found: dict[str, Spread] = {}
    for name in scores[0]:
        numbers = [one.get(name) for one in scores]
        if all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
            found[name] = Spread(statistics.mean(numbers), statistics.stdev(numbers), numbers)
    write_text(folder / SUMMARY, json.dumps({name: one._asdict() for name, one in found.items()}, indent=1))
    return found


def _rows(table: Table, names: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(*(table.column(name) for name in names), strict=True))
