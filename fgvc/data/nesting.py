"""Class folders inside folders: which of them are probably the classes, where only the outermost are read as such."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

UNIQUE = 0.9
"""Share of the names of inner folders that lie in one outer folder only, from which on they are probably classes.
Years, visits and sides of a photograph have the same names in every class."""


class Nesting(NamedTuple):
    """depth: how many folders deep the classes probably lie; outer, inner: folders at the root and at that depth."""

    depth: int
    outer: int
    inner: int

    def told(self, root: str) -> str:
        """Return a sentence: what was read, what was probably meant, and the key for it."""
        upper = ["group"] if self.depth == 2 else [f"level{i}" for i in range(1, self.depth)]
        deep = f"{self.inner} folders with names of their own lie {self.depth} deep in {root}"
        read = f"{self.outer} class{'' if self.outer == 1 else 'es'}"
        return (
            f"{deep}, but the outermost alone are read as classes: {read}; for a tree of {self.inner} classes name its "
            f'levels, coarse to fine: --data.source.levels "[{", ".join([*upper, "class"])}]" (levels of "[class]" '
            f"say that {read} {'is' if self.outer == 1 else 'are'} meant)"
        )


def nesting(files: Sequence[str]) -> Nesting | None:
    """Return how deep the classes probably lie; None where they are the outermost folders.

    That is the deepest level of folders that most pictures reach and whose names differ from class to class.

    Args:
        files: paths of pictures below the folder of their split, with `/`.
    """
    paths = [tuple(file.split("/")[:-1]) for file in files]
    outer = len({path[0] for path in paths})
    folders = Counter(paths)
    for depth in range(max(map(len, folders), default=0), 1, -1):
        reached = sum(number for path, number in folders.items() if len(path) >= depth)
        inner = {path[:depth] for path in folders if len(path) >= depth}
        names = Counter(path[-1] for path in inner)
        own = sum(number == 1 for number in names.values()) / max(len(names), 1)
        if 2 * reached > len(paths) and len(inner) > outer and own >= UNIQUE:
            return Nesting(depth, outer, len(inner))
    return None
