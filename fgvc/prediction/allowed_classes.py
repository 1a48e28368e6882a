"""The file of `fgvc predict --allow`: a CSV with the classes that may be answered in its first column."""

import csv
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fgvc.errors import UsageError

if TYPE_CHECKING:
    from fgvc.prediction.predictor import Predictor  # seconds: read before it is loaded

HEADERS = ("name", "class", "label", "species", "taxon", "scientific_name")
"""First cells of a list of classes that name the column and no class; so do the names of the model's levels."""


class AllowedClasses(NamedTuple):
    """The rows of such a file. rows: number, counted from 1, and first cell of each row where it is not empty."""

    path: Path
    rows: list[tuple[int, str]]

    @classmethod
    def read(cls, path: Path) -> "AllowedClasses":
        """Read a file.

        Raises:
            UsageError: it cannot be read.
        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = [(number, row[0].strip()) for number, row in enumerate(csv.reader(file), 1) if row]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"--allow {path}: cannot be read as UTF-8 CSV ({error})") from None
        return cls(path, [(number, name) for number, name in rows if name])

    def restrict(self, predictor: "Predictor") -> str:
        """Let a predictor answer these classes only, and return one line about it.

        Raises:
            UsageError: no name, or one that it does not know.
        """
        levels = {level.lower() for level in predictor.taxonomy.levels}
        headed = bool(self.rows) and self.rows[0][1].lower() in levels.union(HEADERS)
        written: dict[str, str] = {}
        for number, name in self.rows[headed:]:
            hint = "" if headed or written else f" (no header; that would be {', '.join(HEADERS)} or a level)"
            written.setdefault(name, f"--allow {self.path}, row {number}{hint}")
        if not written:
            raise UsageError(f"--allow {self.path}: names no class; write one name per row, in the first column")
        allowed = predictor.allow(written)
        return f"{self.path}: {len(written)} names allow {allowed} of {predictor.taxonomy.num_classes} classes"

    @property
    def fingerprint(self) -> str:
        """A short text that is the same for the same names in any order."""
        names = sorted({name for _, name in self.rows})
        return f"{len(names)} names ({sha256(chr(10).join(names).encode()).hexdigest()[:12]})"
