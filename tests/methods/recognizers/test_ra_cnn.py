import copy
import json
import math
from functools import partial

import pytest
import torch
from fakes.tiny_model import TAXONOMY
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from fgvc.data.sources.generated_birds import GeneratedBirds
from fgvc.errors import UsageError
from fgvc.images.decoding import decode
from fgvc.images.regions import box_iou, crop_and_resize, downscale, erase, fitted, within
from fgvc.methods.attention.apn import APN
from fgvc.methods.attention.centre import CentreBox
from fgvc.methods.attention.objectives import ranking_loss
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.recognizers.ra_cnn import RACNN
from fgvc.model_file.architecture import build
from fgvc.taxonomy.tree import Taxonomy
from tests.fakes.plain_trunk import Channels

TINY = partial(Backbone, name="test_resnet", weights="none")
TWO = Taxonomy.flat(["dark", "bright"])


def make(**arguments) -> RACNN:
    torch.manual_seed(0)
    model = RACNN(TAXONOMY, 32, TINY, attention=partial(APN, hidden=16, grid=3), **arguments)
    for attention in model.attentions:
        nn.init.normal_(attention.box.weight, std=50.0)  # so that images get different boxes
    return model


def images(number: int = 4, side: int = 80) -> torch.Tensor:
    return torch.randint(256, (number, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_each_scale_sees_what_the_attention_before_it_chose():
    model = make(num_scales=3, crop_size=48, crop="mask").eval()
    source = images()
    answer = model(source)
    seen, frame = downscale(source, 32), torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(4, 4)
    embeddings = []
    for i in range(3):
        features = model.scales[i].backbone(seen)
        by_hand = model.scales[i].head(features)
        torch.testing.assert_close(answer.views[f"scale{i + 1}"].logits["species"], by_hand.logits["species"])
        torch.testing.assert_close(answer.views[f"scale{i + 1}"].boxes[:, 0], frame)
        embeddings.append(by_hand.embedding)
        if i < 2:
            box = model.attentions[i](features.map)
            assert box.std(dim=0).max() > 1e-3
            frame = within(box[:, None], frame)[:, 0]
            seen = crop_and_resize(source, frame[:, None], 48, sharpness=90.0)[:, 0]
            torch.testing.assert_close(answer.boxes[:, i], frame)
    side = torch.cat([e / e.norm(dim=1, keepdim=True) for e in embeddings], dim=1)
    expected = 16 * side @ model.fusion.weight.T + model.fusion.bias
    torch.testing.assert_close(answer.logits["species"], expected)
    assert answer.views["fused"].logits["species"] is answer.logits["species"]
    assert (answer.boxes[:, 1, 2:] - answer.boxes[:, 1, :2]).max() < 0.75  # a box in a box


def test_fusion_by_the_average_is_the_log_of_the_mean_probability():
    answer = make(fusion="average").eval()(images())
    scales = [answer.views[f"scale{i}"].logits["species"].double().softmax(dim=1) for i in (1, 2)]
    torch.testing.assert_close(answer.logits["species"].double().exp(), (scales[0] + scales[1]) / 2)


@pytest.mark.parametrize(
    ("phase", "learning", "still"),
    [
        ("all", ["scales.0", "scales.1", "attentions.0", "fusion"], []),
        (
            "head",
            ["scales.0.head", "scales.1.head", "fusion"],
            ["scales.0.backbone", "scales.1.backbone", "attentions"],
        ),
        ("locate", ["attentions.0"], ["scales", "fusion"]),
        ("attend", ["attentions.0"], ["scales", "fusion"]),
        ("recognise", ["scales.0", "scales.1", "fusion"], ["attentions"]),
        ("refine", ["scales.1", "attentions.0", "fusion"], ["scales.0"]),
    ],
)
def test_each_phase_trains_its_part_and_nothing_else(phase, learning, still):
    model = make().train()
    model.enter("attend")
    model.enter(phase)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    sum(model.loss(model(images(8)), torch.arange(8) % 5).values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == any(name.startswith(part) for part in learning), name
    for part in still:
        for name, module in model.get_submodule(part).named_modules():
            assert not module.training, (part, name)
    moved = {name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])}
    assert not any(name.startswith(part) for name in moved for part in still)


def test_the_published_alternation_has_the_published_terms():
    model = make(num_scales=3).train()
    labels = torch.tensor([0, 1, 2, -1])
    for phase, names in {
        "all": ["locate1", "locate2", "scale1_classes", "scale2_classes", "scale3_classes", "fused_classes"],
        "locate": ["locate1", "locate2"],
        "attend": ["rank1", "rank2"],
        "recognise": ["scale1_classes", "scale2_classes", "scale3_classes", "fused_classes"],
    }.items():
        model.enter(phase)
        answer = model(images())
        terms = model.loss(answer, labels)
        assert list(terms) == names
    logits = [answer.views[f"scale{i}"].logits["species"] for i in (1, 2, 3)]
    measured = model.measures(answer, labels)
    for i in (0, 1):
        assert measured[f"rank{i + 1}"] == ranking_loss(logits[i], logits[i + 1], labels, 0.05)


def test_in_evaluation_the_distance_from_the_start_counts_only_where_nothing_else_does():
    model, classes = make().eval(), ["scale1_classes", "scale2_classes", "fused_classes"]
    for phase, names in {"all": classes, "refine": classes, "locate": ["locate1"], "attend": ["rank1"]}.items():
        model.enter(phase)
        assert list(model.loss(model(images()), torch.arange(4))) == names


def test_classification_never_trains_the_attention():
    model = make(crop="sampler").train()
    answer = model(images())
    terms = model.loss(answer, torch.arange(4))
    sum(value for name, value in terms.items() if not name.startswith("locate")).backward()
    assert all(parameter.grad is None for parameter in model.attentions.parameters())
    assert model.scales[0].head.classifier.weight.grad.abs().sum() > 0


def test_what_is_left_without_the_box_and_its_size_may_teach_the_attention():
    model = make(crop="sampler", sharpness=30.0, rank_weight=0.0, erase_weight=2.0, shrink_weight=0.5).train()
    model.enter("attend")
    source, labels = images(), torch.tensor([0, 1, 2, -1])
    answer = model(source)
    terms = model.loss(answer, labels)
    assert list(terms) == ["erase1", "shrink1"]
    box = answer.steps[0].box
    assert terms["shrink1"].item() == pytest.approx(0.5 * (box[:, 2:] - box[:, :2]).mean().item())
    trunk = model.scales[0].backbone
    painted = erase(downscale(source, 32), box, trunk.mean, 30.0)
    logits = model.scales[0].head(trunk(painted)).logits["species"].double().log_softmax(dim=1)
    assert terms["erase1"].item() == pytest.approx(2 * logits[range(3), range(3)].mean().item(), rel=1e-4)
    sum(terms.values()).backward()
    assert model.attentions[0].box.bias.grad.abs().max() > 0
    model.eval()
    answer = make().eval()(source)
    assert answer.steps[0].erased is None and answer.steps[0].start is None  # nobody asks when predicting
    with pytest.raises(UsageError, match="all 0; nothing to learn"):
        make(rank_weight=0.0).enter("attend")


def test_one_backbone_may_serve_all_scales_and_is_stored_once():
    own, shared = make(num_scales=3), make(num_scales=3, share_backbone=True)
    assert sum(1 for _ in own.backbones()) == 3 and sum(1 for _ in shared.backbones()) == 1
    assert not any(key.startswith("scales.1.backbone") for key in shared.state_dict())
    again = copy.deepcopy(shared)
    assert all(scale.trunk is again.scales[0].backbone for scale in again.scales)
    shared.train()
    sum(shared.loss(shared(images()), torch.arange(4)).values()).backward()
    assert all(parameter.grad is not None for parameter in shared.parameters())
    with pytest.raises(UsageError, match="share one backbone"):
        shared.enter("refine")


def test_phases_of_an_attention_that_learns_nothing_are_refused():
    model = RACNN(TAXONOMY, 32, TINY, attention=partial(CentreBox, side=0.5))
    assert model.eval()(images()).boxes[0, 0].tolist() == [0.25, 0.25, 0.75, 0.75]
    for phase in ("locate", "attend"):
        with pytest.raises(UsageError, match="CentreBox learns nothing"):
            model.check_phase(phase)
    with pytest.raises(UsageError, match="num_scales 1"):
        make(num_scales=1)
    for keys in ({"crop_size": -4}, {"sharpness": 0.0}):
        with pytest.raises(UsageError, match=r"crop_size .* must be 1 or more"):
            make(**keys)
    with pytest.raises(UsageError, match="made for 32 px, so it cannot be shared with images of 64 px"):
        RACNN(TAXONOMY, 32, partial(Backbone, name="test_vit", weights="none"), crop_size=64, share_backbone=True)


def test_a_model_file_rebuilds_it():
    plain = {
        "class_path": "RACNN",
        "init_args": {
            "backbone": {"class_path": "Backbone", "init_args": {"name": "test_resnet", "weights": "none"}},
            "attention": {"class_path": "APN", "init_args": {"hidden": 16, "grid": 3, "square": False}},
            "num_scales": 3,
            "crop": "sampler",
        },
    }
    first = build(json.loads(json.dumps(plain)), TAXONOMY, 32).eval()
    second = build(plain, TAXONOMY, 32).eval()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images()).logits["species"], second(images()).logits["species"])


