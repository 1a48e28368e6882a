from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from fgvc.errors import UsageError
from fgvc.images.decoding import decode
from fgvc.images.resizing import EvalResize, resize_for_eval
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.heads.hse import HSEHead
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.pooling.average import AveragePooling
from fgvc.methods.pooling.gem import GeMPooling
from fgvc.methods.pooling.native import NativePooling
from fgvc.methods.recognizers.fcan import FCAN
from fgvc.methods.recognizers.ra_cnn import RACNN
from fgvc.methods.recognizers.whole_image import WholeImage
from fgvc.taxonomy.tree import Taxonomy

TAXONOMY = Taxonomy(["family", "species"], [("Finches", "Siskin"), ("Finches", "Serin"), ("Owls", "Barn Owl")])
SHARED = Path(__file__).parents[4] / "shared"
TRAINED = [
    ("mobilenetv2_100", "mobilenetv2_100.tf_in1k", 224),
    ("tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k_backbone", 224),
    ("tf_efficientnet_lite2", "tf_efficientnet_lite2.in1k", 260),
]
LAYERS = {
    # a family by one of its networks: the layers between map and classifier, as timm names them
    "test_resnet": [],
    "mobilenetv2_100": [],
    "test_convnext": ["head.norm"],
    "mobilenetv3_small_050": ["conv_head"],
    "ghostnet_050": ["conv_head"],
    "hgnetv2_b0": ["head.last_conv.0"],
    "efficientvit_b0": ["head.in_conv.conv", "head.in_conv.norm", "head.classifier.0", "head.classifier.1"],
    "tiny_vit_5m_224": ["head.norm"],
    "test_vit": [],
    "test_vit2": ["fc_norm"],
}


def colours(size: int) -> torch.Tensor:
    return torch.randint(256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def twin(backbone: Backbone, name: str, pooling: torch.nn.Module) -> torch.nn.Module:
    """Return timm's own network with the weights of ours."""
    net = timm.create_model(name, num_classes=0).eval()
    own = {**backbone.net.state_dict(), **pooling.own.net.state_dict()}
    net.load_state_dict({key: own[key] for key in net.state_dict()})  # each is in one of the two
    return net


@pytest.mark.parametrize("name", LAYERS)
def test_it_gives_what_timms_classifier_reads_and_every_weight_is_kept_once(name):
    side = timm.get_pretrained_cfg(name).input_size[-1]
    torch.manual_seed(0)
    backbone = Backbone(side, name, "none").eval()
    pooling = NativePooling(backbone.channels).attach(backbone).eval()
    for parameter in (*backbone.parameters(), *pooling.parameters()):
        torch.nn.init.normal_(parameter, std=0.05) if parameter.ndim > 1 else parameter.data.add_(0.1)
    assert not {name for name, _ in backbone.net.named_parameters()} & {
        n for n, _ in pooling.own.net.named_parameters()
    }
    layers = {name.rpartition(".")[0] for name, _ in pooling.own.net.named_parameters()}
    assert all(any(layer.startswith(wanted) for layer in layers) for wanted in LAYERS[name])
    assert bool(layers) == bool(LAYERS[name])
    net = twin(backbone, name, pooling)
    normalised = (colours(side) - backbone.mean) / backbone.std
    with torch.no_grad():
        wanted = net.forward_head(net.forward_features(normalised), pre_logits=True)
        vectors = pooling.pool(backbone(colours(side)))
    assert vectors.shape == (2, pooling.out_features)
    torch.testing.assert_close(vectors, wanted, rtol=0, atol=1e-5)


def test_a_map_without_its_class_token_is_averaged():
    backbone = Backbone(160, "test_vit", "none").eval()
    pooling = NativePooling(backbone.channels).attach(backbone).eval()
    with torch.no_grad():
        features = backbone(colours(160))
        torch.testing.assert_close(pooling.pool(features), features.prefix[:, 0])
        torch.testing.assert_close(pooling(features.map), features.map.mean(dim=(2, 3)))
        assert not torch.allclose(pooling(features.map), pooling.pool(features), atol=0.01)


def test_the_first_takes_the_layers_and_the_next_ones_copy_them():
    backbone = Backbone(64, "mobilenetv3_small_050", "none")
    first, second = (NativePooling(backbone.channels).attach(backbone) for _ in range(2))
    assert first.own.net.conv_head.weight is not second.own.net.conv_head.weight
    assert torch.equal(first.own.net.conv_head.weight, second.own.net.conv_head.weight)
    assert first.out_features == 1024
    assert not any(name.startswith("net.conv_head") for name in backbone.state_dict())


@pytest.mark.parametrize("pooling", [AveragePooling, GeMPooling])
def test_a_pooling_that_reads_the_map_leaves_no_weight_unused(pooling):
    model = WholeImage(TAXONOMY, 64, lambda size: Backbone(size, "mobilenetv3_small_050", "none"), head(pooling))
    sum(model.loss(model(colours(64)), torch.tensor([0, 2])).values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    full = sum(p.numel() for p in timm.create_model("mobilenetv3_small_050", num_classes=0).parameters())
    assert sum(p.numel() for p in model.backbone.parameters()) < 0.53 * full
    with pytest.raises(UsageError, match="give the head AveragePooling"):
        model.backbone.own_head()  # the first image has thrown it away


def head(pooling):
    return lambda taxonomy, backbone: LinearHead(taxonomy, backbone, pooling=pooling)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "test_convnext", "test_vit"])
