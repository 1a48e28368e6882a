import math
from functools import partial

import numpy as np
import pytest
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.errors import UsageError
from fgvc.images.regions import crop_and_resize, downscale
from fgvc.methods.backbone import Backbone
from fgvc.methods.recognizers.two_level_attention import (
    WEIGHTS,
    TwoLevelAttention,
    best_weight,
    grid_windows,
    kept_windows,
    map_filters,
    objectness,
    part_cells,
)
from fgvc.methods.scda import object_masks

TINY = partial(Backbone, name="test_resnet", weights="none")
SIZE, SOURCE = 64, 96


def photos(number: int) -> torch.Tensor:
    coarse = torch.rand(number, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, SOURCE, mode="bilinear") * 255


def made(**arguments) -> TwoLevelAttention:
    torch.manual_seed(0)
    model = TwoLevelAttention(TAXONOMY, SIZE, TINY, **arguments)
    for head in model.views.heads:
        head.classifier.weight.data.normal_()
    return model


def test_the_overlap_of_a_window_with_a_mask_is_that_of_a_fine_raster():
    masks = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)) < 0.4
    windows = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.13, 0.27, 0.81, 0.94], [0.0, 0.0, 1.0, 1.0]])
    found = objectness(windows, masks)
    fine = 1050  # dots a side
    for n in range(3):
        raster = np.kron(masks[n].numpy(), np.ones((fine // 5, fine // 7), bool))
        y, x = (np.mgrid[:fine, :fine] + 0.5) / fine
        for m, (x1, y1, x2, y2) in enumerate(windows.tolist()):
            inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
            assert float(found[n, m]) == pytest.approx((inside & raster).sum() / (inside | raster).sum(), abs=5e-3)


def test_the_filter_keeps_the_objects_box_and_windows_that_lie_on_it():
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, :4, :4] = True
    windows = grid_windows()
    boxes, counts = kept_windows(windows, masks, 4, 0.3)
    assert boxes[0, 0].tolist() == [0, 0, 0.5, 0.5] and boxes[0, 1].tolist() == [0, 0, 0.5, 0.5]
    overlaps = sorted((float(o) for o in objectness(windows, masks)[0]), reverse=True)[:3]
    assert counts[0].tolist() == [True, *(o >= 0.3 for o in overlaps)]
    assert windows.min() == 0 and windows.max() == 1
    assert kept_windows(windows, masks, 4, 1.0)[1].tolist() == [[True, True, False, False]]


def test_a_part_lies_where_its_filters_together_answer_most():
    features = torch.rand(3, 6, 4, 5, generator=torch.Generator().manual_seed(0))
    groups = torch.tensor([0, 1, 0, 2, 1, 0])
    found = part_cells(features, groups, 3)
    for n in range(3):
        for group in range(3):
            sums = {
                (r, c): sum(float(features[n, k, r, c]) for k in range(6) if groups[k] == group)
                for r in range(4)
                for c in range(5)
            }
            row, column = max(sums, key=sums.get)
            assert found[n, group].tolist() == pytest.approx([(column + 0.5) / 5, (row + 0.5) / 4])


def test_the_answer_is_the_weighted_sum_of_mean_windows_and_of_object_and_parts():
    model, images = made(num_parts=2, window_overlap=0.0), photos(3)
    model.train()(images)  # groups the filters
    model.eval().part_weight.fill_(0.3)
    model.views.fusion.weight.data.normal_()
    with torch.no_grad():
        answer = model(images)
        seen = model.backbone(downscale(images, SIZE)).map
        boxes, _ = kept_windows(model.windows, object_masks(seen), 4, 0.0)
        crops = crop_and_resize(images, boxes, SIZE)
        answers = [model.views.heads[1](model.backbone(crops[:, t])).logits["species"].softmax(1) for t in range(4)]
        parts = crop_and_resize(images, answer.boxes, SIZE)
        views = [model.views.heads[0](model.backbone(downscale(images, SIZE)))]
        views += [model.views.heads[i + 1](model.backbone(parts[:, i])) for i in range(3)]
        vectors = torch.cat([torch.nn.functional.normalize(v.embedding, dim=1) for v in views], 1)
        by_parts = (16 * vectors @ model.views.fusion.weight.T + model.views.fusion.bias).softmax(1)
    expected = 0.7 * sum(answers) / 4 + 0.3 * by_parts
    torch.testing.assert_close(answer.logits["species"].exp(), expected, atol=1e-4, rtol=1e-3)
    for part in (1, 2):
        assert (answer.boxes[:, part, 2:] - answer.boxes[:, part, :2]).allclose(torch.tensor(0.35))


def test_filters_are_grouped_once_and_travel_with_the_weights():
    model = made().train()
    assert (model.groups < 0).all()
    model.enter("object")
    assert set(model.loss(model(photos(2)), torch.tensor([0, 1]))) == {"whole_classes", "object_classes"}
    assert (model.groups < 0).all()
    model.enter("all")
    model(photos(2))
    groups = model.groups.clone()
    assert set(groups.tolist()) == {0, 1, 2}
    map_filters(model.backbone)  # the weights change, the groups stay
    for parameter in model.backbone.parameters():
        parameter.data.normal_()
    model(photos(2))
    assert torch.equal(model.groups, groups)
    other = made()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.groups, groups)


def test_the_weight_is_the_one_that_names_most_validation_images_rightly():
    model = made().train()
    model(photos(2))
    model.eval()
    with torch.no_grad():
        answer = model(photos(4))
    right = torch.tensor([0, 1, 2, 3])
    one_hot = 4 * torch.nn.functional.one_hot(right, 5).float()
    answer.views["windows"].logits["species"] = -one_hot  # wrong
    answer.views["parts"].logits["species"] = 2 * one_hot
    model.watch(answer, right)
    hits = model.hits.clone()
    by_hand = []
    for i in range(WEIGHTS):
        w = i / (WEIGHTS - 1)
        both = (1 - w) * (-one_hot).softmax(1) + w * (2 * one_hot).softmax(1)
        by_hand.append(int((both.argmax(1) == right).sum()))
    assert hits.tolist() == by_hand and hits.max() == 4 and hits[0] == 0
    model.settle()
    good = [i for i, h in enumerate(by_hand) if h == 4]
    assert float(model.part_weight) == pytest.approx(good[len(good) // 2] / (WEIGHTS - 1))
    assert not model.hits.any()
    before = float(model.part_weight)
    model.settle()  # no image was seen
    assert float(model.part_weight) == before
    assert best_weight(torch.tensor([0.0] * 20 + [1.0])) == 1.0


def test_training_reaches_every_head_and_a_transformer_is_refused_in_one_line():
    model = made().train()
    terms = model.loss(model(photos(4)), torch.arange(4))
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with pytest.raises(UsageError, match="no filters to group; choose a convolutional network") as caught:
        TwoLevelAttention(TAXONOMY, SIZE, partial(Backbone, name="test_vit", weights="none"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"part_size 1.5 in \(0, 1\]"):
        made(part_size=1.5)
    assert not math.isnan(float(model.part_weight))
