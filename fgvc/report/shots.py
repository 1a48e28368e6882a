"""How well a run names the classes of many, medium and few training images."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fgvc.confidence.shot_groups import shot_groups
from fgvc.errors import UsageError
from fgvc.report.mistakes import ClassRow


class ShotRow(NamedTuple):
    """A group of classes.

    name: `many`, `medium` or `few`; least, most: training images of its classes; classes: how many it has.
    tested: how many of them have test images; accuracy: the mean of their accuracies; images: their test images.
    """

    name: str
    least: int
    most: int
    classes: int
    tested: int
    accuracy: float
    images: int


def training_images(path: Path, level: str) -> dict[str, int]:
    """Return the training images of each class of a level from a table of `write_tables`; empty where it has none.

    Raises:
        UsageError: the table is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("level") == level]
        return {row["class"]: int(row["training_images"]) for row in rows if row.get("training_images")}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read ({error}); run fgvc test again") from None


def shot_rows(classes: Sequence[ClassRow], training: Mapping[str, int]) -> list[ShotRow]:
    """Return the groups of `shot_groups`, most training images first; nothing where the numbers differ little.

    Args:
        classes: of the finest level that have test images.
        training: class -> its training images, of all classes.
    """
    names = list(training)
    counts = np.array([training[name] for name in names], dtype=np.int64)
    tested = {row.share.name: row.share for row in classes}
    found = []
    for group, mask in (shot_groups(counts) if len(names) else {}).items():
        mine = [tested[name] for name, is_mine in zip(names, mask.tolist(), strict=True) if is_mine and name in tested]
        if mine:
            accuracy = sum(share.value for share in mine) / len(mine)
            span = int(counts[mask].min()), int(counts[mask].max())
            images = sum(share.total for share in mine)
            found.append(ShotRow(group, *span, int(mask.sum()), len(mine), accuracy, images))
    return found
