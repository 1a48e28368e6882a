"""The photographs of a training after labels were made wrong on purpose, left out, or corrected by a table.

First comes the noise, then what is left out, then the corrections: as a person meets wrong labels and mends them. The
splits are cut before, so that a table changes none of them but for what it names.

Shape letters: N records of a split.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fgvc.data.noise import KEY, Noise, chosen_strangers, flipped, stranger_labels, stranger_leaves
from fgvc.data.reading.table_file import Rows, read_rows
from fgvc.data.records import Records
from fgvc.data.unlabelled import Unlabelled
from fgvc.errors import UsageError
from fgvc.files.lines import counted
from fgvc.taxonomy.names import nodes_named, written_names
from fgvc.taxonomy.relatives import leaves_below
from fgvc.taxonomy.tree import Taxonomy

NOISE, EXCLUDED, RELABELLED = "noise.csv", "excluded.csv", "relabelled.csv"
"""The tables of a run folder: which labels are wrong on purpose, which photographs were left out, what was changed."""
BETTER = ("likely_label", "true_label")
"""Columns of a table of corrections that may hold the right class; the first that is there counts."""
Ints = npt.NDArray[np.int64]


@dataclass
class Amended:
    """What a training sees.

    before: split -> the photographs of the source. names: of all nodes, see `written_names`.
    records: split -> its photographs. places: split -> (N,) int64, of each the place among those of before, -1 for one
    that was added. tables: name of a file -> its rows, the head first. told: a line for each change.
    """

    before: Mapping[str, Records]
    names: Sequence[str]
    records: dict[str, Records]
    places: dict[str, Ints]
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def keep(self, split: str, kept: npt.NDArray[np.bool_]) -> None:
        """Keep some of the records of a split, (N,) bool."""
        rows = np.flatnonzero(kept)
        self.records[split], self.places[split] = self.records[split].subset(rows), self.places[split][rows]

    def label(self, split: str, labels: npt.NDArray[np.int32]) -> None:
        """Give the records of a split other labels, (N,)."""
        self.records[split] = self.records[split].with_labels(labels)


def amended(
    records: Mapping[str, Records],
    taxonomy: Taxonomy,
    noise: Noise | None = None,
    exclude: str | None = None,
    relabel: str | None = None,
) -> Amended:
    """Change the photographs of train and val; those of test stay, but for classes of strangers.

    Args:
        records: split -> its photographs.
        taxonomy: of their labels.
        noise: labels that are made wrong.
        exclude: a table whose column path names photographs that are left out.
        relabel: one that names a class for each path, in the first column of BETTER that it has; where the cell is
            empty, as for a stranger, the photograph is left out.

    Raises:
        UsageError: a table that cannot be read or names a path or a class that is not there, noise that cannot be
            made, or no training photograph that is left.
    """
    new = Amended(
        records,
        written_names(taxonomy),
        dict(records),
        {split: np.arange(len(of_split)) for split, of_split in records.items()},
    )
    if noise is not None and "train" in records:
        _make_noise(new, noise.check(), taxonomy)
    if exclude is not None:
        _exclude(new, exclude, taxonomy)
    if relabel is not None:
        _relabel(new, relabel, taxonomy)
    if "train" in records and not len(new.records["train"]):
        raise UsageError("data: no training photograph is left after noise, exclude and relabel")
    return new


def paths_of(records: Records) -> list[str]:
    """Return the paths of records as their source gives them."""
    return [records.relative_path(row) for row in range(len(records))]


def _make_noise(new: Amended, noise: Noise, taxonomy: Taxonomy) -> None:
    rows = [["path", "label", "true_label", "kind", "split"]]
    labels = new.records["train"].labels
    leaves = np.unique(labels[(labels >= 0) & (labels < taxonomy.num_classes)])
    splits = ["train", *["val"] * (noise.val and "val" in new.records)]
    if noise.kind != "strangers":
        for split in splits:
            records = new.records[split]
            wrong = flipped(records.labels, paths_of(records), taxonomy, noise, leaves)
            rows += _changes(new, records, wrong, noise.kind, split)
            new.label(split, wrong)
    elif noise.folder is not None:
        rows += _add_folder(new, noise, noise.folder, taxonomy, leaves)
    else:
        rows += _name_strangers(new, noise, taxonomy, leaves, splits)
    new.tables[NOISE] = rows
    for split in splits:
        wrong_here, total = sum(row[-1] == split for row in rows[1:]), len(new.records[split])
        share = f"{100 * wrong_here / max(1, total):.1f} %"
        new.told.append(
            f"noise: {noise.kind}, {wrong_here:,} of {total:,} labels of {split} are wrong on purpose ({share}), seed "
            f"{noise.seed}; the truth is in {NOISE}"
        )


def _changes(
    new: Amended, records: Records, wrong: npt.NDArray[np.int32], kind: str, split: str
) -> Iterable[list[str]]:
    for row in np.flatnonzero(records.labels != wrong).tolist():
        names = [new.names[labels[row]] for labels in (wrong, records.labels)]
        yield [records.relative_path(row), *names, kind, split]


def _name_strangers(
    new: Amended, noise: Noise, taxonomy: Taxonomy, leaves: npt.NDArray[np.integer], splits: Sequence[str]
) -> Iterable[list[str]]:
    """Relabel the chosen photographs of the strangers' classes, and leave out the others, also of val and test."""
    strange = stranger_leaves(noise, taxonomy)
    remaining = leaves[~strange[leaves]]
    rows: list[list[str]] = []
    for split in list(new.records):
        records = new.records[split]
        nodes = np.unique(records.labels[records.labels >= 0])
        of = [int(node) for node in nodes if strange[leaves_below(taxonomy, [int(node)]).numpy()].all()]
        is_strange = np.isin(records.labels, of)
        taken = np.zeros(len(records), dtype=np.bool_)
        if split in splits:
            places = np.flatnonzero(is_strange)
            paths = [records.relative_path(place) for place in places.tolist()]
            chosen = chosen_strangers(paths, len(records) - len(paths), noise)
            taken[places[chosen]] = True
            wrong = records.labels.copy()
            wrong[taken] = stranger_labels([path for path, is_one in zip(paths, chosen, strict=True) if is_one],
                                           noise.seed, remaining)  # fmt: skip
            rows += _changes(new, records, wrong, noise.kind, split)
            new.label(split, wrong)
        new.keep(split, taken | ~is_strange)
    return rows


