"""Is B better than A? The paired difference of two sets of predictions on the same photographs.

    python -m benchmarks.accuracy.compare A.csv B.csv
    python -m benchmarks.accuracy.compare --a A_seed1.csv A_seed2.csv --b B_seed1.csv B_seed2.csv --level genus

A file is what `fgvc test` writes: the columns `path` and, for each level, `<level>_true` and `<level>_pred`.
`A.csv:scale2` takes the answers of one view of a method (the column `<level>_of_scale2`) in place of its final ones.
Shape letters: N photographs, S seeds.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.confidence.paired import RESAMPLES, bootstrap, mcnemar
from fgvc.errors import FgvcError, UsageError, did_you_mean


class Predictions(NamedTuple):
    """One file at one level: path -> (true class, predicted class), photographs without a true class left out."""

    source: Path
    rows: dict[str, tuple[str, str]]


def read_rows(path: Path) -> list[list[str]]:
    """Return the lines of a CSV file, the header first."""
    try:
        # A path that is not UTF-8 is spelt out, so that it can be compared and printed.
        with path.open(encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
            return [row for row in csv.reader(file) if row]
    except (OSError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def split_view(path: Path) -> tuple[Path, str]:
    """Return the file and the view of `FILE.csv:view`; no view for a plain path."""
    name, colon, view = str(path).rpartition(":")
    return (Path(name), view) if colon and name.endswith(".csv") else (path, "")


def finest_level(path: Path) -> str:
    """Return the level of the last `_pred` column."""
    header = (read_rows(split_view(path)[0]) or [[]])[0]
    levels = [name.removesuffix("_pred") for name in header if name.endswith("_pred")]
    if not levels:
        raise UsageError(f"{path}: no column ends in '_pred'; is it a prediction file written by `fgvc test`?")
    return levels[-1]


def read_predictions(path: Path, level: str) -> Predictions:
    """Read one level of a prediction file.

    Raises:
        UsageError: a column is missing, a path stands twice or no photograph has a true class.
    """
    path, view = split_view(path)
    header, *lines = read_rows(path) or [[]]
    answers = f"{level}_of_{view}" if view else f"{level}_pred"
    for name in ("path", f"{level}_true", answers):
        if name not in header:
            raise UsageError(f"{path}: no column {name!r}; it has {header}{did_you_mean(name, header)}")
    rows: dict[str, tuple[str, str]] = {}
    for line in lines:
        row = dict(zip(header, line, strict=False))
        photo = row.get("path", "")
        if photo in rows:
            raise UsageError(f"{path}: {photo} stands in more than one row; each photograph counts once")
        rows[photo] = (row.get(f"{level}_true", ""), row.get(answers, ""))
    rows = {photo: pair for photo, pair in rows.items() if pair[0]}
    if not rows:
        raise UsageError(f"{path}: no row has a value in {level}_true; choose another --level")
    return Predictions(path, rows)


def check_same(first: Predictions, other: Predictions) -> None:
    """Raise UsageError unless two files hold the same photographs with the same true classes."""
    different = sorted(first.rows.keys() ^ other.rows.keys())
    if different:
        owner = first if different[0] in first.rows else other
        raise UsageError(
            f"{first.source} and {other.source} differ in {len(different)} photographs, "
            f"first {different[0]} (only in {owner.source}); compare predictions of the same split"
        )
    for photo, (true, _) in first.rows.items():
        if true != other.rows[photo][0]:
            raise UsageError(
                f"{photo} is {true!r} in {first.source} but {other.rows[photo][0]!r} in {other.source}; "
                "compare predictions of the same labels"
            )


def correctness(files: Sequence[Predictions]) -> npt.NDArray[np.bool_]:
    """Return (S, N) bool: which photographs, in the order of the first file, each file names rightly."""
    order = list(files[0].rows)
    return np.array([[len({*file.rows[photo]}) == 1 for photo in order] for file in files])


def report(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_], level: str, seed: int = 0) -> str:
    """Return the lines that are printed for (S, N) correct answers of each side."""
    lines = [f"level {level}, {a.shape[1]} photographs, {len(a)} {'pair' if len(a) == 1 else 'pairs'}"]
    for number, (one, other) in enumerate(zip(a, b, strict=True), start=1):
        only_a, only_b = int((one & ~other).sum()), int((other & ~one).sum())
        lines.append(
            f"pair {number}: A {one.mean():.2%}, B {other.mean():.2%}, B - A {_points(other.mean() - one.mean())}; "
            f"only A right {only_a}, only B right {only_b}, McNemar's exact p = {mcnemar(only_a, only_b):.4g}"
        )
    found = bootstrap(b.mean(axis=0) - a.mean(axis=0), seed=seed)
    lines.append(f"mean:   A {a.mean():.2%}, B {b.mean():.2%}")
    lines.append(
        f"B - A = {_points(found.mean)} points, 95 % interval {_points(found.low)} to {_points(found.high)} "
        f"({RESAMPLES} bootstrap resamples of the photographs, seed {seed})"
    )
    lines.append(f"verdict: the interval {'excludes' if found.excludes_zero else 'includes'} 0")
    return "\n".join(lines)


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def parse(arguments: Sequence[str] | None) -> tuple[list[Path], list[Path], str | None, int]:
    """Return the files of A, those of B, the level and the seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="CSV", help="one file for A and one for B")
    parser.add_argument("--a", nargs="+", type=Path, default=[], metavar="CSV", help="files of A, one per seed")
    parser.add_argument("--b", nargs="+", type=Path, default=[], metavar="CSV", help="files of B, in the same order")
    parser.add_argument("--level", help="a level of the taxonomy (default: the finest)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    options = parser.parse_args(arguments)
    if len(options.files) == 2 and not (options.a or options.b):
        options.a, options.b = options.files[:1], options.files[1:]
    elif options.files or not options.a or len(options.a) != len(options.b):
        raise UsageError(
            f"give two files, or as many after --a as after --b; found {len(options.files)} files, "
            f"{len(options.a)} after --a and {len(options.b)} after --b"
        )
    return options.a, options.b, options.level, options.seed


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print and return the exit code."""
    try:
        first, second, level, seed = parse(arguments)
        level = level or finest_level(first[0])
        files = [read_predictions(path, level) for path in (*first, *second)]
        for other in files[1:]:
            check_same(files[0], other)
        # One order for all: rows may be written in any.
        files = [Predictions(file.source, {photo: file.rows[photo] for photo in files[0].rows}) for file in files]
        print(report(correctness(files[: len(first)]), correctness(files[len(first) :]), level, seed))
    except FgvcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