def test_bf16_stays_finite():
    model = make(num_scales=3).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for phase in model.phases:
            model.enter(phase)
            answer = model(images())
            loss = sum(model.loss(answer, torch.arange(4)).values())
            assert loss.isfinite() and answer.boxes.isfinite().all()
            loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


class Light(Channels, Backbone):
    """A backbone that cannot be wrong: its map is the image itself, coarsely."""

    channels = 3

    def __init__(self, image_size: int) -> None:
        nn.Module.__init__(self)
        self.stride = image_size // 8

    def forward(self, pixels: torch.Tensor) -> Features:
        return Features(adaptive_avg_pool2d(pixels.float() / 255, 8))


def searcher(crop: str, place: tuple[float, float]) -> RACNN:
    """A model that is sure of `bright` in proportion to the light it sees, and looks at `place` first."""
    model = RACNN(TWO, 64, Light, attention=partial(APN, hidden=8, grid=8), crop=crop, margin=1.0)
    for scale in model.scales:
        nn.init.zeros_(scale.head.classifier.weight)
        with torch.no_grad():
            scale.head.classifier.weight[1] = 3.0
            scale.head.classifier.bias[1] = -1.0
    with torch.no_grad():
        model.attentions[0].box.bias.copy_(torch.tensor([*(math.log(p / (1 - p)) for p in place), -0.7]))
    model.enter("attend")
    return model.train()


