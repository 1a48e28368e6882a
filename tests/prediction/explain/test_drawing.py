from dataclasses import replace

import numpy as np
import pytest

from fgvc.prediction.explain.drawing import BLUE, COLOURS, HALF, MARGIN, WIDTH, draw
from fgvc.prediction.explain.explanation import Explanation, View
from fgvc.prediction.results import Guess

PAPER = (250, 250, 247)
LINEAGE = {"order": "Finches", "family": "True finches", "species": "Goldfinch"}
OTHER = {"order": "Owls", "family": "Barn owls", "species": "Barn Owl"}
TOP = [Guess("Goldfinch", 0.75, LINEAGE), Guess("Barn Owl", 0.25, OTHER)]
BOXES = [(0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1), (0.25, 0.25, 0.75, 0.75), (0.1, 0.1, 0.9, 0.9), (0, 0.5, 0.5, 1)]
HEAT = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)


def rgb(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def photograph(height=60, width=90):
    """Four plain quarters."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[: height // 2, : width // 2] = (0, 60, 0)
    image[: height // 2, width // 2 :] = (0, 0, 90)
    image[height // 2 :, : width // 2] = (90, 0, 0)
    image[height // 2 :, width // 2 :] = (200, 210, 30)
    return image


def explained(views=0, heat=True, **keys):
    heated = HEAT if heat else None
    parts = [View(f"part{i + 1}", TOP, BOXES[i], heated) for i in range(views)]
    return Explanation(
        **{
            "path": "a.jpg",
            "label": "Goldfinch",
            "score": 0.75,
            "lineage": LINEAGE,
            "lineage_scores": {"order": 0.9, "family": 0.8, "species": 0.75},
            "top": TOP,
            "boxes": BOXES[:views] or None,
            "width": 90,
            "height": 60,
            "heat": heated,
            "views": parts,
            **keys,
        }
    )


def share(drawing, colour):
    return (drawing == np.array(colour, dtype=np.uint8)).all(axis=2)


@pytest.mark.parametrize("views", [0, 1, 2, 3, 4, 5])
def test_the_page_is_as_wide_as_ever_and_grows_with_the_views(views):
    drawing = draw(photograph(), explained(views))
    assert drawing.dtype == np.uint8 and drawing.shape[1:] == (WIDTH + 2 * MARGIN, 3)
    fewer = draw(photograph(), explained(0)).shape[0]
    more = draw(photograph(), explained(5)).shape[0]
    assert fewer <= drawing.shape[0] <= more and (views == 0) == (drawing.shape[0] == fewer)
    for i, colour in enumerate(COLOURS):
        assert share(drawing, rgb(colour)).any() == (i < views)
    # Nothing runs into the margin or into the gap between the photograph and the heat map.
    blank = share(drawing, PAPER)
    assert blank[:, :MARGIN].all() and blank[:, -MARGIN:].all() and blank[:MARGIN].all() and blank[-MARGIN:].all()
    assert blank[110:300, MARGIN + HALF : MARGIN + HALF + 20].all()


def test_a_view_shows_what_is_in_its_box():
    drawing = draw(photograph(), explained(2, heat=False))
    below = drawing[drawing.shape[0] // 2 :]
    # Two panels of HALF pixels side by side, each of one quarter of the photograph, wider than high by 3 to 2.
    for colour, left in (((0, 60, 0), MARGIN), ((200, 210, 30), MARGIN + HALF + 20)):
        quarter = (np.abs(below.astype(int) - colour) < 12).all(axis=2)  # sharpening swings a little at the edges
        rows, columns = np.nonzero(quarter)
        assert abs(columns.min() - left) < 12 and abs(columns.max() - (left + HALF - 1)) < 12
        assert abs(rows.max() - rows.min() + 1 - HALF * 2 / 3) < 12
        assert quarter.sum() == pytest.approx(HALF * HALF * 2 / 3, rel=0.05)


def test_bars_are_as_long_as_the_guesses_are_sure():
    drawing = draw(photograph(), explained(0))
    lengths = share(drawing, rgb(BLUE))[:, MARGIN : MARGIN + HALF].sum(axis=1)
    bars = [int(length) for length in lengths if length >= 0.25 * HALF]
    assert sorted(set(bars)) == [HALF // 4, HALF * 3 // 4]


def test_every_fact_is_drawn():
    base = draw(photograph(), explained(2), "a.jpg")
    assert np.array_equal(base, draw(photograph(), explained(2), "a.jpg"))
    changed = explained(2)
    view = changed.views[1]
    for other in (
        replace(changed, label="Siskin"),
        replace(changed, score=0.5),
        replace(changed, lineage={**LINEAGE, "order": "Birds"}),
        replace(changed, lineage_scores={"order": 0.5}),
        replace(changed, top=[*TOP[:1], Guess("Barn Owl", 0.2, OTHER)]),
        replace(changed, heat=np.eye(3, dtype=np.float32)),
        replace(changed, heat=None),
        replace(changed, seen=(0.1, 0.0, 0.9, 1.0)),
        replace(changed, views=[*changed.views, View("box3", [], (0.2, 0.2, 0.6, 0.6))]),  # nobody guessed there
        replace(changed, views=[changed.views[0], replace(view, name="head")]),
        replace(changed, views=[changed.views[0], replace(view, top=TOP[::-1])]),
        replace(changed, views=[changed.views[0], replace(view, heat=None)]),
        replace(changed, views=[changed.views[0], replace(view, box=(0.4, 0.5, 1.0, 1.0))]),
    ):
        assert not np.array_equal(base, draw(photograph(), other, "a.jpg"))
    assert not np.array_equal(base, draw(photograph(), changed, "b.jpg"))
    joined = replace(changed, views=[*changed.views, View("fused", TOP)])  # no part of its own: the headline is it
    assert np.array_equal(base, draw(photograph(), joined, "a.jpg"))


def test_a_file_name_keeps_its_underscores_and_a_class_name_loses_them():
    base = draw(photograph(), explained(), "a_b.jpg")
    assert not np.array_equal(base, draw(photograph(), explained(), "a b.jpg"))
    under, blank = (explained(label=f"Barn{mark}Owl") for mark in "_ ")
    assert np.array_equal(draw(photograph(), under), draw(photograph(), blank))


@pytest.mark.parametrize("size", [(1, 1), (400, 20), (20, 400), (700, 500)])
def test_photographs_of_any_shape_and_names_of_any_length_fit(size):
    long = "W" * 300
    lineage = {"order": long, "family": long, "species": long}
    guesses = [Guess(long, 1.0, lineage), Guess("Grünspecht", 0.0, OTHER)]
    explanation = explained(4, label=long, lineage=lineage, top=guesses, score=1.0)
    explanation.views = [replace(view, name=long, top=guesses) for view in explanation.views]
    drawing = draw(photograph(*size), explanation, long)
    assert drawing.shape[1] == WIDTH + 2 * MARGIN
    assert share(drawing, PAPER)[:, -MARGIN:].all()


def test_a_flat_model_has_no_line_of_levels():
    flat = explained(lineage={"class": "Goldfinch"}, lineage_scores={"class": 0.75})
    assert draw(photograph(), flat).shape[0] < draw(photograph(), explained()).shape[0]


def test_a_map_without_evidence_says_so():
    none, some = (draw(photograph(), replace(explained(), heat=np.full((3, 4), x, np.float32))) for x in (0, 1e-12))
    assert not np.array_equal(none, some)  # the pictures are alike, the titles are not
