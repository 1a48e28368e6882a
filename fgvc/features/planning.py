"""Which features are there, and which are to be computed, in batches."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fgvc.data.datamodule import FineGrainedData
from fgvc.errors import UsageError, did_you_mean
from fgvc.features.kept import Kept
from fgvc.features.part_files import Rows
from fgvc.features.unfinished import Unfinished


class Piece(NamedTuple):
    """Photographs that the network sees at once.

    split: of all of them. rows: all photographs of that split. places: theirs in `rows`. keys: view -> the name under
    which the features of the batch are kept.
    """

    split: str
    rows: Rows
    places: list[int]
    keys: dict[str, str]


def chosen_splits(data: FineGrainedData, asked: Sequence[str] | None) -> list[str]:
    """Return the splits that are asked for, all by default: train, val, test, then others.

    Raises:
        UsageError: a split that the data has not.
    """
    usual = [split for split in ("train", "val", "test") if split in data.splits]
    available = list(dict.fromkeys([*usual, *data.splits]))
    for split in asked or ():
        if split not in available:
            near = did_you_mean(split, available)
            raise UsageError(f"splits: no split {split!r}; the data has {', '.join(available)}{near}")
    return available if asked is None else [split for split in available if split in asked]


def rows_of(data: FineGrainedData, split: str) -> Rows:
    """Return all records of a split with what their files are known again by."""
    records = data.records(split)
    known = {node: " > ".join(data.taxonomy.path(node)) for node in set(records.labels.tolist()) if node >= 0}
    files = np.full((2, len(records)), -1, dtype=np.int64)
    for i, record in enumerate(records):
        try:
            status = os.stat(record.path)  # noqa: PTH116 - once per photograph, of millions
        except (OSError, ValueError):  # the decoder says what is wrong
            continue
        files[:, i] = status.st_size, status.st_mtime_ns
    paths = [records.relative_path(i) for i in range(len(records))]
    names = [known.get(label, "") for label in records.labels.tolist()]
    return Rows(np.arange(len(paths), dtype=np.int64), paths, records.labels, names, files[0], files[1])


def pieces(
    rows: Mapping[str, Rows],
    views: Sequence[str],
    kept: Mapping[tuple[str, str], Kept],
    unfinished: Unfinished,
    size: int,
) -> Iterator[Piece]:
    """Yield the batches to be computed; views of a split that lack the same photographs are read together.

    Args:
        rows: split -> its photographs.
        views: those that are asked for.
        kept: (split, view) -> what is there.
        unfinished: names the batches.
        size: photographs of a batch.
    """
    for split, wanted in rows.items():
        files = wanted.files()
        lacking: dict[tuple[int, ...], list[str]] = {}
        for view in views:
            there = set(kept[split, view].rows.files()) if (split, view) in kept else set()
            todo = tuple(i for i, file in enumerate(files) if file not in there)
            lacking.setdefault(todo, []).append(view)
        for todo, together in lacking.items():
            for start in range(0, len(todo), size):
                places = list(todo[start : start + size])
                of_batch = [files[place] for place in places]
                yield Piece(split, wanted, places, {view: unfinished.key(view, of_batch) for view in together})
