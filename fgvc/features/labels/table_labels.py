"""Labels that a table gives, in place of those that features were written with."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fgvc.data.reading.table_file import Rows, read_rows
from fgvc.errors import UsageError
from fgvc.taxonomy.names import nodes_named
from fgvc.taxonomy.tree import Taxonomy


def labels_of_table(
    table: str, paths: Sequence[str], labels: npt.NDArray[np.int32], taxonomy: Taxonomy
) -> npt.NDArray[np.int32]:
    """Return labels (N,), those of a table where it names the photograph.

    Args:
        table: CSV or Parquet with the columns path and label, such as the `noise.csv` of a run; a label is a class of
            any level, or empty where nothing is known.
        paths: of the N photographs, as the features have them.
        labels: (N,) node ids, -1 unknown.
        taxonomy: of the features.

    Raises:
        UsageError: the file or a column is missing, or a path or a class is unknown.
    """
    rows = read_rows(table, ["path", "label"])
    places = places_of(rows, paths)
    written = {name: f"{table}: label" for name in rows.cells["label"] if name}
    nodes = dict(zip(written, nodes_named(taxonomy, written), strict=True))
    changed = labels.copy()
    changed[places] = [nodes.get(name, -1) for name in rows.cells["label"]]
    return changed


def places_of(rows: Rows, paths: Sequence[str]) -> list[int]:
    """Return the place among `paths` of each row of a table with the column path; raises UsageError for another."""
    place_of = {path: place for place, path in enumerate(paths)}
    for row, path in enumerate(rows.cells["path"]):
        if path not in place_of:
            raise UsageError(f"{rows.at(row)}: no photograph {path!r} in the features; one of theirs is "
                             f"{next(iter(place_of), '')!r}")  # fmt: skip
    return [place_of[path] for path in rows.cells["path"]]
