import numpy as np
import pytest
from PIL import Image

from fgvc.images.overlays import boxed, cut_out, dotted, heat_colours, overlaid

RED, TEAL = (228, 87, 46), (23, 163, 152)


def ramp(height=60, width=90):
    """A picture that tells its own places: red is the column, green the row."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, np.full_like(x, 7)], axis=-1).astype(np.uint8))


def places(picture, colour):
    return np.argwhere((np.asarray(picture) == np.array(colour, dtype=np.uint8)).all(axis=2))


# --- crops ---


@pytest.mark.parametrize(
    ("box", "side", "size"),
    [
        ((0.0, 0.0, 1.0, 1.0), 90, (90, 60)),
        ((0.0, 0.0, 1.0, 1.0), 180, (180, 120)),
        ((0.2, 0.5, 0.4, 1.0), 30, (18, 30)),
        ((1 / 3, 0.0, 1 / 3, 0.0), 10, (10, 10)),  # nothing: a pixel is shown
        ((1.0, 1.0, 1.0, 1.0), 10, (10, 10)),
        ((-0.5, 0.0, 1.5, 1.0), 90, (90, 60)),
    ],
)
def test_a_crop_keeps_its_proportions_and_has_the_side_wanted(box, side, size):
    assert cut_out(ramp(), box, side).size == size


def test_a_crop_holds_the_pixels_of_its_box_at_full_sharpness():
    cut = np.asarray(cut_out(ramp(), (1 / 3, 0.5, 2 / 3, 1.0), 30)).astype(int)
    assert np.array_equal(cut, np.asarray(ramp())[30:60, 30:60])
    closer = np.asarray(cut_out(ramp(), (1 / 3, 0.5, 2 / 3, 1.0), 300)).astype(int)
    assert abs(closer[150, 150, 0] - 45) <= 1 and abs(closer[150, 150, 1] - 45) <= 1
    assert closer[..., 0].min() in (29, 30, 31) and closer[..., 0].max() in (58, 59, 60)


# --- boxes ---


def test_a_box_stands_on_its_pixels():
    picture = boxed(ramp(), [("", (1 / 9, 1 / 6, 8 / 9, 5 / 6), "#e4572e")])
    found = places(picture, RED)
    # Columns 10 .. 79, rows 10 .. 49, less the dark rim of a pixel.
    assert found.min(axis=0).tolist() == [11, 11] and found.max(axis=0).tolist() == [48, 78]
    changed = (np.asarray(picture) != np.asarray(ramp())).any(axis=2)
    assert np.argwhere(changed).min(axis=0).tolist() == [10, 10]
    assert np.argwhere(changed).max(axis=0).tolist() == [49, 79]
    assert not changed[15:45, 15:75].any()  # what is inside stays to be seen
    assert np.array_equal(np.asarray(ramp()), np.asarray(ramp()))


@pytest.mark.parametrize("box", [(0.0, 0.0, 1.0, 1.0), (0.999, 0.999, 1.0, 1.0), (-1.0, -1.0, 2.0, 2.0), (0.5,) * 4])
def test_any_box_is_drawn_inside_the_picture(box):
    picture = boxed(ramp(), [("part1", box, "#e4572e")])
    assert picture.size == (90, 60) and len(places(picture, RED)) > 0


def test_names_do_not_hide_each_other():
    colours = [(228, 87, 46), (23, 163, 152), (142, 107, 191), (143, 179, 57)]
    box = (0.1, 0.1, 0.9, 0.9)
    picture = boxed(ramp(150, 250), [("scale1", box, "#" + bytes(colour).hex()) for colour in colours])
    # The last box covers the lines of the others, so all that is left of them are their names, equally large.
    tags = [places(picture, colour) for colour in colours[:-1]]
    assert len({len(tag) for tag in tags}) == 1 and len(tags[0]) > 300
    for tag in tags:
        assert (tag.max(axis=0) - tag.min(axis=0)).tolist() == (tags[0].max(axis=0) - tags[0].min(axis=0)).tolist()


# --- heat ---


def luminance(colours):
    linear = np.where(colours / 255 <= 0.04045, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_more_heat_is_always_lighter_by_much_the_same_step():
    colours = heat_colours(np.linspace(0, 1, 101, dtype=np.float32))
    assert colours.shape == (101, 3) and colours.min() >= 0 and colours.max() <= 255
    lightness = 116 * np.cbrt(luminance(colours.astype(np.float64))) - 16  # CIE L*
    steps = np.diff(lightness)
    assert steps.min() > 0.3 and steps.max() < 3 * steps.min()
    assert lightness[-1] - lightness[0] > 70


def colourfulness(picture):
    pixels = np.asarray(picture).astype(int)
    return pixels.max(axis=2) - pixels.min(axis=2)


def test_heat_lies_over_its_own_place_of_the_part_that_was_seen():
    heat = np.zeros((3, 4), dtype=np.float32)
    heat[0, 3] = 1  # upper right
    picture = Image.new("RGB", (160, 100), (128, 128, 128))
    warm = colourfulness(overlaid(picture, heat, (0.25, 0.1, 0.75, 0.7)))
    # Seen are columns 40 .. 119 and rows 10 .. 69; the cell is columns 100 .. 119, rows 10 .. 29.
    row, column = np.argwhere(warm == warm.max()).mean(axis=0)
    assert 100 <= column < 120 and 10 <= row < 30
    assert not warm[:, :40].any() and not warm[:, 120:].any() and not warm[:10].any() and not warm[70:].any()
    assert not warm[50:70].any() and not warm[:, 40:80].any()


def test_without_heat_the_seen_part_is_grey_and_the_rest_pale():
    picture = ramp(100, 160)
    out = np.asarray(overlaid(picture, np.zeros((2, 2), np.float32), (0.25, 0.0, 0.75, 1.0))).astype(int)
    assert not colourfulness(Image.fromarray(out.astype(np.uint8))).any()
    grey = np.asarray(picture).astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(out[:, 40:120, 0] - grey[:, 40:120]).max() <= 1
    assert (out[:, :40, 0] > 170).all() and (out[:, 120:, 0] > 170).all()


@pytest.mark.parametrize("seen", [(0.0, 0.0, 1.0, 1.0), (0.499, 0.499, 0.501, 0.501), (0.99, 0.99, 1.0, 1.0)])
def test_the_size_of_a_picture_stays(seen):
    assert overlaid(ramp(7, 9), np.ones((5, 5), np.float32), seen).size == (9, 7)


def test_points_stand_where_they_are_and_names_do_not_overlap():
    plain = Image.new("RGB", (120, 80), "#808080")
    seen = np.asarray(dotted(plain, {"eye": (0.25, 0.5), "beak": (0.26, 0.52), "tail": (0.6, 0.2)}), dtype=int)
    paper = (seen == [0xFA, 0xFA, 0xF7]).all(axis=2)
    assert paper[40, 30] and paper[16, 72]  # the middles of the first and the last point
    one = np.asarray(dotted(plain, {"eye": (0.25, 0.5)}), dtype=int)
    two = np.asarray(dotted(plain, {"eye": (0.25, 0.5), "beak": (0.26, 0.52)}), dtype=int)
    rows, columns = np.nonzero((one != two).any(axis=2))
    assert np.hypot(columns - 31.2, rows - 41.6).max() < 5  # the second point, without its name
    assert (np.asarray(plain) == 128).all()
