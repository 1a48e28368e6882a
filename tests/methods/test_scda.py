import numpy as np
import pytest
import timm
import torch
from fakes.tiny_model import tiny_model
from scipy.ndimage import label

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.embedder import Embedder
from fgvc.methods.features import Features
from fgvc.methods.scda import SCDA, descriptor, earlier_masks, object_masks

SMALL_VGG = {"mlp_ratio": 0.004}
"""With 16 numbers between its two layers of 4,096."""


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(side=32, number=2):
    return torch.randint(256, (number, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def activity(map_):
    """(C, h, w) float64 -> (h, w): the sum, or the length where there are negative numbers."""
    return np.sqrt((map_**2).sum(axis=0)) if (map_ < 0).any() else map_.sum(axis=0)


def largest(mask):
    """Return the largest 8-connected part; of equal ones the one whose last cell comes last in reading order."""
    parts, number = label(mask, structure=np.ones((3, 3)))
    rank = [(np.count_nonzero(parts == i), np.flatnonzero(parts == i)[-1], i) for i in range(1, number + 1)]
    return parts == max(rank)[2]


def pooled(map_, mask):
    """(C, h, w), (h, w) -> (2 C,), cell by cell."""
    chosen = [map_[:, y, x] for y in range(map_.shape[1]) for x in range(map_.shape[2]) if mask[y, x]]
    mean, highest = sum(chosen) / len(chosen), np.max(chosen, axis=0)
    return np.concatenate([mean / np.linalg.norm(mean), highest / np.linalg.norm(highest)])


def likeness(map_, token):
    """(C, h, w), (C,) -> (h, w) cosines."""
    return np.einsum("chw,c->hw", map_, token) / np.linalg.norm(map_, axis=0) / np.linalg.norm(token)


def scda(map_, earlier=None, token=None):
    """Return SCDA, or with an earlier map SCDA+, of an image: arrays (C, h, w), (C', h', w'), (C,) of float64."""
    total = activity(map_) if token is None else likeness(map_, token)
    mask = largest(total > total.mean())
    if earlier is None:
        return pooled(map_, mask)
    total = activity(earlier)
    inside = np.zeros(total.shape, dtype=bool)
    for y in range(total.shape[0]):
        for x in range(total.shape[1]):
            inside[y, x] = mask[y * mask.shape[0] // total.shape[0], x * mask.shape[1] // total.shape[1]]
    both = (total > total.mean()) & inside
    return np.concatenate([pooled(map_, mask), 0.5 * pooled(earlier, both if both.any() else inside)])


@pytest.mark.parametrize("kind", ["behind a ReLU", "signed"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (7, 7), (14, 11), (28, 28)])
def test_masks_are_the_largest_components_of_scipy(kind, shape):
    maps = noise(20, 4, *shape)
    maps = maps.relu() if kind == "behind a ReLU" else maps
    for map_, mask in zip(maps.double().numpy(), object_masks(maps).numpy(), strict=True):
        total = activity(map_)
        above = total > total.mean()
        assert np.array_equal(mask, largest(above) if above.any() else np.ones_like(above))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("grids", [((3, 3), (6, 6)), ((2, 5), (7, 9)), ((4, 4), (4, 4))])
def test_descriptors_are_those_of_a_slow_loop(signed, grids):
    last, earlier = noise(6, 3, *grids[0]), noise(6, 5, *grids[1], seed=1)
    last, earlier = (last, earlier) if signed else (last.relu(), earlier.relu())
    backbone = Backbone(32, "test_resnet", "none")
    found = SCDA(backbone, plus=True).of_features(Features(last, earlier=earlier))
    rows = [scda(*pair) for pair in zip(last.double().numpy(), earlier.double().numpy(), strict=True)]
    torch.testing.assert_close(found.double(), torch.from_numpy(np.stack(rows)), atol=1e-5, rtol=1e-4)
    alone = SCDA(backbone).of_features(Features(last))
    torch.testing.assert_close(alone, found[:, :6])


def test_an_earlier_layer_that_is_quiet_on_the_object_is_taken_where_the_object_is():
    masks = torch.zeros(1, 2, 2, dtype=torch.bool)
    masks[0, 0, 0] = True
    earlier = torch.zeros(1, 1, 4, 4)
    earlier[0, 0, 3, 3] = 1
    wanted = torch.zeros(1, 4, 4, dtype=torch.bool)
    wanted[0, :2, :2] = True
    assert torch.equal(earlier_masks(earlier, masks), wanted)


def test_the_mean_is_of_the_selected_cells_alone():
    map_ = torch.tensor([[3.0, 0.0], [4.0, 100.0]])[None, :, :, None]
    masks = torch.tensor([[True, False]])[:, :, None]
    torch.testing.assert_close(descriptor(map_, masks), torch.tensor([[0.6, 0.8, 0.6, 0.8]]))


def captured(net, layer, picture):
    """Return what a network of timm and one of its layers answer."""
    kept = []
    hook = net.get_submodule(layer).register_forward_hook(lambda module, given, answer: kept.append(answer.clone()))
    out = net.forward_features(picture)
    hook.remove()
    return out, kept[0]


@pytest.mark.parametrize(
    ("name", "arguments", "layer", "side"),
    [
        ("vgg16", SMALL_VGG, "features.27", 64),
        ("test_resnet", {}, "layer3", 64),
        ("mobilenetv2_050", {}, "blocks.4", 64),
    ],
)
@torch.no_grad()
def test_scda_flip_plus_of_a_convolutional_network_is_that_of_its_layers(name, arguments, layer, side):
    torch.manual_seed(0)
    backbone = Backbone(side, name, "none", arguments).eval()
    rows = []
    for view in (images(side), images(side).flip(3)):
        out, kept = captured(backbone.net, layer, (view.float() - backbone.mean) / backbone.std)
        rows.append(np.stack([scda(*pair) for pair in zip(out.double().numpy(), kept.double().numpy(), strict=True)]))
    wanted = torch.from_numpy(np.concatenate(rows, axis=1))
    embedder = Embedder(backbone, "scda_flip+").eval()
    torch.testing.assert_close(embedder(images(side)).double(), wanted, atol=1e-4, rtol=1e-3)
    assert embedder.scda.out_features == wanted.shape[1]


def test_the_layer_of_a_vgg_is_relu5_2():
    """`features` is conv5_1, ReLU, conv5_2, ReLU, conv5_3, ReLU, pool: the layer is followed by one convolution."""
    net = timm.create_model("vgg16", num_classes=0, **SMALL_VGG)
    backbone = Backbone(64, "vgg16", "none", SMALL_VGG)
    assert (backbone.keep_earlier(), backbone(images(64)).earlier.shape[2:]) == (512, (4, 4))
    after = [type(module).__name__ for module in list(net.features)[28:]]
    assert after == ["Conv2d", "ReLU", "MaxPool2d"]


@torch.no_grad()
def test_a_transformer_is_read_on_the_patches_that_are_like_its_class_token():
    torch.manual_seed(0)
    backbone = Backbone(64, "test_vit", "none", {"reg_tokens": 2}).eval()
    tokens, earlier = captured(backbone.net, "blocks.2", (images(64).float() - backbone.mean) / backbone.std)
    maps = [one[:, 3:].transpose(1, 2).reshape(2, -1, 4, 4).double().numpy() for one in (tokens, earlier)]
    parts = zip(*maps, tokens[:, 0].double().numpy(), strict=True)
    wanted = torch.from_numpy(np.stack([scda(*one) for one in parts]))
    torch.testing.assert_close(Embedder(backbone, "scda+")(images(64)).double(), wanted, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(Embedder(backbone, "scda")(images(64)).double(), wanted[:, :128], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("take", "width"), [("scda", 192), ("scda+", 576), ("scda_flip", 384), ("scda_flip+", 1152)])
@torch.no_grad()
def test_widths(take, width):
    backbone = Backbone(32, "test_resnet", "none").eval()  # maps of 96 and 192 channels
    embedder = Embedder(backbone, take)
    assert embedder(images()).shape == (2, width) and embedder.scda.out_features == width


@torch.no_grad()
def test_the_mirror_image_has_the_halves_changed_over():
    embedder = Embedder(Backbone(32, "test_resnet", "none").eval(), "scda_flip+")
    once, mirrored = embedder(images()), embedder(images().flip(3))
    torch.testing.assert_close(mirrored, once.roll(once.shape[1] // 2, dims=1))


@torch.no_grad()
def test_a_trained_model_is_read_at_its_first_backbone():
    recognizer = tiny_model().recognizer
    wanted = Embedder(recognizer.backbone, "scda")(images())
    torch.testing.assert_close(Embedder(recognizer, "scda")(images()), wanted)


def test_a_network_whose_earlier_layer_is_no_map_is_refused(monkeypatch):
    backbone = Backbone(32, "test_resnet", "none")
    monkeypatch.setattr("fgvc.methods.backbone.earlier_layer", lambda net: "global_pool")
    with pytest.raises(UsageError, match="its layer global_pool answers no map"):
        Embedder(backbone, "scda+")
    assert backbone(images()).earlier is None