def _add_folder(
    new: Amended, noise: Noise, folder: str, taxonomy: Taxonomy, leaves: npt.NDArray[np.integer]
) -> Iterable[list[str]]:
    """Add photographs of a folder to train."""
    try:
        found = Unlabelled(folder).records("test")
    except UsageError as error:
        raise UsageError(f"{KEY}folder: {error}") from None
    train, paths = new.records["train"], paths_of(found)
    chosen = chosen_strangers(paths, len(train), noise)
    paths = [path for path, is_one in zip(paths, chosen, strict=True) if is_one]
    labels = stranger_labels(paths, noise.seed, leaves)
    there = [str(Path(folder).resolve() / path) for path in paths]
    new.records["train"] = Records([*paths_of(train), *there], np.concatenate([train.labels, labels]), train.root)
    new.places["train"] = np.concatenate([new.places["train"], np.full(len(there), -1)])
    names = [new.names[label] for label in labels.tolist()]
    return [[path, name, "", noise.kind, "train"] for path, name in zip(there, names, strict=True)]


def _exclude(new: Amended, table: str, taxonomy: Taxonomy) -> None:
    rows = read_rows(table, ["path"], ["label"])
    found = _found(new, rows, "data.exclude")
    _check_labels(new, rows, found, taxonomy)
    out = [["path", "label", "split"]]
    for split in ("train", "val"):
        places = sorted(place for where, place, _ in found if where == split)
        out += [[*_of(new, split, place), split] for place in places]
        _drop(new, split, places)
    new.tables[EXCLUDED] = out
    new.told.append(f"left out by {table}: {_by_split(out)}{_staying(found)}")


