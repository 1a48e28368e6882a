"""Near-identical photographs in two splits or under two labels, which comparing bytes cannot see.

Shape letters: N photographs, D numbers of a vector.
"""

import filecmp
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fgvc.data.datamodule import FineGrainedData
from fgvc.data.inspection.problems import Problem, name_of
from fgvc.data.records import Record
from fgvc.errors import UsageError
from fgvc.features.folder import FeatureFolder, table_of
from fgvc.features.part_files import read_rows
from fgvc.features.planning import rows_of
from fgvc.files.lines import counted, tell
from fgvc.prediction.retrieval.duplicates import LEAST, Pair, near_duplicates
from fgvc.prediction.retrieval.gallery import Gallery
from fgvc.prediction.retrieval.nearest import Vectors


class Leak(NamedTuple):
    """What is told of a pair, its cosine, and its row of a sheet: both files, with what is written under them."""

    problem: Problem
    cosine: float
    row: list[tuple[str, str]]


class _Place(NamedTuple):
    split: str
    record: Record


def leaks(data: FineGrainedData, splits: Sequence[str], folder: FeatureFolder, least: float = LEAST) -> Iterator[Leak]:
    """Yield pairs that are nearly the same in two splits, or in one split under two labels.

    Photographs of the same bytes are left out: `fgvc.data.inspection.problems` tells them. A photograph is known again
    by its path, size and time, as by `fgvc embed`.

    Args:
        data: the records.
        splits: which of them are looked at.
        folder: features of the photographs; with the view `flip`, mirrored copies are found too.
        least: the cosine from which on two photographs count as nearly the same.

    Raises:
        UsageError: features of other photographs, or maps in place of vectors.
    """
    gallery = Gallery(folder)
    rows = {file: row for row, file in enumerate(_files(folder))}
    places, chosen, lacking = [], [], 0
    for split in splits:
        records = data.records(split)
        for i, file in enumerate(rows_of(data, split).files()):
            if file in rows:
                places.append(_Place(split, records[i]))
                chosen.append(rows[file])
            else:
                lacking += 1
    if not places:
        raise UsageError(
            f"{folder.path}: holds features of other photographs than the {lacking} of {', '.join(splits)}; embed "
            "these first, or name a network in its place"
        )
    if lacking:
        tell(f"{folder.path}: {counted(lacking, 'photograph')} have no features there; fgvc embed again adds them")
    mirrored = _mirrored(folder, gallery)
    if mirrored is None:
        tell(f"{folder.path}: no view flip, so mirrored copies are not found; fgvc embed --views whole,flip adds it")
    whole = gallery.features[chosen]
    for pair in near_duplicates(whole, least, None if mirrored is None else mirrored[chosen]):
        if found := _leak(pair, places[pair.first], places[pair.second], data):
            yield found


def _leak(pair: Pair, first: _Place, second: _Place, data: FineGrainedData) -> Leak | None:
    """Return what is told of a pair; None where it does no harm, or where comparing bytes finds it."""
    one, other = second.record, first.record
    if first.split == second.split and one.label == other.label:
        return None
    if one.path == other.path or _same_bytes(one.path, other.path):
        return None
    kind = "near_two_labels" if first.split == second.split else "near_in_two_splits"
    label = name_of(other.label, data.taxonomy) or "nothing"
    as_what = "" if one.label == other.label else f", labelled {label}"
    how = f"cosine {pair.cosine:.3f}{', mirrored' if pair.mirrored else ''}"
    detail = f"nearly the same as {other.path} in {first.split}{as_what} ({how})"
    problem = Problem(kind, second.split, one.path, name_of(one.label, data.taxonomy), detail)
    shown = (one.path, f"{second.split} {problem.label}")
    return Leak(problem, pair.cosine, [shown, (other.path, f"{pair.cosine:.3f} {first.split} {label}")])


def _same_bytes(one: str, other: str) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _files(folder: FeatureFolder) -> list[tuple[str, int, int]]:
    """Return path, size and time of all photographs, in the order of a Gallery."""
    return [file for split in folder.splits for file in read_rows(table_of(folder.path, split, "whole")).files()]


def _mirrored(folder: FeatureFolder, gallery: Gallery) -> Vectors | None:
    """Return (N, D) features of the mirror images in the order of a Gallery; None where some are missing."""
    if any("flip" not in folder.description["parts"][split] for split in folder.splits):
        return None
    mirrored = Gallery(folder, view="flip")
    return np.asarray(mirrored.features) if mirrored.paths == gallery.paths else None
