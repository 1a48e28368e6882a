"""Cut a part off a set of records: reproducible, balanced over the classes, never through a group.

Shape letters: N records, C strata (distinct labels), G groups.
"""

import hashlib
import itertools
import unicodedata
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fgvc.errors import UsageError

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""The words that name a split in a folder or a table, and the split they mean."""


def stratified_split(
    labels: npt.NDArray[np.integer],
    fraction: float,
    seed: int,
    groups: Ints | None = None,
    keys: Keys | None = None,
) -> Mask:
    """Choose the held-out part.

    Each label (an inner node or -1 too) is a stratum of its own. A stratum of n records gives its share of the running
    sum, fraction * n rounded up or down, so that the total is right although the strata are small; it always keeps one
    record, so a stratum of one gives none. Within a stratum a hash of (seed, key) chooses: the answer is the same on
    every machine and for every version of numpy.

    With groups, whole groups are taken in the order of their hashes as long as each brings the strata and the total
    nearer to their shares. The balance is then as good as the groups allow; where every group is larger than the
    share, the least harmful one is taken.

    Args:
        labels: (N,) node ids.
        fraction: the part to hold out, in [0, 1).
        seed: changes which records are chosen, not how many.
        groups: (N,) group ids that are not cut, or None.
        keys: (N,) what identifies a record, e.g. `name_keys` of its path: then a choice does not hang on the order of
            the records, and adding some moves few of the others. Default: the position.

    Returns:
        (N,) bool, True for the held-out part. All False where nothing can be spared.

    Raises:
        UsageError: the fraction is outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise UsageError(f"the fraction to hold out is {fraction}; it must be at least 0 and less than 1")
    strata, sizes = _strata(labels)
    shares = _shares(sizes, fraction)
    drawn = random_keys(seed, len(labels)) if keys is None else _mix(keys + random_keys(seed, 1))
    if groups is None:
        return _lowest_of_each(strata, sizes, shares, drawn)
    return _whole_groups(strata, sizes, shares, groups, drawn)


def stratified_folds(
    labels: npt.NDArray[np.integer], folds: int, seed: int, groups: Ints | None = None, keys: Keys | None = None
) -> Ints:
    """Deal records out to folds, so that each of them can be held out once.

    Without groups the records of a stratum are dealt in the order of their hashes, and the next stratum goes on where
    the last one ended: folds differ by at most one record in each stratum and in all. Whole groups go, the largest
    first, where their strata are scarcest so far.

    Args:
        labels, seed, groups, keys: see `stratified_split`.
        folds: how many, at least 2.

    Returns:
        (N,) int64, the fold of each record, 0 .. folds - 1.

    Raises:
        UsageError: fewer than 2 folds, or fewer records or groups than folds.
    """
    parts, what = (len(labels), "images") if groups is None else (len(np.unique(groups)), "groups of images")
    if not 2 <= folds <= parts:
        raise UsageError(f"folds: {folds}; give at least 2 and at most {parts}, for there are {parts} {what}")
    strata, sizes = _strata(labels)
    drawn = random_keys(seed, len(labels)) if keys is None else _mix(keys + random_keys(seed, 1))
    if groups is None:
        of_each = np.empty(len(labels), dtype=np.int64)
        of_each[np.lexsort((drawn, strata))] = np.arange(len(labels)) % folds
        return of_each
    return _dealt_groups(strata, sizes, folds, groups, drawn)


