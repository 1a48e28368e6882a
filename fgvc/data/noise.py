"""Labels made wrong on purpose, so that it can be measured what wrong labels do and which tool finds them.

Every draw is a hash of (seed, path): the same on every machine, in every process, and after a resume. The order of the
records does not count.

Shape letters: N records, K leaves.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.data.reading.table_file import read_head, read_rows
from fgvc.data.splitting import name_keys
from fgvc.errors import UsageError, did_you_mean
from fgvc.files import answer_table
from fgvc.taxonomy.names import nodes_named
from fgvc.taxonomy.relatives import leaves_below
from fgvc.taxonomy.tree import Taxonomy

KINDS = ("uniform", "relatives", "confusion", "strangers")
Labels = npt.NDArray[np.int32]
KEY = "data.noise."
_RANGE = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class Noise:
    """Which training labels are made wrong. The test split is never touched but for the classes of strangers.

    Attributes:
        kind: what a wrong label is: `uniform`, another class at random; `relatives`, another class of the genus, or,
            where a genus has one class, of the family, and so on up; `confusion`, a class that `pairs` confuses it
            with; `strangers`, a class of the data for photographs that show none of them.
        share: of the labels of a split that are made wrong, rounded to whole photographs; of strangers, their share of
            the training photographs that result, by default all that there are.
        seed: of the draws.
        pairs: for `confusion`: a table with the columns label and given, and perhaps times, or the predictions_test.csv
            of a run. Classes that it does not confuse keep their labels.
        classes: for `strangers`: classes, at any level, whose photographs are the strangers; `151-200` are leaves by
            number, from 1. Val and test lose the photographs of these classes.
        folder: for `strangers`: a folder whose photographs, at any depth, are added to the training.
        val: make labels of val wrong too; by default val is clean, also where it is cut off the training photographs.
    """

    kind: str = "uniform"
    share: float | None = None
    seed: int = 0
    pairs: str | None = None
    classes: list[str] = field(default_factory=list)
    folder: str | None = None
    val: bool = False

    def check(self) -> "Noise":
        """Return self, or raise UsageError for keys that do not go together."""
        if self.kind not in KINDS:
            raise UsageError(
                f"{KEY}kind: {self.kind!r}; it is one of {', '.join(KINDS)}{did_you_mean(self.kind, KINDS)}"
            )
        if self.share is None and self.kind != "strangers":
            raise UsageError(f"{KEY}share: missing; give the share of wrong labels, e.g. 0.4")
        if self.share is not None and not 0 <= self.share <= 1:
            raise UsageError(f"{KEY}share: {self.share}; it must be at least 0 and at most 1")
        if self.kind == "strangers" and self.share == 1:
            raise UsageError(f"{KEY}share: 1; strangers are a share of the training photographs, so it is below 1")
        if self.seed < 0:
            raise UsageError(f"{KEY}seed: {self.seed}; it must be at least 0")
        if (self.kind == "confusion") != (self.pairs is not None):
            raise UsageError(f"{KEY}pairs: goes with kind confusion, and with it alone: a table of confused classes")
        named = bool(self.classes) + (self.folder is not None)
        if (self.kind == "strangers" and named != 1) or (self.kind != "strangers" and named):
            raise UsageError(f"{KEY}classes, {KEY}folder: one of them goes with kind strangers, and with it alone")
        if self.folder is not None and self.val:
            raise UsageError(f"{KEY}val: true, but the photographs of {KEY}folder are added to train alone")
        return self


class Confused(NamedTuple):
    """What a class is confused with. leaves: (M,) int64. weights: (M,) float64, above 0."""

    leaves: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]


def draws(paths: Sequence[str], seed: int, what: str) -> npt.NDArray[np.uint64]:
    """Return (N,) hashes of (what, seed, path), each evenly spread over 64 bits."""
    return name_keys(f"{what}\0{seed}\0{path}" for path in paths)


def lowest(keys: npt.NDArray[np.uint64], number: int) -> npt.NDArray[np.bool_]:
    """Return (N,) bool: the `number` lowest keys."""
    chosen = np.zeros(len(keys), dtype=np.bool_)
    chosen[np.argsort(keys, kind="stable")[:number]] = True
    return chosen


def flipped(
    labels: Labels, paths: Sequence[str], taxonomy: Taxonomy, noise: Noise, leaves: npt.NDArray[np.integer]
) -> Labels:
    """Return labels of which a share is wrong; those of inner nodes and -1 stay as they are.

    Args:
        labels: (N,) node ids.
        paths: N, relative to the root.
        taxonomy: the classes.
        noise: of any kind but `strangers`.
        leaves: (M,) distinct leaves that a wrong label may name: those with training photographs.

    Returns:
        (N,) int32. Of R labels that can be wrong, round(share * R) are, and each of these differs from what it was.

    Raises:
        UsageError: nothing that a label could be changed to, or a damaged table of pairs.
    """
    confused = read_pairs(noise.pairs, taxonomy) if noise.pairs is not None else None
    others = {leaf: _others(leaf, taxonomy, noise, leaves, confused) for leaf in np.unique(labels).tolist()}
    can = np.array([len(others[label].leaves) > 0 for label in labels.tolist()], dtype=np.bool_)
    if noise.share and not can.any():
        raise UsageError(f"{KEY}kind: {noise.kind}; no training label has another class that it could be given")
    rows = np.flatnonzero(can)
    keys = draws([paths[row] for row in rows.tolist()], noise.seed, "chosen")
    rows = rows[lowest(keys, round((noise.share or 0.0) * len(rows)))]
    shares = draws([paths[row] for row in rows.tolist()], noise.seed, "label").astype(np.float64) / 2.0**64
    wrong = labels.copy()
    for row, share in zip(rows.tolist(), shares.tolist(), strict=True):
        found = others[int(labels[row])]
        steps = np.cumsum(found.weights)
        place = int(np.searchsorted(steps, share * steps[-1], side="right"))
        wrong[row] = found.leaves[min(place, len(steps) - 1)]
    return wrong


def stranger_leaves(noise: Noise, taxonomy: Taxonomy) -> npt.NDArray[np.bool_]:
    """Return (K,) bool: the leaves that `noise.classes` names.

    Raises:
        UsageError: a class that is not there, or none that is left.
    """
    wanted = np.zeros(taxonomy.num_classes, dtype=np.bool_)
    names = {}
    for word in noise.classes:
        if (found := _RANGE.fullmatch(word)) is None:
            names[word] = f"{KEY}classes"
            continue
        first, last = int(found[1]), int(found[2])
        if not 1 <= first <= last <= taxonomy.num_classes:
            raise UsageError(f"{KEY}classes: {word}; the leaves have the numbers 1 to {taxonomy.num_classes}")
        wanted[first - 1 : last] = True
    wanted |= leaves_below(taxonomy, nodes_named(taxonomy, names)).numpy()
    if wanted.all():
        raise UsageError(f"{KEY}classes: all classes; leave some that the strangers are labelled as")
    return wanted


def stranger_labels(paths: Sequence[str], seed: int, leaves: npt.NDArray[np.integer]) -> Labels:
    """Return (N,) int32: for each path one of the leaves (M,), at random.

    Raises:
        UsageError: there are none.
    """
    if not len(leaves):
        raise UsageError(f"{KEY}classes: no class with training photographs is left to label the strangers as")
    return leaves[(draws(paths, seed, "label") % np.uint64(len(leaves))).astype(np.int64)].astype(np.int32)


def chosen_strangers(paths: Sequence[str], others: int, noise: Noise) -> npt.NDArray[np.bool_]:
    """Return (N,) bool: which of N strangers are taken, so that they are `noise.share` of all with `others` more.

    Raises:
        UsageError: there are too few of them.
    """
    number = len(paths) if noise.share is None else round(noise.share * others / (1 - noise.share))
    if number > len(paths):
        most = len(paths) / max(1, len(paths) + others)
        raise UsageError(
            f"{KEY}share: {noise.share:g} of the training photographs are {number} strangers beside {others} others, "
            f"but there are {len(paths)}; give at most {int(most * 1e4) / 1e4:g}, or more strangers"
        )
    return lowest(draws(paths, noise.seed, "chosen"), number)


def read_pairs(table: str, taxonomy: Taxonomy) -> dict[int, Confused]:
    """Return leaf -> what it is confused with, and how often.

    Args:
        table: with the columns label and given, and perhaps times; or the answers of a run, see
            `fgvc.files.answer_table`, of which the wrong ones count.
        taxonomy: the classes.

    Raises:
        UsageError: no such table, a class that is unknown or no leaf, or a number that is none.
    """
    header, _ = read_head(table, ["label", "given"])
    found: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for (label, given), times in _pairs(table, header, taxonomy).items():
        nodes = nodes_named(taxonomy, dict.fromkeys((label, given), f"{table}: confused classes"))
        leaf, other = nodes if label != given else nodes * 2
        if max(leaf, other) >= taxonomy.num_classes:
            name = label if leaf >= taxonomy.num_classes else given
            raise UsageError(f"{table}: {name!r} is no {taxonomy.leaf_level}; pairs are of the finest classes")
        if leaf != other and times > 0:
            found[leaf][other] += times
    return {
        leaf: Confused(np.array(sorted(of_leaf)), np.array([of_leaf[one] for one in sorted(of_leaf)]))
        for leaf, of_leaf in found.items()
    }


def _pairs(table: str, header: Sequence[str], taxonomy: Taxonomy) -> dict[tuple[str, str], float]:
    leaf = taxonomy.leaf_level
    if f"{leaf}_true" in header:
        answers = answer_table.read(Path(table))
        both = zip(answers.column(f"{leaf}_true"), answers.column(f"{leaf}_pred"), strict=True)
        return {pair: float(times) for pair, times in Counter(both).items() if all(pair)}
    rows = read_rows(table, ["label", "given"], ["times"])
    times: dict[tuple[str, str], float] = defaultdict(float)
    for i, pair in enumerate(zip(rows.cells["label"], rows.cells["given"], strict=True)):
        cell = rows.cells["times"][i] if "times" in rows.cells else "1"
        try:
            number = float(cell)
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf"):
            raise UsageError(f"{rows.at(i)}: times {cell!r}; it is a number of at least 0")
        times[pair] += number
    return times


def _others(
    leaf: int,
    taxonomy: Taxonomy,
    noise: Noise,
    leaves: npt.NDArray[np.integer],
    confused: dict[int, Confused] | None,
) -> Confused:
    """Return what a label may be changed to; nothing for one that is no leaf."""
    none = Confused(np.zeros(0, dtype=np.int64), np.zeros(0))
    if not 0 <= leaf < taxonomy.num_classes:
        return none
    if confused is not None:
        return confused.get(leaf, none)
    others = leaves[leaves != leaf].astype(np.int64)
    if noise.kind == "relatives":
        above = taxonomy.ancestors.numpy()
        for depth in range(len(taxonomy.levels) - 2, -1, -1):
            near = others[above[others, depth] == above[leaf, depth]]
            if len(near):
                others = near
                break
    return Confused(others, np.ones(len(others)))
