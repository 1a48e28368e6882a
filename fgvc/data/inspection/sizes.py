"""The sizes of the photographs of a data set, read from the headers of their files.

Shape letters: N files, Q quantiles.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from fgvc.data.inspection.split_records import SplitRecords
from fgvc.data.records import Records
from fgvc.data.splitting import random_keys
from fgvc.files.bars import bar
from fgvc.images.formats import HEAD, check_format
from fgvc.images.limits import ImageError, Limits
from fgvc.images.pictures import in_threads

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
LYING = (5, 6, 7, 8)
"""The orientations of EXIF that swap width and height."""

TURNED_BY_EXIF = ("JPEG", "MPO", "WEBP")
"""Formats whose EXIF is read. Pillow would decode a whole PNG for it, and turns a TIFF itself."""

THREADS = max(8, os.cpu_count() or 1)
"""They wait for the disk, not for a core."""

AHEAD = 48 * THREADS
"""How many headers are at most read before they are needed."""


class Header(NamedTuple):
    """Width and height of a picture, upright, in pixels, and the bytes of its file; or why they are not known."""

    width: int
    height: int
    size: int
    error: str = ""


def sample(total: int, count: int | None) -> npt.NDArray[np.int64]:
    """Return ascending positions of a sample, the same at every call and everywhere; all of them for None."""
    if count is None or count >= total:
        return np.arange(total)
    return np.sort(np.argsort(random_keys(0, total), kind="stable")[:count])


def header(path: str) -> Header:
    """Read the size of one picture without decoding it."""
    try:
        status = os.stat(path)  # noqa: PTH116 - once per file, of many
        if not stat.S_ISREG(status.st_mode):  # to open a pipe may never end
            return Header(0, 0, 0, "not a file")
        with open(path, "rb") as file:  # noqa: PTH123 - once per file, of many
            found = check_format(file.read(HEAD), "picture", Limits(any_format=True))
        with Image.open(path, formats=found.pillow) as picture:
            width, height = picture.size
            exif = picture.getexif() if picture.format in TURNED_BY_EXIF else {}
        if exif.get(ExifTags.Base.Orientation) in LYING:
            width, height = height, width
        return Header(width, height, status.st_size)
    except ImageError as error:
        return Header(0, 0, 0, str(error).removeprefix("picture: "))
    except OSError as error:
        return Header(0, 0, 0, error.strerror or "not a picture")
    except Exception as error:  # damaged headers raise whatever Pillow's readers stumble over
        return Header(0, 0, 0, f"{type(error).__name__}: {error}")


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
