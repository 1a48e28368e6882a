import pytest
import torch

from fgvc.errors import UsageError
from fgvc.methods.attention.centre import CentreBox


@pytest.mark.parametrize("side", [1.0, 0.5, 0.01])
def test_every_image_has_the_same_square_in_the_middle(side):
    boxes = CentreBox(None, side)(torch.randn(3, 2, 5, 4))
    assert boxes.shape == (3, 4) and torch.equal(boxes[0], boxes[2])
    left, top, right, bottom = boxes[1].tolist()
    assert (right - left, bottom - top) == pytest.approx((side, side))
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("side", [0.0, -0.5, 1.1, float("nan")])
def test_other_sides_are_refused(side):
    with pytest.raises(UsageError, match="it must be above 0 and at most 1"):
        CentreBox(None, side)
