from functools import partial

import numpy as np
import pytest
import torch
from fakes.tiny_model import PLAIN, TAXONOMY
from PIL import Image
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.recognizers.spatial_transformer import SpatialTransformer, spread_positions
from fgvc.model_file.architecture import build
from tests.fakes.plain_trunk import Channels

TINY = partial(Backbone, name="test_resnet", weights="none")
SIZE, SOURCE = 32, 96


def photos(number: int) -> torch.Tensor:
    coarse = torch.rand(number, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return interpolate(coarse, SOURCE, mode="bicubic").clamp(0, 1) * 255


def transformer(**arguments) -> SpatialTransformer:
    torch.manual_seed(0)
    return SpatialTransformer(TAXONOMY, SIZE, TINY, **arguments).eval()


def jolted(model: SpatialTransformer) -> SpatialTransformer:
    """Give the localiser an opinion of its own on each image."""
    nn.init.normal_(model.localiser.out.weight, std=1.0)
    nn.init.normal_(model.localiser.out.bias, std=1.0)
    return model


@pytest.mark.parametrize(
    ("arguments", "centres", "side"),
    [
        ({}, [[0.375, 0.5], [0.625, 0.5]], 0.5),
        ({"num_crops": 1}, [[0.5, 0.5]], 0.5),
        ({"num_crops": 4, "side": 0.4}, [[0.35, 0.35], [0.65, 0.35], [0.35, 0.65], [0.65, 0.65]], 0.4),
        ({"positions": [[0.3, 0.4], [0.7, 0.31]], "learn_scale": True}, [[0.3, 0.4], [0.7, 0.31]], 0.5),
        ({"learn_scale": True, "side": 0.3, "side_max": 1.0}, [[0.325, 0.5], [0.675, 0.5]], 0.3),
    ],
)
def test_learning_starts_from_the_default_positions(arguments, centres, side):
    boxes = transformer(**arguments)(photos(3)).boxes
    expected = torch.tensor([[x - side / 2, y - side / 2, x + side / 2, y + side / 2] for x, y in centres])
    torch.testing.assert_close(boxes, expected.expand(3, -1, 4), atol=1e-6, rtol=0)


def test_spread_positions_differ_and_fit():
    for number in range(1, 10):
        places = spread_positions(number, 0.5)
        assert len({tuple(place) for place in places}) == number
        assert all(0.25 < value < 0.75 for place in places for value in place)


@pytest.mark.parametrize("learn_scale", [False, True])
def test_boxes_stay_inside_whatever_the_localiser_says(learn_scale):
    model = jolted(transformer(learn_scale=learn_scale, localiser_lr_ratio=100.0))
    boxes = model(photos(8)).boxes
    assert (boxes >= 0).all() and (boxes <= 1).all()
    sides = boxes[..., 2:] - boxes[..., :2]
    torch.testing.assert_close(sides[..., 0], sides[..., 1])
    assert (sides >= 0.2499).all() and (sides <= 0.7501).all()
    assert bool((sides - 0.5).abs().max() > 0.1) == learn_scale
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    away = (centres - torch.tensor([[0.375, 0.5], [0.625, 0.5]])).square().sum(2).sqrt().mean()
    assert away > 0.1
    torch.testing.assert_close(model.measures(model(photos(8)), torch.zeros(8))["moved"], away)


def test_crops_are_pillows_and_their_descriptors_stand_side_by_side():
    model = jolted(transformer(localiser_lr_ratio=1.0))
    seen = []
    for trunk in model.trunks:
        trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = photos(2).to(torch.uint8)
    answer = model(images)
    for n, k in ((0, 0), (0, 1), (1, 0), (1, 1)):
        box = (answer.boxes[n, k] * SOURCE).tolist()
        picture = Image.fromarray(images[n].permute(1, 2, 0).numpy())
        cut = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box), dtype=float)
        assert np.abs(seen[k][n].detach().permute(1, 2, 0).numpy() - cut).max() <= 1.5
    descriptors = [trunk(crop).map.mean((2, 3)) for trunk, crop in zip(list(model.trunks), seen[:2], strict=True)]
    torch.testing.assert_close(answer.embedding, torch.cat(descriptors, 1))
    torch.testing.assert_close(answer.logits["species"], model.classifier(torch.cat(descriptors, 1)))
    assert answer.views == {}


@pytest.mark.parametrize("learn_scale", [False, True])
def test_the_gradient_of_the_boxes_agrees_with_finite_differences_in_float64(learn_scale, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # the resampling runs in float32 by itself
    model = jolted(transformer(learn_scale=learn_scale, localiser_lr_ratio=0.3)).double()
    nn.init.normal_(model.classifier.weight, std=1.0)
    images, labels = photos(2), torch.tensor([1, 4])

    def loss() -> torch.Tensor:
        (term,) = model.loss(model(images), labels).values()
        assert term.dtype == torch.float64
        return term

    bias = model.localiser.out.bias
    (found,) = torch.autograd.grad(loss(), bias)
    expected = torch.zeros_like(bias)
    with torch.no_grad():
        for i in range(len(bias)):
            ends = []
            for step in (1e-6, -1e-6):
                bias[i] += step
                ends.append(loss())
                bias[i] -= step
            expected[i] = (ends[0] - ends[1]) / 2e-6
    assert expected.abs().min() > 1e-6
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-4)


