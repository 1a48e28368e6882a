"""Your own photographs, listed in a CSV or Parquet table: path, label at any rank, split, group."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from fgvc.data.reading.path_column import find_path_column, local_path
from fgvc.data.reading.place_columns import PlaceTable, place_columns
from fgvc.data.reading.table_file import Rows, near, read_rows
from fgvc.data.records import Records
from fgvc.data.sources.base import Annotations, DataSource
from fgvc.data.splitting import SPLIT_NAMES, name_keys, stratified_split
from fgvc.errors import UsageError, did_you_mean
from fgvc.taxonomy.growing import grow, node_of_path, plain_name
from fgvc.taxonomy.suspicious import check_similar, means_not_known
from fgvc.taxonomy.tree import Taxonomy

FILES_LOOKED_FOR = 5


class Table(DataSource):
    """One row per photograph.

    The label is the name of a class, or of any coarser node of the tree where only the genus or the family is known.
    The tree comes from `taxonomy`, or from the `levels` columns of the table itself, or is the flat list of the labels.
    Without a split column a test part is cut off: reproducible, balanced over the classes, chosen by the paths, and
    never through a group. A table whose rows are all of the test is read where `test_fraction` is 0. Photographs are
    not opened here, but the first ones must be there.

    Args:
        path: a .csv (comma, semicolon or tab; UTF-8) or .parquet file with a header.
        root: the folder that relative paths start from. Default: the table's own folder.
        path_column: the column of file paths. Default: `path`, or else the one that is called as such columns are in
            the tables of others (file_name, image ...), see `find_path_column`. Label Studio's addresses of local files
            are relative to `root`.
        label_column: the column of labels; not read when `levels` is given.
        split_column: the column of train, val (valid, validation) or test. Default: `split` where the table has it;
            "" for none.
        group_column: site, burst, observer: rows that no split may cut apart. Blank cells are groups of one. Default:
            `group` where the table has it; "" for none.
        levels: the columns that spell the label out, coarse to fine, e.g. [family, genus, species]. Empty finer cells
            mean that the animal is known to this rank only; an empty cell in between repeats the coarser name.
        taxonomy: a CSV with one class per row and one column per level, coarse to fine.
        test_fraction: the part cut off for the test where there is no split column; 0 cuts none.
        seed: changes which rows are cut off.
        real_labels: words such as `none` or `-` that name a class on purpose; otherwise such a cell is refused.
        similar_labels: allow classes whose names differ only in case, blanks, hyphens or Unicode form.
        new_classes: let val and test have classes that train does not have, for few-shot learning.
        places: the unit of boxes and points: `pixels` of the upright photograph, or `fractions` of its sides.

    The box of the object stands in the columns `box_x1`, `box_y1`, `box_x2`, `box_y2`, a body part in `point_<name>_x`
    and `point_<name>_y`: `point_left eye_x`. Empty cells mean that the box is not known, or that the part is hidden.
    Both are read where the table has these columns, for methods that learn from annotations.

    Raises:
        UsageError: a missing file or column, a column that is nearly called `split` or `group`, two spellings of one
            class, or a cell that means nothing; the row is named as a spreadsheet counts.
    """

    def __init__(
        self,
        path: str,
        root: str | None = None,
        path_column: str | None = None,
        label_column: str = "label",
        split_column: str | None = None,
        group_column: str | None = None,
        levels: list[str] | None = None,
        taxonomy: str | None = None,
        test_fraction: float = 0.2,
        seed: int = 0,
        real_labels: list[str] | None = None,
        similar_labels: bool = False,
        new_classes: bool = False,
        places: Literal["pixels", "fractions"] = "pixels",
    ) -> None:
        if levels and taxonomy:
            raise UsageError("table: give `levels` (columns of the table) or `taxonomy` (a CSV), not both")
        label_columns = levels or [label_column]
        asked = [name for name in (split_column, group_column) if name]
        if path_column is None:
            path_column = find_path_column(path, "--data.source.path_column", label_columns)
        annotated = place_columns(path)
        rows = read_rows(path, [path_column, *label_columns, *asked], ["split", "group", *annotated])
        _check_columns(rows, split=split_column, group=group_column)
        allowed = {"no_name": bool(real_labels), "similar_names": similar_labels}
        self.on_purpose = frozenset(kind for kind, is_allowed in allowed.items() if is_allowed)
        self.root = Path(root) if root is not None else rows.path.parent
        files = _files(rows, path_column, self.root)
        splits = _splits(rows, "split" if split_column is None else split_column, test_fraction == 0)
        self._groups = _groups(rows, "group" if group_column is None else group_column)
        if taxonomy:
            self._taxonomy = Taxonomy.from_csv(taxonomy)
            labels = _find_labels(rows, label_column, self._taxonomy)
        else:
            _check_names(rows, label_columns, real_labels or [])
            self._taxonomy, labels = _grow_labels(
                rows, label_columns, levels or ["class"], None if new_classes else splits
            )
            if not similar_labels:
                check_similar(path, {self._taxonomy.path(node): n for node, n in Counter(labels).items()})
        if splits is None:
            splits = _cut_test(rows, files, labels, self._groups, test_fraction, seed)
        elif self._groups is not None:
            _check_groups(rows, self._groups, splits)
        everything = Records(files, labels, self.root)
        self._positions = {name: np.flatnonzero(splits == name) for name in ("train", "val", "test") if name in splits}
        self._records = {name: everything.subset(positions) for name, positions in self._positions.items()}
        self.splits = tuple(self._positions)
        self._places = PlaceTable(rows, annotated, in_pixels=places == "pixels")
        self.point_names = self._places.names

    @property
    def taxonomy(self) -> Taxonomy:
        """The tree of the CSV or of the level columns, or the labels as one level."""
        return self._taxonomy

    def records(self, split: str) -> Records:
        """Return the photographs of a split in the order of the rows."""
        return self._records[split]

    def annotations(self, split: str, index: int) -> Annotations:
        """Return the box and the visible points of a record, or raise ImageError where its size is not known."""
        row = int(self._positions[split][index])
        return Annotations(*self._places.of(row, self._records[split][index].path))

    def groups(self, split: str) -> npt.NDArray[np.int64] | None:
        """Return one group id per record, or None where the table has no group column."""
        return None if self._groups is None else self._groups[self._positions[split]]


def _check_columns(rows: Rows, **asked: str | None) -> None:
    """Refuse a column that is nearly called as one that is read where it is there and is not asked for."""
    for name, column in asked.items():
        close = near(name, rows.header) if column is None and name not in rows.header else []
        if close:
            raise UsageError(
                f"{rows.path}: column {close[0]!r} is not read; did you mean {name!r}? Rename it, or give "
                f'{name}_column: {close[0]}; {name}_column: "" ignores it'
            )


def _check_names(rows: Rows, columns: Sequence[str], real: Sequence[str]) -> None:
    """Refuse cells that say that nothing is known, where they would become a class."""
    for column in columns:
        suspects = {cell for cell in set(rows.cells[column]) if means_not_known(cell) and cell not in real}
        for i, cell in enumerate(rows.cells[column] if suspects else ()):
            if cell in suspects:
                todo = "leave the cell empty" if column != columns[0] else "name a class or remove the row"
                raise UsageError(
                    f"{rows.at(i)}: {cell!r} in column {column!r} is no name; {todo}, or give real_labels: [{cell!r}] "
                    "if it is a class"
                )


def _files(rows: Rows, column: str, root: Path) -> list[str]:
    first: dict[str, int] = {}
    files = []
    for i, cell in enumerate(rows.cells[column]):
        if not cell:
            raise UsageError(f"{rows.at(i)}: column {column!r} is empty")
        try:
            files.append(file := local_path(cell))
        except UsageError as error:
            raise UsageError(f"{rows.at(i)}: {error}") from None
        if first.setdefault(file, i) != i:
            raise UsageError(f"{rows.at(i)}: {file!r} is already in row {rows.numbers[first[file]]}; keep one")
    for i, file in enumerate(files[:FILES_LOOKED_FOR]):
        if not (root / file).is_file():
            raise UsageError(f"{rows.at(i)}: no file {root / file}; relative paths start at `root` ({root})")
    return files


def _splits(rows: Rows, column: str, alone: bool) -> npt.NDArray[np.str_] | None:
    if column not in rows.cells:
        return None
    words = rows.cells[column]
    for i, word in enumerate(words):
        if word.lower() not in SPLIT_NAMES:
            near = did_you_mean(word.lower(), SPLIT_NAMES)
            raise UsageError(f"{rows.at(i)}: {word!r} in column {column!r} is none of {sorted(SPLIT_NAMES)}{near}")
    splits = np.array([SPLIT_NAMES[word.lower()] for word in words])
    if "train" not in splits and not (alone and set(splits) == {"test"}):
        raise UsageError(f"{rows.path}: no row of column {column!r} says train; it has {sorted(set(words))}")
    return splits


def _groups(rows: Rows, column: str) -> npt.NDArray[np.int64] | None:
    if column not in rows.cells:
        return None
    ids: dict[str, int] = {}
    names = rows.cells[column]
    for i, name in enumerate(names):
        if means_not_known(name):
            raise UsageError(
                f"{rows.at(i)}: {name!r} in column {column!r} would make one group of all such rows; leave the cell "
                "empty for a group of one, or give the group another name"
            )
    return np.array([ids.setdefault(name, len(ids)) if name else len(names) + i for i, name in enumerate(names)])


def _check_groups(rows: Rows, groups: npt.NDArray[np.int64], splits: npt.NDArray[np.str_]) -> None:
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    cut = np.flatnonzero(splits != splits[first][inverse])
    if len(cut):
        other, here = int(first[inverse[cut[0]]]), int(cut[0])
        raise UsageError(
            f"{rows.at(here)}: in {splits[here]}, but row {rows.numbers[other]} of the same group in {splits[other]}; "
            'keep a group in one split, or set group_column: "" to ignore groups'
        )


def _find_labels(rows: Rows, column: str, taxonomy: Taxonomy) -> list[int]:
    nodes: dict[str, int] = {}
    labels = []
    for i, cell in enumerate(rows.cells[column]):
        if not cell:
            raise UsageError(f"{rows.at(i)}: column {column!r} is empty; name a class or a coarser rank")
        if cell not in nodes:
            try:
                nodes[cell] = taxonomy.find(plain_name(cell))
            except UsageError as error:
                raise UsageError(f"{rows.at(i)}: column {column!r}: {error}") from None
        labels.append(nodes[cell])
    return labels


def _grow_labels(
    rows: Rows, columns: Sequence[str], levels: Sequence[str], splits: npt.NDArray[np.str_] | None
) -> tuple[Taxonomy, list[int]]:
    """Return the tree of the rows that are learned from, and the node of every row."""
    cells = zip(*(rows.cells[column] for column in columns), strict=True)
    paths = [_path(rows, i, columns, names) for i, names in enumerate(cells)]
    learned = paths if splits is None else [path for path, split in zip(paths, splits, strict=True) if split == "train"]
    taxonomy = grow(levels, learned or paths)
    nodes = node_of_path(taxonomy)
    for i, path in enumerate(paths):
        if path not in nodes:
            name = " > ".join(path)
            near = did_you_mean(name, (" > ".join(node) for node in nodes))
            raise UsageError(f"{rows.at(i)}: no train row has {name!r}{near}; add some or give `taxonomy`")
    return taxonomy, [nodes[path] for path in paths]


def _path(rows: Rows, index: int, columns: Sequence[str], cells: Sequence[str]) -> tuple[str, ...]:
    depth = max((i for i, cell in enumerate(cells, start=1) if cell), default=0)
    if not depth or not cells[0]:
        raise UsageError(f"{rows.at(index)}: column {columns[0]!r} is empty; give at least the coarsest name")
    path: list[str] = []
    for cell in cells[:depth]:
        path.append(plain_name(cell) or path[-1])
    return tuple(path)


def _cut_test(
    rows: Rows,
    files: Sequence[str],
    labels: Sequence[int],
    groups: npt.NDArray[np.int64] | None,
    fraction: float,
    seed: int,
) -> npt.NDArray[np.str_]:
    held = stratified_split(np.asarray(labels), fraction, seed, groups, name_keys(files))
    if fraction and not held.any():
        raise UsageError(
            f"{rows.path}: test_fraction={fraction} cuts nothing off {len(files)} rows without taking a whole class "
            "or cutting a group; add rows, give a split column, or set test_fraction: 0"
        )
    return np.where(held, "test", "train")
