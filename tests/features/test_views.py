import numpy as np
import pytest
from PIL import Image

from fgvc.errors import UsageError
from fgvc.features.views import check_views, cut, square_around, squares
from fgvc.images.decoding import USUAL, decode
from fgvc.images.resizing import EvalResize, resize_for_eval

PHOTO = np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0, 0, 1, 1), (0, 40, 0, 60)),
        ((0.25, 0.5, 0.75, 1), (20, 40, 15, 45)),
        ((0.26, 0.51, 0.74, 0.99), (20, 40, 15, 45)),  # every pixel that it touches
        ((0.5, 0.5, 0.5, 0.5), (20, 21, 30, 31)),
        ((1, 1, 1, 1), (39, 40, 59, 60)),
    ],
)
def test_a_cut_holds_the_pixels_that_the_box_touches(box, pixels):
    top, bottom, left, right = pixels
    assert (cut(PHOTO, box) == PHOTO[top:bottom, left:right]).all()
    rounded = tuple(float(side) for side in np.float32(box))
    assert cut(PHOTO, rounded).shape == cut(PHOTO, box).shape


def test_the_views_of_a_photograph(tmp_path):
    path, how, box = str(tmp_path / "a.png"), EvalResize(16, crop_fraction=0.875), (0.1, 0.2, 0.6, 0.9)
    Image.fromarray(PHOTO).save(path)
    found, warning = squares(path, ("box", "flip", "whole"), how, USUAL, box)
    assert list(found) == ["box", "flip", "whole"] and warning is None
    whole = resize_for_eval(PHOTO, how)[0]
    assert (found["whole"] == whole).all() and (found["flip"] == np.array(Image.fromarray(whole).transpose(0))).all()
    # 30 x 28 pixels from (6, 8): the square of 30 reaches from row 7 to 37
    assert (found["box"] == resize_for_eval(PHOTO[7:37, 6:36], EvalResize(16, "squash"))[0]).all()


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0.25, 0.25, 0.5, 0.75), (10, 30, 12.5, 32.5)),  # 15 x 20 pixels: wider by 2.5 on each side
        ((0.0, 0.0, 0.1, 0.5), (0, 20, 0, 20)),  # moved in from the left
        ((0.9, 0.5, 1.0, 1.0), (20, 40, 40, 60)),  # and from the right
        ((0.0, 0.4, 1.0, 0.6), (0, 40, 0, 60)),  # wider than the photograph is high: all of it
    ],
)
def test_the_square_holds_the_box_and_lies_in_the_photograph(box, pixels):
    left, top, right, bottom = square_around(box, PHOTO)
    assert (top * 40, bottom * 40, left * 60, right * 60) == pytest.approx(pixels)
    assert left <= box[0] + 1e-9 and right >= box[2] - 1e-9 and top <= box[1] + 1e-9 and bottom >= box[3] - 1e-9


def test_a_box_is_read_with_the_pixels_that_it_needs_and_no_more(tmp_path, monkeypatch):
    path = str(tmp_path / "a.jpg")
    Image.fromarray(PHOTO).resize((1920, 1280)).save(path)
    asked = []

    def note(path, at_least, limits):
        asked.append(at_least)
        return decode(path, at_least=at_least), None

    monkeypatch.setattr("fgvc.features.views.decode_with_warning", note)
    squares(path, ("box",), EvalResize(16), USUAL, (0.25, 0.25, 0.5, 0.75))
    squares(path, ("whole",), EvalResize(16), USUAL, None)
    assert asked == [128, 32]


def test_views_are_checked():
    assert check_views(("flip", "whole", "flip")) == ("flip", "whole")
    with pytest.raises(UsageError, match="did you mean 'whole'"):
        check_views(("hole",))


@pytest.mark.parametrize("interpolation", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "shape"), [(16, (16, 24)), (7, (7, 10)), (40, (40, 60)), (300, (40, 60))])
def test_an_uncut_photograph_keeps_its_proportions_and_is_never_enlarged(tmp_path, interpolation, size, shape):
    path = str(tmp_path / "a.png")
    Image.fromarray(PHOTO).save(path)
    how = EvalResize(size, "crop", 0.8, interpolation)
    found, _ = squares(path, ("uncut",), how, USUAL, None)
    assert list(found) == ["uncut"] and found["uncut"].shape == (*shape, 3)
    if shape == (40, 60):
        assert (found["uncut"] == PHOTO).all()
    elif interpolation != "area":
        filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        wanted = Image.fromarray(PHOTO).resize(shape[::-1], filters[interpolation])
        assert np.abs(found["uncut"].astype(int) - np.array(wanted)).max() <= 1