@pytest.mark.parametrize("method", [WholeImage, RACNN, FCAN])
def test_every_method_learns_through_it_and_a_phase_head_leaves_it_still(method, name):
    side = 160 if name == "test_vit" else 64
    options = {"crop_size": side} if method is not WholeImage else {}
    model = method(TAXONOMY, side, lambda size: Backbone(size, name, "none"), head(NativePooling), **options)
    own = [module for module in model.modules() if isinstance(module, NativePooling)]
    sum(model.loss(model(colours(side)), torch.tensor([0, 2])).values()).backward()
    assert own and all(p.grad is not None for pooling in own for p in pooling.parameters())
    if "head" in model.phases:
        model.enter("head")
        assert not any(p.requires_grad for pooling in own for p in pooling.parameters())
        assert not any(pooling.own.training for pooling in own)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_hse_pools_each_branch_by_layers_of_its_own(name, share):
    side = 160 if name == "test_vit" else 64
    model = WholeImage(
        TAXONOMY, side, lambda size: Backbone(size, name, "none"), lambda t, b: HSEHead(t, b, share_last_stage=share)
    )
    sum(model.loss(model(colours(side)), torch.tensor([0, 2])).values()).backward()
    poolings = [module for module in model.modules() if isinstance(module, NativePooling)]
    assert len(poolings) == 3
    assert len({id(p) for pooling in poolings for p in pooling.parameters()}) == sum(
        len(list(pooling.parameters())) for pooling in poolings
    )
    if not share:
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.photos
@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is missing")
@pytest.mark.parametrize(("name", "file", "side"), TRAINED)
def test_for_the_networks_of_the_results_it_is_the_mean_of_real_photographs(name, file, side):
    backbone = Backbone(side, name, str(SHARED / "weights" / f"{file}.safetensors")).eval()
    pooling = NativePooling(backbone.channels).attach(backbone).eval()
    paths = sorted((SHARED / "CUB_200_2011/images").glob("*/*.jpg"))[::187]
    squares = [resize_for_eval(decode(path), EvalResize(side))[0] for path in paths]
    with torch.no_grad():
        features = backbone(torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2))
        assert torch.equal(pooling.pool(features), features.map.mean(dim=(2, 3)))
    assert len(paths) > 30 and not list(pooling.parameters())


def test_without_a_backbone_it_says_so():
    with pytest.raises(UsageError, match="call attach first"):
        NativePooling(3).pool(Features(torch.zeros(1, 3, 2, 2)))
