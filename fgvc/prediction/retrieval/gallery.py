"""The photographs among which is searched: their features, labels and paths.

Shape letters: N photographs, D numbers of a vector.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fgvc.errors import UsageError
from fgvc.features.folder import FeatureFolder
from fgvc.features.network import plain_sha256
from fgvc.prediction.retrieval.nearest import Neighbours, Pairs, Vectors
from fgvc.prediction.retrieval.neighbour import Neighbour


class Gallery:
    """Features of some splits of a folder in one view.

    Args:
        folder: what `fgvc embed` wrote.
        splits: which; all by default.
        view: how the photographs were looked at.

    Attributes:
        paths: (N,) files, the root of their split joined.
        labels: (N,) int32 node ids, -1 unknown.
        splits: (N,) place of each photograph's split in `names`.
        names: of the splits.
        features: (N, D) float32.

    Raises:
        UsageError: no such split or view, maps in place of vectors, or no photograph.
    """

    def __init__(self, folder: FeatureFolder, splits: Sequence[str] | None = None, view: str = "whole") -> None:
        self.folder, self.view = folder, view
        self.names = tuple(splits or folder.splits)
        if len(folder.description["shape"]) != 1:
            raise UsageError(
                f"{folder.path}: holds maps, and vectors are compared; embed with --take prelogits, pooled or cls+mean"
            )
        parts = [folder.part(split, view) for split in self.names]
        records = folder.description.get("records", {})
        roots = [str(records.get(split, {}).get("root", "")) for split in self.names]
        self.roots = dict(zip(self.names, roots, strict=True))
        self.paths = [
            os.path.join(root, path)  # noqa: PTH118 - of millions
            for root, part in zip(roots, parts, strict=True)
            for path in part.paths
        ]
        if not self.paths:
            raise UsageError(f"{folder.path}: no photograph in {', '.join(self.names)}: the gallery is empty")
        self.labels: npt.NDArray[np.int32] = np.concatenate([part.labels for part in parts])
        self.splits = np.repeat(np.arange(len(parts)), [len(part.paths) for part in parts])
        vectors = [np.asarray(part.features, dtype=np.float32) for part in parts]
        self.features: Vectors = vectors[0] if len(vectors) == 1 else np.concatenate(vectors)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def fingerprint(self) -> str:
        """A short text that is the same for the same features of the same photographs in the same places."""
        parts = self.folder.description["parts"]
        said = [[name, self.roots[name], parts[name][self.view]["sha256"]] for name in self.names]
        return f"{self.folder.path.name} ({plain_sha256(said)[:12]})"

    def own(self, paths: Sequence[str | None]) -> Pairs:
        """Return (pairs, 2): a query, and a row of the gallery that is the same file by its path."""
        pairs = []
        for query, path in enumerate(paths):
            found = {row for key in _names(path) for row in self._rows.get(key, ())} if path is not None else set()
            pairs += [(query, row) for row in sorted(found)]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2)

    def neighbours(self, found: Neighbours) -> list[list[Neighbour]]:
        """Put names to rows: a list for each query."""
        return [
            [self._neighbour(place, value) for place, value in zip(places, values, strict=True) if place >= 0]
            for places, values in zip(found.places.tolist(), found.values.tolist(), strict=True)
        ]

    def _neighbour(self, row: int, value: float) -> Neighbour:
        label = int(self.labels[row])
        lineage = self.folder.taxonomy.lineage(label) if label >= 0 else {}
        return Neighbour(self.paths[row], list(lineage.values())[-1] if lineage else None, lineage, value)

    @cached_property
    def _rows(self) -> dict[str, list[int]]:
        """Absolute path -> rows, by the root as it was given and as the file system has it."""
        rows: dict[str, list[int]] = {}
        real = {root: os.path.realpath(root) for root in self.roots.values()}
        roots = [self.roots[name] for name in self.names]
        for row, (path, split) in enumerate(zip(self.paths, self.splits.tolist(), strict=True)):
            root = roots[split]
            keys = {os.path.abspath(path)}  # noqa: PTH100 - of millions
            if root and path.startswith(root):
                keys.add(os.path.normpath(f"{real[root]}/{path[len(root) :]}"))
            for key in keys:
                rows.setdefault(key, []).append(row)
        return rows


def _names(path: str) -> set[str]:
    """Return the absolute names of a file: as it is written, without links above it, and without any link."""
    written = Path(path)
    above = Path(os.path.realpath(written.parent), written.name)
    return {os.path.abspath(path), str(above), os.path.realpath(path)}  # noqa: PTH100
