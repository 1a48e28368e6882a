"""What a start costs at the size of iNaturalist 2021: 10,000 species, 2.7 million photographs, 1.1 GB of annotations.

    python -m benchmarks.speed.inaturalist_scale --folder /big/disk/made_up_inaturalist

Writes made-up annotation files with every field of the real ones (no photographs but the first ones, empty), then, each
in a process of its own and until the first photograph would be decoded: the data module alone and `fgvc fit` with a
small network, from the JSON files and again from the kept index; and `fgvc data stats`. Seconds are of the wall clock;
memory is the largest resident size. At the end two workers walk through all training records, and say how much memory
they have written that is theirs alone. Linux only.
"""

import argparse
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import inaturalist_files

SMALL_FIT = """
data: {num_workers: 0, source: {class_path: INaturalist, init_args: {root: "%s"}}}
model:
  image_size: 64
  recognizer:
    class_path: WholeImage
    init_args: {backbone: {class_path: Backbone, init_args: {name: resnet10t, weights: none}}, head: LinearHead}
trainer: {accelerator: cpu}
"""
STRIDE = 8  # a path has 130 bytes: every eighth touches each page of memory


def main(words: Sequence[str] | None = None) -> int:
    """Run all steps and print the table; or one step, in the process that was started for it."""
    args = arguments(words)
    if args.step:
        STEPS[args.step](args)
        return 0
    folder = Path(args.folder)
    if not (folder / "train.json").exists():
        print("writing the annotation files ...", file=sys.stderr)
        inaturalist_files.write(folder, args.classes, args.images, args.val_images, args.seed)
    size = sum(file.stat().st_size for file in folder.glob("*.json"))
    print(f"{args.images:,} + {args.val_images:,} photographs, {args.classes:,} species, {size / 1e6:,.0f} MB of JSON")
    print("\n| start | total, s | beyond imports, s | of it CPU, s | memory, MB |\n|---|---|---|---|---|")
    for step in ("data", "fit", "stats"):
        shutil.rmtree(folder / "cache", ignore_errors=True)
        for index in ("from the JSON files", "from the index"):
            found = run(step, folder)
            cells = [f"{found[name]:.1f}" for name in ("total", "beyond", "cpu")]
            print("|", " | ".join([f"{step}, {index}", *cells, f"{found['peak']:,.0f}"]), "|", flush=True)
    print("\n| two workers | sent to each, MB | written by each, MB | share of all memory, MB |\n|---|---|---|---|")
    for method in ("fork", "spawn"):
        found = run("workers", folder, "--method", method)
        cells = [f"{found[name]:.1f}" for name in ("sent", "dirty", "pss")]
        print("|", " | ".join([method, *cells]), "|", flush=True)
    if not args.keep:
        shutil.rmtree(folder)
    return 0


def run(step: str, folder: Path, *more: str) -> dict[str, float]:
    """Run a step in a fresh process and return its figures."""
    words = [
        sys.executable,
        "-m",
        "benchmarks.speed.inaturalist_scale",
        "--folder",
        str(folder),
        "--step",
        step,
        "--since",
        str(time.time()),
        *more,
    ]
    env = {**os.environ, "FGVC_CACHE": str(folder / "cache")}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise SystemExit(f"{step} failed:\n{done.stderr[-3000:]}")
    return json.loads(lines[-1])  # type: ignore[no-any-return]


def data(args: argparse.Namespace) -> None:
    """Make the data module, count the classes, ask for the first batch's indices."""
    from fgvc.data.datamodule import FineGrainedData
    from fgvc.data.sources.inaturalist import INaturalist

    clock = Clock(args.since)
    module = FineGrainedData(INaturalist(args.folder))
    counts = module.class_counts
    batch = next(iter(module.train_dataloader().batch_sampler))
    clock.report(images=int(counts.sum()), batch=len(batch))


def fit(args: argparse.Namespace) -> None:
    """Start `fgvc fit`, and end where it asks for the first photograph."""
    import fgvc.commands.fit
    import fgvc.data.dataset
    from fgvc.__main__ import main as fgvc_main

    clock = Clock(args.since)

    def asked(*given: Any, **named: Any) -> None:
        clock.report()
        os._exit(0)

    fgvc.data.dataset.decode_with_warning = asked  # type: ignore[assignment]
    config = Path(args.folder, "fit.yaml")
    config.write_text(SMALL_FIT % args.folder, encoding="utf-8")
    runs = str(Path(args.folder, "runs"))
    raise SystemExit(fgvc_main(["fit", "--config", str(config), "--runs", runs, "--overwrite", "true"]))


def stats(args: argparse.Namespace) -> None:
    """Run `fgvc data stats`."""
    import fgvc.data.datamodule  # noqa: F401 - counted among the imports
    from fgvc.__main__ import main as fgvc_main

    config = Path(args.folder, "stats.yaml")
    config.write_text(SMALL_FIT % args.folder, encoding="utf-8")
    clock = Clock(args.since)
    if code := fgvc_main(["data", "stats", "--config", str(config)]):
        raise SystemExit(code)
    clock.report()


def workers(args: argparse.Namespace) -> None:
    """Let two workers walk through all training records."""
    from torch.utils.data import DataLoader

    from fgvc.data.datamodule import FineGrainedData
    from fgvc.data.sources.inaturalist import INaturalist

    records = FineGrainedData(INaturalist(args.folder)).records("train")
    walks = Walks(records)
    loader = DataLoader(walks, batch_size=None, num_workers=2, multiprocessing_context=args.method)
    found = list(loader)
    grown = {name: max(after[name] - before[name] for before, after in found) / 1e6 for name in ("dirty", "pss")}
    print(json.dumps({"sent": len(pickle.dumps(records)) / 1e6, **grown}))


class Walks:
    """Two items, one for each worker: its memory before and after it has walked through all records."""

    def __init__(self, records: Any) -> None:
        self.records = records

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[dict[str, int], dict[str, int]]:
        before = own_memory()
        for place in range(0, len(self.records), STRIDE):
            self.records[place]
        after = own_memory()
        time.sleep(2)  # so that the other one gets the other item
        return before, after


class Clock:
    """Seconds since the process was asked for, since the imports, and the largest memory.

    Args:
        since: when the process was asked for.
    """

    def __init__(self, since: float) -> None:
        self.since, self.imported, self.cpu = since, time.time(), time.process_time()

    def report(self, **more: Any) -> None:
        """Print the figures as one line of JSON."""
        now, cpu = time.time(), time.process_time()
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 / 1e6
        figures = {"total": now - self.since, "beyond": now - self.imported, "cpu": cpu - self.cpu, "peak": peak}
        print("\n" + json.dumps({**figures, **more}), flush=True)


def own_memory() -> dict[str, int]:
    """Return the bytes that this process alone has written, and its share of all that it uses."""
    text = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8")
    return {
        name.lower().removeprefix("private_"): int(re.findall(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)[0]) * 1024
        for name in ("Private_Dirty", "Pss")
    }


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, help="where files of 1.6 GB are made; what lies there is used again")
    parser.add_argument("--classes", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=2_686_843)
    parser.add_argument("--val_images", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="leave the folder behind")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--since", type=float, default=time.time(), help=argparse.SUPPRESS)
    parser.add_argument("--method", choices=("fork", "spawn"), default="fork", help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if not 1 <= args.classes <= args.images or args.val_images < 1:
        parser.error("there must be at least one species, one val image, and a train image of each species")
    return args


STEPS = {"data": data, "fit": fit, "stats": stats, "workers": workers}

if __name__ == "__main__":
    raise SystemExit(main())
