import itertools
import math
from functools import partial

import pytest
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.datatypes import Places
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.part_localizer import BIRD_HEAD, BIRD_POINTS
from fgvc.methods.recognizers.pose_normalised import (
    UNCOVERED,
    PoseNormalised,
    chosen_prototypes,
    costs,
    prototype_frames,
)
from fgvc.methods.similarity import misfit, times

TINY = partial(Backbone, name="test_resnet", weights="none")
SIZE, SOURCE = 64, 96
NAN = math.nan


def photos(number: int) -> torch.Tensor:
    coarse = torch.rand(number, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, SOURCE, mode="bilinear") * 255


def birds(number: int, seed: int = 2) -> Places:
    """Turned and scaled copies of one of two shapes."""
    draw = torch.Generator().manual_seed(seed)
    shapes = torch.rand(2, len(BIRD_POINTS), 2, generator=torch.Generator().manual_seed(0)) - 0.5
    angle = torch.rand(number, generator=draw) - 0.5
    scale = 0.4 + 0.2 * torch.rand(number, generator=draw)
    a = scale[:, None] * torch.stack((angle.cos(), angle.sin()), dim=1)
    points = times(a[:, None], shapes[torch.arange(number) % 2]) + 0.5
    box = torch.cat((points.amin(1), points.amax(1)), 1)
    points = points.clone()
    points[:, 5] = NAN
    return Places(box, points)


def made(**arguments) -> PoseNormalised:
    torch.manual_seed(0)
    model = PoseNormalised(TAXONOMY, SIZE, TINY, **arguments)
    model.set_places(birds(40))
    return model


def test_prototypes_are_one_of_each_shape_and_warp_points_to_where_the_prototype_has_them():
    model = made(num_prototypes=2)
    places = birds(10, seed=5)
    known = ~places.points.isnan().any(dim=2)
    a, b = model._poses(places.points.nan_to_num(), known.float())
    for number, rows in enumerate(([*range(15)], [BIRD_POINTS.index(n) for n in BIRD_HEAD])):
        prototypes = model.prototypes[number]
        for n, shape in enumerate(places.points):
            gaps = []
            for prototype in prototypes:
                back = times(a[n, number][None], prototype) + b[n, number]
                gaps.append((back - shape)[[row for row in rows if row != 5]].abs().max().item())
            assert min(gaps) < 1e-3  # crop -> image puts the points of its prototype onto those of the image


def test_prototypes_have_their_points_inside_the_crop_with_a_margin():
    frames = prototype_frames(birds(6).points, margin=0.25)
    shown = frames[~frames.isnan().any(dim=2)]
    assert shown.min() == pytest.approx(0.25 / 1.5, abs=1e-5) and shown.max() == pytest.approx(1.25 / 1.5, abs=1e-5)


def test_costs_are_those_of_a_slow_loop():
    shapes = torch.rand(5, 6, 2, generator=torch.Generator().manual_seed(0))
    candidates = torch.rand(4, 6, 2, generator=torch.Generator().manual_seed(1))
    shapes[0, :3] = candidates[1, 2:] = NAN  # one point left to share
    found = costs(shapes, candidates)
    for r, j in itertools.product(range(5), range(4)):
        both = [p for p in range(6) if not (shapes[r, p].isnan().any() or candidates[j, p].isnan().any())]
        alone = [p for p in range(6) if not shapes[r, p].isnan().any() and candidates[j, p].isnan().any()]
        seen = [p for p in range(6) if not shapes[r, p].isnan().any()]
        left = 1.0
        if len(both) >= 2:
            left = min(1.0, float(misfit(shapes[r, both], candidates[j, both], torch.ones(len(both)))))
        assert float(found[r, j]) == pytest.approx(left + UNCOVERED * len(alone) / len(seen), abs=1e-6)


def test_prototypes_are_chosen_greedily():
    cost = torch.rand(30, 12, generator=torch.Generator().manual_seed(0))
    chosen: list[int] = []
    for _ in range(4):
        sums = {j: sum(min(float(row[i]) for i in [*chosen, j]) for row in cost) for j in range(12) if j not in chosen}
        chosen.append(min(sums, key=sums.get))
    assert chosen_prototypes(cost, 4) == chosen
    assert len(chosen_prototypes(cost[:, :2], 4)) == 2


@pytest.mark.parametrize("layers", ["both", "last"])
def test_in_evaluation_annotations_change_no_answer_and_a_second_layer_widens_the_embedding(layers):
    model = made(layers=layers, upper_bound=True).eval()
    with torch.no_grad():
        alone, told = model(photos(3)), model(photos(3), birds(3))
    assert torch.equal(alone.logits["species"], told.logits["species"]) and torch.equal(alone.boxes, told.boxes)
    assert "annotated" not in alone.views
    assert not torch.allclose(told.views["annotated"].logits["species"], told.logits["species"])
    width = 4 * model.views.heads[0].embedding_size
    earlier = model.backbone.keep_earlier() if layers == "both" else 0
    assert alone.embedding.shape[1] == width + 3 * earlier


@pytest.mark.parametrize("learn_from", ["predicted", "annotated"])
def test_every_phase_has_the_terms_and_gradients_of_what_learns(learn_from):
    model, places, labels = made(learn_from=learn_from).train(), birds(4), torch.arange(4)
    for phase in ("locate", "all"):
        model.enter(phase)
        model.zero_grad()
        answer = model(photos(4), places)
        terms = model.loss(answer, labels)
        crops = {"object_classes", "head_classes", "body_classes", "fused_classes"}
        assert set(terms) == {"whole_classes", "box", "points", "visible"} | (crops if phase == "all" else set())
        torch.stack(list(terms.values())).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.localizer.parameters())
        assert (model.views.fusion.weight.grad is not None) == (phase == "all")


def test_without_annotated_points_all_regions_are_the_whole_image():
    model = PoseNormalised(TAXONOMY, SIZE, TINY).eval()
    with torch.no_grad():
        assert torch.allclose(model(photos(2)).boxes, torch.tensor([0.0, 0, 1, 1]))


def test_what_the_method_cannot_do_is_said_in_one_line():
    for arguments, said in (
        ({"fusion": "average"}, "layers: both"),
        ({"num_prototypes": 0}, "num_prototypes 0"),
        ({"head_points": list(BIRD_POINTS)}, "leave some to the body"),
    ):
        with pytest.raises(UsageError, match=said) as caught:
            PoseNormalised(TAXONOMY, SIZE, TINY, **arguments)
        assert "\n" not in str(caught.value)
