import copy

import pytest
import timm
import torch
from fakes.tiny_model import PLAIN, TAXONOMY

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import Head
from fgvc.methods.heads.cosine import CosineHead
from fgvc.methods.pooling.gem import GeMPooling
from fgvc.methods.recognizers.base import Recognizer
from fgvc.methods.recognizers.whole_image import WholeImage
from fgvc.methods.slots import known_classes
from fgvc.model_file.architecture import build, skeleton, to_plain, unfilled

CONFIG = {
    "class_path": "fgvc.methods.recognizers.whole_image.WholeImage",
    "init_args": {
        "backbone": {
            "class_path": "fgvc.methods.backbone.Backbone",
            "init_args": {
                "name": "test_resnet",
                "weights": "pretrained",
                "model_args": {"stem_width": 8},
                "mean": (0.5,) * 3,
            },
        },
        "head": {
            "class_path": "CosineHead",
            "init_args": {
                "scale": 4.0,
                "label_smoothing": 0.1,
                "pooling": {"class_path": "fgvc.methods.pooling.gem.GeMPooling", "init_args": {"power": 2}},
            },
        },
    },
}


@pytest.fixture
def created(monkeypatch) -> list[bool]:
    """Note for each timm network whether it was asked for pretrained weights; none is downloaded."""
    seen: list[bool] = []
    create = timm.create_model

    def spy(*args, pretrained=False, **options):
        seen.append(pretrained)
        return create(*args, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", spy)
    return seen


def refusal(plain) -> str:
    with pytest.raises(UsageError) as caught:
        build(plain, TAXONOMY, 32, weights="none")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_argument(where: list[str], value) -> dict:
    """Return a copy of a sound tree in which one argument is another."""
    plain = copy.deepcopy(to_plain(CONFIG))
    node = plain
    for key in where[:-1]:
        node = node["init_args"][key]
    node["init_args"][where[-1]] = value
    return plain


def test_a_config_becomes_short_names_and_plain_values_and_is_stable():
    plain = to_plain(CONFIG)
    assert plain["class_path"] == "WholeImage"
    assert plain["init_args"]["backbone"]["init_args"]["mean"] == [0.5, 0.5, 0.5]
    assert plain["init_args"]["head"]["init_args"]["pooling"] == {"class_path": "GeMPooling", "init_args": {"power": 2}}
    assert to_plain(plain) == plain
    assert to_plain({"class_path": "LinearHead", "init_args": None}) == {"class_path": "LinearHead", "init_args": {}}


def test_a_tree_builds_the_model_that_it_describes(created):
    model = build(to_plain(CONFIG), TAXONOMY, 32)
    assert type(model) is WholeImage
    assert created == [True]
    assert (type(model.head), type(model.head.pooling)) == (CosineHead, GeMPooling)
    assert (model.head.scale.item(), model.head.label_smoothing, model.head.pooling.power.item()) == (4, 0.1, 2)
    assert model.backbone.mean.flatten().tolist() == [127.5] * 3
    assert (model.image_size, model.taxonomy) == (32, TAXONOMY)


@pytest.mark.parametrize("plain", [to_plain(CONFIG), {"class_path": "WholeImage"}])
def test_given_weights_reach_every_backbone_the_default_one_too(created, plain):
    build(plain, TAXONOMY, 32, weights="none")
    assert created == [False]


@pytest.mark.parametrize(
    "name", ["os.system", "torch.nn.Linear", "builtins.eval", "fgvc.methods.heads.linear.LinearHead", "Module", None, 3]
)
def test_a_name_outside_fgvc_is_refused_wherever_it_stands(name):
    junk = {"class_path": name, "init_args": {}}
    assert f"no class {name!r} in fgvc" in refusal(junk)
    assert f"no class {name!r} in fgvc" in refusal(with_argument(["head"], junk))
    assert f"architecture.WholeImage.head.CosineHead.pooling: no class {name!r}" in refusal(
        with_argument(["head", "pooling"], junk)
    )


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ("WholeImage", "'WholeImage' is not a mapping"),
        ({"class_path": "WholeImgae"}, "did you mean 'WholeImage'"),
        ({"class_path": "WholeImage", "init_args": [1]}, "init_args of WholeImage is list"),
        ({"class_path": "WholeImage", "dict_kwargs": {}}, "no class 'WholeImage'"),
        ({"class_path": "GeMPooling"}, "GeMPooling is a part, not a recognizer"),
        ({"class_path": "LinearHead"}, "LinearHead is a part, not a recognizer"),
        (with_argument(["head", "scael"], 3), "CosineHead has no argument 'scael'; did you mean 'scale'"),
        (with_argument(["head", "learn_scale"], 1), "head.CosineHead.learn_scale: 1; it takes true or false"),
        (with_argument(["head"], "os.system"), "head: 'os.system'; it takes the name and arguments of a Head"),
        (with_argument(["head"], {"init_args": {}}), "head: a mapping of 1; it takes the name and arguments of a Head"),
        (with_argument(["head"], {"class_path": "GeMPooling"}), "it takes the name and arguments of a Head"),
        (with_argument(["head", "scale"], {"class_path": "GeMPooling"}), "a mapping of 1; it takes a number"),
        (with_argument(["head", "pooling"], [1, {"class_path": "os.system"}]), "a list of 2; it takes the name and"),
        (with_argument(["head", "taxonomy"], {}), "head.CosineHead.taxonomy: a mapping of 0; it takes <class"),
        (with_argument(["backbone", "image_size"], 64), "its arguments do not fit (Backbone.__init__() got multiple"),
        (with_argument(["backbone", "mean"], [0.5, "x", 0.5]), "mean: a list of 3; it takes a list, each a number or"),
        (with_argument(["backbone", "mean"], [0.5]), "its arguments do not fit (shape '[1, 3, 1, 1]' is invalid"),
        (with_argument(["backbone", "model_args"], {"checkpoint_path": "x.pth"}), "set by Backbone itself"),
        (with_argument(["backbone", "model_args"], {"block": {"class_path": "os.system"}}), "timm cannot create it"),
    ],
)
def test_junk_is_refused_in_one_line(plain, message):
    assert message in refusal(plain)


