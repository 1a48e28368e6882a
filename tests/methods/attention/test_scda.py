import pytest
import torch

from fgvc.errors import UsageError
from fgvc.methods.attention.scda import SCDABox


def object_at(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    """Return a map (1, 2, 10, 10) that is strong in a rectangle, and in one place far from it."""
    features = torch.zeros(1, 2, 10, 10)
    features[0, :, top:bottom, left:right] = 3
    features[0, :, 9, 0] = 9
    return features


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"side_min": 0}, [0.4, 0.1, 0.8, 0.3]),
        ({"side_min": 0.4}, [0.4, 0.0, 0.8, 0.4]),
        ({"side_min": 0, "square": True}, [0.4, 0.0, 0.8, 0.4]),
        ({"side_min": 0, "margin": 0.25}, [0.3, 0.05, 0.9, 0.35]),
        ({"side_min": 1}, [0.0, 0.0, 1.0, 1.0]),
    ],
)
def test_the_box_lies_around_the_largest_part_and_inside_the_image(settings, expected):
    box = SCDABox(None, true_places=False, **settings)(object_at(1, 4, 3, 8))
    torch.testing.assert_close(box, torch.tensor([expected]))


def test_nothing_is_learnt_and_nothing_flows_back():
    attention, features = SCDABox(None, true_places=False), object_at(1, 4, 3, 8).requires_grad_()
    boxes = attention(features)
    assert not list(attention.parameters()) and not boxes.requires_grad
    assert attention.start_loss(boxes, features) is None


@pytest.mark.parametrize("settings", [{"side_min": 1.1}, {"side_min": -0.1}, {"margin": -0.1}])
def test_settings_outside_their_range_are_refused(settings):
    with pytest.raises(UsageError, match=r"must lie in 0\.\.1"):
        SCDABox(None, **settings)
