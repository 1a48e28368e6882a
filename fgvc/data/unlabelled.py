"""The photographs below a folder, of which nobody says what they show."""

from pathlib import Path

from fgvc.data.records import Records
from fgvc.data.sources.base import DataSource
from fgvc.errors import UsageError
from fgvc.images.decoding import SUFFIXES
from fgvc.images.folders import PassedOver, names_below
from fgvc.taxonomy.tree import Taxonomy


class Unlabelled(DataSource):
    """All photographs below a folder, at any depth, as the split `test`, each with the label -1.

    Args:
        root: the folder.

    Raises:
        UsageError: no such folder, or no photograph in it.
    """

    has_a_name = False
    splits = ("test",)

    def __init__(self, root: str) -> None:
        if not Path(root).is_dir():
            raise UsageError(f"{root}: no such folder of photographs")
        self.passed_over = PassedOver()
        paths = sorted(names_below(root, True, self.passed_over))
        if not paths:
            raise UsageError(f"{root}: no pictures; looked for {' '.join(sorted(SUFFIXES))}")
        self._records = Records(paths, [-1] * len(paths), root)

    @property
    def taxonomy(self) -> Taxonomy:
        """A tree of one class, which no photograph bears."""
        return Taxonomy.flat(["unknown"])

    def records(self, split: str) -> Records:
        """Return the photographs in the order of their paths."""
        return self._records
