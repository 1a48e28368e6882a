"""The facts of a model that `fgvc info` tells: what it is, what it knows, how good it is, where it came from."""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fgvc.confidence.vouching import GRID, PRECISIONS, Vouching, threshold
from fgvc.files.run_folder import CONFIG
from fgvc.model_file.folder import Stored, sha256
from fgvc.model_file.migrations import without_nan
from fgvc.report.run import at, read_config, read_final


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
        "readout": described["readout"],
        "metrics": provenance.get("metrics", {}),
        "test": _test_scores(run) if (run / CONFIG).is_file() else {},
        "calibration": provenance.get("calibration", {}),
        "vouched": [] if described["vouching"] is None else list(_vouched(Vouching.from_plain(described["vouching"]))),
        "written": datetime.fromtimestamp(stored.description.stat().st_mtime).isoformat(" ", "minutes"),
        "data": _data(read_config(run)) if (run / CONFIG).is_file() else None,
        "provenance": {key: one for key, one in provenance.items() if key not in ("metrics", "calibration")},
    }


def weights(stored: Stored, holds: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Any]:
    """Return what is told of a model's weights, as plain data.

    Args:
        stored: the model.
        holds: name of each tensor -> (type, shape).
    """
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
    scores = without_nan(read_final(run))
    return {str(name): score for name, score in scores.items() if isinstance(score, int | float | None)}


def _data(config: dict[str, Any]) -> str | None:
    """Return the source of a run's data and where it lies, in words."""
    source = at(config, "data", "source")
    name, given = at(source, "class_path"), at(source, "init_args")
    place = at(given, "root") or at(given, "path")
    return None if name is None else str(name).rpartition(".")[2] + (f" in {place}" if place else "")
