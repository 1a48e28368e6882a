"""The taxonomy, a tree of names: levels, ancestors, sums of leaf scores, distances.

Shape letters: N images, K leaves, L levels.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fgvc.errors import UsageError, did_you_mean
from fgvc.taxonomy.limits import too_large


class Taxonomy:
    """An immutable tree of classes whose leaves are numbered first.

    A node is its path from the root, not its name: two genera may share a word. Node ids run over the leaves
    (0 .. K-1, in the order given), then over the nodes of each coarser level, finest first. A ragged tree repeats
    the parent's name where a level is missing.

    Args:
        levels: names of the levels, coarse to fine, e.g. ("order", "family", "genus", "species").
        leaves: one path per leaf, each with one name per level, coarse to fine.

    Raises:
        UsageError: a path whose length differs from the number of levels, a repeated leaf, an empty tree, or one that
            is too large, see `fgvc.taxonomy.limits`.
    """

    def __init__(self, levels: Sequence[str], leaves: Iterable[Sequence[str]]) -> None:
        self.levels = tuple(levels)
        self._leaves = tuple(tuple(path) for path in leaves)
        _check(self.levels, self._leaves)
        with torch.device("cpu"):  # a tree has numbers, also where a model is made without any
            self._number()
        self._copies: dict[torch.device, Tensor] = {}

    def _number(self) -> None:
        """Number the classes of every level, and note for each node which of them lie above it."""
        depth, rows = len(self.levels), []
        self._names: list[tuple[str, ...]] = []
        """Of each level, the last word of each class."""
        self._below: list[list[int]] = []
        """Of each level, a leaf below each class: its path begins with that of the class."""
        above = torch.zeros(len(self._leaves), dtype=torch.int64)  # of each leaf, its class in the level before
        for d in range(depth):
            number: dict[tuple[int, str], int] = {}  # of the class above and the name: as long as the tree is deep
            first: list[int] = []
            at = []
            for leaf, (up, path) in enumerate(zip(above.tolist(), self._leaves, strict=True)):
                place = number.setdefault((up, path[d]), len(number))
                if place == len(first):
                    first.append(leaf)
                at.append(place)
            above = torch.tensor(at)
            rows.append(above)
            self._names.append(tuple(name for _, name in number))
            self._below.append(first)
        self._offsets = [sum(map(len, self._below[d + 1 :])) for d in range(depth)]
        of_leaves = torch.stack(rows, dim=1)
        self.ancestors = torch.full((self._offsets[0] + len(self._below[0]), depth), -1, dtype=torch.int64)
        """(num_nodes, L) int64: the class index of each node's ancestor (or itself) within each level; -1 below it."""
        for d, leaves_below in enumerate(self._below):
            nodes = slice(self._offsets[d], self._offsets[d] + len(leaves_below))
            self.ancestors[nodes, : d + 1] = of_leaves[torch.tensor(leaves_below), : d + 1]

    @classmethod
    def flat(cls, names: Sequence[str], level: str = "class") -> "Taxonomy":
        """Return a taxonomy of one level."""
        return cls((level,), ((name,) for name in names))

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Taxonomy":
        """Rebuild a taxonomy from what `to_plain` returned."""
        return cls(plain["levels"], plain["leaves"])

    @classmethod
    def from_csv(cls, path: str | Path, levels: Sequence[str] | None = None) -> "Taxonomy":
        """Read one leaf per row; the columns (or those named by `levels`) are the levels, coarse to fine.

        Raises:
            UsageError: the file is missing, not UTF-8, has no rows, lacks a named column or repeats a class.
        """
        try:
            with Path(path).open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file)
                columns = list(reader.fieldnames or [])
                rows = list(reader)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{path}: the taxonomy file cannot be read as UTF-8 CSV ({error})") from None
        chosen = list(levels or columns)
        for name in chosen:
            if name not in columns:
                raise UsageError(f"{path}: no column {name!r}; it has {columns}{did_you_mean(name, columns)}")
        try:
            return cls(chosen, [_fill_ragged([row[name] or "" for name in chosen], i) for i, row in enumerate(rows)])
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None

    def to_plain(self) -> dict[str, Any]:
        """Return lists and strings only, for a model file or a checkpoint."""
        return {"levels": list(self.levels), "leaves": [list(path) for path in self._leaves]}

    @property
    def num_classes(self) -> int:
        """The number of leaves, K."""
        return len(self._leaves)

    @property
    def num_nodes(self) -> int:
        """The number of nodes over all levels."""
        return len(self.ancestors)

    @property
    def leaf_level(self) -> str:
        """The name of the finest level."""
        return self.levels[-1]

    @cached_property
    def dividing_levels(self) -> tuple[str, ...]:
        """The levels with two classes or more; of a tree with one leaf, its leaf level.

        A rank that all leaves share (the class Aves above nothing but birds) tells none of them apart. So it counts in
        no distance between leaves, in no target or weight made of distances, and in no measure of a tree of answers.
        """
        return tuple(level for level in self.levels if self.size(level) > 1) or (self.leaf_level,)

    def depth(self, level: str) -> int:
        """Return the position of a level, 0 for the coarsest.

        Raises:
            UsageError: there is no such level.
        """
        if level not in self.levels:
            raise UsageError(f"no level {level!r}; there are {list(self.levels)}{did_you_mean(level, self.levels)}")
        return self.levels.index(level)

    def size(self, level: str) -> int:
        """Return the number of classes of a level."""
        return len(self._names[self.depth(level)])

    def names(self, level: str) -> tuple[str, ...]:
        """Return the last word of each class of a level, in the order of its logits."""
        return self._names[self.depth(level)]

    def unique_names(self, level: str) -> tuple[str, ...]:
        """Return `names`, with the whole path in place of a name that two classes of the level share."""
        names, first = self.names(level), self.node(level, 0)
        times = Counter(names)
        return tuple(
            name if times[name] == 1 else " > ".join(self.path(node)) for node, name in enumerate(names, first)
        )

    def node(self, level: str, index: int) -> int:
        """Return the node id of class `index` of a level."""
        return self._offsets[self.depth(level)] + index

    def path(self, node: int) -> tuple[str, ...]:
        """Return the names from the coarsest level down to a node."""
        for d, offset in enumerate(self._offsets):
            if offset <= node < offset + len(self._below[d]):
                return self._leaves[self._below[d][node - offset]][: d + 1]
        raise UsageError(f"no node {node}; the taxonomy has {self.num_nodes} nodes")

    def lineage(self, node: int) -> dict[str, str]:
        """Return level name -> name, from the coarsest level down to a node."""
        return dict(zip(self.levels, self.path(node), strict=False))

    def find(self, name: str, level: str | None = None) -> int:
        """Return the node id of a name, at one level or at the finest level that has it.

        Raises:
            UsageError: no node, or more than one node of the same level, has this name.
        """
        for candidate in (level,) if level else reversed(self.levels):
            hits = self._bearers[self.depth(candidate)].get(name, [])
            if len(hits) > 1:
                raise UsageError(f"{name!r} is the name of {len(hits)} classes of level {candidate!r}; give its path")
            if hits:
                return self.node(candidate, hits[0])
        names = {other for candidate in ((level,) if level else self.levels) for other in self.names(candidate)}
        raise UsageError(f"unknown class {name!r} at {level or 'any level'}{did_you_mean(name, names)}")

    @cached_property
    def _bearers(self) -> list[dict[str, list[int]]]:
        """For each level, name -> the classes that bear it, so that 10,000 labels are looked up quickly."""
        levels: list[dict[str, list[int]]] = [{} for _ in self.levels]
        for bearers, names in zip(levels, self._names, strict=True):
            for index, name in enumerate(names):
                bearers.setdefault(name, []).append(index)
        return levels

    def targets(self, labels: Tensor, level: str) -> Tensor:
        """Return (N,) class indices at a level for (N,) node ids; -1 where the label is -1 or coarser."""
        depth = self.depth(level)
        return torch.where(labels >= 0, self.ancestors_on(labels.device)[labels.clamp_min(0), depth], -1)

    def ancestors_on(self, device: torch.device) -> Tensor:
        """Return `ancestors` on a device; the copy is kept there, since one per step would make an accelerator wait."""
        if device not in self._copies:
            self._copies[device] = self.ancestors.to(device)
        return self._copies[device]

    def complete(
        self, logits: Mapping[str, Tensor], temperatures: Mapping[str, float] | None = None
    ) -> dict[str, Tensor]:
        """Return log-probabilities at every level, coarse to fine.

        A level that was scored keeps its own log-softmax; the others are the leaf probabilities summed over each
        class's leaves. This is for metrics and answers, never for a loss.

        Args:
            logits: level -> (N, classes of that level); the leaf level must be among them.
            temperatures: level -> T > 0, by which the level's logits are divided, in float32; 1 where not named.

        Returns:
            level -> (N, classes of that level), float32.
        """
        divisors = temperatures or {}
        scored = {level: (x.float() / divisors.get(level, 1.0)).log_softmax(dim=1) for level, x in logits.items()}
        return {
            level: scored[level] if level in scored else self._roll_up(scored[self.leaf_level], level)
            for level in self.levels
        }

    def _roll_up(self, log_leaf: Tensor, level: str) -> Tensor:
        parent = self.ancestors_on(log_leaf.device)[: self.num_classes, self.depth(level)]
        sums = log_leaf.new_zeros(len(log_leaf), self.size(level)).index_add_(1, parent, log_leaf.exp())
        return sums.clamp_min(torch.finfo(sums.dtype).tiny).log()

    def lca_height(self, first: Tensor, second: Tensor) -> Tensor:
        """Return (N,) int64: how many levels above the leaves the lowest common ancestor of two leaves (N,) lies.

        It is 0 for the same leaf and the number of `dividing_levels` for leaves that share none of these. It is
        computed from (N, L) rows, never from a K x K table.
        """
        ancestors = self.ancestors_on(first.device)
        return (ancestors[first] != ancestors[second]).sum(dim=1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Taxonomy) and (self.levels, self._leaves) == (other.levels, other._leaves)

    def __hash__(self) -> int:
        return hash((self.levels, self._leaves))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{self.size(level)} {level}" for level in self.levels)
        return f"Taxonomy({sizes})"


def _check(levels: tuple[str, ...], leaves: tuple[tuple[str, ...], ...]) -> None:
    if not levels or not leaves:
        raise UsageError("a taxonomy needs at least one level and one class")
    if len(set(levels)) < len(levels) or not all(level.strip() for level in levels):
        raise UsageError(f"levels: {', '.join(map(repr, levels))[:200]}; each needs a name of its own")
    if large := too_large(len(levels), len(leaves)):
        raise UsageError(f"taxonomy: {large}")
    seen: set[tuple[str, ...]] = set()
    for row, path in enumerate(leaves):
        if len(path) != len(levels):
            raise UsageError(f"taxonomy row {row}: {len(path)} names for {len(levels)} levels {list(levels)}")
        if path in seen:
            raise UsageError(f"taxonomy row {row}: the class {' > '.join(path)} appears twice")
        seen.add(path)


def _fill_ragged(path: Sequence[str], row: int) -> list[str]:
    filled: list[str] = []
    for name in path:
        if not name.strip() and not filled:
            raise UsageError(f"taxonomy row {row}: the coarsest level is empty")
        filled.append(name.strip() or filled[-1])
    return filled
