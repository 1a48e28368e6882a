"""Every method at every level: one row per method from the test.json of its runs, averaged over seeds.

    python -m benchmarks.accuracy.levels_table runs/flat_s0 runs/flat_s1 runs/hse_s0 runs/hse_s1 --readouts ancestor crm

Runs whose names differ only in `_s<number>` at the end are seeds of one method. `fgvc test RUN --model.readouts
"[marginal, ancestor, crm]"` writes what `--readouts` asks for. Parameters and images/s (training step of one batch in
memory, one thread) come from the run's own model; `--no_speed` leaves the latter out.
Letters: d is the height of the lowest common ancestor of answer and truth.
"""

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fgvc.errors import FgvcError, UsageError
from fgvc.model_file.model import load

MEASURES = {"full_path": 100.0, "inconsistency": 100.0, "severity": 1.0, "hd@1": 1.0, "hd@5": 1.0}
"""Name in test.json -> factor; shares are told in percent."""


def main(words: Sequence[str] | None = None) -> int:
    """Print the table."""
    args = arguments(words)
    torch.set_num_threads(1)
    header: list[str] = []
    for method, runs in methods(args.runs).items():
        found = [numbers(run) for run in runs]
        model = load(runs[0])
        levels = model.taxonomy.levels
        if header != (header := ["method", "seeds", *levels, *MEASURES, "M parameters", "images/s"]):
            print(f"| {' | '.join(header)} |\n{'|---' * len(header)}|")
        size = sum(p.numel() for p in model.recognizer.parameters()) / 1e6
        speed = "-" if args.no_speed else f"{images_per_second(model.recognizer, args.batch):.1f}"
        print(row(method, found, "test/", levels, f"{size:.2f}", speed), flush=True)
        for readout in args.readouts:
            print(row(f"{method} + {readout}", found, f"test/{readout}/", levels, "", ""), flush=True)
    return 0


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders that `fgvc test` has been through")
    parser.add_argument("--readouts", nargs="*", default=[], help="further rows of each method")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--no_speed", action="store_true")
    return parser.parse_args(words)


def methods(runs: Sequence[Path]) -> dict[str, list[Path]]:
    """Return method -> its runs, in the order given."""
    found: dict[str, list[Path]] = {}
    for run in runs:
        found.setdefault(re.sub(r"_s\d+$", "", run.name), []).append(run)
    return found


def numbers(run: Path) -> dict[str, float]:
    """Return the numbers of a run's test."""
    path = run / "test.json"
    try:
        values: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); run `fgvc test {run}` first") from None
    return values


def row(method: str, found: list[dict[str, float]], prefix: str, levels: Sequence[str], size: str, speed: str) -> str:
    """Return one line: means over seeds; accuracies in percent."""
    keys = {f"{level}/top1": 100.0 for level in levels} | MEASURES
    cells = []
    for key, factor in keys.items():
        values = [one[prefix + key] for one in found if prefix + key in one]
        digits = 1 if factor == 100 else 3
        cells.append(f"{factor * statistics.mean(values):.{digits}f}" if values else "-")
    return f"| {' | '.join([method, str(len(found)), *cells, size, speed])} |"


def images_per_second(recognizer: Any, batch: int, steps: int = 4) -> float:
    """Return the speed of the fastest of a few training steps, forward and backward, in processor time."""
    side, classes = recognizer.image_size, recognizer.taxonomy.num_classes
    recognizer.train().to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)
    labels = torch.arange(batch) % classes
    seconds = []
    for _ in range(steps):
        start = time.process_time()
        torch.stack(list(recognizer.loss(recognizer(images), labels).values())).sum().backward()
        seconds.append(time.process_time() - start)
    return batch / min(seconds)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FgvcError as error:
        print(f"levels_table: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
