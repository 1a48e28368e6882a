"""What looking closer is worth on generated birds: each method's accuracy, where it looks, and what it costs.

    python -m benchmarks.accuracy.look_closer --weights FILE.safetensors --model-args '{pad_type: same}'

Every method sees the whole picture at a side where the mark of the species is lost (96 pixels), and may cut crops
from the picture as it was painted (384 pixels). Trains each by its own YAML with the same network, pictures and epochs
of classification, through `fgvc fit` and `fgvc test`, and prints a table. `mark` is the share of test pictures whose
finest box holds the mark that decides the species; `between` says how much of the distance between the whole picture
at the small side and at the full side a method closes.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fgvc.__main__ import main as fgvc
from fgvc.data.sources.generated_birds import GeneratedBirds
from fgvc.files.shipped import config_file

METHODS = ("whole_image", "centre", "scda", "spatial_transformer", "fcan", "ws_dan", "ra_cnn")


def main(argv: Sequence[str] | None = None) -> int:
    """Train and test every method, then print the table."""
    options = _options(argv)
    GeneratedBirds(**_pictures(options))  # painted before the clock runs
    rows = []
    arms = [("whole_image", options.source), *((name, options.small) for name in options.methods)]
    for method, side in arms:
        for seed in options.seeds:
            rows.append(_row(method, side, seed, options))
            print(json.dumps(rows[-1]), file=sys.stderr)
    print(table(rows, options.small, options.source))
    return 0


def _row(method: str, side: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    name = f"{method}_{side}_s{seed}"
    done = options.runs / name / "look_closer.json"
    if options.keep and done.is_file():
        return dict(json.loads(done.read_text()))
    config = options.runs / f"{name}.yaml"
    options.runs.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump(fitted_config(yaml.safe_load(config_file(method).read_text()), side, options)))
    start = time.perf_counter()
    where = ["--runs", str(options.runs), "--name", name, "--overwrite", "true"]
    fit = ["fit", "--config", "generated_birds", "--config", str(config), *where, "--seed_everything", str(seed)]
    if fgvc(fit) or fgvc(["test", str(options.runs / name)]):
        raise SystemExit(f"{method}: training failed")
    minutes = (time.perf_counter() - start) / 60
    scores = json.loads((options.runs / name / "test.json").read_text())
    row = {"method": method, "side": side, "seed": seed, "minutes": round(minutes, 1), **scores}
    done.write_text(json.dumps(row))
    return row


def fitted_config(tree: dict[str, Any], side: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return a method's YAML with the benchmark's network, sides, pictures and epochs; its recipe stays."""
    made = _with_network(tree, options)
    made["model"]["image_size"] = side
    arguments = made["model"]["recognizer"]["init_args"]
    if made["model"]["recognizer"]["class_path"] in ("RACNN", "FCAN", "SpatialTransformer"):
        arguments["crop_size"] = options.crop
    made["data"] = {
        "source": {"class_path": "GeneratedBirds", "init_args": _pictures(options)},
        "source_size": options.source,
        "batch_size": 16,
        "num_workers": options.workers,
        "augmentation": {"scale": [0.6, 1.0]},
    }
    made["trainer"] = {"max_epochs": options.epochs}
    if "phases" in made:
        made["phases"] = stretched(made["phases"], options.epochs)
        made["trainer"]["max_epochs"] = sum(phase["epochs"] for phase in made["phases"])
    return made


def _pictures(options: argparse.Namespace) -> dict[str, Any]:
    counts = {"train_per_class": options.train, "val_per_class": options.val, "test_per_class": options.test}
    return {"num_orders": options.orders, "image_size": options.source, **counts}


def stretched(phases: list[dict[str, Any]], epochs: int) -> list[dict[str, Any]]:
    """Return the phases with the epochs in which a network learns to classify stretched to `epochs` in all.

    Each keeps one epoch at least: more phases than `epochs` take one each.
    """
    teaching = [phase for phase in phases if phase["name"] not in ("locate", "attend")]
    total = sum(phase["epochs"] for phase in teaching)
    longer = [{**phase, "epochs": max(1, round(phase["epochs"] * epochs / total))} for phase in teaching]
    for phase in longer[::-1]:  # what rounding left over or took too much
        rest = epochs - sum(phase["epochs"] for phase in longer)
        phase["epochs"] = max(1, phase["epochs"] + rest)
    made = iter(longer)
    return [next(made) if phase in teaching else phase for phase in phases]


def _with_network(tree: Any, options: argparse.Namespace) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree.get("class_path") == "Backbone":
        extra = {"model_args": yaml.safe_load(options.model_args), "mean": [0.5] * 3, "std": [0.5] * 3}
        return {"class_path": "Backbone", "init_args": {"name": options.backbone, "weights": options.weights, **extra}}
    return {key: _with_network(value, options) for key, value in tree.items()}


def table(rows: Sequence[dict[str, Any]], small: int, full: int) -> str:
    """Return the rows as Markdown, means over seeds."""
    ends = {side: _mean(rows, "whole_image", side, "test/species/top1") for side in (small, full)}
    heading = ("method", "first scale", "species", "genus", "mark in the box", "between", "minutes")
    lines = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|"]
    for method, side in dict.fromkeys((row["method"], row["side"]) for row in rows):
        species = _mean(rows, method, side, "test/species/top1")
        own = sorted(key for key in _first(rows, method, side) if key.endswith("_mark_kept"))
        mark = f"{100 * _mean(rows, method, side, own[-1]):.1f} %" if own else "-"
        between = (species - ends[small]) / max(1e-9, ends[full] - ends[small])
        genus, minutes = _mean(rows, method, side, "test/genus/top1"), _mean(rows, method, side, "minutes")
        closed = f"{100 * between:.0f} %" if between == between else "-"  # NaN: no whole picture at the small side
        shown = [f"{100 * species:.1f} %", f"{100 * genus:.1f} %", mark, closed, f"{minutes:.1f}"]
        lines.append(" | ".join([f"| `{method}`", f"{side} px", *shown]) + " |")
    return "\n".join(lines)


def _first(rows: Sequence[dict[str, Any]], method: str, side: int) -> dict[str, Any]:
    return next(row for row in rows if (row["method"], row["side"]) == (method, side))


def _mean(rows: Sequence[dict[str, Any]], method: str, side: int, key: str) -> float:
    values = [float(row[key]) for row in rows if (row["method"], row["side"]) == (method, side)]
    return sum(values) / len(values) if values else float("nan")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="stems of configs/methods")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--weights", default="none", help="a safetensors file, or none")
    parser.add_argument("--model-args", default="{}", help="of the timm model, as YAML")
    parser.add_argument("--small", type=int, default=96, help="side of the whole picture")
    parser.add_argument("--source", type=int, default=384, help="side that crops are cut from")
    parser.add_argument("--crop", type=int, default=192, help="side at which crops are seen")
    parser.add_argument("--orders", type=int, default=1)
    parser.add_argument("--train", type=int, default=30, help="pictures per species")
    parser.add_argument("--val", type=int, default=2, help="pictures per species that choose the epoch")
    parser.add_argument("--test", type=int, default=15, help="pictures per species that are scored")
    parser.add_argument("--epochs", type=int, default=8, help="of classification")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="take rows that an earlier call finished as they are")
    parser.add_argument("--runs", type=Path, default=Path("runs/look_closer"))
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
