"""Which photographs are base classes and which are met in episodes, from features and, where given, a list of classes.

Shape letters: N photographs, D numbers of a vector, C channels, h, w grid.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.data.reading.table_file import read_rows
from fgvc.errors import UsageError, did_you_mean
from fgvc.features.folder import FeatureFolder
from fgvc.taxonomy.tree import Taxonomy

ALL = "all"
BASE = "train"


class Photographs(NamedTuple):
    """Photographs with their features.

    paths: (N,) below the root of the data.
    labels: (N,) int32 leaves; -1 where no leaf is known.
    features: (N, D) or (N, C, h, w).
    """

    paths: list[str]
    labels: npt.NDArray[np.int32]
    features: npt.NDArray[Any]


def photographs(
    folder: FeatureFolder, split: str, view: str, classes: dict[str, list[str]] | None = None
) -> tuple[Photographs, Photographs | None]:
    """Return the photographs of the episodes, and those of the base classes where there are any.

    Args:
        folder: the features.
        split: of the episodes: train, val, test, or `all`, which leaves no base classes.
        view: how the photographs were looked at.
        classes: part -> names of classes, in place of the splits of the data: `test` is met in episodes, `train` is
            the base; see `listed`.

    Raises:
        UsageError: a split that is not there, or a class that is both in the episodes and in the base.
    """
    if classes is None and split != ALL:
        novel = _leaves(folder.part(_checked(folder, split), view), folder.taxonomy)
        base = _leaves(folder.part(BASE, view), folder.taxonomy) if BASE in folder.splits and split != BASE else None
        _check_apart(folder, novel.labels, base, split)
        return novel, base
    joined = _joined([_leaves(folder.part(one, view), folder.taxonomy) for one in folder.splits])
    if classes is None:
        return joined, None
    parts = {part: _of_classes(joined, names, folder.taxonomy) for part, names in classes.items()}
    if split not in parts:
        raise UsageError(f"--classes: no class of part {split!r}; it has {', '.join(parts)}")
    return parts[split], parts.get(BASE)


def listed(file: Path, taxonomy: Taxonomy) -> dict[str, list[str]]:
    """Read a CSV of classes: column `class`, and `part` (base or train, val, novel or test); without it all are novel.

    Returns:
        train, val or test -> names of classes.

    Raises:
        UsageError: no such file or column, a class that the data do not have, one that is named twice, or another part.
    """
    rows = read_rows(file, ["class"], ["part"])
    known = {name: name for name in taxonomy.unique_names(taxonomy.leaf_level)}
    parts: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    words = {"base": "train", "train": "train", "val": "val", "novel": "test", "test": "test"}
    given = rows.cells.get("part") or ["novel"] * len(rows.cells["class"])
    for i, (name, part) in enumerate(zip(rows.cells["class"], given, strict=True)):
        if name not in known:
            raise UsageError(f"{rows.at(i)}: the data have no class {name!r}{did_you_mean(name, known)}")
        if name in seen:
            raise UsageError(f"{rows.at(i)}: class {name!r} is named twice; a class belongs to one part")
        if part not in words:
            raise UsageError(f"{rows.at(i)}: part {part!r}; write base, val or novel")
        seen[name] = part
        parts.setdefault(words[part], []).append(name)
    return parts


def _checked(folder: FeatureFolder, split: str) -> str:
    if split not in folder.splits:
        there = ", ".join((*folder.splits, ALL))
        raise UsageError(f"--split {split}: {folder.path} has {there}{did_you_mean(split, [*folder.splits, ALL])}")
    return split


def _check_apart(folder: FeatureFolder, novel: npt.NDArray[np.int32], base: Photographs | None, split: str) -> None:
    if base is None:
        return
    shared = np.intersect1d(novel[novel >= 0], base.labels[base.labels >= 0])
    if len(shared):
        name = folder.taxonomy.unique_names(folder.taxonomy.leaf_level)[shared[0]]
        raise UsageError(
            f"{folder.path}: the splits {split} and {BASE} share {len(shared)} classes, {name!r} first; few-shot "
            "classes are never seen before: take a protocol of the data whose splits share none, or say which class is "
            f"what with --classes FILE, or --split {ALL} for a network that was trained on none of these photographs"
        )


def _leaves(part: Any, taxonomy: Taxonomy) -> Photographs:
    labels = np.where(part.labels < taxonomy.num_classes, part.labels, -1).astype(np.int32)
    return Photographs(part.paths, labels, part.features)


def _joined(parts: Sequence[Photographs]) -> Photographs:
    paths = [path for part in parts for path in part.paths]
    return Photographs(
        paths, np.concatenate([part.labels for part in parts]), np.concatenate([part.features for part in parts])
    )


def _of_classes(whole: Photographs, names: Sequence[str], taxonomy: Taxonomy) -> Photographs:
    place = {name: leaf for leaf, name in enumerate(taxonomy.unique_names(taxonomy.leaf_level))}
    rows = np.flatnonzero(np.isin(whole.labels, [place[name] for name in names]))
    return Photographs([whole.paths[row] for row in rows], whole.labels[rows], whole.features[rows])
