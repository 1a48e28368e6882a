import numpy as np
import pytest
import torch
from fakes.tiny_model import TAXONOMY, tiny_model
from torch import nn

from fgvc.datatypes import Prediction
from fgvc.images.regions import crop_and_resize, downscale
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.heads.base import Head
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.pooling.average import AveragePooling
from fgvc.methods.recognizers.base import Recognizer
from fgvc.methods.recognizers.whole_image import WholeImage
from fgvc.model_file.architecture import build
from fgvc.prediction.explain.heat_map import heat_maps, log_odds
from fgvc.prediction.predictor import Predictor
from fgvc.taxonomy.tree import Taxonomy

# (name, side of the image, arguments that make a big family quick)
FAMILIES = {
    "test_resnet": (96, {}),
    "test_efficientnet": (96, {}),
    "mobilenetv3_small_050": (96, {}),
    "regnety_002": (96, {}),
    "test_convnext": (96, {}),
    "test_nfnet": (96, {}),
    "test_mambaout": (96, {}),
    "test_vit": (96, {}),
    "deit_tiny_distilled_patch16_224": (64, {"depth": 1}),
    "eva02_tiny_patch14_224": (56, {"depth": 1}),
    "swin_tiny_patch4_window7_224": (96, {"embed_dim": 24, "depths": (1, 1, 2, 1)}),
    "test_maxvit": (96, {}),
    "test_coatnet": (96, {}),
}
RA_CNN = {
    "class_path": "RACNN",
    "init_args": {
        "backbone": {"class_path": "Backbone", "init_args": {"name": "test_resnet"}},
        "num_scales": 3,
        "attention": {"class_path": "CentreBox", "init_args": {"side": 0.5}},
    },
}
# What timm and torch say of each other while a position table is resized; nobody can act on it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.searchsorted"),
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence"),
]


def AVERAGE(taxonomy, backbone):
    return LinearHead(taxonomy, backbone, pooling=AveragePooling)


