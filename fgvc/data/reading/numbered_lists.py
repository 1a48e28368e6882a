"""Lists that number their lines, as CUB-200-2011 and NABirds have them: `1 path`, `1 0.5 0.5 1`."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.errors import UsageError


class Index(NamedTuple):
    """The photographs of a folder in the order of their ids.

    ids: (M,) CUB's image ids, rising, not necessarily contiguous.
    paths, classes: M paths below `images/` and M class ids, from 1.
    is_train: (M,) bool, the flag of `train_test_split.txt`.
    """

    ids: npt.NDArray[np.int64]
    paths: list[str]
    classes: list[int]
    is_train: npt.NDArray[np.bool_]

    def locate(self, table: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return the photograph of each row of a table whose first column is an image id, and those rows."""
        table = table[np.isin(table[:, 0], self.ids)]
        return np.searchsorted(self.ids, table[:, 0]), table


def read_index(root: Path) -> Index:
    """Read the lists of an unpacked archive, or raise UsageError naming the list and the line or image."""
    images = read_table(root / "images.txt")
    ids = sorted(images)
    columns: list[list[int]] = []
    for path in (root / "image_class_labels.txt", root / "train_test_split.txt"):
        table = read_table(path)
        for image in ids:
            if not table.get(image, "").isdigit():
                raise UsageError(f"{path}: no number for image {image} of images.txt; unpack the archive again")
        columns.append([int(table[image]) for image in ids])
    return Index(np.array(ids), [images[i] for i in ids], columns[0], np.array(columns[1], dtype=bool))


def read_table(path: Path) -> dict[int, str]:
    """Read lines `number text`."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); unpack the archive again") from None
    table: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        key, _, value = line.strip().partition(" ")
        if not key.isdigit() or not value:
            raise UsageError(f"{path}: line {number} is {line!r}, not a number and a word; unpack the archive again")
        table[int(key)] = value
    return table


def read_numbers(path: Path, columns: int) -> npt.NDArray[np.float64]:
    """Return the first columns of a table of numbers, or raise UsageError naming the file."""
    try:
        return np.loadtxt(path, dtype=np.float64, ndmin=2, usecols=range(columns))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); unpack the archive again") from None
