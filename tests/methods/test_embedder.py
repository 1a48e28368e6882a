import pytest
import timm
import torch
from fakes.tiny_model import TAXONOMY, tiny_model
from safetensors.torch import save_file
from torch.nn.functional import interpolate

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.embedder import Embedder
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.recognizers.whole_image import WholeImage

IMAGES = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def pair(tmp_path, name, size=32, **arguments):
    """Return a network of timm and a Backbone with the same weights."""
    net = timm.create_model(name, num_classes=0, **arguments).eval()
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    if "vit" in name:
        net.set_input_size(img_size=(size, size))
    return net, Backbone(size, name, str(tmp_path / "weights.safetensors"), arguments).eval()


def normalised(net, images):
    mean, std = (torch.tensor(net.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (images.float() / 255 - mean) / std


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
@torch.no_grad()
def test_the_vector_of_a_backbone_is_that_of_timm(tmp_path, name):
    net, backbone = pair(tmp_path, name)
    map_ = net.forward_features(normalised(net, IMAGES))
    wanted = net.forward_head(map_, pre_logits=True)
    torch.testing.assert_close(Embedder(backbone)(IMAGES), wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_map_and_mean_of_a_convolutional_network_are_those_of_timm(tmp_path):
    net, backbone = pair(tmp_path, "test_resnet")
    wanted = net.forward_features(normalised(net, IMAGES))
    torch.testing.assert_close(Embedder(backbone, "map")(IMAGES), wanted, rtol=1e-4, atol=1e-5)
    sums = torch.zeros(wanted.shape[:2])
    for row in range(wanted.shape[2]):
        for column in range(wanted.shape[3]):
            sums += wanted[:, :, row, column]
    mean = sums / (wanted.shape[2] * wanted.shape[3])
    torch.testing.assert_close(Embedder(backbone, "pooled")(IMAGES), mean, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_class_token_and_the_mean_of_the_patches_leave_registers_out(tmp_path):
    net, backbone = pair(tmp_path, "test_vit", reg_tokens=2)
    tokens = net.forward_features(normalised(net, IMAGES))
    wanted = torch.cat([tokens[:, 0], tokens[:, 3:].mean(dim=1)], dim=1)
    torch.testing.assert_close(Embedder(backbone, "cls+mean")(IMAGES), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(Embedder(backbone, "pooled")(IMAGES), tokens[:, 3:].mean(dim=1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_vector_of_a_recognizer_is_its_embedding():
    recognizer = tiny_model().recognizer
    assert torch.equal(Embedder(recognizer)(IMAGES), recognizer(IMAGES).embedding)


@torch.no_grad()
def test_the_first_backbone_of_a_recognizer_sees_the_whole_image_at_its_size():
    recognizer = WholeImage(TAXONOMY, 32, lambda size: Backbone(size, "test_resnet", "none"), LinearHead).eval()
    large = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    small = interpolate(large.float(), (32, 32), mode="bilinear", antialias=True)
    wanted = recognizer.backbone(small).map
    torch.testing.assert_close(Embedder(recognizer, "map")(large), wanted)


@pytest.mark.parametrize(
    ("name", "arguments", "take", "said"),
    [
        ("test_resnet", {}, "cls+mean", "ResNet has no class token"),
        ("test_vit", {"class_token": False, "reg_tokens": 1, "global_pool": "avg"}, "cls+mean", "has no class token"),
        ("test_resnet", {}, "pool", "did you mean 'pooled'"),
    ],
)
def test_what_a_network_has_not_is_refused(name, arguments, take, said):
    with pytest.raises(UsageError, match=said):
        Embedder(Backbone(32, name, "none", arguments), take)
