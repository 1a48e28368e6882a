"""Does it help to gather as many images as `fgvc fit` says that a precision takes?

    python -m benchmarks.accuracy.planned runs/NAME/predictions_test.csv

From the answers of a test, held-out sets of a few images are drawn with replacement. Each makes a plan; then as many
images as it plans are drawn, and half as many, and it is counted how often they certify the precision.
Shape letters: N photographs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.accuracy.vouched import Table, read_table
from fgvc.confidence.vouching import Vouching, count, images_needed, threshold
from fgvc.errors import FgvcError

HELD_OUT = (109, 296)
PRECISIONS = (0.8, 0.9, 0.95)


class Planned(NamedTuple):
    """Shares of the held-out sets: now certified; of the others, those that make a plan, and certified with the planned
    and with half as many images. images: the median plan, NaN where none was made.
    """

    now: float
    plans: float
    images: float
    with_plan: float
    with_half: float


def drawn(table: Table, images: int, rng: np.random.Generator) -> Vouching:
    """Return the counts of images that are drawn with replacement: one half is the pilot, the other is counted."""
    rows = rng.integers(len(table.correct), size=images)
    pilot, counted = (count(table.lineage[part], table.correct[part]) for part in (rows[0::2], rows[1::2]))
    return counted._replace(pilot_answered=pilot.answered, pilot_wrong=pilot.wrong)


def measure(table: Table, held_out: int, precision: float, sets: int = 100, seed: int = 0) -> Planned:
    """Return what came of the plans of `sets` held-out sets."""
    rng = np.random.default_rng(seed)
    small = [drawn(table, held_out, rng) for _ in range(sets)]
    refused = [counts for counts in small if threshold(counts, precision) is None]
    plans = [images for counts in refused if (images := images_needed(counts, precision)) is not None]
    met, half = (
        [threshold(drawn(table, max(2, images // parts), rng), precision) is not None for images in plans]
        for parts in (1, 2)
    )
    shares = [float(np.mean(hits)) if hits else float("nan") for hits in (met, half)]
    median = float(np.median(plans)) if plans else float("nan")
    return Planned(1 - len(refused) / sets, len(plans) / max(len(refused), 1), median, *shares)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row for each precision and number of held-out images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="what `fgvc test` wrote")
    parser.add_argument("--sets", type=int, default=100, help="held-out sets (default: 100)")
    options = parser.parse_args(argv)
    try:
        table = read_table(options.table)
    except FgvcError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print("| precision | held out | vouched now | of the others: plans | median plan | with the plan | with half |")
    print("|---|---|---|---|---|---|---|")
    for precision in PRECISIONS:
        for held_out in HELD_OUT:
            one = measure(table, held_out, precision, options.sets)
            shares = [f"{100 * share:.0f} %" for share in (one.now, one.plans, one.with_plan, one.with_half)]
            cells = [f"{precision:g}", str(held_out), *shares[:2], f"{one.images:.0f}", *shares[2:]]
            print(f"| {' | '.join(cells).replace('nan %', '-').replace('nan', '-')} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
