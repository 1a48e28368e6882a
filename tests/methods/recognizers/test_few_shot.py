from functools import partial

import pytest
import torch
from easyfsl.methods import PrototypicalNetworks

from fgvc.errors import UsageError
from fgvc.images.resizing import EvalResize
from fgvc.methods.backbone import Backbone
from fgvc.methods.few_shot.base import FewShotClassifier, class_means, descriptors
from fgvc.methods.few_shot.prototypes import PrototypeClassifier
from fgvc.methods.pooling.flatten import FlattenPooling
from fgvc.methods.recognizers.few_shot import FewShotRecognizer
from fgvc.model_file.architecture import build
from fgvc.model_file.model import Model, load, save
from fgvc.taxonomy.tree import Taxonomy

TREE = Taxonomy(("genus", "species"), [("Larus", "canus"), ("Larus", "fuscus"), ("Sterna", "hirundo")])


class MapClassifier(FewShotClassifier):
    """The mean distance of local descriptors to the prototype's at the same place, times a learnt number."""

    takes = "map"

    def __init__(self, in_channels):
        super().__init__(in_channels)
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, episode):
        query, known = descriptors(episode.query), descriptors(class_means(episode))
        return -self.factor * (query[:, :, None] - known[:, None]).square().sum(dim=-1).mean(dim=-1)


def make(n_support=0, **parts):
    torch.manual_seed(0)
    backbone = partial(Backbone, name="conv4", weights="none")
    return FewShotRecognizer(TREE, 48, backbone, n_support=n_support, **{"pooling": FlattenPooling, **parts}).eval()


def images(number, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(256, (number, 3, 48, 48), generator=draw, dtype=torch.uint8)


def enrolled(n_support=5, labels=(2, 0, 1, 1, 0), **parts):
    model = make(n_support, **parts)
    with torch.no_grad():
        model.support.copy_(model.embed(images(n_support, seed=1)))
    model.support_labels.copy_(torch.tensor(labels))
    return model


def test_it_answers_with_all_classes_of_the_tree_as_one_episode():
    model, asked = enrolled(), images(4)
    with torch.no_grad():
        found = model(asked)
        peer = PrototypicalNetworks(backbone=torch.nn.Flatten())
        peer.process_support_set(model.embed(images(5, seed=1)), model.support_labels)
        distances = -peer(model.embed(asked))
    assert found.logits.keys() == {"species"}
    torch.testing.assert_close(found.logits["species"], -distances.square(), atol=1e-3, rtol=1e-4)
    assert found.embedding.shape == (4, 64 * 3 * 3)
    loss = model.loss(found, torch.tensor([0, 2, -1, 1]))["classes"]
    log_p = found.logits["species"].log_softmax(dim=1)
    assert loss.item() == pytest.approx(-(log_p[0, 0] + log_p[1, 2] + log_p[3, 1]).item() / 3, rel=1e-5)


def test_scores_of_an_episode_are_those_of_support_first_and_then_queries():
    model = make()
    features = torch.randn(3 * 2 + 7, 576, generator=torch.Generator().manual_seed(0))
    scores = model.episode_scores(features, n_way=3, n_shot=2)
    for q, query in enumerate(features[6:]):
        for way in range(3):
            prototype = (features[2 * way] + features[2 * way + 1]) / 2
            assert scores[q, way].item() == pytest.approx(-((query - prototype) ** 2).sum().item(), rel=1e-4)


def test_a_classifier_of_maps_gets_maps():
    model = enrolled(classifier=MapClassifier)
    assert model.pooling is None and model.support.shape == (5, 64, 3, 3)
    asked = images(4)
    with torch.no_grad():
        found = model(asked)
        maps = model.backbone(asked).map
        torch.testing.assert_close(found.embedding, maps.mean(dim=(2, 3)))
        for n in range(4):
            for way, shots in enumerate(([1, 4], [2, 3], [0])):
                prototype = model.support[shots].mean(dim=0)
                expected = -2 * (maps[n] - prototype).square().sum().item() / 9
                assert found.logits["species"][n, way].item() == pytest.approx(expected, rel=1e-4)


def test_without_support_it_says_what_to_do():
    with pytest.raises(UsageError, match=r"this model knows no classes yet; enroll .* fgvc few-shot enroll"):
        make()(images(1))
    with pytest.raises(UsageError, match="a class of its 3 has no support image"):
        enrolled(labels=(0, 1, 1, 0, 0))(images(1))
    with pytest.raises(UsageError, match="n_support: -1"):
        make(-1)


@pytest.mark.parametrize("autocast", [False, True])
def test_distances_are_computed_in_float32(autocast):
    model = enrolled()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(images(2)).logits["species"]
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("n_support", [0, 5])
def test_a_model_file_holds_it(tmp_path, n_support):
    plain = {
        "class_path": "FewShotRecognizer",
        "init_args": {
            "backbone": {"class_path": "Backbone", "init_args": {"name": "conv4", "weights": "none"}},
            "classifier": {"class_path": "PrototypeClassifier", "init_args": {"distance": "cosine", "scale": 10.0}},
            "pooling": {"class_path": "FlattenPooling", "init_args": {}},
            "n_support": n_support,
        },
    }
    model = build(plain, TREE, 48).eval()
    if n_support:
        model.support.normal_(generator=torch.Generator().manual_seed(0))
        model.support_labels.copy_(torch.tensor([2, 0, 1, 1, 0]))
    again = load(save(Model(model, plain, EvalResize(48)), tmp_path)).recognizer
    assert isinstance(again.classifier, PrototypeClassifier) and again.classifier.scale == 10
    own, theirs = model.state_dict(), again.state_dict()
    assert own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)
    with torch.no_grad():
        assert torch.equal(model.embed(images(2)), again.embed(images(2)))
        if n_support:
            assert torch.equal(model(images(2)).logits["species"], again(images(2)).logits["species"])
