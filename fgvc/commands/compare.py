"""`fgvc compare A.csv B.csv`: is B better than A on the same photographs? The paired difference of their answers.

Shape letters: N photographs, S seeds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.confidence.paired import RESAMPLES, bootstrap, mcnemar
from fgvc.config.one_line_parser import OneLineParser
from fgvc.errors import UsageError
from fgvc.files.answer_table import Table, read
from fgvc.files.lines import printable

EPILOG = """A file is what `fgvc test` writes. A.csv:scale2 takes the answers of one view of a method (the column
<level>_of_scale2) in place of its final ones. Several seeds: fgvc compare --a A1.csv A2.csv --b B1.csv B2.csv"""


class Predictions(NamedTuple):
    """One file at one level: path -> (true class, predicted class), photographs without a true class left out."""

    source: Path
    rows: dict[str, tuple[str, str]]


def main(argv: list[str]) -> int:
    """Compare, print and return the exit code.

    Raises:
        UsageError: files that cannot be read, or that are not about the same photographs.
    """
    first, second, level, seed = _parse(argv)
    tables = [(read(path), view) for path, view in map(split_view, (*first, *second))]
    level = level or tables[0][0].levels[-1]
    files = [predictions(table, level, view) for table, view in tables]
    for other in files[1:]:
        check_same(files[0], other)
    # One order for all: rows may be written in any.
    right = np.array([[len({*file.rows[photo]}) == 1 for photo in files[0].rows] for file in files])
    print(report(right[: len(first)], right[len(first) :], printable(level), seed))
    return 0


def split_view(path: Path) -> tuple[Path, str]:
    """Return the file and the view of `FILE.csv:view`; no view for a plain path."""
    name, colon, view = str(path).rpartition(":")
    return (Path(name), view) if colon and name.endswith(".csv") else (path, "")


def predictions(table: Table, level: str, view: str = "") -> Predictions:
    """Return one level of a table, as the method or one of its views answered.

    Raises:
        UsageError: a column is missing, a path stands twice or no photograph has a true class.
    """
    truths = table.column(f"{level}_true")
    answers = table.column(f"{level}_of_{view}" if view else f"{level}_pred")
    rows: dict[str, tuple[str, str]] = {}
    for photo, truth, answer in zip(table.column("path"), truths, answers, strict=True):
        if photo in rows:
            raise UsageError(f"{table.path}: {photo} stands in more than one row; each photograph counts once")
        rows[photo] = (truth, answer)
    rows = {photo: pair for photo, pair in rows.items() if pair[0]}
    if not rows:
        raise UsageError(f"{table.path}: no row has a value in {level}_true; choose another --level")
    return Predictions(table.path, rows)


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


def _parse(argv: Sequence[str]) -> tuple[list[Path], list[Path], str | None, int]:
    """Return the files of A, those of B, the level and the seed."""
    parser = OneLineParser(
        prog="fgvc compare",
        description="Is B better than A? The paired difference of two sets of predictions on the same photographs.",
        epilog=EPILOG,
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="CSV", help="one file for A and one for B")
    parser.add_argument("--a", nargs="+", type=Path, default=[], metavar="CSV", help="files of A, one per seed")
    parser.add_argument("--b", nargs="+", type=Path, default=[], metavar="CSV", help="files of B, in the same order")
    parser.add_argument("--level", help="a level of the taxonomy (default: the finest)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    options = parser.parse_args(argv)
    if len(options.files) == 2 and not (options.a or options.b):
        options.a, options.b = options.files[:1], options.files[1:]
    elif options.files or not options.a or len(options.a) != len(options.b):
        raise UsageError(
            f"give two files, or as many after --a as after --b; found {len(options.files)} files, "
            f"{len(options.a)} after --a and {len(options.b)} after --b"
        )
    return options.a, options.b, options.level, options.seed
