import copy

import pytest
import timm
from tiny_model import PLAIN, TAXONOMY

from fgvc.architecture import build, known_classes, to_plain
from fgvc.backbone import Backbone
from fgvc.errors import UsageError
from fgvc.heads.cosine import CosineHead
from fgvc.pooling.gem import GeMPooling
from fgvc.recognizers.whole_image import WholeImage

CONFIG = {
    "class_path": "fgvc.recognizers.whole_image.WholeImage",
    "init_args": {
        "backbone": {
            "class_path": "fgvc.backbone.Backbone",
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
                "pooling": {"class_path": "fgvc.pooling.gem.GeMPooling", "init_args": {"power": 2}},
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


def test_the_known_classes_are_those_of_the_slot_folders_without_the_abstract_ones():
    known = known_classes()
    assert {"WholeImage", "Backbone", "LinearHead", "CosineHead", "AveragePooling", "GeMPooling"} <= set(known)
    assert not {"Recognizer", "Head", "Pooling"} & set(known)
    assert all(cls.__module__.startswith("fgvc.") for cls in known.values())


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
    "name", ["os.system", "torch.nn.Linear", "builtins.eval", "fgvc.heads.linear.LinearHead", "Module", None, 3]
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
        ({"class_path": "LinearHead"}, "its arguments do not fit"),
        (with_argument(["head", "scael"], 3), "CosineHead has no argument 'scael'; did you mean 'scale'"),
        (with_argument(["head"], "os.system"), "its arguments do not fit"),
        (with_argument(["head"], {"init_args": {}}), "its arguments do not fit"),
        (with_argument(["head", "scale"], {"class_path": "GeMPooling"}), "its arguments do not fit"),
        (with_argument(["head", "pooling"], [1, {"class_path": "os.system"}]), "its arguments do not fit"),
        (with_argument(["backbone", "model_args"], {"checkpoint_path": "x.pth"}), "set by Backbone itself"),
        (with_argument(["backbone", "model_args"], {"block": {"class_path": "os.system"}}), "timm cannot create it"),
    ],
)
def test_junk_is_refused_in_one_line(plain, message):
    assert message in refusal(plain)


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
