"""iNaturalist 2017, 2018, 2019 and 2021: competition annotations -> records with the full tree of life above them.

Source: Van Horn et al., The iNaturalist Species Classification and Detection Dataset, 2018 (2017 and 2018);
Van Horn et al., Benchmarking Representation Learning for Natural World Image Collections, 2021 (2021).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fgvc.data.reading.annotation_json import Annotated, read_annotations, read_categories
from fgvc.data.records import Records
from fgvc.data.sources.base import DataSource
from fgvc.errors import UsageError, did_you_mean
from fgvc.taxonomy.tree import Taxonomy

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")


class INaturalist(DataSource):
    """One year's competition. Classes are in the order of their category ids.

    `train` is the published training set. `test` is the published validation set, the part on which papers report: it
    never chooses anything; for that the datamodule's `val_fraction` cuts a part off `train`. The published test set
    has no labels.

    Layout below `root`, as the archives unpack: 2017 `train2017.json`, `val2017.json`, `train_val_images/`; 2018 and
    2019 `train<year>.json`, `val<year>.json`, `train_val<year>/` and `categories.json`, which was published after the
    contest and holds the names in place of the obfuscated ones; 2021 `train.json` (or `train_mini.json`), `val.json`,
    `train/` (or `train_mini/`), `val/`.

    Args:
        root: the folder of one year.
        year: 2017, 2018, 2019 or 2021.
        mini: 2021 only, train on the 50 images per species of `train_mini`.
        levels: which levels to use, coarse to fine, the last is `species`. Default: kingdom, phylum, class, order,
            family and genus where the categories have them (2018 and later), else supercategory (2017), and species.
        train_file: another annotation file for train, relative to `root`.
        val_file: another annotation file for test, relative to `root`.
        categories_file: another list of categories, relative to `root`. Default: `categories.json` where there is one.

    Raises:
        UsageError: a file is missing or is not such a file, a level is unknown, or the photographs are not there.
    """

    splits = ("train", "test")

    def __init__(
        self,
        root: str,
        year: Literal[2017, 2018, 2019, 2021] = 2021,
        mini: bool = False,
        levels: list[str] | None = None,
        train_file: str | None = None,
        val_file: str | None = None,
        categories_file: str | None = None,
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise UsageError(f"{root}: no such folder; unpack iNaturalist {year} there (data/README.md says how)")
        if mini and year != 2021:
            raise UsageError(f"mini: true is for iNaturalist 2021; {year} has no small training set")
        names = _file_names(year, mini)
        train = read_annotations(self.root / (train_file or names[0]))
        test = read_annotations(self.root / (val_file or names[1]))
        categories = _categories(self.root, categories_file, train)
        self._taxonomy = tree_of_categories(categories, levels, self.root)
        self._records = {"train": _records(self.root, train, categories), "test": _records(self.root, test, categories)}

    @property
    def taxonomy(self) -> Taxonomy:
        """The tree of the categories; leaf k is the k-th category by id."""
        return self._taxonomy

    def records(self, split: str) -> Records:
        """Return the photographs of `train` or `test` in the order of the annotation file."""
        return self._records[split]


def tree_of_categories(
    categories: Sequence[Mapping[str, Any]], levels: Sequence[str] | None = None, source: str | Path = "categories"
) -> Taxonomy:
    """Return the tree of a list of categories, one leaf each, in their order.

    A rank that a category leaves blank repeats the coarser name. Categories of one path are told apart by their id.

    Args:
        categories: dicts with id, name and the ranks.
        levels: keys of the categories, coarse to fine, and `species` last. Default: see `INaturalist`.
        source: what to call the categories in an error.

    Raises:
        UsageError: a level that the categories do not have, or a last level that is not species.
    """
    shared = set.intersection(*(set(category) for category in categories))
    ranks = [rank for rank in RANKS if rank in shared] or [name for name in ("supercategory",) if name in shared]
    chosen = list(levels) if levels is not None else [*ranks, "species"]
    usable = [*ranks, *({"supercategory"} & shared - set(ranks)), "species"]
    for level in chosen:
        if level not in usable:
            raise UsageError(f"{source}: no level {level!r}; the categories have {usable}{did_you_mean(level, usable)}")
    if not chosen or chosen[-1] != "species":
        raise UsageError(f"{source}: levels {chosen} must end with 'species', the class to tell")
    paths = [_path(category, chosen[:-1]) for category in categories]
    repeats = Counter(paths)
    return Taxonomy(
        chosen,
        [
            path if repeats[path] == 1 else (*path[:-1], f"{path[-1]} ({category['id']})")
            for path, category in zip(paths, categories, strict=True)
        ],
    )


def _path(category: Mapping[str, Any], ranks: Sequence[str]) -> tuple[str, ...]:
    path: list[str] = []
    for rank in ranks:
        path.append(str(category[rank] or "").strip() or (path[-1] if path else "unknown"))
    return (*path, str(category["name"]).strip())


def _file_names(year: int, mini: bool) -> tuple[str, str]:
    if year == 2021:
        return ("train_mini.json" if mini else "train.json"), "val.json"
    return f"train{year}.json", f"val{year}.json"


def _categories(root: Path, file: str | None, train: Annotated) -> list[dict[str, Any]]:
    """Return the categories by id: the separately published list where there is one, else the annotation file's own."""
    path = root / (file or "categories.json")
    if file is None and not path.is_file():
        return train.categories
    named = read_categories(path)
    own, other = ({int(category["id"]) for category in part} for part in (train.categories, named))
    if own and own != other:
        raise UsageError(f"{path}: {len(other)} categories, not the {len(own)} of {train.path}; of another year?")
    return named


def _records(root: Path, part: Annotated, categories: Sequence[Mapping[str, Any]]) -> Records:
    ids = np.array([category["id"] for category in categories], dtype=np.int64)  # sorted: the place is the leaf
    leaves = np.searchsorted(ids, part.category_ids).clip(max=len(ids) - 1).astype(np.int32)
    unknown = np.flatnonzero(ids[leaves] != part.category_ids)
    if len(unknown):
        category = part.category_ids[unknown[0]]
        raise UsageError(f"{part.path}: category id {category} is not in the list of categories; of another year?")
    first = root / part.files.path(0)
    if not first.is_file():
        raise UsageError(f"{part.path}: its first photograph is not there: {first}; unpack the images")
    return Records(part.files, leaves, root)
