"""Generated birds: the four silhouettes."""

import pytest
from PIL import Image, ImageDraw

from fgvc.data.birds.anatomy import ANATOMIES
from fgvc.data.birds.scenery import HABITATS
from fgvc.data.birds.shapes import MARK_SHAPES
from fgvc.data.birds.species import MARKS, ORDERS


def inside(polygon, point):
    """Draw the polygon with another library at 200 pixels per unit and look."""
    picture = Image.new("L", (600, 600))
    ImageDraw.Draw(picture).polygon([(300 + 200 * x, 300 + 200 * y) for x, y in polygon], fill=1)
    return picture.getpixel((round(300 + 200 * point[0]), round(300 + 200 * point[1])))


@pytest.mark.parametrize("name", ANATOMIES)
def test_body_parts_lie_on_the_body(name):
    anatomy = ANATOMIES[name]
    for part, point in anatomy.parts.items():
        if part != "leg":
            assert inside(anatomy.outline, point), part


@pytest.mark.parametrize("name", ANATOMIES)
def test_beak_tail_wing_and_legs_start_on_the_body(name):
    anatomy = ANATOMIES[name]
    base, _, length, _ = anatomy.tail
    assert inside(anatomy.outline, base) and length > 0
    assert inside(anatomy.outline, anatomy.wing_top[0])
    assert inside(anatomy.outline, anatomy.head) and inside(anatomy.outline, anatomy.neck)
    for hip, knee, foot in anatomy.legs:
        assert inside(anatomy.outline, hip)
        assert hip[1] < knee[1] < foot[1]


def test_every_mark_has_a_place_and_a_shape_on_every_silhouette():
    assert set(MARKS) == set(MARK_SHAPES)
    for anatomy in ANATOMIES.values():
        assert set(MARKS) - {"tail"} <= set(anatomy.parts)
        assert anatomy.habitat in HABITATS
    assert {order.silhouette for order in ORDERS} == set(ANATOMIES)
