"""`fgvc info MODEL`: what a model is, what it knows, how good it is and where it came from; torch is not loaded."""

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fgvc.confidence.vouching import GRID, Vouching, threshold
from fgvc.errors import UsageError
from fgvc.model_file.folder import Stored, read, sha256, tensors
from fgvc.model_file.migrations import without_nan
from fgvc.report.model_page import page
from fgvc.report.run import CONFIG, FINAL, at, read_config

PRECISIONS = (0.8, 0.9, 0.95)


def main(argv: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        FgvcError: no model there, or a damaged one.
    """
    arguments = _parser().parse_args(argv)
    stored = read(arguments.model)
    holds = tensors(stored)  # also where only the classes are asked for: of half a model nothing is told
    data = arguments.classes or arguments.json
    if isinstance(sys.stdout, io.TextIOWrapper):  # class names may come from file names that are no UTF-8
        errors = "surrogateescape" if arguments.classes else "backslashreplace"
        sys.stdout.reconfigure(encoding="utf-8" if data else None, errors=errors)
    if arguments.classes:
        csv.writer(sys.stdout, lineterminator="\n").writerows(_rows(stored.described["taxonomy"]))
        return 0
    found = {**about(stored), "weights": _weights(stored, {n: (t.dtype, t.shape) for n, t in holds.items()})}
    if arguments.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        print("\n".join(page(found)))
    return 0


def about(stored: Stored) -> dict[str, Any]:
    """Return what is told of a model, as plain data.

    Args:
        stored: the model; what its run folder knows (test scores, data) is told too where there is one around it.

    Raises:
        UsageError: the run's test scores or its config are damaged.
    """
    described = stored.described
    levels, leaves = described["taxonomy"]["levels"], described["taxonomy"]["leaves"]
    run = (stored.home if stored.home.name else stored.home.absolute()).parent
    provenance = described["provenance"]
    return {
        "model": str(stored.home),
        "format": stored.format,
        "fgvc_version": described["fgvc_version"],
        "architecture": described["architecture"],
        "image_size": described["image_size"],
        "input": described["input"],
        "levels": {level: _names(leaves, depth) for depth, level in enumerate(levels)},
        "temperatures": described["temperatures"],
        "metrics": provenance.get("metrics", {}),
        "test": _test_scores(run) if (run / CONFIG).is_file() else {},
        "calibration": provenance.get("calibration", {}),
        "vouched": [] if described["vouching"] is None else list(_vouched(Vouching.from_plain(described["vouching"]))),
        "written": datetime.fromtimestamp(stored.description.stat().st_mtime).isoformat(" ", "minutes"),
        "data": _data(read_config(run)) if (run / CONFIG).is_file() else None,
        "provenance": {key: one for key, one in provenance.items() if key not in ("metrics", "calibration")},
    }


def _weights(stored: Stored, holds: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Any]:
    return {
        "tensors": len(holds),
        "numbers": sum(math.prod(shape) for _, shape in holds.values()),
        "types": sorted({dtype for dtype, _ in holds.values()}),
        "bytes": stored.weights.stat().st_size,
        "sha256": sha256(stored),
        "sha256_checked": stored.described["weights_sha256"] is not None,
    }


def _names(leaves: list[list[str]], depth: int) -> dict[str, Any]:
    """Return how many classes a level has, and the first few."""
    paths = dict.fromkeys(tuple(leaf[: depth + 1]) for leaf in leaves)
    return {"classes": len(paths), "first": [path[-1] for path, _ in zip(paths, range(5), strict=False)]}


def _vouched(counts: Vouching) -> Iterator[dict[str, Any]]:
    images = counts.answered[0]
    for precision in PRECISIONS:
        least = threshold(counts, precision)
        answered = None if least is None or not images else counts.answered[GRID.index(least)] / images
        yield {"precision": precision, "probability": least, "answered": answered, "images": images}


def _test_scores(run: Path) -> dict[str, Any]:
    path = run / FINAL
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); run fgvc test {run} again") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: no mapping of scores; run fgvc test {run} again")
    return {str(name): score for name, score in without_nan(found).items() if isinstance(score, int | float | None)}


def _data(config: dict[str, Any]) -> str | None:
    """Return the source of a run's data and where it lies, in words."""
    source = at(config, "data", "source")
    name, given = at(source, "class_path"), at(source, "init_args")
    place = at(given, "root") or at(given, "path")
    return None if name is None else str(name).rpartition(".")[2] + (f" in {place}" if place else "")


def _rows(taxonomy: Mapping[str, list[Any]]) -> Iterator[list[str]]:
    yield taxonomy["levels"]
    yield from taxonomy["leaves"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fgvc info",
        description="Say what a model is, what it knows, how good it is and where it came from. That its two files are "
        "whole and belong together is checked.",
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="a run folder, or the model folder inside it")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="the same as one JSON object")
    how.add_argument("--classes", action="store_true", help="all classes as CSV, one column per level")
    return parser
