"""Generated birds: colours and shapes that every painted part is made with."""

import numpy as np

from fgvc.data.birds import brush


def test_colours_stay_in_range_and_near_the_choices():
    rng = np.random.default_rng(0)
    colours = np.array([brush.pick(rng, ((5, 128, 250),)) for _ in range(500)])
    assert colours.min() >= 10 and colours.max() <= 244
    assert abs(colours[:, 1].mean() - 128) < 4
    assert brush.shade((100, 200, 250), 1.5) == (150, 255, 255)


def test_a_filled_square_has_its_colour_inside_and_none_outside():
    canvas = np.full((40, 40, 3), 200, np.uint8)
    brush.fill(canvas, np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]]), (1, 2, 3))
    assert (canvas[11:30, 11:30] == (1, 2, 3)).all()
    canvas[9:32, 9:32] = 200
    assert (canvas == 200).all()


def test_points_have_four_binary_digits_after_the_point():
    assert brush.fixed(np.array([[1.5, -2.0625]])).tolist() == [[24, -33]]
    assert brush.fixed(np.array([[1.5, 2.0]]), scale=2.0).tolist() == [[48, 64]]
