"""CUB-200-2011: 11,788 photographs of 200 birds with boxes and 15 body parts.

Source: C. Wah, S. Branson, P. Welinder, P. Perona, S. Belongie, "The Caltech-UCSD Birds-200-2011 Dataset",
technical report CNS-TR-2011-001, 2011.

Shape letters: M photographs of the folder, P body parts.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from fgvc.data.reading.numbered_lists import Index, read_index, read_numbers, read_table
from fgvc.data.records import Records
from fgvc.data.sources.base import Annotations, DataSource
from fgvc.errors import UsageError, did_you_mean
from fgvc.files.shipped import facts
from fgvc.images.decoding import ImageError
from fgvc.taxonomy.tree import Taxonomy

Protocol = Literal["standard", "dev", "few_shot_closer_look", "few_shot_frn"]
Tree = Literal["clements", "hse", "flat"]

PART_NAMES = (
    "back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg",
    "left wing", "nape", "right eye", "right leg", "right wing", "tail", "throat",
)  # fmt: skip
"""Its 15 body parts; left and right are the bird's own."""

_FEW_SHOT_SPLITS = {"train": "base", "val": "val", "test": "novel"}
_RANKS = ("order", "family", "genus")


class CUB(DataSource):
    """CUB-200-2011 in its official layout; a folder that holds only some of the classes or images will do.

    Protocols:
        standard: `train_test_split.txt`.
        dev: only the official training images; per class, in id order, every fifth one is test. Where
            `train_test_split.txt` already states this split of all the folder's images, it stands.
        few_shot_closer_look: class-disjoint; train, val, test are all images of the 100 base, 50 validation, 50 novel
            classes of W.-Y. Chen and others, "A Closer Look at Few-shot Classification", 2019.
        few_shot_frn: the same by D. Wertheimer and others, "Few-Shot Classification with Feature Map Reconstruction
            Networks", 2021. Its base classes are the other protocol's validation and novel classes.

    Labels are leaves of the whole tree under every protocol.

    Args:
        root: the unpacked archive.
        protocol: how the images are split.
        tree: `clements` (order, family, genus by the eBird/Clements checklist v2024), `hse` (the 13/37/122/200
            partition of T. Chen and others, "Fine-Grained Representation Learning and Recognition by Exploiting
            Hierarchical Semantic Embedding", 2018, whose nodes have numbers and no names) or `flat`.

    Raises:
        UsageError: an unknown protocol or tree, or a file of the archive that is missing or damaged.
    """

    point_names = PART_NAMES
    head_parts = ("beak", "crown", "forehead", "left eye", "nape", "right eye", "throat")

    def __init__(
        self, root: str = "data/CUB_200_2011", protocol: Protocol = "standard", tree: Tree = "clements"
    ) -> None:
        _check_choice("protocol", protocol, get_args(Protocol))
        _check_choice("tree", tree, get_args(Tree))
        self.root = _find(root)
        self._index = read_index(self.root)
        rows = _class_facts(self.root)
        self._taxonomy = _build_tree(tree, rows)
        leaf_of = {int(row["class_id"]): leaf for leaf, row in enumerate(rows)}
        for label in set(self._index.classes) - set(leaf_of):
            raise UsageError(f"{self.root / 'image_class_labels.txt'}: class {label} is not in classes.txt")
        self._rows = _split(protocol, self._index)
        self.splits = tuple(self._rows)
        self._records = {
            split: Records(
                (self._index.paths[row] for row in chosen),
                (leaf_of[self._index.classes[row]] for row in chosen),
                self.root / "images",
            )
            for split, chosen in self._rows.items()
        }

    @property
    def taxonomy(self) -> Taxonomy:
        """The tree; its leaves are the classes in CUB's own order."""
        return self._taxonomy

    def records(self, split: str) -> Records:
        """Return files and labels of one of `splits`, in the order of CUB's image ids."""
        _check_choice("split", split, self.splits)
        return self._records[split]

    def annotations(self, split: str, index: int) -> Annotations:
        """Return the box `object` and the visible body parts of a record, or raise as the index and the decoder do."""
        size = _size(self.records(split)[index].path)
        row = self._rows[split][index]
        corners = np.clip(self._boxes[row] / (size + size), 0, 1).tolist()
        places = np.clip(self._points[row] / size, 0, 1).tolist()
        return Annotations(
            boxes={} if np.isnan(corners).any() else {"object": tuple(corners)},
            points={name: (x, y) for name, (x, y) in zip(self._part_names, places, strict=True) if x == x},
        )

    @cached_property
    def _boxes(self) -> npt.NDArray[np.float32]:
        """(M, 4) xyxy in pixels, NaN where a photograph has no box."""
        rows, table = self._index.locate(read_numbers(self.root / "bounding_boxes.txt", columns=5))
        boxes = np.full((len(self._index.ids), 4), np.nan, dtype=np.float32)
        boxes[rows] = np.concatenate([table[:, 1:3], table[:, 1:3] + table[:, 3:5]], axis=1)
        return boxes

    @cached_property
    def _points(self) -> npt.NDArray[np.float32]:
        """(M, P, 2) xy in pixels, NaN where a part is not visible."""
        table = read_numbers(self.root / "parts" / "part_locs.txt", columns=5)
        rows, table = self._index.locate(table[table[:, 4] == 1])
        points = np.full((len(self._index.ids), len(self._part_names), 2), np.nan, dtype=np.float32)
        points[rows, table[:, 1].astype(int) - 1] = table[:, 2:4]
        return points

    @cached_property
    def _part_names(self) -> list[str]:
        return list(read_table(self.root / "parts" / "parts.txt").values())


