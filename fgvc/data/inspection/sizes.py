"""The sizes of the photographs of a data set, read from the headers of their files.

Shape letters: N files, Q quantiles.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fgvc.data.inspection.split_records import SplitRecords
from fgvc.data.records import Records
from fgvc.data.splitting import random_keys
from fgvc.files.bars import bar
from fgvc.images.headers import header
from fgvc.images.pictures import in_threads

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
THREADS = max(8, os.cpu_count() or 1)
"""They wait for the disk, not for a core."""

AHEAD = 48 * THREADS
"""How many headers are at most read before they are needed."""


def sample(total: int, count: int | None) -> npt.NDArray[np.int64]:
    """Return ascending positions of a sample, the same at every call and everywhere; all of them for None."""
    if count is None or count >= total:
        return np.arange(total)
    return np.sort(np.argsort(random_keys(0, total), kind="stable")[:count])


def sizes(splits: Mapping[str, Records], count: int | None) -> dict[str, Any]:
    """Return as plain data the quantiles of width, height and megabytes over a sample, and what could not be read.

    Args:
        splits: the records.
        count: how many headers to read, drawn from all splits together; None for all.
    """
    every = SplitRecords(splits)
    drawn = sample(len(every), count)
    paths = (every[i][1].path for i in drawn.tolist())
    seen = in_threads(header, paths, AHEAD, THREADS)
    rows = np.zeros((len(drawn), 3), dtype=np.int64)
    failed, first = 0, ""
    for i, one in enumerate(bar("reading headers", seen, total=len(drawn), unit=" images")):
        rows[i] = one[:3]
        if one.error:
            failed += 1
            first = first or f"{every[int(drawn[i])][1].path}: {one.error}"
    read = rows[rows[:, 0] > 0]
    return {
        "images": len(drawn),
        "of": len(every),
        "quantiles": list(QUANTILES),
        "width": _quantiles(read[:, 0]),
        "height": _quantiles(read[:, 1]),
        "megabytes": _quantiles(read[:, 2] / 1e6),
        "mean_megabytes": round(float(read[:, 2].mean() / 1e6), 6) if len(read) else None,
        "unreadable": failed,
        "first_unreadable": first or None,
    }


def _quantiles(values: npt.NDArray[Any]) -> list[float] | None:
    return [round(float(x), 6) for x in np.quantile(values, QUANTILES)] if len(values) else None


def table(plain: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table for people, from `sizes`."""
    names = ("least", *(f"{100 * q:g} %" for q in QUANTILES[1:-1]), "most")
    yield f"{'size':<9} {''.join(f'{name:>10}' for name in names)}"
    for name, form in (("width", ",.0f"), ("height", ",.0f"), ("megabytes", ",.3f")):
        row = plain[name] or []
        yield f"{name:<9} {''.join(f'{x:>10{form}}' for x in row)}".rstrip()
    whole = "" if plain["images"] == plain["of"] else f" of {plain['of']:,}"
    about = f"; about {plain['mean_megabytes'] * plain['of']:,.1f} MB in all" if plain["mean_megabytes"] else ""
    yield f"from the headers of {plain['images']:,}{whole} images{about}"
    if plain["unreadable"]:
        yield f"{plain['unreadable']:,} could not be read (first: {plain['first_unreadable']}); see fgvc data verify"
