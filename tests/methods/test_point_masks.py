import math

import numpy as np
import torch
from scipy.spatial import Delaunay
from scipy.spatial.distance import cdist

from fgvc.methods.point_masks import cell_centres, covered


def test_masks_are_scipys_hulls_and_distances():
    draw = torch.Generator().manual_seed(0)
    points = torch.rand(20, 7, 2, generator=draw, dtype=torch.float64)
    points[torch.rand(20, 7, generator=draw) < 0.3] = math.nan
    places = torch.rand(20, 60, 2, generator=draw, dtype=torch.float64)
    reach = 0.15 * torch.rand(20, generator=draw, dtype=torch.float64)
    found = covered(points, places, reach)
    kinds = set()
    for n in range(20):
        known = points[n][~points[n].isnan().any(dim=1)].numpy()
        inside = Delaunay(known).find_simplex(places[n].numpy()) >= 0 if len(known) >= 3 else np.zeros(60, bool)
        near = cdist(places[n].numpy(), known).min(axis=1) <= float(reach[n])
        assert found[n].tolist() == (inside | near).tolist()
        kinds |= set(zip(inside.tolist(), near.tolist(), strict=True))
    assert len(kinds) == 4


def test_no_point_covers_nothing_and_one_covers_a_disc():
    places = cell_centres(torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2), 10, 10)
    points = torch.full((2, 3, 2), math.nan)
    points[1, 2] = torch.tensor([0.52, 0.5])
    found = covered(points, places, torch.tensor([0.3, 0.11]))
    assert not found[0].any()
    assert found[1].view(10, 10).nonzero().tolist() == [[4, 4], [4, 5], [5, 4], [5, 5]]


def test_cells_are_numbered_as_they_are_read():
    centres = cell_centres(torch.tensor([[0.2, 0.0, 0.6, 1.0]]), 2, 4)
    torch.testing.assert_close(centres[0, 0], torch.tensor([0.25, 0.25]))
    torch.testing.assert_close(centres[0, 3], torch.tensor([0.55, 0.25]))
    torch.testing.assert_close(centres[0, 4], torch.tensor([0.25, 0.75]))
