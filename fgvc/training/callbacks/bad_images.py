"""The images that a run skipped: `bad_images.csv`, and a line about them at the end."""

import csv
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl

from fgvc.errors import FgvcError
from fgvc.files.lines import tell
from fgvc.files.whole_files import open_whole
from fgvc.images.decoding import ImageError, Limits, decode
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.processes import gathered

READERS = 4
"""Threads that read bad images once more, for the reason."""
SPLITS = {"train": "training", "val": "val", "test": "test"}
"""What their images are called."""


class BadImage(NamedTuple):
    """A row of the table; label: the names down to the label's node, joined by ` > `, or "" where none is known."""

    path: str
    split: str
    label: str
    reason: str


class BadImages(pl.Callback):
    """Keep `bad_images.csv` while `data.on_bad_image` is `skip`: path, split, label, reason.

    It is written at the end of every epoch that met new ones, and by one of several processes for all of them. A
    resumed run adds to what the table holds, and a new evaluation replaces the rows of its split.

    Args:
        folder: of the run.

    Raises:
        FgvcError: no image of a split can be read.
    """

    FILE = "bad_images.csv"

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.FILE
        self._rows: dict[tuple[str, str], BadImage] = {}
        self._known: dict[str, set[int]] = {}
        self._outdated = False

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Read the rows of earlier commands, without those of the split that is evaluated again."""
        found, again = _read(self.path), {"validate": "val"}.get(stage, stage)
        self._rows = {(row.split, row.path): row for row in found if row.split != again}
        self._known, self._outdated = {}, len(self._rows) < len(found)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Note the training images."""
        self._note(trainer, "train")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Note the validation images."""
        self._note(trainer, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Note the test images."""
        self._note(trainer, "test")

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Say how many there were of each split that was read."""
        if trainer.is_global_zero:
            for split in (split for split in SPLITS if split in self._known):
                if skipped := sum(row.split == split for row in self._rows.values()):
                    size = len(trainer.datamodule.records(split))  # type: ignore[attr-defined]
                    images = f"{skipped:,} of {size:,} {SPLITS[split]} images"
                    tell(f"{images} could not be read and were skipped: {self.path}")

    def _note(self, trainer: Any, split: str) -> None:
        """Gather the new rows of all processes, write them, and stop where no image is left."""
        data = trainer.datamodule
        if data is None:  # loaders of somebody's own
            return
        known = self._known.setdefault(split, set())
        new = [index for index in data.unreadable(split) if index not in known]
        mine = dict(zip(new, described(data, split, new), strict=True))
        rows = {index: row for part in gathered(mine) for index, row in part.items()}
        known.update(rows)
        self._rows.update({(row.split, row.path): row for row in rows.values()})
        if trainer.is_global_zero and (rows or self._outdated):
            _write(self.path, self._rows.values())
            self._outdated = False
        if known and len(known) == len(data.records(split)):
            one = rows[min(rows)] if rows else next(row for row in self._rows.values() if row.split == split)
            raise FgvcError(
                f"none of the {len(known):,} {SPLITS[split]} images can be read, see {self.path}; is their "
                f"folder there? One of them: {one.path}: {one.reason}"
            )


def described(datamodule: Any, split: str, indices: Iterable[int]) -> list[BadImage]:
    """Read the images at these positions of a split once more, and say of each what is wrong with it."""
    records = datamodule.records(split)
    at = list(indices)
    with ThreadPoolExecutor(READERS) as pool:
        reasons = list(pool.map(partial(_reason, limits=datamodule.limits), (records[index].path for index in at)))
    tree: Taxonomy = datamodule.taxonomy
    labels = [int(records.labels[index]) for index in at]
    names = [" > ".join(tree.path(label)) if label >= 0 else "" for label in labels]
    paths = [records.relative_path(index) for index in at]
    return [BadImage(*row) for row in zip(paths, [split] * len(at), names, reasons, strict=True)]


def _reason(path: str, limits: Limits) -> str:
    try:
        decode(path, "picture", limits=limits)
    except ImageError as error:
        return str(error).removeprefix("picture: ")
    return "could not be read at first, but can be read now"


def _read(path: Path) -> list[BadImage]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file)
        return [BadImage(*(row.get(name) or "" for name in BadImage._fields)) for row in rows]


def _write(path: Path, rows: Iterable[BadImage]) -> None:
    ordered = sorted(rows, key=lambda row: (row.split, row.path))
    with open_whole(path) as file:
        writer = csv.writer(file)
        writer.writerow(BadImage._fields)
        writer.writerows(ordered)