def every_fifth(classes: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return (M,) bool: True at the 5th, 10th, ... image of each class, in the order given."""
    seen: Counter[int] = Counter()
    marks = []
    for label in classes:
        seen[label] += 1
        marks.append(seen[label] % 5 == 0)
    return np.array(marks, dtype=bool)


def _split(protocol: Protocol, index: Index) -> dict[str, list[int]]:
    """Return split -> rows of the index."""
    if protocol.startswith("few_shot_"):
        column = protocol.removeprefix("few_shot_")
        part_of = {int(row["class_id"]): row[column] for row in _read_csv("cub/few_shot_splits.csv")}
        return {
            split: [row for row, label in enumerate(index.classes) if part_of.get(label) == part]
            for split, part in _FEW_SHOT_SPLITS.items()
        }
    rows, is_test = np.arange(len(index.ids)), ~index.is_train
    already_resplit = np.array_equal(every_fifth(index.classes), is_test)
    if protocol == "dev" and not already_resplit:
        rows = np.flatnonzero(index.is_train)
        is_test = every_fifth([index.classes[row] for row in rows])
    return {"train": rows[~is_test].tolist(), "test": rows[is_test].tolist()}


def _build_tree(tree: Tree, rows: Sequence[dict[str, str]]) -> Taxonomy:
    names = [row["class_name"].replace("_", " ") for row in rows]
    if tree == "flat":
        return Taxonomy.flat(names, level="species")
    above = [[row[rank] if tree == "clements" else f"{rank} {row[f'hse_{rank}']}" for rank in _RANKS] for row in rows]
    return Taxonomy((*_RANKS, "species"), ([*path, name] for path, name in zip(above, names, strict=True)))


def _class_facts(root: Path) -> list[dict[str, str]]:
    """Return the rows of the shipped taxonomy for the classes of a folder, by class id."""
    rows = {int(row["class_id"]): row for row in _read_csv("cub/taxonomy.csv")}
    classes = read_table(root / "classes.txt")
    for number, folder in classes.items():
        if number not in rows or folder != f"{number:03d}.{rows[number]['class_name']}":
            raise UsageError(f"{root / 'classes.txt'}: class {number} {folder!r} is not one of CUB-200-2011's")
    return [rows[number] for number in sorted(classes)]


def _find(root: str) -> Path:
    folder = Path(root).expanduser()
    if (folder / "images.txt").is_file() and (folder / "images").is_dir():
        return folder
    todo = "fetch it with: fgvc data download cub --to data, or point `root` to it"
    raise UsageError(f"{folder}: no images.txt and images/ of CUB-200-2011 there; {todo}")


def _check_choice(what: str, word: str, choices: Sequence[Any]) -> None:
    if word not in choices:
        raise UsageError(f"CUB: no {what} {word!r}; it has {', '.join(choices)}{did_you_mean(word, choices)}")


def _size(path: str) -> tuple[int, int]:
    """Return width and height from the header alone (CUB's files carry no EXIF orientation)."""
    try:
        with Image.open(path) as picture:
            return int(picture.width), int(picture.height)
    except OSError as error:
        raise ImageError(f"{path}: width and height cannot be read ({error}); unpack the archive again") from None


def _read_csv(relative: str) -> list[dict[str, str]]:
    return list(csv.DictReader(facts(relative).read_text(encoding="utf-8").splitlines()))
