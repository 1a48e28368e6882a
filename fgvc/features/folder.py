"""The folder of features that `fgvc embed` writes, as those read it who stand on it.

Shape letters: N photographs, D width of a vector, C channels, h, w grid.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.errors import UsageError, did_you_mean
from fgvc.features.part_files import Features, read_features, read_rows, read_stamp
from fgvc.taxonomy.tree import Taxonomy

DESCRIPTION = "features.json"
FORMAT = 1


class Part(NamedTuple):
    """The features of one split and view.

    paths: relative to the root of the data. labels: (N,) int32 node ids of the taxonomy, -1 unknown. features: (N, D)
    float32, or maps (N, C, h, w) float32 or float16 that are read from the disk where they are looked at.
    """

    paths: list[str]
    labels: npt.NDArray[np.int32]
    features: Features


class FeatureFolder:
    """Features by split and view; see `open_features`.

    Attributes:
        path: the folder.
        description: what `features.json` says.
        splits: those of which there are features.
        views: those that at least one split has.
        taxonomy: the tree that the labels point into.
    """

    def __init__(self, path: Path, description: dict[str, Any]) -> None:
        self.path, self.description = path, description
        self.splits = tuple(description["splits"])
        self.views = tuple(description["views"])
        self.taxonomy = Taxonomy.from_plain(description["taxonomy"])

    def part(self, split: str, view: str = "whole") -> Part:
        """Return the features of a split in a view.

        Raises:
            UsageError: there are none, or they are damaged.
        """
        parts = self.description["parts"]
        if split not in parts:
            near = did_you_mean(split, self.splits)
            raise UsageError(f"{self.path}: no features of split {split!r}; it has {', '.join(self.splits)}{near}")
        if view not in parts[split]:
            raise UsageError(
                f"{self.path}: no view {view!r} of {split}; it has {', '.join(parts[split])}; "
                f"fgvc embed with --views {view} adds it"
            )
        table = table_of(self.path, split, view)
        try:
            stamp, rows = read_stamp(table), read_rows(table)
            features = read_features(table, stamp)
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(_damaged(table, error)) from None
        if stamp.rows != parts[split][view]["sha256"] or len(features) != len(rows.paths):
            raise UsageError(_between(self.path))
        return Part(rows.paths, rows.labels, features)


def table_of(folder: Path, split: str, view: str) -> Path:
    """Return the path of the table of a split and view."""
    return folder / f"{split}-{view}.parquet"


def open_features(path: str | Path) -> FeatureFolder:
    """Open a folder of features.

    Raises:
        UsageError: none there, damaged, being written, or written by a newer fgvc.
    """
    folder = Path(path)
    description = read_description(folder)
    if description is None:
        found = "no such folder" if not folder.is_dir() else f"no {DESCRIPTION}, so it is not finished"
        raise UsageError(f"{folder}: no features here ({found}); fgvc embed MODEL DATA --output {folder} makes them")
    for split, views in description["parts"].items():
        for view, told in views.items():
            table = table_of(folder, split, view)
            try:
                stamp = read_stamp(table)
            except (OSError, ValueError, KeyError) as error:
                raise UsageError(_damaged(table, error)) from None
            if stamp.rows != told["sha256"]:
                raise UsageError(_between(folder))
    return FeatureFolder(folder, description)


def read_description(folder: Path) -> dict[str, Any] | None:
    """Return what `features.json` says; None where it is not there.

    Raises:
        UsageError: it is damaged, or of a newer format.
    """
    path = folder / DESCRIPTION
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        number = described["format"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(_damaged(path, error)) from None
    if number != FORMAT:
        raise UsageError(f"{path}: format {number!r}; this fgvc reads {FORMAT}: install a newer one, or embed again")
    missing = {"splits", "views", "taxonomy", "parts", "terms", "shape", "dtype"} - set(described)
    if missing:
        raise UsageError(_damaged(path, f"no {min(missing)}"))
    return dict(described)


def _damaged(path: Path, error: object) -> str:
    reason = " ".join(str(getattr(error, "strerror", None) or error).split())
    return f"{path}: damaged ({reason}); remove the folder and run fgvc embed again"


def _between(folder: Path) -> str:
    return f"{folder}: a stop came while it was being written; give the same fgvc embed again"
