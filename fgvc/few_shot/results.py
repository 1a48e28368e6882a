"""What few-shot methods reached: rows of a table, their files, and the lines that are printed.

Shape letters: E episodes.
"""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fgvc.confidence.means import Mean, mean, paired, spread
from fgvc.files.whole_files import open_whole, write_text

SCORES, TABLE, EVERYTHING = "accuracies.csv", "results.csv", "results.json"


@dataclass(frozen=True)
class Kind:
    """Episodes of one kind.

    n_way, n_shot, n_query, n_episodes: their numbers. file: where they lie. digest: its hash.
    """

    n_way: int
    n_shot: int
    n_query: int
    n_episodes: int
    file: str
    digest: str

    @property
    def name(self) -> str:
        """As it stands in tables."""
        return f"{self.n_way}-way {self.n_shot}-shot"


@dataclass(frozen=True)
class Row:
    """One method on the features of one network.

    features: the folder. method: its name. transductive: see `FewShotClassifier`. kind: of the episodes.
    right: (E,) accuracies.
    """

    features: str
    method: str
    transductive: bool
    kind: Kind
    right: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Looked:
    """What a network says of photographs: where it lies, and what belongs under a table of it.

    features: the folder. network: its name. seen: what it was trained on. take, view, size, classes, photographs: what
    was looked at, and how.
    """

    features: str
    network: str
    seen: str
    take: str
    view: str
    size: int
    classes: int
    photographs: int

    @property
    def crop(self) -> str:
        """How photographs were cut, as few-shot tables say it."""
        return "box" if self.view == "box" else "none"

    def __str__(self) -> str:
        """Say it in one line."""
        seen = f"; {self.seen}" if self.seen else ""
        return (
            f"{self.network}, {self.take} at {self.size} px, crop={self.crop}"
            f"{f' ({self.view})' if self.view not in ('whole', 'box') else ''}: "
            f"{self.classes} classes, {self.photographs:,} photographs{seen}"
        )


@dataclass
class Results:
    """Rows, and what they were measured on. `against` is the method that the others are compared with."""

    looked: list[Looked]
    rows: list[Row] = field(default_factory=list)
    against: str = ""

    def row(self, features: str, method: str, kind: Kind) -> Row | None:
        """Return the row of a method, or None."""
        same = (row for row in self.rows if (row.features, row.method, row.kind) == (features, method, kind))
        return next(same, None)

    def difference(self, row: Row) -> Mean | None:
        """Return how much better a row is than the control on the same episodes; None for the control itself."""
        control = self.row(row.features, self.against, row.kind)
        return None if control is None or control is row else paired(control.right, row.right)

    @property
    def kinds(self) -> list[Kind]:
        """The kinds of episodes, in order."""
        return list(dict.fromkeys(row.kind for row in self.rows))

    def table(self, kind: Kind, transductive: bool, features: str | None = None) -> list[Row]:
        """Return the rows of a table, the best first; of one folder of features, or all of them one after the other."""
        order = [one.features for one in self.looked]
        rows = [row for row in self.rows if (row.kind, row.transductive) == (kind, transductive)]
        rows = [row for row in rows if features in (None, row.features)]
        return sorted(rows, key=lambda row: (order.index(row.features), -float(row.right.mean())))

    def trainings(self, method: str, kind: Kind) -> list[float]:
        """Return the mean accuracy of a method on each of the feature folders."""
        return [float(row.right.mean()) for row in self.rows if (row.method, row.kind) == (method, kind)]


def lines(results: Results) -> Iterator[str]:
    """Yield what is printed; transductive methods stand in a table of their own."""
    for looked in results.looked:
        yield f"{looked.features}: {looked}"
    for kind in results.kinds:
        yield ""
        yield f"{kind.name}, {kind.n_query} queries per class, {kind.n_episodes:,} episodes ({Path(kind.file).name})"
        for transductive in (False, True):
            rows = results.table(kind, transductive)
            if transductive and rows:
                yield "transductive: an answer hangs on the other queries, and every class has equally many of them"
            yield from _table(results, rows)
        yield from _over_trainings(results, kind)


def _table(results: Results, rows: Sequence[Row]) -> Iterator[str]:
    several = len(results.looked) > 1
    names = [f"{Path(row.features).name}  {row.method}" if several else row.method for row in rows]
    width = max(map(len, names), default=0)
    for name, row in zip(names, rows, strict=True):
        reached, gap = mean(row.right), results.difference(row)
        told = "" if gap is None else f"   {_points(gap)} against {results.against}"
        yield f"  {name:<{width}}  {100 * reached.value:5.2f} % ± {100 * reached.half:.2f}{told}"


def _over_trainings(results: Results, kind: Kind) -> Iterator[str]:
    if len(results.looked) < 2:
        return
    yield f"over {len(results.looked)} feature folders (the intervals above are of the episodes alone)"
    for method in dict.fromkeys(row.method for row in results.rows if row.kind == kind):
        middle, deviation = spread(results.trainings(method, kind))
        yield f"  {method}: mean {100 * middle:.2f} %, standard deviation {100 * deviation:.2f}"


def _points(gap: Mean) -> str:
    return f"{100 * gap.value:+.2f} ± {100 * gap.half:.2f}"


def write(results: Results, folder: Path) -> None:
    """Write `results.csv` (a row per method), `results.json` (all of it) and `accuracies.csv` (a row per episode).

    Raises:
        FgvcError: they cannot be written.
    """
    table = [_plain(results, row) for row in results.rows]
    with open_whole(folder / TABLE) as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    with open_whole(folder / SCORES) as file:
        columns = csv.writer(file, lineterminator="\n")
        columns.writerow(["features", "episodes", "episode", "method", "accuracy"])
        for row in results.rows:
            named = (Path(row.kind.file).name, row.method)
            columns.writerows(
                (row.features, named[0], number, named[1], f"{right:.6g}") for number, right in enumerate(row.right, 1)
            )
    everything = {
        "looked": [asdict(one) | {"crop": one.crop} for one in results.looked],
        "episodes": [asdict(kind) for kind in results.kinds],
        "against": results.against,
        "rows": table,
    }
    write_text(folder / EVERYTHING, json.dumps(everything, indent=1, ensure_ascii=False) + "\n")


def _plain(results: Results, row: Row) -> dict[str, Any]:
    reached, gap = mean(row.right), results.difference(row)
    looked = next(one for one in results.looked if one.features == row.features)
    return {
        "features": row.features,
        "network": looked.network,
        "seen": looked.seen,
        "crop": looked.crop,
        "method": row.method,
        "transductive": row.transductive,
        "n_way": row.kind.n_way,
        "n_shot": row.kind.n_shot,
        "n_query": row.kind.n_query,
        "n_episodes": row.kind.n_episodes,
        "episodes": row.kind.digest,
        "accuracy": round(reached.value, 6),
        "half_width": _number(reached.half),
        "against": "" if gap is None else results.against,
        "difference": None if gap is None else round(gap.value, 6),
        "difference_half_width": None if gap is None else _number(gap.half),
    }


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
