"""Is a vouched precision kept? Thresholds from one random half of the test photographs, tried on the other half.

    python -m benchmarks.accuracy.vouched runs/NAME/predictions_test.csv
    python -m benchmarks.accuracy.vouched A.csv B.csv --taxonomy taxonomy.csv --targets 0.9 0.95

A file is what `fgvc test` writes, see `fgvc.files.answer_table`. Three ways to answer are compared: the deepest level
of the lineage that can be vouched for, the leaf or nothing by its calibrated probability, and the leaf or nothing by
its raw one. All get their threshold by the same promise, whose search starts at a strict probability: scores that
seldom reach it leave a way silent.
Shape letters: N photographs, L levels.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.confidence.intervals import precision_upper
from fgvc.confidence.vouching import count, summarise, threshold
from fgvc.errors import FgvcError, UsageError
from fgvc.files.answer_table import RAW, read
from fgvc.files.lines import printable
from fgvc.taxonomy.tree import Taxonomy

CONFIDENCE = 0.95  # of the bound that must lie below the target before a promise counts as broken


class Table(NamedTuple):
    """One file, without the photographs whose leaf is unknown.

    lineage: (N, L) calibrated probability of the predicted leaf and its ancestors. raw: (N,) uncalibrated probability
    of the predicted leaf. correct: (N, L) bool.
    """

    levels: list[str]
    lineage: npt.NDArray[np.float64]
    raw: npt.NDArray[np.float64]
    correct: npt.NDArray[np.bool_]


class Outcome(NamedTuple):
    """Means over the splits, as fractions; of depth and precision over the splits that answered anything.

    broken: share of the splits whose precision on the other half is surely below the target. silent: share of the
    splits in which no threshold was certified, which answer nothing.
    """

    broken: float
    silent: float
    coverage: float
    depth: float
    precision: float


def read_table(path: Path, taxonomy: Path | None = None) -> Table:
    """Read a prediction file.

    Raises:
        UsageError: a file that cannot be read, a column that is missing, a score that is no number, a predicted leaf
            whose ancestors are not known, or no photograph of a known leaf.
    """
    answers = read(path)
    levels, columns = list(answers.levels), answers.columns
    needed = [*(f"{level}_score" for level in levels), "score"]
    if missing := [name for name in needed if name not in columns]:
        raise UsageError(f"{path}: no column {missing[0]!r}; run `fgvc test` again with this version")
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    rows = [row for row in rows if row[f"{levels[-1]}_true"]]
    if not rows:
        raise UsageError(f"{path}: no row has a value in {levels[-1]}_true")
    above = lineages_of(taxonomy, levels) if taxonomy else {}
    truths = [tuple(row[f"{level}_true"] for level in levels) for row in rows]
    above = above or {truth[-1]: truth for truth in truths}
    guesses = [row[f"{levels[-1]}_pred"] for row in rows]
    if unknown := sorted(set(guesses) - set(above)):
        hint = "another --taxonomy" if taxonomy else "--taxonomy CSV, one leaf per row with its ancestors"
        raise UsageError(
            f"{path}: {len(unknown)} predicted classes have unknown ancestors, first {unknown[0]}; give {hint}"
        )
    try:
        lineage = np.array([[float(row[f"{level}_score"]) for level in levels] for row in rows])
        raw = np.array([float(row.get(RAW, row["score"])) for row in rows])
    except ValueError as error:
        raise UsageError(f"{path}: a score is no number ({error}); run `fgvc test` again") from None
    correct = np.array([[*map(str.__eq__, above[guess], truth)] for guess, truth in zip(guesses, truths, strict=True)])
    return Table(levels, lineage, raw, correct)


def lineages_of(path: Path, levels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return leaf -> the names from the coarsest level down to it, as prediction files spell them."""
    tree = Taxonomy.from_csv(path, levels)
    names = [tree.unique_names(level) for level in levels]
    rows = tree.ancestors[: tree.num_classes].tolist()
    paths = [tuple(of_level[i] for of_level, i in zip(names, row, strict=True)) for row in rows]
    return {path[-1]: path for path in paths}


