import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from fakes.tiny_model import TAXONOMY
from torch.nn.functional import binary_cross_entropy_with_logits

from fgvc.datatypes import Places
from fgvc.errors import UsageError
from fgvc.images.regions import crop_and_resize, fitted
from fgvc.methods.backbone import Backbone
from fgvc.methods.part_localizer import BIRD_HEAD, BIRD_POINTS, Located
from fgvc.methods.recognizers.part_rcnn import SIDE_MIN, PartRCNN, balanced_loss, window_features

TINY = partial(Backbone, name="test_resnet", weights="none")
SIZE, SOURCE = 64, 96
NAN = math.nan


def photos(number: int) -> torch.Tensor:
    coarse = torch.rand(number, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, SOURCE, mode="bilinear") * 255


def birds(number: int) -> Places:
    """Heads on the left, bodies on the right of their objects."""
    draw = torch.Generator().manual_seed(2)
    low = 0.4 * torch.rand(number, 2, generator=draw)
    box = torch.cat((low, low + 0.5), dim=1)
    inner = torch.rand(number, len(BIRD_POINTS), 2, generator=draw) * torch.tensor([0.2, 0.4]) + 0.05
    body = torch.tensor([name not in BIRD_HEAD for name in BIRD_POINTS])
    points = low[:, None] + inner + torch.stack((0.2 * body, 0 * body), dim=1)
    points[:, 3] = NAN
    return Places(box, points)


def made(**arguments) -> PartRCNN:
    torch.manual_seed(0)
    model = PartRCNN(TAXONOMY, SIZE, TINY, **arguments)
    model.set_places(birds(30))
    return model


@pytest.mark.parametrize("fusion", ["average", "descriptors"])
def test_in_evaluation_annotations_change_no_answer(fusion):
    model = made(fusion=fusion, upper_bound=True).eval()
    with torch.no_grad():
        alone, told = model(photos(3)), model(photos(3), birds(3))
    assert torch.equal(alone.logits["species"], told.logits["species"])
    assert torch.equal(alone.boxes, told.boxes) and torch.equal(alone.embedding, told.embedding)
    assert "annotated" not in alone.views
    assert not torch.allclose(told.views["annotated"].logits["species"], told.logits["species"])


def test_the_upper_bound_is_the_answer_of_a_localizer_that_is_always_right():
    places, images = birds(3), photos(3)
    model = made(upper_bound=True, fusion="descriptors").eval()
    with torch.no_grad():
        bound = model(images, places).views["annotated"]
        head = [BIRD_POINTS.index(name) for name in BIRD_HEAD]
        body = [row for row in range(15) if row not in head]
        boxes = [places.box]
        for rows in (head, body):
            chosen = places.points[:, rows]
            low = torch.stack([p[~p.isnan().any(1)].amin(0) for p in chosen])
            high = torch.stack([p[~p.isnan().any(1)].amax(0) for p in chosen])
            boxes.append(fitted(torch.cat((low, high), 1), SIDE_MIN))
        crops = crop_and_resize(images, fitted(torch.stack(boxes, 1), SIDE_MIN, margin=0.1), SIZE)
        views = [
            model.views.heads[0](
                model.backbone(torch.nn.functional.interpolate(images, SIZE, mode="bilinear", antialias=True))
            )
        ]
        views += [model.views.heads[i + 1](model.backbone(crops[:, i])) for i in range(3)]
        vectors = torch.cat([v.embedding / v.embedding.norm(dim=1, keepdim=True) for v in views], 1)
        by_hand = 16 * vectors @ model.views.fusion.weight.T + model.views.fusion.bias
    torch.testing.assert_close(bound.logits["species"], by_hand, atol=1e-4, rtol=1e-4)


