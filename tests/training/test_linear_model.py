import pytest
import torch
from fakes.tiny_model import PLAIN, TAXONOMY

from fgvc.errors import UsageError
from fgvc.features.network import Network, Wishes, read_network
from fgvc.images.resizing import EvalResize
from fgvc.methods.embedder import Embedder
from fgvc.model_file.architecture import build
from fgvc.model_file.model import Model, load, save
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.linear_model import linear_model, set_classifier
from fgvc.training.logistic import Linear

NEW = Taxonomy.flat(["one", "two", "three"])
BACKBONE = PLAIN["init_args"]["backbone"]
GEM = {"class_path": "GeMPooling", "init_args": {"power": 4.0}}


def images(side=32, seed=1):
    return torch.randint(256, (3, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def classifier(width, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return Linear(torch.randn(3, width, generator=generator) / width**0.5, torch.randn(3, generator=generator))


def trained(plain, size=32):
    torch.manual_seed(5)
    return Network(build(plain, TAXONOMY, size).eval(), "run", "test_resnet", "runs/run", EvalResize(size), plain)


def recognizer(**init_args):
    return {"class_path": "WholeImage", "init_args": {"backbone": BACKBONE, **init_args}}


def assert_same_answers(network, take, folder):
    """Check that the model, written and read again, answers W x + b of what is embedded."""
    embedder = Embedder(network.module, take).eval()
    made, plain = linear_model(network, embedder, NEW)
    with torch.no_grad():
        features = embedder(images(network.image_size))
        linear = classifier(features.shape[1])
        set_classifier(made, linear)
        save(Model(made, plain, network.resize), folder)
        answer = load(folder).recognizer(images(network.image_size))
    torch.testing.assert_close(answer.logits["class"], linear.logits(features), atol=1e-4, rtol=0)
    return answer


@pytest.mark.parametrize("network", ["test_resnet", "test_convnext", "test_vit", "mobilenetv3_small_050"])
@pytest.mark.parametrize("take", ["prelogits", "pooled", "scda"])
def test_a_network_of_timm_becomes_a_model_that_answers_as_its_features(tmp_path, network, take):
    wishes = Wishes(weights="none", image_size=32, mean=[0.4, 0.5, 0.6], std=[0.2, 0.2, 0.3])
    assert_same_answers(read_network(network, wishes), take, tmp_path / "m")


def test_class_token_and_mean_become_a_model_too(tmp_path):
    wishes = Wishes(weights="none", image_size=32, model_args={"reg_tokens": 2})
    assert_same_answers(read_network("test_vit", wishes), "cls+mean", tmp_path / "m")


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"head": {"class_path": "LinearHead", "init_args": {"pooling": GEM, "dropout": 0.5}}},
        {"head": {"class_path": "CosineHead", "init_args": {"pooling": GEM}}},
        {"head": {"class_path": "PerLevelHead"}},
    ],
)
@pytest.mark.parametrize("take", ["prelogits", "pooled"])
def test_a_trained_whole_image_keeps_its_pooling(tmp_path, head, take):
    assert_same_answers(trained(recognizer(**head)), take, tmp_path / "m")


def test_a_network_of_episodes_becomes_one_too(tmp_path):
    plain = {"class_path": "FewShotRecognizer", "init_args": {"backbone": BACKBONE, "pooling": GEM}}
    assert_same_answers(trained(plain), "prelogits", tmp_path / "m")


@pytest.mark.parametrize(
    ("plain", "take"),
    [
        ({"class_path": "RACNN", "init_args": {"backbone": BACKBONE}}, "prelogits"),
        (recognizer(head={"class_path": "HSEHead"}), "prelogits"),
        (recognizer(head={"class_path": "FGNHead"}), "prelogits"),
    ],
)
def test_an_embedding_that_is_no_pooled_map_is_refused_in_one_line(plain, take):
    network = trained(plain)
    with pytest.raises(UsageError, match=r"run: what prelogits takes of its \w+ is not one pooled map") as caught:
        linear_model(network, Embedder(network.module, take).eval(), NEW)
    assert "\n" not in str(caught.value)


def test_maps_are_refused():
    network = read_network("test_resnet", Wishes(weights="none", image_size=32))
    with pytest.raises(UsageError, match="take map: a linear probe reads prelogits, pooled"):
        linear_model(network, Embedder(network.module, "map").eval(), NEW)
