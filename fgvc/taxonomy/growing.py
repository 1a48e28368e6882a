"""A taxonomy from the names of folders or cells. A path is one name per level, coarse to fine."""

import unicodedata
from collections.abc import Iterable, Sequence

from fgvc.taxonomy.tree import Taxonomy

Path = tuple[str, ...]


def grow(levels: Sequence[str], paths: Iterable[Path]) -> Taxonomy:
    """Build the tree in which every path is a node; leaves are sorted by name, so the order of the paths is free.

    A path that ends above the finest level is an inner node. If no longer path continues it, it becomes a leaf that
    repeats its last name: a genus without any species is a class of its own.

    Raises:
        UsageError: there are no paths.
    """
    leaves: set[Path] = set()
    nodes: set[Path] = set()
    for path in sorted(set(paths), key=len, reverse=True):
        if path not in nodes:
            leaf = path + path[-1:] * (len(levels) - len(path))
            leaves.add(leaf)
            nodes.update(leaf[:depth] for depth in range(1, len(leaf) + 1))
    return Taxonomy(levels, sorted(leaves))


def node_of_path(taxonomy: Taxonomy) -> dict[Path, int]:
    """Return path -> node id for every node."""
    return {taxonomy.path(node): node for node in range(taxonomy.num_nodes)}


def plain_name(name: str) -> str:
    """Return a name without outer blanks, in the composed Unicode spelling: file systems spell accents differently."""
    return unicodedata.normalize("NFC", name.strip())