def test_windows_are_read_at_nine_places():
    features = torch.rand(2, 5, 6, 8, generator=torch.Generator().manual_seed(0))
    windows = torch.tensor([[[0.25, 0.25, 0.5, 0.75]], [[0.4, 0.3, 0.6, 0.5]]])
    found = window_features(features, windows)
    for n in range(2):
        x1, y1, x2, y2 = windows[n, 0].tolist()
        for i, (row, column) in enumerate((r, c) for r in range(3) for c in range(3)):
            y = (y1 + (y2 - y1) * (-0.25 + 0.75 * row)) * 6 - 0.5
            x = (x1 + (x2 - x1) * (-0.25 + 0.75 * column)) * 8 - 0.5
            r, c = math.floor(y), math.floor(x)
            a, b = y - r, x - c
            at = lambda p, q, n=n: features[n, :, min(max(p, 0), 5), min(max(q, 0), 7)]  # noqa: E731
            wanted = (1 - a) * ((1 - b) * at(r, c) + b * at(r, c + 1)) + a * (
                (1 - b) * at(r + 1, c) + b * at(r + 1, c + 1)
            )
            torch.testing.assert_close(found[n, 0].view(9, 5)[i], wanted)


def test_right_and_wrong_windows_weigh_alike():
    scores = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 0, 0, 0, 0, NAN], [NAN, 0, 0, 1, 0, 0]])
    by_hand = sum(binary_cross_entropy_with_logits(scores[labels == y], labels[labels == y]) for y in (0, 1)) / 2
    torch.testing.assert_close(balanced_loss(scores, labels), by_hand)
    assert balanced_loss(scores, torch.full_like(scores, NAN)).item() == 0


def test_a_localizer_that_is_right_has_all_parts_correct():
    model, places = made().eval(), birds(6)
    with torch.no_grad():
        answer = model(photos(6), places)
        points = places.points.nan_to_num(0.5)
        visible = torch.where(places.points[..., 0].isnan(), -9.0, 9.0)
        exact = Located(places.box, points, visible, answer.located.maps, answer.located.edges)
        found = model._detect(model.localizer.trunk(model.backbone(photos(6)[..., :64, :64]).map), exact, exact.box)
        for windows, scores in found.values():
            scores.fill_(-9)
            scores[:, 0] = 9  # the box around the points
            assert len(windows) == 6
        measured = model.measures(replace(answer, located=exact, found=found), torch.zeros(6, dtype=torch.long))
    assert {name: value.item() for name, value in measured.items()} == {
        "pck": 1, "object_iou": pytest.approx(1), "pcp_head": 1, "pcp_body": 1,
    }  # fmt: skip


@pytest.mark.parametrize("learn_from", ["predicted", "annotated"])
def test_every_phase_has_the_terms_and_gradients_of_what_learns(learn_from):
    model, places, labels = made(learn_from=learn_from, fusion="descriptors").train(), birds(4), torch.arange(4)
    for phase in ("locate", "all"):
        model.enter(phase)
        model.zero_grad()
        answer = model(photos(4), places)
        terms = model.loss(answer, labels)
        crops = {"object_classes", "head_classes", "body_classes", "fused_classes"}
        located = {"box", "points", "visible", "detect_head", "detect_body"}
        assert set(terms) == {"whole_classes"} | located | (crops if phase == "all" else set())
        torch.stack(list(terms.values())).sum().backward()
        for part in (model.backbone, model.localizer, model.detectors):
            assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
        assert (model.views.fusion.weight.grad is not None) == (phase == "all")
        told = fitted(
            torch.stack([places.box, *(model.part_box(places.points, p) for p in ("head", "body"))], 1), 0.1, margin=0.1
        )
        assert torch.allclose(answer.boxes, told) == (learn_from == "annotated")


def test_what_the_method_cannot_do_is_said_in_one_line():
    for arguments, said in (
        ({"head_points": ["bill"]}, "head_points: 'bill' is none of the points"),
        ({"points": ["eye"], "head_points": ["eye"]}, "leave some to the body"),
        ({"margin": -1.0}, "must not be negative"),
    ):
        with pytest.raises(UsageError, match=said) as caught:
            PartRCNN(TAXONOMY, SIZE, TINY, **arguments)
        assert "\n" not in str(caught.value)