def random_keys(seed: int, count: int) -> Keys:
    """Return the first (count,) numbers of SplitMix64 (Steele, Lea, Flood: Fast splittable generators, 2014)."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return _mix(steps + np.uint64(seed & (2**64 - 1)))


def name_keys(names: Iterable[str]) -> Keys:
    """Return one (N,) hash per name; the two Unicode spellings of an accented letter give the same."""
    plain = (unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape") for name in names)
    digests = b"".join(hashlib.blake2b(name, digest_size=8).digest() for name in plain)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _mix(state: Keys) -> Keys:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Keys = state ^ (state >> np.uint64(31))
    return mixed


def _strata(labels: npt.NDArray[np.integer]) -> tuple[Ints, Ints]:
    """(N,) labels -> (N,) stratum of each, 0 .. C-1 in the order of the labels, and (C,) sizes."""
    if not len(labels):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    shifted = labels.astype(np.int64) - int(labels.min())  # node ids lie close together: counting needs no sorting
    counts = np.bincount(shifted)
    return (np.cumsum(counts > 0) - 1)[shifted], counts[counts > 0]


def _shares(sizes: Ints, fraction: float) -> Ints:
    """(C,) sizes -> (C,) records to hold out; a stratum of one can give nothing, so it does not count in the sum."""
    ends = np.floor(fraction * np.cumsum(np.where(sizes > 1, sizes, 0)) + 0.5).astype(np.int64)
    return np.minimum(np.diff(ends, prepend=0), np.maximum(sizes - 1, 0))


def _lowest_of_each(strata: Ints, sizes: Ints, shares: Ints, drawn: Keys) -> Mask:
    # numpy sorts 16 bits by counting
    order = np.lexsort((drawn, strata.astype(np.uint16) if len(sizes) <= 2**16 else strata))
    rank = np.arange(len(strata)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    mask = np.zeros(len(strata), dtype=np.bool_)
    mask[order] = rank < np.repeat(shares, sizes)
    return mask


def _whole_groups(strata: Ints, sizes: Ints, shares: Ints, groups: Ints, drawn: Keys) -> Mask:
    _, group = np.unique(groups, return_inverse=True)
    turn = _turns(group, drawn)[group]
    cells, counts = np.unique(turn * len(sizes) + strata, return_counts=True)
    turns, stratum = np.divmod(cells, max(len(sizes), 1))
    bounds = np.flatnonzero(np.diff(turns, prepend=-1, append=-1)).tolist()
    pairs = list(zip(stratum.tolist(), counts.tolist(), strict=True))
    cells_of = [pairs[start:end] for start, end in itertools.pairwise(bounds)]
    taken = _take(cells_of, (sizes - 1).tolist(), shares.tolist())
    return np.isin(turn, taken)


def _dealt_groups(strata: Ints, sizes: Ints, folds: int, groups: Ints, drawn: Keys) -> Ints:
    _, group = np.unique(groups, return_inverse=True)
    turn, count = _turns(group, drawn), np.bincount(group)
    held = np.zeros((folds, len(sizes)))
    fold_of = np.zeros(len(count), dtype=np.int64)
    order = np.argsort(group, kind="stable")
    members = np.split(strata[order], np.cumsum(count)[:-1])
    for one in np.lexsort((turn, -count)):
        stratum, here = np.unique(members[one], return_counts=True)
        # how much the sum of squared shares of the strata grows: least where they are scarcest
        growth = ((2 * held[:, stratum] + here) * here / sizes[stratum] ** 2).sum(axis=1)
        best = np.lexsort((held.sum(axis=1), growth))[0]
        fold_of[one] = best
        held[best, stratum] += here
    return fold_of[group]


def _turns(group: Ints, drawn: Keys) -> Ints:
    """(N,) group and key of each record -> (G,) turn of each group, by the hash of its lowest key."""
    if not len(group):
        return np.zeros(0, dtype=np.int64)
    lowest = np.full(group.max() + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(lowest, group, drawn)
    # hashed once more: the lowest of many keys is low, and large groups would all come first
    lowest = _mix(lowest)
    turns = np.empty(len(lowest), dtype=np.int64)
    turns[np.argsort(lowest, kind="stable")] = np.arange(len(lowest))
    return turns


def _take(groups: list[list[tuple[int, int]]], spare: list[int], missing: list[int]) -> list[int]:
    """Return the turns of the groups to hold out.

    Args:
        groups: for each turn, (stratum, number of its records) pairs.
        spare: for each stratum, how many records it can give; counted down in place.
        missing: for each stratum, how many it still should give; counted down in place.
    """
    taken, refused = [], []
    wanted = sum(missing)
    left = wanted
    for turn, cells in enumerate(groups):
        if any(count > spare[stratum] for stratum, count in cells):
            continue
        gain = sum(abs(missing[stratum]) - abs(missing[stratum] - count) for stratum, count in cells)
        size = sum(count for _, count in cells)
        if gain <= 0 or 2 * left < size:
            refused.append((-gain, turn))
            continue
        taken.append(turn)
        left -= size
        for stratum, count in cells:
            missing[stratum] -= count
            spare[stratum] -= count
    return taken or ([min(refused)[1]] if wanted and refused else [])