def _relabel(new: Amended, table: str, taxonomy: Taxonomy) -> None:
    rows = read_rows(table, ["path"], ["label", *BETTER])
    better = next((name for name in BETTER if name in rows.cells), None)
    if better is None:
        raise UsageError(f"{table}: no column {BETTER[0]!r} with the right class; it has {rows.header}")
    found = _found(new, rows, "data.relabel")
    _check_labels(new, rows, found, taxonomy)
    cells = rows.cells[better]
    written = {cells[row]: f"{rows.at(row)}: {better}" for row in range(len(cells) - 1, -1, -1) if cells[row]}
    nodes = dict(zip(written, nodes_named(taxonomy, written), strict=True))
    changed, out = [["path", "label", "former_label", "split"]], [["path", "label", "split"]]
    for split in ("train", "val"):
        if split not in new.records:
            continue
        labels, dropped = new.records[split].labels.copy(), []
        for where, place, row in found:
            if where != split:
                continue
            path, before = _of(new, split, place)
            if not cells[row]:
                dropped.append(place)
                out.append([path, before, split])
            elif labels[place] != nodes[cells[row]]:
                labels[place] = nodes[cells[row]]
                changed.append([path, new.names[int(labels[place])], before, split])
        new.label(split, labels)
        _drop(new, split, dropped)
    new.tables[RELABELLED] = changed
    new.tables[EXCLUDED] = [*new.tables.get(EXCLUDED, out[:1]), *out[1:]]
    left = f"; left out, for they have no {better}: {_by_split(out)}" if len(out) > 1 else ""
    new.told.append(f"relabelled by {table}: {_by_split(changed)}{left}{_staying(found)}")


Place = tuple[str, int, int]
"""A split, a place among its records, a row of the table."""


def _found(new: Amended, rows: Rows, key: str) -> list[Place]:
    """Return where the paths of a table are; those that an earlier step left out are passed over.

    Raises:
        UsageError: a path that the data never had, or that stands there twice.
    """
    wanted: dict[str, int] = {}
    for row, path in enumerate(rows.cells["path"]):
        if path in wanted:
            raise UsageError(f"{rows.at(row)}: {path} stands in {rows.at(wanted[path])} too; leave one of them out")
        wanted[path] = row
    places: list[Place] = []
    for split, records in new.records.items():
        for place in range(len(records)):
            if (row_of := wanted.get(records.relative_path(place))) is not None:
                places.append((split, place, row_of))
    seen = {row for _, _, row in places}
    missing = {path: row for path, row in wanted.items() if row not in seen}
    gone = {path for of in new.before.values() for path in paths_of(of)} if missing else set()
    gone |= {line[0] for line in new.tables.get(EXCLUDED, [])}
    for path, row in missing.items():
        if path not in gone:
            some = next((of.relative_path(0) for of in new.before.values() if len(of)), "")
            raise UsageError(f"{key}: {rows.at(row)}: no photograph {path!r} in the data; one of theirs is {some!r}")
    return places


def _check_labels(new: Amended, rows: Rows, found: Sequence[Place], taxonomy: Taxonomy) -> None:
    """Refuse a table that was made of other labels: what it says of them is worth nothing."""
    for split, place, row in found if "label" in rows.cells else ():
        said, node = rows.cells["label"][row], int(new.records[split].labels[place])
        if not said or split == "test":
            continue
        path = taxonomy.path(node) if node >= 0 else ("",)
        if said not in (path[-1], " > ".join(path)):
            raise UsageError(
                f"{rows.at(row)}: label {said!r}, but the data says {path[-1]!r} there; the table was made of other "
                "labels: make it anew, or remove its column label"
            )


def _of(new: Amended, split: str, place: int) -> tuple[str, str]:
    records = new.records[split]
    node = int(records.labels[place])
    return records.relative_path(place), new.names[node] if node >= 0 else ""


def _drop(new: Amended, split: str, places: Sequence[int]) -> None:
    if places:
        kept = np.ones(len(new.records[split]), dtype=np.bool_)
        kept[list(places)] = False
        new.keep(split, kept)


def _by_split(rows: Sequence[Sequence[str]]) -> str:
    counts = Counter(row[-1] for row in rows[1:])
    told = [f"{counts[split]:,} of {split}" for split in ("train", "val") if counts[split]]
    return counted(len(rows) - 1, "photograph") + (f" ({', '.join(told)})" if told else "")


def _staying(found: Sequence[Place]) -> str:
    staying = sum(split == "test" for split, _, _ in found)
    return f"; {staying} more are of test, which stays as it is" if staying else ""
