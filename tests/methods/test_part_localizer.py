import math

import pytest
import torch

from fgvc.datatypes import Places
from fgvc.errors import UsageError
from fgvc.methods.part_localizer import (
    BIRD_HEAD,
    BIRD_POINTS,
    PartLocalizer,
    box_of_edges,
    cell_targets,
    correct_points,
    edge_loss,
    head_and_body,
    located_measures,
    mean_places,
    pck,
)

NAN = math.nan


def test_the_mean_of_the_cells_that_a_point_is_shared_among_is_the_point():
    points = torch.rand(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = cell_targets(points, 5, 7)
    for point, target in zip(points.tolist(), targets, strict=True):
        x = sum(float(target[r, c]) * (c + 0.5) / 7 for r in range(5) for c in range(7))
        y = sum(float(target[r, c]) * (r + 0.5) / 5 for r in range(5) for c in range(7))
        inner = [min(max(v, 0.5 / n), 1 - 0.5 / n) for v, n in zip(point, (7, 5), strict=True)]
        assert float(target.sum()) == pytest.approx(1)
        assert (x, y) == pytest.approx(inner)
    torch.testing.assert_close(
        mean_places(targets.log()),
        points.clamp(0.5 / 7, 1 - 0.5 / 7).index_put(
            (torch.arange(50), torch.ones(50, dtype=torch.long)), points[:, 1].clamp(0.1, 0.9)
        ),
    )


def test_the_loss_of_edges_is_least_where_the_box_that_they_answer_is_the_annotated_one():
    torch.manual_seed(0)
    box = torch.tensor([[0.13, 0.3, 0.8, 1.0]])
    scores = torch.zeros(1, 4, 6, 5, requires_grad=True)
    steps = torch.optim.Adam([scores], lr=0.3)
    for _ in range(300):
        loss = edge_loss(scores.flatten(2).log_softmax(dim=2).view(scores.shape), box).sum()
        steps.zero_grad()
        loss.backward()
        steps.step()
    found = box_of_edges(scores.detach().flatten(2).log_softmax(dim=2).view(scores.shape))
    torch.testing.assert_close(found, box, atol=0.01, rtol=0)


def test_pck_counts_points_within_a_tenth_of_the_longer_side():
    known = Places(
        torch.tensor([[0.1, 0.1, 0.5, 0.3], [0.0, 0.0, 1.0, 1.0], [NAN] * 4]),
        torch.tensor([[[0.2, 0.2], [0.4, 0.2], [NAN, NAN]], [[NAN, NAN]] * 3, [[0.2, 0.2]] * 3]),
    )
    points = torch.tensor([[[0.2, 0.239], [0.441, 0.2], [0.3, 0.3]], [[0.5, 0.5]] * 3, [[0.2, 0.2]] * 3])
    right, judged = correct_points(points, known)  # 0.1 of a side of 0.4 is 0.04
    assert right.tolist() == [[True, False, False], [False] * 3, [False] * 3]
    assert judged.tolist() == [[True, True, False], [False] * 3, [False] * 3]
    assert float(pck(points, known)) == 0.5  # the other two images have nothing to judge
    assert pck(points[1:], Places(known.box[1:], known.points[1:])) is None


def test_the_localizer_learns_where_a_blob_and_its_ends_are():
    torch.manual_seed(0)
    model = PartLocalizer(4, ("head", "tail"), hidden=32)

    def batch(number, seed):
        draw = torch.Generator().manual_seed(seed)
        ends = 0.15 + 0.7 * torch.rand(number, 2, 2, generator=draw)
        hidden = torch.rand(number, generator=draw) < 0.3
        maps = torch.zeros(number, 4, 8, 8)
        maps[:, :2] = cell_targets(ends, 8, 8)
        maps[hidden, 1] = 0  # but the third channel shows the whole object
        box = torch.cat((ends.amin(dim=1) - 0.1, ends.amax(dim=1) + 0.1), dim=1)
        ends[hidden, 1] = NAN
        cells = (torch.arange(8) + 0.5) / 8
        across, down = ((cells > box[:, [i]]) & (cells < box[:, [i + 2]]) for i in (0, 1))
        maps[:, 2] = (down[:, :, None] & across[:, None]).float()
        return maps, Places(box, ends)

    steps = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(300):
        maps, places = batch(64, step)
        terms = model.loss(model(maps), places)
        steps.zero_grad()
        sum(terms.values()).backward()
        steps.step()
    maps, places = batch(200, 10_000)
    with torch.no_grad():
        located = model(maps)
    found = located_measures(located, places)
    assert found["pck"] > 0.95 and found["object_iou"] > 0.6
    hidden = places.points[:, 1].isnan().any(dim=1)
    assert ((located.visible[:, 1] < 0) == hidden).float().mean() > 0.95
    assert located.seen_points()[:, 1].isnan().any(dim=1).equal(located.visible[:, 1] < 0)


def test_what_is_not_annotated_costs_nothing_and_has_no_gradient():
    torch.manual_seed(0)
    model = PartLocalizer(4, ("head", "tail"), hidden=8)
    maps = torch.randn(3, 4, 4, 4)
    nothing = Places(torch.full((3, 4), NAN), torch.full((3, 2, 2), NAN))
    terms = model.loss(model(maps), nothing)
    assert {name: term.item() for name, term in terms.items()} == {"box": 0, "points": 0, "visible": 0}
    sum(terms.values()).backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    assert located_measures(model(maps), nothing) == {} == located_measures(model(maps), None)
    one = Places(nothing.box.clone(), nothing.points.clone())
    one.points[1, 0] = torch.tensor([0.25, 0.75])
    located = model(maps)
    alone = model.loss(located, one)
    assert alone["points"].item() == pytest.approx(
        -((cell_targets(one.points[1, 0], 4, 4) * located.maps[1, 0]).sum().item())
    )
    p = located.visible[1].sigmoid()
    assert alone["visible"].item() == pytest.approx(-(p[0].log() + (1 - p[1]).log()).item() / 2)


def test_names_that_mean_nothing_are_refused():
    with pytest.raises(UsageError, match="one name"):
        PartLocalizer(4, ("a", "a"))
    with pytest.raises(UsageError, match=r"head_points: 'beack' is none of the points.*beak"):
        head_and_body(BIRD_POINTS, ["beack"], "X")
    with pytest.raises(UsageError, match="at least one"):
        head_and_body(BIRD_POINTS, [], "X")
    with pytest.raises(UsageError, match="X: head_points are all of the points"):
        head_and_body(["a", "b"], ["b", "a"], "X")
    found = head_and_body(BIRD_POINTS, BIRD_HEAD, "X")
    assert [BIRD_POINTS[row] for row in found["head"]] == list(BIRD_HEAD)
    assert {BIRD_POINTS[row] for row in found["body"]} == set(BIRD_POINTS) - set(BIRD_HEAD)
