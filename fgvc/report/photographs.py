"""The photographs of a report as thumbnails that lie inside the page."""

from collections.abc import Sequence
from pathlib import Path

from fgvc.files.answer_table import Answers
from fgvc.images.decoding import ImageError, decode
from fgvc.images.thumbnails import COLOURS as COLOURS
from fgvc.images.thumbnails import address

SIDE = 160


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
            photograph = decode(folder / answers.paths[row])
        except ImageError as error:
            first_error = first_error or str(error)
            continue
        addresses[row] = address(photograph, answers.boxes_of(row), SIDE)
    return addresses, first_error
