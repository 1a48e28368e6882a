"""Two taxonomies as one: classes that a model knows, and new ones beside them.

Shape letters: K leaves.
"""

from collections.abc import Sequence

from fgvc.errors import UsageError
from fgvc.taxonomy.tree import Taxonomy

Path = tuple[str, ...]


def joined(old: Taxonomy, new: Taxonomy) -> tuple[Taxonomy, list[int], list[int]]:
    """Return old and new leaves in one tree with the levels of the old one.

    A new class hangs where its own levels tell: the coarsest of its names that the old tree has at that level brings
    what lies above it, a known genus its family and order. Where nothing above is known, the class's coarsest name is
    repeated.

    Args:
        old: the tree whose levels stay.
        new: its levels are some of those of `old`, the finest among them; a tree of one level holds leaves.

    Returns:
        The tree, old leaves first, and the leaf there of each old and of each new leaf.

    Raises:
        UsageError: a level that the old tree does not have, or a class that it has already.
    """
    levels = new.levels if len(new.levels) > 1 else (old.leaf_level,)
    strange = [level for level in levels if level not in old.levels]
    if strange:
        raise UsageError(
            f"level {strange[0]!r} of the new classes: the model's levels are {', '.join(old.levels)}; "
            "name the levels of the new classes so"
        )
    if levels[-1] != old.leaf_level:
        raise UsageError(f"the new classes end at {levels[-1]!r}, those of the model at {old.leaf_level!r}")
    paths = [tuple(old.path(leaf)) for leaf in range(old.num_classes)]
    known = set(paths)
    for leaf in range(new.num_classes):
        path = _completed(old, levels, new.path(leaf))
        if path in known or (old.leaf_level == levels[0] and path[-1] in old.names(old.leaf_level)):
            raise UsageError(
                f"class {path[-1]!r}: the model knows it already; leave it out, or enroll without the old classes"
            )
        known.add(path)
        paths.append(path)
    count = old.num_classes
    return Taxonomy(old.levels, paths), [*range(count)], [*range(count, len(paths))]


def _completed(old: Taxonomy, levels: Sequence[str], names: Sequence[str]) -> Path:
    """Return a path with a name for every level of the old tree."""
    own = dict(zip(levels, names, strict=True))
    above: dict[str, str] = {}
    for level in levels:
        places = [node for node, name in enumerate(old.names(level)) if name == own[level]]
        if len(places) == 1 and level != old.leaf_level:
            path = old.path(old.node(level, places[0]))
            above = dict(zip(old.levels, path, strict=False))
            break
    filled: list[str] = []
    for level in old.levels:
        name = own.get(level) or above.get(level) or (filled[-1] if filled else names[0])
        filled.append(name)
    return tuple(filled)
