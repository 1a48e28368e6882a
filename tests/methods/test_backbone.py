from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from fgvc.errors import FgvcError, UsageError
from fgvc.methods.backbone import Backbone

# Depths that make big families quick.
SMALL = {
    "densenet121": {"growth_rate": 8, "block_config": (1, 1, 1, 1)},
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "depths": (1, 1, 2, 1)},
    "vit_tiny_patch16_224": {"depth": 1},
    "deit_tiny_distilled_patch16_224": {"depth": 1},
    "eva02_tiny_patch14_224": {"depth": 1},
}
WEIGHTS = Path(__file__).parents[2].parent / "shared" / "weights" / "mobilenetv2_100.tf_in1k.safetensors"
FAMILIES = [
    # (name, side of the image, side of the map): strides 14 to 32, sizes that a CNN pads
    ("test_resnet", 64, 2),
    ("test_byobnet", 72, 3),
    ("mobilenetv2_100", 65, 3),
    ("mobilenetv3_small_050", 64, 2),
    ("test_efficientnet", 70, 3),
    ("regnety_002", 64, 2),
    ("densenet121", 64, 2),
    ("convnext_atto", 64, 2),
    ("edgenext_xx_small", 64, 2),
    ("mobilevit_xxs", 64, 2),
    ("test_mambaout", 64, 2),
    ("vit_tiny_patch16_224", 64, 4),
    ("deit_tiny_distilled_patch16_224", 48, 3),
    ("test_vit", 160, 10),
    ("eva02_tiny_patch14_224", 56, 4),
    ("swin_tiny_patch4_window7_224", 96, 3),
    ("maxvit_pico_rw_256", 64, 2),
]
# What timm and torch say of each other while a position table is resized; nobody can act on it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.searchsorted"),
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence"),
]


def pictures(size: int) -> torch.Tensor:
    return torch.randint(256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def one_line(error: type[FgvcError], size: int = 64, **options) -> str:
    with pytest.raises(FgvcError) as caught:
        Backbone(size, **{"weights": "none", **options})
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- images -> map ---


@pytest.mark.parametrize(("name", "size", "side"), FAMILIES)
def test_every_family_gives_a_map_of_its_published_width_and_stride(name, size, side):
    backbone = Backbone(size, name, "none", SMALL.get(name)).eval()
    with torch.no_grad():
        features = backbone(pictures(size)).map
    assert features.shape == (2, backbone.channels, side, side)
    assert side in (size // backbone.stride, -(-size // backbone.stride))
    assert features.isfinite().all()
    assert features.std() > 0


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_the_map_holds_the_trunks_own_features_each_at_its_place(name):
    backbone = Backbone(64, name, "none", SMALL.get(name), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)).eval()
    images = pictures(64)
    channels = zip(images.double().unbind(1), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), strict=True)
    normalised = torch.stack([(x / 255 - mean) / std for x, mean, std in channels], dim=1).float()
    with torch.no_grad():
        features, out = backbone(images).map, backbone.net.forward_features(normalised)
    for i in range(features.shape[2]):
        for j in range(features.shape[3]):
            if out.ndim == 3:
                prefix = {"test_vit": 1, "deit_tiny_distilled_patch16_224": 2}[name]
                expected = out[:, prefix + i * features.shape[3] + j]
            else:
                expected = out[:, i, j] if name.startswith("swin") else out[:, :, i, j]
            torch.testing.assert_close(features[:, :, i, j], expected, rtol=1e-3, atol=1e-4)


def test_uint8_and_float_images_give_the_same_map_and_the_weights_bring_their_own_mean():
    backbone = Backbone(64, "test_resnet", "none").eval()
    assert torch.equal(backbone(pictures(64)).map, backbone(pictures(64).float()).map)
    imagenet = Backbone(64, "regnety_002", "none").mean
    torch.testing.assert_close(imagenet.flatten(), 255 * torch.tensor([0.485, 0.456, 0.406]))
    half = Backbone(64, "vit_tiny_patch16_224.augreg_in21k", "none")
    assert half.std.flatten().tolist() == [127.5] * 3
    assert {"mean", "std"} <= set(half.state_dict())


