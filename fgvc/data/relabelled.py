"""Photographs of any source as the test images of a model that knows other classes than the source: mostly more."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fgvc.data.records import Records
from fgvc.data.sources.base import Annotations, DataSource
from fgvc.errors import UsageError, did_you_mean
from fgvc.taxonomy.growing import node_of_path
from fgvc.taxonomy.tree import Taxonomy

NAMED = 5
"""How many unknown classes are named."""


class Relabelled(DataSource):
    """The test split of a source, or all of a source that has no splits, with the classes of a model.

    A class is found by its whole path where source and model have the same number of levels, else by its name at the
    finest level that has it. The source may lack classes of the model.

    Args:
        source: the photographs and their labels.
        taxonomy: the classes of the model.
        where: what the person typed, for messages.

    Raises:
        UsageError: classes that the model does not know, or splits of which none is the test.
    """

    has_a_name = False
    splits = ("test",)

    def __init__(self, source: DataSource, taxonomy: Taxonomy, where: str) -> None:
        self._source, self._taxonomy = source, taxonomy
        self.head_parts, self.passed_over = source.head_parts, source.passed_over
        self.point_names = source.point_names
        self._split = "test" if "test" in source.splits else source.splits[0]
        if self._split != "test" and len(source.splits) > 1:
            raise UsageError(f"{where}: has {', '.join(source.splits)} but no test split; give the folder to test on")
        records = source.records(self._split)
        paths = [records.relative_path(i) for i in range(len(records))]
        self._records = Records(paths, _relabelled(records.labels, source.taxonomy, taxonomy, where), records.root)

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the model."""
        return self._taxonomy

    def records(self, split: str) -> Records:
        """Return the photographs with the labels of the model."""
        return self._records

    def annotations(self, split: str, index: int) -> Annotations:
        """Return what the source knows about a photograph."""
        return self._source.annotations(self._split, index)


def _relabelled(labels: npt.NDArray[np.int32], own: Taxonomy, taxonomy: Taxonomy, where: str) -> npt.NDArray[np.int32]:
    """Return (N,) node ids of a taxonomy for (N,) those of another; -1 stays -1."""
    counts = Counter(labels[labels >= 0].tolist())
    found = dict(_nodes(sorted(counts), own, taxonomy))
    if unknown := {own.path(node): counts[node] for node in counts if node not in found}:
        names = [f"{' > '.join(path)!r} ({times} images)" for path, times in list(unknown.items())[:NAMED]]
        last = next(iter(unknown))[-1]
        known = {name for level in taxonomy.levels for name in taxonomy.names(level)}
        raise UsageError(
            f"{where}: {len(unknown)} of {len(counts)} classes are none that the model knows by one name: "
            f"{', '.join(names)}{', ...' if len(unknown) > NAMED else ''}; rename or remove them"
            f"{did_you_mean(last, known)}"
        )
    nodes = np.full(own.num_nodes + 1, -1, dtype=np.int32)  # the last one for -1
    nodes[list(found)] = list(found.values())
    return nodes[labels]


def _nodes(wanted: list[int], own: Taxonomy, taxonomy: Taxonomy) -> Iterator[tuple[int, int]]:
    """Yield each wanted node that the other taxonomy has, and its node there."""
    whole = node_of_path(taxonomy) if len(own.levels) == len(taxonomy.levels) else {}
    for node in wanted:
        path = own.path(node)
        try:
            yield node, whole[path] if path in whole else taxonomy.find(path[-1])
        except UsageError:  # no class, or several, have this name
            continue