def leaf_only(scores: npt.NDArray[np.float64], levels: int) -> npt.NDArray[np.float64]:
    """Return (N, L): the (N,) scores at the finest level, and -1 where no threshold is low enough at the others."""
    return np.pad(scores[:, None], ((0, 0), (levels - 1, 0)), constant_values=-1.0)


def evaluate(
    scores: npt.NDArray[np.float64],
    correct: npt.NDArray[np.bool_],
    targets: Sequence[float],
    splits: int,
    delta: float = 0.1,
    seed: int = 0,
) -> list[Outcome]:
    """Return one Outcome per target over random halves, which are the same for the same seed and N.

    Args:
        scores: (N, L), coarse to fine.
        correct: (N, L) bool.
        targets: the asked precisions.
        splits: how many times the photographs are halved.
        delta: how probable a broken promise may be.
        seed: of the halves.
    """
    rng = np.random.default_rng(seed)
    seen = np.empty((splits, len(targets), 5))
    for split in range(splits):
        order = rng.permutation(len(scores))
        calibration, rest = order[: len(order) // 2], order[len(order) // 2 :]
        pilot, counting = calibration[::2], calibration[1::2]
        counted = count(scores[counting], correct[counting], count(scores[pilot], correct[pilot]))
        for place, target in enumerate(targets):
            chosen = threshold(counted, target, delta)
            found = summarise(scores[rest], correct[rest], math.inf if chosen is None else chosen)
            broken = precision_upper(found.right, found.answered, CONFIDENCE) < target
            precision = found.right / found.answered if found.answered else math.nan
            seen[split, place] = broken, chosen is None, found.coverage, found.mean_depth, precision
    return [Outcome(*(_mean(column) for column in seen[:, place].T)) for place in range(len(targets))]


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def report(table: Table, targets: Sequence[float], splits: int, delta: float, seed: int) -> str:
    """Return the lines that are printed for one file."""
    leaf = printable(table.levels[-1])
    lines = [
        f"{len(table.correct)} photographs, {splits} random halves (seed {seed}); {leaf} right in "
        f"{table.correct[:, -1].mean():.2%}; at most {delta:.0%} of the halves may break the promise",
        f"{'target':>6}  {'answer':<17}{'broken':>8}{'silent':>8}{'coverage':>10}{'depth':>12}{'precision':>11}",
    ]
    ways = {
        "deepest level": table.lineage,
        "leaf, calibrated": leaf_only(table.lineage[:, -1], len(table.levels)),
        "leaf, raw": leaf_only(table.raw, len(table.levels)),
    }
    found = {way: evaluate(scores, table.correct, targets, splits, delta, seed) for way, scores in ways.items()}
    for place, target in enumerate(targets):
        for way, outcomes in found.items():
            one = outcomes[place]
            depth = "-" if math.isnan(one.depth) else f"{one.depth:.2f} of {len(table.levels)}"
            precision = "-" if math.isnan(one.precision) else f"{one.precision:.2%}"
            lines.append(
                f"{target:>6g}  {way:<17}{one.broken:>8.1%}{one.silent:>8.1%}{one.coverage:>10.1%}"
                f"{depth:>12}{precision:>11}"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate, print and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="CSV", help="predictions_test.csv of `fgvc test`")
    parser.add_argument("--taxonomy", type=Path, help="one leaf per row; needed where a guess is never the truth")
    parser.add_argument("--targets", nargs="+", type=float, default=[0.8, 0.9, 0.95], help="the asked precisions")
    parser.add_argument("--splits", type=int, default=200, help="how many random halves")
    parser.add_argument("--delta", type=float, default=0.1, help="how probable a broken promise may be")
    parser.add_argument("--seed", type=int, default=0, help="of the halves")
    options = parser.parse_args(arguments)
    try:
        if options.splits < 1:
            raise UsageError(f"--splits: {options.splits}; give 1 or more")
        for path in options.files:
            table = read_table(path, options.taxonomy)
            print(f"{path}: {report(table, options.targets, options.splits, options.delta, options.seed)}", flush=True)
    except FgvcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
