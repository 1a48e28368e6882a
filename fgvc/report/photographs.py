"""The photographs of a report as thumbnails that lie inside the page."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fgvc.files.answer_table import Answers
from fgvc.images.boxes import Box
from fgvc.images.decoding import ImageError, decode
from fgvc.images.overlays import boxed, cut_out

SIDE, QUALITY = 160, 78
COLOURS = ("#f0a830", "#17a398", "#e4572e", "#8e6bbf")
"""Of the boxes on a photograph, the first look first."""


def thumbnails(answers: Answers, rows: Sequence[int], folder: Path) -> tuple[dict[int, str], str]:
    """Read photographs, with a frame round each part that the model looked at.

    Args:
        answers: whose paths and boxes they are.
        rows: which of them.
        folder: where relative paths start.

    Returns:
        row -> data: address of a JPEG of at most 160 x 160 pixels, and why the first one that failed did, or "".
    """
    addresses, first_error = {}, ""
    for row in rows:
        try:
            photograph = Image.fromarray(decode(folder / answers.paths[row]))
        except ImageError as error:
            first_error = first_error or str(error)
            continue
        addresses[row] = _address(photograph, answers.boxes_of(row))
    return addresses, first_error


def _address(photograph: Image.Image, boxes: Sequence[Box]) -> str:
    small = cut_out(photograph, (0.0, 0.0, 1.0, 1.0), min(SIDE, max(photograph.size)))
    small = boxed(small, [("", box, COLOURS[i % len(COLOURS)]) for i, box in enumerate(boxes)])
    data = io.BytesIO()
    small.save(data, format="JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
