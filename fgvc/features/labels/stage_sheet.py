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
_COLUMNS, _SIDE, _BAND, _LEAST_WIDTH = 8, 144, 34, 800
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
        largest = max(float(found.density[rows[0]]), 1e-9)  # of copies of one photograph the published count is -1
        share = (found.density / largest).clip(0, 1)
        pixels = stage_sheet(name, stages, part.paths, share, root, limits)
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
        share: of all rows, the density over the largest of the class. It is written below each photograph, behind the
            number of its row among those of the class in the table, and its name.
        root: the folder that the paths start from.
        limits: which photographs are read; one that cannot be is an empty square.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    total, sheets, place = sum(map(len, stages)), [], 0
    for stage, rows in zip(STAGES, stages, strict=True):
        if not rows:
            continue
        some = np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).round().astype(int)
        tiles = [
            Tile(
                _pixels(Path(root, paths[rows[i]]), limits),
                f"{place + i + 1}. {Path(paths[rows[i]]).stem}",
                float(share[rows[i]]),
            )
            for i in some
        ]
        fewer = f", {len(some)} of them shown" if len(some) < len(rows) else ""
        text = f"{as_words(stage)}: {len(rows)} of {total} photographs{fewer}   {as_words(name)}"
        sheets.append((text, _COLOURS[stage], contact_sheet(tiles, _COLUMNS, _SIDE)))
        place += len(rows)
    width = max(_LEAST_WIDTH, *(sheet.shape[1] for _, _, sheet in sheets))
    parts = [(_band(text, colour, width), _widened(sheet, width)) for text, colour, sheet in sheets]
    return np.concatenate([one for pair in parts for one in pair])


def _band(text: str, colour: str, width: int) -> Pixels:
    band = Image.new("RGB", (width, _BAND), colour)
    write(ImageDraw.Draw(band), text, _BAND // 4, _BAND // 5, _BAND // 2, PAPER, width - _BAND // 2)
    return np.array(band, dtype=np.uint8)


def _widened(sheet: Pixels, width: int) -> Pixels:
    wide = Image.new("RGB", (width, len(sheet)), PAPER)
    wide.paste(Image.fromarray(sheet), (0, 0))
    return np.array(wide, dtype=np.uint8)


def _pixels(path: Path, limits: Limits) -> Pixels:
    try:
        return pixels_of(str(path), at_least=2 * _SIDE, limits=limits)
    except ImageError:
        return np.array(Image.new("RGB", (_SIDE, _SIDE), PAPER), dtype=np.uint8)
