"""One picture that explains an answer: the boxes, the heat map, and what each view saw and guessed.

Shape letters: H, W the photograph.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from fgvc.images.boxes import Box
from fgvc.images.decoding import Pixels
from fgvc.images.lettering import BLUE, GREY, INK, PAPER, RAIL, as_words, font_for, write
from fgvc.images.overlays import boxed, cut_out, dotted, heat_colours, overlaid
from fgvc.prediction.explain.explanation import WHOLE, Explanation, HeatMap
from fgvc.prediction.results import Guess

WIDTH, MARGIN, GAP = 980, 24, 20  # of what is drawn, around it, between panels
HALF = (WIDTH - GAP) // 2
TITLE, LETTERS, LINE = 17, 15, 30
COLOURS = ("#f0a830", "#17a398", "#e4572e", "#8e6bbf", "#8fb339", "#d65c99", "#3b8ed0", "#9c6b3f")


class Panel(NamedTuple):
    """A picture with words under it.

    note: small, at the right end of the title.
    mark: colour of the box that it stands for.
    scale: whether to show what the colours of a heat map mean.
    guesses: best first. answer: the final answer's lineage, which the guess that agrees with it bears.
    """

    picture: Image.Image
    title: str
    note: str = ""
    mark: str | None = None
    scale: bool = False
    guesses: Sequence[Guess] = ()
    answer: Mapping[str, str] = {}


def draw(photograph: Pixels, explanation: Explanation, name: str = "photograph") -> Pixels:
    """Draw an answer, the photograph with its boxes and its heat map, and a panel per view that saw a part of it.

    Args:
        photograph: (H, W, 3) uint8 RGB, upright.
        explanation: what `explain` found in it; not one with an error.
        name: what the photograph is called.

    Returns:
        (height, 1028, 3) uint8 RGB; the height grows with the photograph's and with the number of views.
    """
    whole = Image.fromarray(photograph)
    seen = [(view, view.box) for view in explanation.views if view.box is not None]
    marks = [COLOURS[i % len(COLOURS)] for i in range(len(seen))]
    boxes = [(view.name, box, mark) for (view, box), mark in zip(seen, marks, strict=True)]
    rows = [_headline(explanation), _row(_overview(whole, boxes, explanation, name), HALF)]
    columns = min(max(len(seen), 2), 4)
    side = (WIDTH - GAP * (columns - 1)) // columns
    panels = [
        Panel(
            _inset(cut_out(whole, box, side), view.heat),
            view.name,
            _zoom(box, explanation.seen),
            mark,
            guesses=view.top,
            answer=explanation.lineage,
        )
        for (view, box), mark in zip(seen, marks, strict=True)
    ]
    rows += [_row(panels[i : i + columns], side) for i in range(0, len(panels), columns)]
    return np.array(_stacked(rows), dtype=np.uint8)


def _overview(
    whole: Image.Image, boxes: Sequence[tuple[str, Box, str]], explanation: Explanation, name: str
) -> list[Panel]:
    small = cut_out(whole, WHOLE, HALF)
    size = f"{whole.width} x {whole.height}"
    marked = dotted(boxed(small, boxes), explanation.points)
    panels = [Panel(marked, name, size, guesses=explanation.top, answer=explanation.lineage)]
    if explanation.heat is not None:
        title = f"evidence for {as_words(explanation.label or '')}"
        hot = overlaid(small, explanation.heat, explanation.seen)
        panels.append(Panel(hot, title if explanation.heat.any() else f"no {title}", scale=True))
    return panels


def _inset(crop: Image.Image, heat: HeatMap | None) -> Image.Image:
    """Lay a small copy under its heat map into the lower right corner."""
    if heat is None:
        return crop
    crop = crop.copy()
    small = overlaid(crop.resize((max(1, round(crop.width * 0.3)), max(1, round(crop.height * 0.3)))), heat, WHOLE)
    framed = Image.new("RGB", (small.width + 6, small.height + 6), PAPER)
    framed.paste(small, (3, 3))
    crop.paste(framed, (crop.width - framed.width + 3, crop.height - framed.height + 3))
    return crop


def _headline(explanation: Explanation) -> Image.Image:
    """Write the answer, and the levels above it in a smaller line."""
    above = list(explanation.lineage.items())[:-1]
    image = Image.new("RGB", (WIDTH, 72 if above else 44), PAPER)
    pen = ImageDraw.Draw(image)
    percent = _percent(explanation.score or 0.0)
    room = WIDTH - font_for("0", 32).getlength(percent) - 16
    width = write(pen, as_words(explanation.label or ""), 0, 0, 32, INK, room)
    pen.text((width + 14, 0), percent, fill=BLUE, font=font_for("0", 32))
    x = 0.0
    for level, name in above:
        separator = [(">", GREY)] if x else []
        share = _percent(explanation.lineage_scores.get(level, 0.0))
        for text, colour in [*separator, (as_words(name), INK), (share, GREY)]:
            x += write(pen, text, x, 46, 16, colour, WIDTH - x) + 8
    return image


def _row(panels: Sequence[Panel], side: int) -> Image.Image:
    """Place panels side by side, the words of all at the same height."""
    top = max(panel.picture.height for panel in panels)
    lines = max(max(len(panel.guesses), panel.scale) for panel in panels)
    row = Image.new("RGB", (WIDTH, top + 40 + LINE * lines), PAPER)
    for i, panel in enumerate(panels):
        x = i * (side + GAP)
        row.paste(panel.picture, (x, 0))
        _title(row, panel, x, top + 12, side)
        if panel.scale:
            _scale(row, x, top + 42, side)
        for line, guess in enumerate(panel.guesses):
            _guess(row, guess, panel, x, top + 42 + line * LINE, side)
    return row


def _title(row: Image.Image, panel: Panel, x: int, y: int, side: int) -> None:
    pen = ImageDraw.Draw(row)
    start = x
    if panel.mark:
        pen.rectangle((x, y + 3, x + 13, y + 16), fill=panel.mark)
        start += 22
    room = _at_the_right(pen, panel.note, x + side, y + 1, GREY)
    write(pen, panel.title, start, y, TITLE, INK, side - (start - x) - room)


def _scale(row: Image.Image, x: int, y: int, side: int) -> None:
    """Show which colours mean much."""
    pen = ImageDraw.Draw(row)
    write(pen, "none", x, y, LETTERS, GREY, side)
    _at_the_right(pen, "most", x + side, y, GREY)
    ramp = heat_colours(np.linspace(0, 1, side, dtype=np.float32)[None].repeat(4, axis=0))
    row.paste(Image.fromarray(ramp.round().astype(np.uint8)), (x, y + 20))


def _guess(row: Image.Image, guess: Guess, panel: Panel, x: int, y: int, side: int) -> None:
    """Write a name and its probability over a bar as long as it is sure; dark where it agrees with the answer."""
    pen = ImageDraw.Draw(row)
    ink = INK if guess.lineage == panel.answer else GREY
    room = _at_the_right(pen, _percent(guess.score), x + side, y, ink)
    write(pen, as_words(guess.label), x, y, LETTERS, ink, side - room)
    pen.rectangle((x, y + 20, x + side - 1, y + 23), fill=RAIL)
    if length := round(guess.score * side):
        pen.rectangle((x, y + 20, x + length - 1, y + 23), fill=panel.mark or BLUE)


def _at_the_right(pen: ImageDraw.ImageDraw, text: str, x: int, y: int, colour: str) -> float:
    """Write a short text that ends at x, and return the room it takes."""
    font = font_for(text, LETTERS)
    pen.text((x, y), text, fill=colour, font=font, anchor="ra")
    return font.getlength(text) + 10


def _stacked(rows: Sequence[Image.Image]) -> Image.Image:
    height = sum(row.height for row in rows) + GAP * (len(rows) - 1) + 2 * MARGIN
    page = Image.new("RGB", (WIDTH + 2 * MARGIN, height), PAPER)
    y = MARGIN
    for row in rows:
        page.paste(row, (MARGIN, y))
        y += row.height + GAP
    return page


def _percent(score: float) -> str:
    return f"{score * 100:.0f} %"


def _zoom(box: Box, seen: Box) -> str:
    """Say how much closer the view is than the whole, in sides."""
    areas = [max((x2 - x1) * (y2 - y1), 1e-9) for x1, y1, x2, y2 in (seen, box)]
    return f"{math.sqrt(areas[0] / areas[1]):.1f} x"
