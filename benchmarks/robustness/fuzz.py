"""Mutated photographs, model files and configs: does anything crash, hang or print a traceback?

    python -m benchmarks.robustness.fuzz
    python -m benchmarks.robustness.fuzz --kinds configs --configs 200 --seed 1 --show 30

Every item is a function of (seed, kind, number). It is tried in a worker process with a time limit, so that a hang or a
hard crash is seen and named; its input is kept in the folder --keep. A refusal must be an FgvcError of one short line.
Exit code 1 if an item crashed or hung.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import hardware
from benchmarks.robustness.fuzz_workers import Tally, fuzz

KINDS = {"images": 20_000, "models": 2_000, "configs": 2_000}


def main(words: Sequence[str] | None = None) -> int:
    """Try all kinds, print the table and return the exit code."""
    args = arguments(words)
    tallies = []
    for kind in args.kinds:
        tally = fuzz(kind, getattr(args, kind), args.seed, args.workers, args.limit, args.keep)
        tallies.append(tally)
        for result in tally.failed:
            print(f"{kind} {result.number}: {result.outcome}: {result.said}")
        refused = [result for result in tally.told if result.outcome == "refused"]
        for result in random.Random(args.seed).sample(refused, min(args.show, len(refused))):
            print(f"{kind} {result.number}: {result.said}")
    print(f"{hardware()}, {args.workers} workers, seed {args.seed}\n{table(tallies)}")
    failed = sum(len(tally.failed) for tally in tallies)
    if failed:
        print(f"{failed} failed; their inputs are in {args.keep}", file=sys.stderr)
    return int(failed > 0)


def table(tallies: Sequence[Tally]) -> str:
    """Return the rows as Markdown."""
    rows = [
        "| kind | mutated | accepted | refused with one line | crashes | hangs | slowest, s | seconds | peak RSS, MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for tally in tallies:
        outcomes = [tally.outcomes[outcome] for outcome in ("accepted", "refused", "crash", "hang")]
        cells = [tally.kind, *(f"{n:,}" for n in (sum(outcomes), *outcomes))]
        cells += [
            f"{slow.seconds:.1f} (item {slow.number})" if (slow := tally.slowest) else "-",
            f"{tally.seconds:,.0f}",
            f"{tally.peak / 2**20:,.0f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    for kind, count in KINDS.items():
        parser.add_argument(f"--{kind}", type=int, default=count, help=f"how many; by default {count:,}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--limit", type=float, default=60, help="seconds after which an item hangs")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_failures"), help="folder for the inputs of failures")
    parser.add_argument("--show", type=int, default=0, help="how many refusals of each kind are printed")
    args = parser.parse_args(words)
    if min(args.workers, args.limit, *(getattr(args, kind) for kind in args.kinds)) <= 0:
        parser.error("workers, limit and counts must be above 0")
    return args


if __name__ == "__main__":
    sys.exit(main())
