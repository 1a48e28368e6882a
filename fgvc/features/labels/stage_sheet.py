"""A sheet of one class: its photographs from the densest to the thinnest, a band where each stage begins.

Shape letters: N photographs of a class.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from fgvc.data.stages import STAGES, label_text
from fgvc.features.folder import Part
from fgvc.features.labels.curriculum import Curriculum
from fgvc.files.bars import bar
from fgvc.files.whole_files import save_picture
from fgvc.images.contact_sheet import Tile, contact_sheet
from fgvc.images.decoding import USUAL, ImageError, Limits, Pixels
from fgvc.images.lettering import BLUE, GREEN, PAPER, RED, as_words, write
from fgvc.images.pictures import pixels_of
from fgvc.taxonomy.tree import Taxonomy

SHOWN = 32
"""Photographs of a stage that are shown; of more, so many that lie evenly between its densest and its thinnest."""
_COLUMNS, _SIDE, _BAND = 8, 144, 34
_COLOURS = dict(zip(STAGES, (GREEN, BLUE, RED), strict=True))


def write_sheets(
    folder: Path, part: Part, found: Curriculum, taxonomy: Taxonomy, root: str, limits: Limits = USUAL
) -> int:
    """Write a sheet per class and return how many; files are called by number and name of the class.

    Args:
        folder: where they are written.
        part: paths and labels.
        found: of the same photographs.
        taxonomy: that the labels point into.
        root: the folder that the paths start from.
        limits: which photographs are read.

    Raises:
        FgvcError: one cannot be written.
    """
    known = np.unique(part.labels[found.stage >= 0])
    for label in bar("sheets", known, unit=" classes"):
        rows = np.flatnonzero(part.labels == label)
        rows = rows[np.argsort(-found.density[rows], kind="stable")]
        name = label_text(taxonomy, int(label))
        plain = re.sub(r"[^\w.-]+", "_", name.split(" > ")[-1])
        stages = [[int(row) for row in rows if found.stage[row] == i] for i in range(len(STAGES))]
        pixels = stage_sheet(name, stages, part.paths, found.density / found.density[rows[0]], root, limits)
        save_picture(pixels, folder / f"{int(label):04d}-{plain}.jpg")
    return len(known)


def stage_sheet(
    name: str,
    stages: Sequence[Sequence[int]],
    paths: Sequence[str],
    share: npt.NDArray[np.float64],
    root: str,
    limits: Limits = USUAL,
) -> Pixels:
    """Draw one class.

    Args:
        name: of the class.
        stages: the rows of each stage, the densest first.
        paths: of all rows.
        share: of all rows, the density over the largest of the class; written below each photograph.
        root: the folder that the paths start from.
        limits: which photographs are read; one that cannot be is an empty square.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    total, drawn = sum(map(len, stages)), []
    for stage, rows in zip(STAGES, stages, strict=True):
        if not rows:
            continue
        some = [rows[i] for i in np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).round().astype(int)]
        tiles = [
            Tile(_pixels(Path(root, paths[row]), limits), Path(paths[row]).stem, float(share[row])) for row in some
        ]
        tiles += [Tile(_empty(), "", None)] * (_COLUMNS - len(tiles))
        sheet = contact_sheet(tiles, _COLUMNS, _SIDE)
        fewer = f", {len(some)} of them shown" if len(some) < len(rows) else ""
        text = f"{as_words(stage)}: {len(rows)} of {total} photographs{fewer}   {as_words(name)}"
        drawn += [_band(text, _COLOURS[stage], sheet.shape[1]), sheet]
    return np.concatenate(drawn)


def _band(text: str, colour: str, width: int) -> Pixels:
    band = Image.new("RGB", (width, _BAND), colour)
    write(ImageDraw.Draw(band), text, _BAND // 4, _BAND // 5, _BAND // 2, PAPER, width - _BAND // 2)
    return np.array(band, dtype=np.uint8)


def _pixels(path: Path, limits: Limits) -> Pixels:
    try:
        return pixels_of(str(path), at_least=2 * _SIDE, limits=limits)
    except ImageError:
        return _empty()


def _empty() -> Pixels:
    return np.array(Image.new("RGB", (_SIDE, _SIDE), PAPER), dtype=np.uint8)
