"""What is wrong with a data set: files that cannot be used, copies that leak, labels that teach nothing.

Shape letters: N files over all splits, C nodes of the taxonomy, K leaves.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.data.inspection.file_check import look
from fgvc.data.inspection.many_files import in_processes
from fgvc.data.inspection.split_records import SplitRecords
from fgvc.data.inspection.stats import node_counts
from fgvc.data.records import Record, Records
from fgvc.files.bars import bar
from fgvc.images.decoding import USUAL, Limits
from fgvc.taxonomy.tree import Taxonomy

Digests = npt.NDArray[np.uint64]


class Problem(NamedTuple):
    """One thing to mend.

    problem: `unreadable`, `damaged`, `range_guessed`, `tiny`, `blank`, `in_two_splits`, `two_labels`, `no_label`,
        `class_not_in_train`, `class_without_images`, `nested_folders`, one of `fgvc.data.inspection.names`, or
        `near_in_two_splits`, `near_two_labels` of `fgvc.prediction.retrieval.leaks`.
    split: where it is; "" for a name, and for a file that no split has.
    path: the file; "" for a problem of a class.
    label: the name of its class; "" where it has none.
    detail: what was found.
    """

    problem: str
    split: str
    path: str
    label: str
    detail: str


def problems(
    splits: Mapping[str, Records],
    taxonomy: Taxonomy,
    min_side: int = 32,
    read: Sequence[str] | None = None,
    limits: Limits = USUAL,
) -> Iterator[Problem]:
    """Yield what is wrong: files first, split by split in the order of the records, then copies, labels and classes.

    Memory holds 8 bytes of each good file. Two files count as the same when 64 bits of a hash of their bytes are
    equal: among 2.7 million different files that happens by chance once in five million data sets.

    Args:
        splits: the records of every split that a training would see.
        taxonomy: what the labels point into.
        min_side: a picture whose shorter side has fewer pixels is tiny.
        read: the splits whose files are read and whose labels are looked at; default all.
        limits: which files are read.
    """
    chosen = {split: records for split, records in splits.items() if read is None or split in read}
    every = SplitRecords(chosen)
    digests = np.zeros(len(every), dtype=np.uint64)
    yield from _files(every, taxonomy, partial(look, min_side=min_side, limits=limits), digests)
    yield from _copies(every, taxonomy, digests)
    for split, records in chosen.items():
        for i in np.flatnonzero(records.labels < 0).tolist():
            yield Problem("no_label", split, records[i].path, "", "the label is -1: nothing is known")
    if "train" in splits:
        yield from _classes(splits, taxonomy)


def _files(
    every: SplitRecords, taxonomy: Taxonomy, looking: Callable[[str], tuple[int, str, str]], digests: Digests
) -> Iterator[Problem]:
    """Yield what is wrong with each file, and fill in `digests`."""
    seen = in_processes(looking, (every[i][1].path for i in range(len(every))))
    watched = bar("checking", seen, total=len(every), unit=" images")
    for i, (digest, problem, detail) in enumerate(watched):
        digests[i] = digest
        if problem:
            split, record = every[i]
            yield Problem(problem, split, record.path, name_of(record.label, taxonomy), detail)


def _copies(every: SplitRecords, taxonomy: Taxonomy, digests: Digests) -> Iterator[Problem]:
    """Compare each file with the first one of the same content, of all splits and of its own split."""
    for positions in same(digests):
        firsts: dict[str, Record] = {}
        for position in positions:
            split, record = every[position]
            first = next(iter(firsts), split)
            if first != split:
                yield _copy("in_two_splits", split, record, first, firsts[first], taxonomy)
            own = firsts.setdefault(split, record)
            if own.label != record.label:
                yield _copy("two_labels", split, record, split, own, taxonomy)


def same(digests: Digests) -> Iterator[list[int]]:
    """Yield the ascending positions of each digest that occurs more than once, ordered by the first; 0 is skipped."""
    order = np.argsort(digests, kind="stable")
    repeats = digests[order][1:] == digests[order][:-1]
    changes = np.diff(np.concatenate([[False], repeats, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(changes == 1), np.flatnonzero(changes == -1) + 1
    for run in np.argsort(order[starts]):
        if digests[order[starts[run]]]:
            yield order[starts[run] : ends[run]].tolist()


def _copy(problem: str, split: str, record: Record, where: str, other: Record, taxonomy: Taxonomy) -> Problem:
    what = "the same path" if other.path == record.path else f"the same content as {other.path}"
    as_what = "" if other.label == record.label else f", labelled {name_of(other.label, taxonomy) or 'nothing'}"
    return Problem(problem, split, record.path, name_of(record.label, taxonomy), f"{what} in {where}{as_what}")


def _classes(splits: Mapping[str, Records], taxonomy: Taxonomy) -> Iterator[Problem]:
    """Look for leaves that training never sees. An image of a coarser node with one leaf below shows that leaf."""
    counts = {split: leaf_counts(records.labels, taxonomy) for split, records in splits.items()}
    others = [split for split in splits if split != "train"]
    names = taxonomy.unique_names(taxonomy.leaf_level)
    for leaf in np.flatnonzero(counts["train"] == 0).tolist():
        elsewhere = [f"{counts[split][leaf]} in {split}" for split in others if counts[split][leaf]]
        problem = "class_not_in_train" if elsewhere else "class_without_images"
        detail = f"no training images, but {', '.join(elsewhere)}" if elsewhere else "no images in any split"
        yield Problem(problem, "train", "", names[leaf], detail)


def leaf_counts(labels: npt.NDArray[np.int32], taxonomy: Taxonomy) -> npt.NDArray[np.int64]:
    """Return (K,) images of each leaf, those of a coarser node with this one leaf below included.

    Args:
        labels: (N,) node ids; -1 counts nowhere.
        taxonomy: what they point into.
    """
    nodes = node_counts(labels, taxonomy)
    ancestors = taxonomy.ancestors[: taxonomy.num_classes].numpy()
    counts: npt.NDArray[np.int64] = nodes[: taxonomy.num_classes].copy()
    for depth, level in enumerate(taxonomy.levels[:-1]):
        above = ancestors[:, depth]
        alone = np.bincount(above, minlength=taxonomy.size(level))[above] == 1
        counts[alone] += nodes[taxonomy.node(level, 0) + above[alone]]
    return counts


def name_of(label: int, taxonomy: Taxonomy) -> str:
    """Return the name of a node, or "" for -1."""
    return taxonomy.path(label)[-1] if label >= 0 else ""