def lamp(x: int, y: int) -> torch.Tensor:
    """A soft light on a dark image."""
    axis = torch.arange(128.0)
    glow = torch.exp(-((axis[:, None] - y) ** 2 + (axis - x) ** 2) / (2 * 30**2))
    return (glow * 255).round().to(torch.uint8).expand(1, 3, 128, 128)


@pytest.mark.parametrize("crop", ["mask", "sampler"])
@pytest.mark.parametrize(("x", "y"), [(100, 64), (28, 64), (64, 100), (64, 28)])
def test_the_gradient_of_the_attention_points_to_the_light(crop, x, y):
    model = searcher(crop, (0.5, 0.5))
    model.loss(model(lamp(x, y)), torch.tensor([1]))["rank1"].backward()
    slope = model.attentions[0].box.bias.grad[:2]
    aim = torch.tensor([x - 64.0, y - 64.0])
    along = aim.nonzero()[0, 0]
    assert (slope[along] * aim[along]).item() < 0  # the loss falls towards the light
    assert slope[1 - along].abs() < 0.2 * slope[along].abs()


@pytest.mark.parametrize("crop", ["mask", "sampler"])
def test_a_misplaced_attention_recovers_by_the_ranking_loss_alone(crop):
    model = searcher(crop, (0.1, 0.9))
    optimizer = torch.optim.Adam(model.attentions.parameters(), lr=0.05)
    losses = []
    for _ in range(80):
        loss = model.loss(model(lamp(92, 40)), torch.tensor([1]))["rank1"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    left, top, right, bottom = model(lamp(92, 40)).boxes[0, 0].tolist()
    assert left < 92 / 128 < right and top < 40 / 128 < bottom
    assert losses[-1] < losses[0] - 0.03 and max(losses[-20:]) < losses[0]


def test_the_embedding_is_the_scales_embeddings_of_length_one():
    answer = make().eval()(images())
    parts = [normalize(answer.views[f"scale{i}"].embedding) for i in (1, 2)]
    torch.testing.assert_close(answer.embedding, torch.cat(parts, dim=1))
    assert isinstance(make().scales[0].head, LinearHead)


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    """Pictures (N, 3, 96, 96), labels and the birds' boxes of two genera that differ in their plumage."""
    source = GeneratedBirds(1, 1, 2, 1, 24, 0, 0, image_size=96, mark_size=0.04, root=str(tmp_path_factory.mktemp("b")))
    records = source.records("train")
    pictures = torch.stack([torch.from_numpy(decode(record.path)).permute(2, 0, 1) for record in records])
    boxes = [source.annotations("train", i).boxes["object"] for i in range(len(records))]
    return pictures, torch.from_numpy(records.labels).long(), torch.tensor(boxes)


def test_a_misplaced_attention_recovers_on_generated_birds(birds):
    pictures, labels, boxes = birds
    torch.manual_seed(0)
    apn = partial(APN, hidden=16, reduce_to=8, grid=3, side_min=0.3, side_max=0.8)
    model = RACNN(TWO, 48, TINY, attention=apn, crop="sampler", margin=1.0, rank_on="log_probability").train()
    fine = model.scales[1]
    optimizer = torch.optim.Adam(fine.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):  # the second scale learns to tell the birds apart, wherever they stand in its crop
        shift = (torch.rand(len(boxes), 2, generator=generator) - 0.5).repeat(1, 2) * 0.3
        crops = crop_and_resize(pictures, fitted((boxes + shift).clamp(0, 1), side_min=0.3)[:, None], 48)[:, 0]
        loss = fine.head.loss(fine.head(fine.backbone(crops)), labels)["classes"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        model.attentions[0].box.bias.copy_(torch.tensor([-2.2, -2.2, 0.0]))  # the upper left corner
    model.enter("attend")
    optimizer = torch.optim.Adam(model.attentions.parameters(), 0.02)
    losses, overlaps = [], []
    for _ in range(50):
        answer = model(pictures)
        loss = model.loss(answer, labels)["rank1"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        overlaps.append(box_iou(answer.boxes[:, 0].detach(), boxes).mean().item())
    assert overlaps[-1] > overlaps[0] + 0.15
    assert losses[-1] < losses[0] and max(losses[-10:]) < losses[0]  # it falls and stays down