def test_the_map_moves_with_the_picture():
    """A patch of the image that changes alters the transformer's map most at its own place."""
    backbone = Backbone(64, "vit_tiny_patch16_224", "none", SMALL["vit_tiny_patch16_224"]).eval()
    images = pictures(64)[:1]
    changed = images.clone()
    changed[..., 16:32, 48:64] = 255 - changed[..., 16:32, 48:64]
    with torch.no_grad():
        difference = (backbone(images).map - backbone(changed).map).norm(dim=1)[0]
    assert divmod(int(difference.argmax()), 4) == (1, 3)


# --- weights ---


@pytest.fixture
def doctored(tmp_path) -> Path:
    """Write the weights of a test_resnet with a classifier, lacking one layer."""
    state = timm.create_model("test_resnet", num_classes=7).state_dict()
    state = {key: value + 0.125 if value.is_floating_point() else value for key, value in state.items()}
    for key in ("conv1.0.weight", "layer4.0.bn1.bias"):
        del state[key]
    save_file(state, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_the_report_of_a_local_file_is_exact(doctored):
    backbone = Backbone(64, "test_resnet", str(doctored))
    state, stored = backbone.net.state_dict(), load_file(doctored)
    assert backbone.report.reset == ("conv1.0.weight", "layer4.0.bn1.bias")
    assert backbone.report.ignored == ("fc.bias", "fc.weight")
    named = {key for key in state if "num_batches" not in key}
    assert set(backbone.report.kept) == named - set(backbone.report.reset)
    assert all(torch.equal(state[key], stored[key]) for key in backbone.report.kept)
    text = f"kept {len(named) - 2} tensors, reset 2 (conv1.0.weight, layer4.0.bn1.bias), ignored 2 (fc.bias, fc.weight)"
    assert str(backbone.report) == f"test_resnet from {doctored}: {text}"
    assert Backbone(64, "test_resnet", "none").report is None


def test_a_file_that_fills_little_of_the_network_is_refused_unless_asked_for(tmp_path):
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    few = {key: value for key, value in state.items() if key.startswith("conv1.")}
    save_file(few, tmp_path / "few.safetensors")
    numbers = {key: value.numel() for key, value in state.items() if "num_batches" not in key}
    share = sum(numbers[key] for key in few if key in numbers) / sum(numbers.values())
    message = one_line(UsageError, name="test_resnet", weights=str(tmp_path / "few.safetensors"))
    assert f"few.safetensors fills {share:.1%} of the numbers of test_resnet (kept " in message
    assert "give a file of this network, or min_kept: 0." in message
    asked = float(message.rpartition("min_kept: ")[2].split()[0])
    backbone = Backbone(64, "test_resnet", str(tmp_path / "few.safetensors"), min_kept=asked)
    assert set(backbone.report.kept) == {key for key in few if key in numbers}


def test_unfit_weight_files_are_one_line(tmp_path, doctored):
    (tmp_path / "cut.safetensors").write_bytes(doctored.read_bytes()[:1000])
    save_file({"foreign": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    state = load_file(doctored)
    save_file({**state, "layer1.0.conv1.weight": torch.zeros(1, 2, 3, 3)}, tmp_path / "shape.safetensors")
    options = {"name": "test_resnet"}
    assert "none.safetensors is no file; give" in one_line(
        UsageError, weights=str(tmp_path / "none.safetensors"), **options
    )
    line = one_line(UsageError, weights=str(tmp_path / "cut.safetensors"), **options)
    assert "cut.safetensors is not a whole safetensors" in line
    assert "shares no tensor" in one_line(UsageError, weights=str(tmp_path / "foreign.safetensors"), **options)
    assert "does not fit (" in one_line(UsageError, weights=str(tmp_path / "shape.safetensors"), **options)


def test_weights_that_cannot_be_downloaded_are_one_line_that_says_what_to_do(monkeypatch):
    def offline(*_args, **options):
        assert options["pretrained"] is True
        raise OSError("We couldn't connect.\n\nCheck your\nconnection.")

    monkeypatch.setattr(timm, "create_model", offline)
    message = one_line(FgvcError, name="resnet18", weights="pretrained")
    assert "pretrained weights could not be had (We couldn't connect. Check your)" in message
    assert "give a local file (safetensors, .pth) as `weights`" in message
    assert "`weights: none`" in message


@pytest.mark.photos
@pytest.mark.skipif(not WEIGHTS.is_file(), reason="../shared/weights is missing")
def test_the_mobilenet_of_the_proving_ground_keeps_every_tensor():
    backbone = Backbone(
        160, "mobilenetv2_100", str(WEIGHTS), {"pad_type": "same"}, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    ).eval()
    assert backbone.report.reset == ()
    assert all(name.startswith("classifier.") for name in backbone.report.ignored)
    assert torch.equal(backbone.net.state_dict()["conv_stem.weight"], load_file(WEIGHTS)["conv_stem.weight"])
    assert backbone.mean.flatten().tolist() == backbone.std.flatten().tolist() == [127.5] * 3
    with torch.no_grad():
        assert backbone(pictures(160)).map.shape == (2, 1280, 5, 5)


# --- errors ---


def test_an_unknown_name_offers_the_nearest():
    assert "timm has no model 'resnet81'; did you mean 'resnet" in one_line(UsageError, name="resnet81")
    assert "timm has no model 'hf-hub:someone/net'" in one_line(UsageError, name="hf-hub:someone/net")
    assert "timm cannot create it (" in one_line(UsageError, name="resnet18.of_nobody")


@pytest.mark.parametrize("number", [1, 4])
def test_another_number_of_channels_is_refused_at_creation(number):
    message = one_line(UsageError, name="test_resnet", model_args={"in_chans": number})
    assert f"model_args in_chans {number}; photographs are read as three channels" in message
    assert Backbone(64, "test_resnet", "none", {"in_chans": 3}).channels == 96


def test_whole_numbers_as_mean_do_not_round_the_images():
    images = pictures(64).float() + 0.5
    maps = [Backbone(64, "test_resnet", "none", mean=mean, std=(1, 1, 1)) for mean in ((0, 0, 0), (0.0, 0.0, 0.0))]
    maps[1].load_state_dict(maps[0].state_dict())
    assert torch.equal(maps[0].eval()(images).map, maps[1].eval()(images).map)
    assert not torch.equal(maps[0](images).map, maps[0](images.floor()).map)


def test_model_args_that_do_not_fit_or_that_fetch_something_are_refused(tmp_path):
    assert "model_args {'no_such': 1} do not fit" in one_line(UsageError, name="resnet18", model_args={"no_such": 1})
    for key in (
        "checkpoint_path",
        "pretrained",
        "pretrained_cfg_overlay",
        "num_classes",
        "cache_dir",
        "device",
        "dtype",
    ):
        message = one_line(UsageError, name="test_resnet", model_args={key: str(tmp_path)})
        assert f"['{key}'] are set by Backbone itself" in message


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_tiny_patch16_224", 97, "no multiple of its patch, 16; give 96 or 112"),
        ("vit_tiny_patch16_224", 9, "patch, 16; give 16"),
        ("maxvit_pico_rw_256", 97, "image size 97 does not fit ("),
        ("levit_128s", 64, "image size 64 does not fit ("),
    ],
)
def test_an_image_size_that_the_network_refuses_is_met_at_creation(name, size, message):
    assert message in one_line(UsageError, size, name=name)
