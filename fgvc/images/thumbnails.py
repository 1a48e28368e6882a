"""Small pictures that lie inside a page, as `data:` addresses."""

import base64
import io
from collections.abc import Sequence

from PIL import Image

from fgvc.images.boxes import Box
from fgvc.images.decoding import Pixels
from fgvc.images.overlays import boxed, cut_out

COLOURS = ("#f0a830", "#17a398", "#e4572e", "#8e6bbf")
"""Of the boxes on a photograph, the first look first."""
QUALITY = 78


def address(pixels: Pixels, boxes: Sequence[Box] = (), side: int = 160) -> str:
    """Return the `data:` address of a JPEG.

    Args:
        pixels: (H, W, 3) uint8 RGB; it is never enlarged.
        boxes: xyxy as fractions; each gets a frame.
        side: pixels of the longer side, at most.
    """
    photograph = Image.fromarray(pixels)
    small = cut_out(photograph, (0.0, 0.0, 1.0, 1.0), min(side, max(photograph.size)))
    small = boxed(small, [("", box, COLOURS[i % len(COLOURS)]) for i, box in enumerate(boxes)])
    data = io.BytesIO()
    small.save(data, format="JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