@pytest.mark.parametrize(("name", "lr", "slower"), [("AdamW", 1e-4, 0.1), ("SGD", 1e-2, 0.01)])
def test_training_moves_the_boxes_and_the_ratio_slows_them_under_adamw_too(name, lr, slower):
    moved = {}
    for ratio in (1.0, 0.1):
        model = transformer(localiser_lr_ratio=ratio)
        nn.init.normal_(model.classifier.weight, std=1.0)
        optimizer = getattr(torch.optim, name)(model.localiser.out.parameters(), lr=lr)
        start = model(photos(4)).boxes.detach()
        for _ in range(2):
            optimizer.zero_grad()
            sum(model.loss(model(photos(4)), torch.tensor([0, 1, 2, 3])).values()).backward()
            optimizer.step()
        moved[ratio] = float((model(photos(4)).boxes.detach() - start).norm())
    assert moved[1.0] > 1e-5
    assert moved[0.1] / moved[1.0] == pytest.approx(slower, rel=0.2)


class Colours(Channels, nn.Module):
    """A network that sees mean colours on a grid of 8 x 8."""

    channels = 3

    def __init__(self, image_size: int) -> None:
        super().__init__()

    def forward(self, images: torch.Tensor) -> Features:
        return Features(avg_pool2d(images.float() / 255, images.shape[-1] // 8))


def bright_patches(number: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return dark images (N, 3, 64, 64) with a bright square of side 16, and its centres (N, 2)."""
    corners = torch.randint(0, 49, (number, 2), generator=torch.Generator().manual_seed(seed))
    images = torch.zeros(number, 3, 64, 64)
    for image, (x, y) in zip(images, corners.tolist(), strict=True):
        image[:, y : y + 16, x : x + 16] = 255
    return images, (corners + 8) / 64


def test_it_finds_a_bright_patch_that_no_box_told_it_of():
    torch.manual_seed(0)
    model = SpatialTransformer(TAXONOMY, 64, Colours, num_crops=1, localiser_lr_ratio=1.0)
    model.classifier.weight.data.zero_()
    model.classifier.weight.data[0] = 20.0  # bright is class 0
    model.enter("all")
    optimizer = torch.optim.Adam(model.localiser.parameters(), lr=3e-3)
    images, _ = bright_patches(64, seed=1)
    for _ in range(100):
        optimizer.zero_grad()
        sum(model.loss(model(images), torch.zeros(64, dtype=torch.long)).values()).backward()
        optimizer.step()
    fresh, centres = bright_patches(64, seed=2)
    boxes = model(fresh).boxes[:, 0]
    held = ((centres > boxes[:, :2]) & (centres < boxes[:, 2:])).all(1).float().mean()
    start = ((centres > 0.25) & (centres < 0.75)).all(1).float().mean()
    assert start < 0.6 and held > 0.95, (start, held)


@pytest.mark.parametrize(("share", "backbones"), [((False, False), 3), ((True, False), 2), ((True, True), 1)])
def test_backbones_are_shared_as_asked_and_everything_learns(share, backbones):
    model = jolted(transformer(share_backbone=share[0], share_localiser=share[1], learn_scale=True)).train()
    assert len(list(model.backbones())) == backbones
    sum(model.loss(model(photos(4)), torch.tensor([0, 1, 2, -1])).values()).backward()
    assert all(
        p.grad is not None and p.grad.any() for p in (*model.localiser.parameters(), *model.classifier.parameters())
    )
    for backbone in model.backbones():
        assert any(p.grad is not None and p.grad.any() for p in backbone.parameters())


def test_in_phase_head_the_classifier_learns_alone():
    model = jolted(transformer()).train()
    model.enter("head")
    sum(model.loss(model(photos(4)), torch.tensor([0, 1, 2, 3])).values()).backward()
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None} == {"classifier"}


def test_unknown_images_count_nowhere():
    model = transformer()
    answer = model(photos(2))
    assert model.loss(answer, torch.tensor([-1, -1]))["classes"] == 0
    (term,) = model.loss(answer, torch.tensor([3, -1])).values()
    torch.testing.assert_close(term, -answer.logits["species"].log_softmax(1)[0, 3])


def test_a_model_file_rebuilds_it():
    arguments = {
        "backbone": PLAIN["init_args"]["backbone"],
        "pooling": {"class_path": "GeMPooling", "init_args": {"power": 2.0}},
        "positions": [[0.4, 0.4], [0.6, 0.6], [0.5, 0.4]],
        "num_crops": 3,
    }
    plain = {"class_path": "SpatialTransformer", "init_args": arguments}
    model, again = (build(plain, TAXONOMY, SIZE, "none").eval() for _ in range(2))
    again.load_state_dict(jolted(model).state_dict())
    first, second = model(photos(2)), again(photos(2))
    assert torch.equal(first.boxes, second.boxes) and first.boxes.shape == (2, 3, 4)
    assert torch.equal(first.logits["species"], second.logits["species"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_crops": 0}, "num_crops 0.* give 1 crop or more"),
        ({"side": 1.0}, "side 1.0.* 0 < side < 1"),
        ({"localiser_lr_ratio": 0.0}, "localiser_lr_ratio 0.0.* a ratio above 0"),
        ({"learn_scale": True, "side": 0.8}, "side 0.8, side_min 0.25, side_max 0.75; a learnt side needs"),
        ({"positions": [[0.5, 0.5]]}, r"positions \[\[0.5, 0.5\]\]; give 2 centres \[x, y\] between 0.25 and 0.75"),
        ({"positions": [[0.5, 0.5], [0.2, 0.5]]}, "give 2 centres"),
        ({"positions": [[0.5, 0.5], [0.5]]}, "give 2 centres"),
    ],
)
def test_bad_settings_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        transformer(**wrong)
