import hashlib

import pytest
import timm
import torch
from fakes.tiny_model import saved
from safetensors.torch import save_file

from fgvc.errors import FgvcError, UsageError
from fgvc.features.network import Wishes, read_network, state_sha256
from fgvc.methods.backbone import Backbone


def test_random_weights_are_the_same_each_time_and_draw_nothing():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    hashes = {state_sha256(read_network("test_resnet", Wishes("none", 32)).module) for _ in range(2)}
    assert len(hashes) == 1 and torch.equal(torch.rand(3), wanted)


def test_the_hash_is_of_every_tensor_with_its_name_and_shape():
    module = torch.nn.Linear(2, 1)
    module.register_buffer("counts", torch.tensor([1, 2], dtype=torch.bfloat16))
    digest = hashlib.sha256()
    for name in ("bias", "counts", "weight"):
        tensor = module.state_dict()[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(bytes(tensor.contiguous().flatten().view(torch.uint8).tolist()))
    assert state_sha256(module) == digest.hexdigest()
    module.counts[1] = 3
    assert state_sha256(module) != digest.hexdigest()


def test_what_weights_were_tested_with_is_followed_and_flags_win(tmp_path):
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "w.safetensors")
    file = str(tmp_path / "w.safetensors")
    asked = timm.get_pretrained_cfg("test_resnet")
    found = read_network("test_resnet", Wishes(file))
    assert (found.image_size, found.resize.size) == (asked.input_size[-1], asked.input_size[-1])
    assert found.resize.crop_fraction == asked.crop_pct and found.resize.interpolation == asked.interpolation
    assert (found.name, found.given, found.seen) == ("test_resnet", file, "")
    found = read_network("test_resnet", Wishes(file, 64, fit="squash", crop_fraction=0.5, interpolation="area"))
    assert found.resize == (64, "squash", 0.5, "area")


def test_a_run_is_shown_photographs_as_it_was_trained_and_named_after_its_folder(tmp_path):
    run = saved(tmp_path / "runs" / "birds")
    (tmp_path / "runs" / "latest").write_text("birds\n")
    for path in (run, run / "model", tmp_path / "runs" / "latest"):
        found = read_network(str(path))
        assert (found.name, found.timm_name, found.resize) == ("birds", "test_resnet", (32, "crop", 1.0, "area"))
        assert found.given == str(run / "model" if path.name == "model" else run)
    assert read_network(str(run), Wishes(fit="squash")).resize.fit == "squash"


@pytest.mark.parametrize(
    ("tag", "told"),
    [
        ("a1_in1k", "weights a1_in1k of timm: ImageNet-1k"),
        ("lvd142m", "weights lvd142m of timm: LVD-142M"),
        ("augreg_in21k_ft_in1k", "weights augreg_in21k_ft_in1k of timm: ImageNet-1k, ImageNet-21k"),
        ("odd", "weights odd of timm"),
        ("", ""),
    ],
)
def test_what_pretrained_weights_have_seen_is_read_from_their_tag(monkeypatch, tag, told):
    def made(image_size, name, weights, *rest):
        backbone = Backbone(image_size, name, "none")
        backbone.net.pretrained_cfg = {**backbone.net.pretrained_cfg, "tag": tag}
        return backbone

    monkeypatch.setattr("fgvc.features.network.Backbone", made)
    assert read_network("test_resnet", Wishes(image_size=32)).seen == told


@pytest.mark.parametrize(
    ("name", "wishes", "said"),
    [
        ("resnet5000", Wishes(), "neither the folder of a model nor a network of timm; did you mean 'resnet50"),
        ("nothing/here", Wishes(), "no model here"),
        ("test_resnet", Wishes("none", 0), "image_size"),
        ("test_resnet", Wishes("none", 32, fit="pad"), "fit: 'pad'"),
        ("test_resnet", Wishes("none", 32, {"depth": 3}), "model_args"),
    ],
)
def test_mistakes_are_told(name, wishes, said):
    with pytest.raises(FgvcError, match=said):
        read_network(name, wishes)


def test_a_trained_model_has_weights_of_its_own(tmp_path):
    with pytest.raises(UsageError, match="--model_args"):
        read_network(str(saved(tmp_path)), Wishes(model_args={"depth": 1}))