def pictures(size, number=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(256, (number, 3, 8, 8), generator=generator).float()
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")


def whole_image(name, weight_std=0.5):
    size, arguments = FAMILIES[name]
    torch.manual_seed(0)
    model = WholeImage(TAXONOMY, size, lambda side: Backbone(side, name, "none", arguments), AVERAGE).eval()
    nn.init.normal_(model.head.classifier.weight, std=weight_std)
    return model, pictures(size)


def activation_map(features, weight):
    """The class activation map in loops: for each place the sum of weight * channel, nothing below 0, over its maximum.

    Args: features (N, C, h, w); weight (N, C).
    """
    maps = []
    for image, row in zip(features.double(), weight.double(), strict=True):
        total = sum(w * channel for w, channel in zip(row, image, strict=True)).clamp_min(0)
        maps.append(total / total.max() if total.max() > 0 else total)
    return torch.stack(maps)


def against_the_others(weight, logits, leaf):
    """What speaks for a leaf: its weights less the mean of the others', each as likely as it is among the others."""
    others = [k for k in range(len(weight)) if k != leaf]
    share = logits[others].double().softmax(dim=0)
    return weight[leaf].double() - sum(s * weight[k].double() for s, k in zip(share, others, strict=True))


# --- the right map, for every family ---


@pytest.mark.parametrize("name", FAMILIES)
def test_with_average_pooling_it_is_the_class_activation_map(name):
    model, images = whole_image(name)
    weight = model.head.classifier.weight.detach()
    with torch.no_grad():
        features, answer = model.backbone(images).map, model(images).logits["species"]
    heat = heat_maps(model, images)
    slopes = torch.stack([against_the_others(weight, row, int(row.argmax())) for row in answer])
    expected = activation_map(features, slopes)
    assert (expected.amax(dim=(1, 2)) == 1).all() and expected.std() > 0.05  # the example says something
    assert heat.whole.shape == (2, *features.shape[2:])
    torch.testing.assert_close(heat.whole.double(), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(heat.prediction.logits["species"].detach(), answer)
    assert heat.views == {}


@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_with_one_class_against_nothing_it_is_the_textbook_map(name):
    """Zhou and others, 2016: the sum of w_c F_c. All other classes have weight 0 here."""
    model, images = whole_image(name)
    weight = model.head.classifier.weight.data
    weight[1:] = 0
    with torch.no_grad():
        features = model.backbone(images).map
    heat = heat_maps(model, images, leaves=torch.tensor([0, 0]))
    torch.testing.assert_close(heat.whole.double(), activation_map(features, weight[[0, 0]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("corner", ["upper right", "lower left"])
def test_what_is_changed_in_a_corner_lights_up_in_that_corner(name, corner):
    """The class is what the change adds to the pooled features. These two corners tell a transposed grid."""
    size, arguments = FAMILIES[name]
    side = 4 * size  # a map so fine that a corner is not all of it
    torch.manual_seed(1)
    model = WholeImage(TAXONOMY, side, lambda s: Backbone(s, name, "none", arguments), AVERAGE).eval()
    plain = torch.full((1, 3, side, side), 128.0)
    part = side // 4
    rows, columns = np.s_[:part, -part:] if corner == "upper right" else np.s_[-part:, :part]
    marked = plain.clone()
    marked[..., rows, columns] = pictures(part, 1, seed=5)
    with torch.no_grad():
        before, after = (model.backbone(x).map.mean(dim=(0, 2, 3)) for x in (plain, marked))
        added = after - before
        weight = model.head.classifier.weight.zero_()
        weight[2] = added - (added @ before) / (before @ before) * before  # nothing of what is everywhere
    heat = heat_maps(model, marked, torch.tensor([2])).whole[0]
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    found = ("upper" if row < heat.shape[0] / 2 else "lower", "left" if column < heat.shape[1] / 2 else "right")
    assert " ".join(found) == corner


@pytest.mark.parametrize("name", ["test_vit", "deit_tiny_distilled_patch16_224", "cait_xxs24_224"])
def test_of_a_class_token_it_is_the_grid_that_the_token_reads(name):
    """By hand: timm's network from the norm of its last block on, and the gradient of that norm's answer."""
    side = 224 if name.startswith("cait") else 64
    arguments = {"depth": 2, "depth_token_only": 1} if name.startswith("cait") else {"depth": 2}
    cells = (side // 16) ** 2
    torch.manual_seed(0)
    model = WholeImage(TAXONOMY, side, lambda side: Backbone(side, name, "none", arguments)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1) if parameter.ndim > 1 else None
    images, net, grids = pictures(side), model.backbone.net, []

    def cut(_module, _given, out):
        grids.append(out[:, -cells:].detach().requires_grad_())
        return torch.cat([out[:, :-cells], grids[-1]], dim=1)

    last = net.blocks_token_only[-1] if name.startswith("cait") else net.blocks[-1]
    hook = last.norm1.register_forward_hook(cut)
    features = net.forward_features((images - model.backbone.mean) / model.backbone.std)
    logits = net.forward_head(features, pre_logits=True) @ model.head.classifier.weight.T + model.head.classifier.bias
    hook.remove()
    chances = logits.double().softmax(dim=1)
    asked = chances.max(dim=1).values
    (slope,) = torch.autograd.grad((asked / (1 - asked)).log().sum(), grids)
    evidence = (slope * grids[0]).sum(dim=2).clamp_min(0).view(2, side // 16, side // 16).detach()
    highest = evidence.amax(dim=(1, 2), keepdim=True)
    assert (highest > 0).all()
    torch.testing.assert_close(heat_maps(model, images).whole, evidence / highest, atol=1e-3, rtol=0)


# --- every kind of recognizer ---


def ra_cnn(fusion="descriptors", std=0.5):
    torch.manual_seed(5)
    plain = {**RA_CNN, "init_args": {**RA_CNN["init_args"], "fusion": fusion}}
    model = build(plain, TAXONOMY, 96, weights="none").eval()
    for scale in model.scales:
        nn.init.normal_(scale.head.classifier.weight, std=std)
    return model


@pytest.mark.parametrize("fusion", ["descriptors", "average"])
def test_each_scale_has_the_map_of_its_own_frame_though_scales_are_detached(fusion):
    model, images = ra_cnn(fusion), pictures(192, 3)
    asked = torch.tensor([4, 0, 2])
    heat = heat_maps(model, images, asked)
    assert list(heat.views) == ["scale1", "scale2", "scale3"]  # fused has no frame of its own
    for number, scale in enumerate(model.scales):
        edge = (0, 0.25, 0.375)[number]
        frame = torch.tensor([edge, edge, 1 - edge, 1 - edge])
        with torch.no_grad():
            crop = crop_and_resize(images, frame.expand(3, 1, 4), 96)[:, 0] if number else downscale(images, 96)
            features = scale.backbone(crop).map
            logits = scale.head(Features(features)).logits["species"]
        weight = scale.head.classifier.weight.detach()
        slopes = torch.stack(
            [against_the_others(weight, row, leaf) for row, leaf in zip(logits, asked.tolist(), strict=True)]
        )
        expected = activation_map(features, slopes)
        assert expected.std() > 0.05
        torch.testing.assert_close(heat.views[f"scale{number + 1}"].double(), expected, atol=1e-3, rtol=0)
    if fusion == "descriptors":  # its own classifier reads detached descriptors
        torch.testing.assert_close(heat.whole, heat.views["scale1"])


class Parts(Recognizer):
    """Left and right half through one call of one backbone, the images' parts or the parts' images side by side."""

    def __init__(self, taxonomy, image_size, by_image=True):
        super().__init__(taxonomy, image_size)
        self.backbone = Backbone(image_size, "test_resnet", "none")
        self.weights = nn.Parameter(torch.randn(2, taxonomy.num_classes, self.backbone.channels))
        self.by_image = by_image

    def forward(self, images):
        number = len(images)
        halves = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]).expand(number, 2, 4)
        crops = crop_and_resize(images, halves, self.image_size)
        if not self.by_image:
            crops = crops.transpose(0, 1)
        maps = self.backbone(crops.flatten(0, 1)).map.unflatten(0, crops.shape[:2])
        maps = maps if self.by_image else maps.transpose(0, 1)
        views = {}
        for i in range(2):
            embedding = maps[:, i].mean(dim=(2, 3))
            logits = embedding @ self.weights[i].T
            views[f"part{i + 1}"] = Prediction({"species": logits}, embedding, halves[:, i : i + 1])
        total = views["part1"].logits["species"] + views["part2"].logits["species"]
        return Prediction({"species": total}, embedding, halves, views)

    def loss(self, prediction, labels):
        return {}


@pytest.mark.parametrize("by_image", [True, False])
def test_parts_that_share_a_call_get_their_own_maps(by_image):
    torch.manual_seed(3)
    model, images = Parts(TAXONOMY, 64, by_image).eval(), pictures(64, 3)
    asked = torch.tensor([1, 3, 0])
    heat = heat_maps(model, images, asked)
    for i, left in enumerate((0.0, 0.5)):
        half = torch.tensor([left, 0.0, left + 0.5, 1.0]).expand(3, 1, 4)
        with torch.no_grad():
            features = model.backbone(crop_and_resize(images, half, 64)[:, 0]).map
        weight = model.weights[i].detach()
        logits = features.mean(dim=(2, 3)) @ weight.T
        slopes = [against_the_others(weight, row, leaf) for row, leaf in zip(logits, asked.tolist(), strict=True)]
        expected = activation_map(features, torch.stack(slopes))
        torch.testing.assert_close(heat.views[f"part{i + 1}"].double(), expected, atol=1e-3, rtol=0)
    assert heat.whole is None  # no call saw the whole image


class OneBox(Recognizer):
    """Sees one box only, with or without a view that says so; or the whole image first, for the same classifier."""

    def __init__(self, box, views, glance):
        super().__init__(TAXONOMY, 64)
        self.backbone = Backbone(64, "test_resnet", "none")
        self.classifier = nn.Linear(self.backbone.channels, 5)
        self.box, self.views, self.glance = torch.tensor([[box]]), views, glance

    def forward(self, images):
        boxes = self.box.expand(len(images), 1, 4)
        embedding = torch.zeros(())
        if self.glance:
            embedding = self.backbone(images).map.mean(dim=(2, 3))
        embedding = embedding + self.backbone(crop_and_resize(images, boxes, 64)[:, 0]).map.mean(dim=(2, 3))
        answer = Prediction({"species": self.classifier(embedding)}, embedding, boxes)
        return Prediction(answer.logits, embedding, boxes, {"crop": answer} if self.views else {})

    def loss(self, prediction, labels):
        return {}


@pytest.mark.parametrize("views", [True, False])
@pytest.mark.parametrize(
    ("box", "glance", "whole"),
    [
        ([0.0, 0.0, 0.5, 0.5], False, False),
        ([0.0, 0.0, 0.5, 0.5], True, True),
        ([0.0, 0.0, 1.0, 1.0], True, True),
    ],
)
def test_the_map_of_a_box_is_never_taken_for_that_of_the_whole_image(box, glance, whole, views):
    torch.manual_seed(6)
    heat = heat_maps(OneBox(box, views, glance).eval(), pictures(64))
    assert (heat.whole is not None) == whole
    assert list(heat.views) == (["crop"] if views else []) and (heat.boxes is not None) == (not views)


def test_the_boxes_of_several_images_keep_their_images():
    torch.manual_seed(3)
    model, images = Parts(TAXONOMY, 64).eval(), pictures(64, 3)
    forward = model.forward

    def without_views(x):
        found = forward(x)
        return Prediction(found.logits, found.embedding, found.boxes)

    model.forward = without_views
    heat = heat_maps(model, images)
    assert heat.views == {} and heat.boxes.shape == (3, 2, 2, 2) and heat.boxes.std() > 0.05
    for i in range(3):
        torch.testing.assert_close(heat_maps(model, images[i : i + 1]).boxes[0], heat.boxes[i], atol=1e-4, rtol=0)


class InPlace(Head):
    """Changes its map, and reads one corner of it."""

    def __init__(self, taxonomy, backbone):
        super().__init__(taxonomy, backbone, AveragePooling)
        self.classifier = nn.Linear(backbone.channels, taxonomy.num_classes)

    def forward(self, features):
        features.map[..., 1:, :] = 0
        embedding = features.map[..., 0, -1]
        return Prediction({"species": self.classifier(embedding)}, embedding)


def test_a_head_that_reads_one_place_and_changes_its_map_gets_heat_there_alone():
    torch.manual_seed(4)
    model = WholeImage(TAXONOMY, 96, lambda side: Backbone(side, "test_resnet", "none"), InPlace).eval()
    leaf = torch.tensor([0, 1])
    heat = heat_maps(model, pictures(96), leaf).whole
    slope = heat.clone()
    slope[:, 0, -1] = 0
    assert not slope.any() and ((heat[:, 0, -1] == 1) | (heat[:, 0, -1] == 0)).all()


# --- a class that is asked for ---


def test_log_odds_are_those_of_the_softmax_and_their_gradient_never_fades():
    logits = torch.tensor([[1.0, -2.0, 0.5], [30.0, -30.0, 0.0]], requires_grad=True)
    leaves = torch.tensor([2, 0])
    odds = log_odds(logits, leaves)
    p = logits.detach().double().softmax(dim=1)[0, 2]
    assert odds[0].item() == pytest.approx((p / (1 - p)).log().item(), abs=1e-5)
    odds[1].backward()
    assert logits.grad[1].tolist() == pytest.approx([1, 0, -1], abs=1e-6)  # log p gives 1e-13 here
    assert log_odds(torch.tensor([[5.0]]), torch.tensor([0])).item() == 5  # nothing to compare with


def test_a_sure_model_has_as_good_a_map_as_an_unsure_one():
    model, images = whole_image("test_resnet")
    weight = model.head.classifier.weight.data
    weight[2:] = 0  # one class against one other direction, so that being sure does not change what it is against
    weight[1] = -weight[0]
    model.head.classifier.bias.data = torch.tensor([0.0, 0.0, -1e4, -1e4, -1e4])
    unsure = heat_maps(model, images, torch.tensor([0, 0])).whole
    model.head.classifier.bias.data[0] = 80
    sure = heat_maps(model, images, torch.tensor([0, 0]))
    assert (sure.prediction.logits["species"].softmax(dim=1)[:, 0] == 1).all()
    torch.testing.assert_close(sure.whole, unsure, atol=1e-5, rtol=0)


def test_what_speaks_for_all_classes_is_left_out():
    model, images = whole_image("test_resnet")
    before = heat_maps(model, images).whole
    model.head.classifier.weight.data += 3 * torch.randn(model.backbone.channels)
    torch.testing.assert_close(heat_maps(model, images).whole, before, atol=1e-3, rtol=0)


def test_images_of_a_batch_do_not_reach_each_other():
    model, images = whole_image("test_vit")
    together = heat_maps(model, images).whole
    for i in range(2):
        torch.testing.assert_close(heat_maps(model, images[i : i + 1]).whole[0], together[i], atol=1e-4, rtol=0)


def test_a_single_class_has_a_map_too():
    torch.manual_seed(0)
    model = WholeImage(Taxonomy.flat(["only"]), 64, lambda side: Backbone(side, "test_resnet", "none")).eval()
    assert heat_maps(model, pictures(64)).whole.isfinite().all()


# --- nothing is left behind ---


def traces(model):
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    asked = [parameter.requires_grad for parameter in model.parameters()]
    return hooks, asked, [m.training for m in model.modules()], [p.grad for p in model.parameters()]


@pytest.mark.parametrize("frozen", [True, False])
def test_neither_gradients_nor_hooks_stay_and_frozen_parameters_make_no_difference(frozen):
    model, images = ra_cnn(), pictures(96)
    expected = heat_maps(model, images)
    model.requires_grad_(not frozen)
    before = traces(model)
    heat = heat_maps(model, images)
    assert traces(model) == before and before[0] == 0 and before[3] == [None] * len(before[3])
    assert torch.is_grad_enabled()
    torch.testing.assert_close(heat.whole, expected.whole)
    torch.testing.assert_close(heat.views, expected.views)
    assert all(not x.requires_grad for x in (heat.whole, *heat.views.values()))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_mode_around_it_makes_no_difference_and_comes_back(mode):
    model, images = whole_image("test_resnet")
    expected = heat_maps(model, images).whole
    with mode():
        state = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        torch.testing.assert_close(heat_maps(model, images).whole, expected)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == state


def test_a_failure_inside_leaves_nothing_behind(monkeypatch):
    model, images = whole_image("test_resnet")
    before = traces(model)

    def fail(_):
        raise RuntimeError("inside")

    monkeypatch.setattr(model.backbone.net, "forward_features", fail)
    with pytest.raises(RuntimeError, match="inside"):
        heat_maps(model, images)
    assert traces(model) == before and torch.is_grad_enabled()


@pytest.mark.parametrize("name", ["test_vit", "eva02_tiny_patch14_224", "swin_tiny_patch4_window7_224", "test_maxvit"])
def test_it_works_after_an_answer_in_inference_mode(name):
    """Tables that a network remembers from there cannot take part in a gradient."""
    model, images = whole_image(name)
    with torch.inference_mode():
        model(images)
    assert heat_maps(model, images).whole.amax() == 1


def test_a_model_on_a_predictor_keeps_answering_the_same():
    model = tiny_model()
    predictor = Predictor(model)
    images = pictures(32).to(torch.uint8)
    before = predictor.scores(images)[0]["species"]
    heat_maps(model.recognizer, images)
    assert torch.equal(predictor.scores(images)[0]["species"], before)
