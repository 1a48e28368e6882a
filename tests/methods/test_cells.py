import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from fgvc.methods.attention.apn import peak_boxes, spread_boxes
from fgvc.methods.cells import EVEN, Cells
from fgvc.methods.object_mask import selected_boxes

MOVED = Cells(0.1)
WIDE = Cells(-0.05, 0.25)  # of 3 cells


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_even_cells_change_nothing():
    boxes, places = noise(4, 4), noise(5)
    assert torch.equal(EVEN.boxes(boxes, 5, 5), boxes) and torch.equal(EVEN.points(places, 5), places)
    large = torch.nn.functional.interpolate(noise(2, 1, 5, 5), (40, 40), mode="bilinear")[:, 0]
    assert torch.equal(EVEN.resampled(noise(2, 1, 5, 5)[:, 0], 40), large)
    assert EVEN.edges(4, places).tolist() == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(("cells", "number"), [(MOVED, 5), (Cells(-0.1), 5), (WIDE, 3)])
def test_each_place_belongs_to_the_cell_whose_middle_is_nearest(cells, number):
    middles = 0.5 + cells.displacement + (np.arange(number) - (number - 1) / 2) * (cells.pitch or 1 / number)
    nearest = np.abs((np.arange(4000)[:, None] + 0.5) / 4000 - middles).argmin(axis=1)
    starts = [np.flatnonzero(nearest == i)[0] / 4000 for i in range(number)]
    edges = cells.edges(number, torch.zeros(0)).numpy()
    np.testing.assert_allclose(edges, [*starts, 1.0], atol=1e-3)
    nominal = torch.tensor([[1 / number, 0.0, 1.0, 2 / number]])
    np.testing.assert_allclose(cells.boxes(nominal, number, number)[0].numpy(), [edges[1], 0, 1, edges[2]], atol=1e-6)
    points = cells.points((torch.arange(number) + 0.5) / number, number)
    np.testing.assert_allclose(points.numpy(), middles.clip(0, 1), atol=1e-6)


@pytest.mark.parametrize(("cells", "shape"), [(MOVED, (5, 5)), (Cells(-0.07), (4, 4)), (WIDE, (3, 3))])
def test_a_map_is_resampled_as_scipy_does(cells, shape):
    maps = noise(2, *shape)
    found = cells.resampled(maps, 31).numpy()
    places = (np.arange(31) + 0.5) / 31 - 0.5 - cells.displacement
    at = [places / (cells.pitch or 1 / n) + (n - 1) / 2 for n in shape]
    for one, large in zip(maps.numpy(), found, strict=True):
        expected = map_coordinates(one, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest")
        np.testing.assert_allclose(large, expected, atol=1e-5)


def test_boxes_move_with_the_cells():
    features = torch.zeros(1, 2, 5, 5)
    features[0, :, 2, 3] = 1.0
    torch.testing.assert_close(selected_boxes(features, cells=MOVED), torch.tensor([[0.7, 0.5, 0.9, 0.7]]))
    torch.testing.assert_close(peak_boxes(features, 0.2, MOVED), torch.tensor([[0.7, 0.5, 0.9, 0.7]]))
    torch.testing.assert_close(spread_boxes(features, 1.0, 0.1, False, MOVED), torch.tensor([[0.75, 0.55, 0.85, 0.65]]))


def test_the_spread_of_a_map_of_one_value_lies_in_the_middle_wherever_its_cells_look():
    left, top, right, bottom = spread_boxes(torch.ones(1, 2, 5, 5), 1.0, 0.0, False, MOVED)[0].tolist()
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((0.5, 0.5))
