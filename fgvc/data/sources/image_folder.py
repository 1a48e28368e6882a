"""Your own photographs, sorted into one folder per class."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from fgvc.data.nesting import nesting
from fgvc.data.records import Records
from fgvc.data.sources.base import DataSource
from fgvc.data.splitting import SPLIT_NAMES, name_keys, stratified_split
from fgvc.errors import UsageError, did_you_mean
from fgvc.files.bars import bar
from fgvc.images.decoding import SUFFIXES
from fgvc.images.folders import PassedOver, is_folder, names_below, visible
from fgvc.taxonomy.growing import grow, node_of_path, plain_name
from fgvc.taxonomy.suspicious import check_similar, looks_like_split
from fgvc.taxonomy.tree import Taxonomy


class ImageFolder(DataSource):
    """A folder of class folders.

    Either `root/train/<class>/...`, with `root/val` and `root/test` where you have them (`valid` and `validation` are
    understood), or `root/<class>/...`, from which a test part is cut: reproducible, balanced over the classes, and
    chosen by the names of the files. A `train` folder alone is cut in the same way. Pictures may lie at any depth below
    their class folder. A file without a known suffix counts by its content. Hidden files are ignored, and other files
    that are no pictures are counted in `passed_over`. Folders that look like splits (`Training`, `dev`, `train2017`)
    and are not read as such are refused.

    Args:
        root: the folder.
        levels: names of the nested folder levels, coarse to fine, e.g. [family, genus, species] for
            `root/<family>/<genus>/<species>/...`; a picture in a family folder is then known to that rank only.
            Default: one level, `class`, and deeper folders mean nothing; where they are probably classes, `doubts`
            says so, and `levels: [class]` that they are not.
        taxonomy: a CSV with one class per row and one column per level, coarse to fine; a class folder bears the name
            of a class, or of a coarser node for pictures that are known to that rank only.
        test_fraction: the part cut off for the test where there is no folder for it; 0 cuts none.
        seed: changes which pictures are cut off.
        splits: split -> its folder below root where these have other names, e.g. {train: Training, test: Testing}.
        splits_as_classes: take folders that are called like splits for classes.
        similar_labels: allow classes whose names differ only in case, blanks, hyphens or Unicode form.
        new_classes: let val and test have classes that train does not have, for few-shot learning.

    Raises:
        UsageError: no such folder, no class folders or pictures, fewer nested folders than levels, a class in val or
            test that train does not have, folders that look like splits, or two spellings of one class.
    """

    def __init__(
        self,
        root: str,
        levels: list[str] | None = None,
        taxonomy: str | None = None,
        test_fraction: float = 0.2,
        seed: int = 0,
        splits: dict[str, str] | None = None,
        splits_as_classes: bool = False,
        similar_labels: bool = False,
        new_classes: bool = False,
    ) -> None:
        if levels and taxonomy:
            raise UsageError("image folder: give `levels` (nested folders) or `taxonomy` (a CSV), not both")
        self.root = Path(root)
        allowed = {"split_name": splits_as_classes, "similar_names": similar_labels}
        self.on_purpose = frozenset(kind for kind, is_allowed in allowed.items() if is_allowed)
        self.passed_over = PassedOver()
        folders = _split_folders(self.root, splits, splits_as_classes)
        files = {
            split: _class_files(self.root, folder, split == "train", self.passed_over)
            for split, folder in folders.items()
        }
        depth = len(levels or ["class"])
        classes = {split: [_class_path(file, folders[split], depth) for file in files[split]] for split in files}
        deepest = max(map(len, classes["train"]))
        if deepest < depth:
            raise UsageError(
                f"{self.root}: `levels` names {depth} levels of folders ({', '.join(levels or [])[:100]}), but the "
                f"pictures lie in {deepest}; name as many levels as there are folders, coarse to fine"
            )
        if taxonomy:
            self._taxonomy = Taxonomy.from_csv(taxonomy)
            nodes = {path: self._find(path[0], taxonomy) for paths in classes.values() for path in sorted(set(paths))}
        else:
            known = [*chain.from_iterable(classes.values())] if new_classes else classes["train"]
            if not similar_labels:
                check_similar(str(self.root), Counter(known))
            self._taxonomy = grow(levels or ["class"], known)
            nodes = node_of_path(self._taxonomy)
        if not levels and not taxonomy and (inner := nesting(_below(files["train"], folders["train"]))):
            self.doubts = {"nested_folders": inner.told(str(self.root / folders["train"]))}
        self._records = {
            split: Records(files[split], _labels(classes[split], nodes, self.root / folders[split]), self.root)
            for split in files
        }
        if len(folders) == 1 and test_fraction != 0:
            self._cut_test(test_fraction, seed, folders["train"])
        self.splits = tuple(self._records)

    @property
    def taxonomy(self) -> Taxonomy:
        """The class folders as a tree of one level, or the tree of the nested folders or the CSV."""
        return self._taxonomy

    def records(self, split: str) -> Records:
        """Return the pictures of a split in the order of their paths."""
        return self._records[split]

    def _find(self, name: str, source: str) -> int:
        try:
            return self._taxonomy.find(name)
        except UsageError as error:
            raise UsageError(f"{self.root}: class folder {name!r} against {source}: {error}") from None

    def _cut_test(self, fraction: float, seed: int, folder: str) -> None:
        everything = self._records["train"]
        # below the class folders' parent, so that moving the pictures under `train/` keeps the choice
        names = _below([everything.relative_path(i) for i in range(len(everything))], folder)
        held = stratified_split(everything.labels, fraction, seed, keys=name_keys(names))
        if not held.any():
            raise UsageError(
                f"{self.root}: {len(everything)} pictures are too few to cut test_fraction={fraction} off; "
                "add pictures, make your own train and test folders, or set test_fraction: 0"
            )
        self._records = {
            "train": everything.subset(np.flatnonzero(~held)),
            "test": everything.subset(np.flatnonzero(held)),
        }


def _below(files: Sequence[str], folder: str) -> list[str]:
    """Return paths below root as paths below a folder of it."""
    return [file[len(folder) :].lstrip("/") for file in files]


def _split_folders(root: Path, given: dict[str, str] | None, as_classes: bool) -> dict[str, str]:
    """Return split -> folder name below root, in the order train, val, test; {"train": ""} for a single folder."""
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder of photographs")
    if given is not None and as_classes:
        raise UsageError("image folder: give `splits` (which folders are splits) or `splits_as_classes`, not both")
    if as_classes:
        return {"train": ""}
    names = [entry.name for entry in visible(root) if is_folder(entry)]
    if given is not None:
        return _given_splits(root, given, names)
    folders: dict[str, str] = {}
    for name in names:
        split = SPLIT_NAMES.get(name.lower())
        if split in folders:
            raise UsageError(f"{root}: both {folders[split]!r} and {name!r} mean the {split} split; keep one")
        if split:
            folders[split] = name
    _refuse_likely_splits(root, names, folders)
    if folders and "train" not in folders:
        raise UsageError(f"{root}: has {sorted(folders.values())} but no 'train' folder to learn from")
    return {split: folders[split] for split in ("train", "val", "test") if split in folders} or {"train": ""}


def _given_splits(root: Path, given: dict[str, str], names: Sequence[str]) -> dict[str, str]:
    for split, name in given.items():
        if split not in ("train", "val", "test"):
            raise UsageError(f"splits: no split {split!r}; give folders for train, val, test")
        if name not in names:
            raise UsageError(f"splits: {root} has no folder {name!r} for {split}{did_you_mean(name, names)}")
    if "train" not in given or len(set(given.values())) < len(given):
        raise UsageError(f"splits: {given}; name a folder for train, and another one for each further split")
    return {split: given[split] for split in ("train", "val", "test") if split in given}


def _refuse_likely_splits(root: Path, names: Sequence[str], folders: dict[str, str]) -> None:
    """Refuse folders that look like splits, at the root or below a lone folder, and that would not be read as such."""
    way_out = "or splits_as_classes: true if they are classes"
    likely = [name for name in names if looks_like_split(name) and name not in folders.values()]
    if likely:
        raise UsageError(
            f"{root}: {likely} look like splits, but splits are read from train, val (valid, validation) and test; "
            f"rename them, say which is which with splits: {{train: FOLDER, val: FOLDER, test: FOLDER}}, {way_out}"
        )
    if len(names) == 1 and not folders:
        below = root / names[0]
        likely = [entry.name for entry in visible(below) if is_folder(entry) and looks_like_split(entry.name)]
        if likely:
            raise UsageError(
                f"{root}: holds only {names[0]!r}, in which {likely} look like splits; give root: {below}, {way_out}"
            )


def _class_files(root: Path, folder: str, complete: bool, passed: PassedOver) -> list[str]:
    """Return the sorted paths of the pictures below root/folder, relative to root; check the layout."""
    top = root / folder
    names = names_below(str(top), False, passed)
    below = sorted(bar(f"reading {top}", names, unit=" pictures", delay=3))
    others = f"; {passed.line()}" if passed.counts else ""
    loose = next((file for file in below if "/" not in file), None)
    if loose:
        raise UsageError(f"{top}: {loose!r} lies outside the class folders; put each picture into {top}/<class>/")
    if not below:
        raise UsageError(f"{top}: no pictures; looked for {' '.join(sorted(SUFFIXES))} in {top}/<class>/{others}")
    filled = {file.split("/", 1)[0] for file in below}
    for entry in visible(top) if complete else ():
        if is_folder(entry) and entry.name not in filled:
            raise UsageError(
                f"{entry.path}: class folder without pictures; looked for {' '.join(sorted(SUFFIXES))}{others}"
            )
    return [f"{folder}/{file}" if folder else file for file in below]


def _class_path(file: str, folder: str, depth: int) -> tuple[str, ...]:
    parts = file.split("/")[1 if folder else 0 : -1]
    return tuple(plain_name(part) for part in parts[:depth])


def _labels(classes: Sequence[tuple[str, ...]], nodes: dict[tuple[str, ...], int], folder: Path) -> list[int]:
    for path in dict.fromkeys(classes):
        if path not in nodes:
            learned = ["/".join(node) for node in nodes]
            name = "/".join(path)
            raise UsageError(f"{folder / name}: train has no class folder {name!r}{did_you_mean(name, learned)}")
    return [nodes[path] for path in classes]