RECOGNIZERS = [name for name, cls in known_classes().items() if issubclass(cls, Recognizer)]
HEADS = [name for name, cls in known_classes().items() if issubclass(cls, Head)]
BACKBONE = {"class_path": "Backbone", "init_args": {"name": "test_resnet", "weights": "none"}}
AROUND = {
    "recognizer": {"class_path": "WholeImage", "init_args": {"backbone": BACKBONE}},
    "known": {"levels": ["class"], "leaves": [["a"], ["b"]]},
    "classifier": {"class_path": "PrototypeClassifier", "init_args": {}},
    "support_shape": [4, 96],
    "keep_old": True,
}
"""Of the recognizer that is made around another one."""
MEMBER = {"class_path": "WholeImage", "init_args": {"backbone": BACKBONE}}
SQUARE = {"size": 64, "fit": "crop", "crop_fraction": 1.0, "interpolation": "area"}
SEVERAL = {"members": [MEMBER] * 2, "image_sizes": [64] * 2, "inputs": [SQUARE] * 2, "names": ["a", "b"]}
"""Of the recognizer that is made of several."""
OTHERS = {"EnrolledRecognizer": AROUND, "Ensemble": SEVERAL}
TREES = [{"class_path": name, "init_args": OTHERS.get(name, {"backbone": BACKBONE})} for name in RECOGNIZERS]
TREES += [
    {"class_path": "WholeImage", "init_args": {"backbone": BACKBONE, "head": {"class_path": name}}} for name in HEADS
]


@pytest.mark.parametrize("plain", TREES, ids=lambda plain: plain["init_args"].get("head", plain)["class_path"])
def test_every_recognizer_and_head_is_made_without_numbers_and_without_its_random_start(plain):
    real = build(plain, TAXONOMY, 64, weights="none")
    expected = {name: (value.shape, value.dtype) for name, value in real.state_dict().items()}
    found = skeleton(plain, TAXONOMY, 64, most=len(expected)).state_dict()
    assert {name: (value.shape, value.dtype) for name, value in found.items()} == expected
    assert all(value.is_meta for value in found.values())
    with unfilled():
        bare = build(plain, TAXONOMY, 64, weights="none")
    bare.load_state_dict(real.state_dict())
    for (name, value), (other, own) in zip(real.named_buffers(), bare.named_buffers(), strict=True):
        assert name == other and torch.equal(value, own), name


def test_networks_are_drawn_again_once_unfilled_is_left():
    with unfilled():
        kept = torch.zeros(9).normal_()
    assert torch.equal(kept, torch.zeros(9)) and torch.zeros(9).normal_().abs().sum() > 0


def test_a_network_of_far_more_tensors_than_its_file_is_not_made_to_its_end():
    plain = with_argument(["backbone", "model_args"], {"layers": [100_000] * 4})
    with pytest.raises(UsageError, match="it has far more tensors than the 90 of its weights"):
        skeleton(plain, TAXONOMY, 32, most=90)
    build(to_plain(PLAIN), TAXONOMY, 32)  # the count has ended


class OwnHead(CosineHead):
    """A user's class: trains, but stays out of model files."""


@pytest.mark.parametrize(
    "path", ["tests.heads.OwnHead", f"{__name__}.OwnHead", "OwnHead", "evil.CosineHead", "torch.nn.Linear"]
)
def test_a_foreign_class_stays_out_of_model_files(path):
    config = with_argument(["head"], {"class_path": path, "init_args": {}})
    with pytest.raises(UsageError, match=rf"recognizer\.head: {path} is not one of fgvc's own classes"):
        to_plain(config)


def test_values_that_are_no_plain_data_are_named():
    with pytest.raises(UsageError, match=r"recognizer\.backbone\.model_args\.act: type is not plain data"):
        to_plain(with_argument(["backbone", "model_args"], {"act": Backbone}))


def test_the_plain_tree_of_the_tests_is_one():
    assert to_plain(PLAIN) == PLAIN
