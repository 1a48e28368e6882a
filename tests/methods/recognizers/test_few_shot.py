from functools import partial

import pytest
import torch

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


def make(**parts):
    torch.manual_seed(0)
    backbone = partial(Backbone, name="conv4", weights="none")
    return FewShotRecognizer(TREE, 48, backbone, **{"pooling": FlattenPooling, **parts}).eval()


def images(number, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(256, (number, 3, 48, 48), generator=draw, dtype=torch.uint8)


def test_scores_of_an_episode_are_those_of_support_first_and_then_queries():
    model = make()
    features = torch.randn(3 * 2 + 7, 576, generator=torch.Generator().manual_seed(0))
    scores = model.episode_scores(features, n_way=3, n_shot=2)
    for q, query in enumerate(features[6:]):
        for way in range(3):
            prototype = (features[2 * way] + features[2 * way + 1]) / 2
            assert scores[q, way].item() == pytest.approx(-((query - prototype) ** 2).sum().item(), rel=1e-4)


def test_a_classifier_of_maps_gets_maps():
    model, asked = make(classifier=MapClassifier), images(6)
    assert model.pooling is None
    with torch.no_grad():
        maps = model.embed(asked)
        assert torch.equal(maps, model.backbone(asked).map)
        scores = model.episode_scores(maps, n_way=2, n_shot=2)
    for q in range(2):
        for way in range(2):
            prototype = maps[2 * way : 2 * way + 2].mean(dim=0)
            expected = -2 * (maps[4 + q] - prototype).square().sum().item() / 9
            assert scores[q, way].item() == pytest.approx(expected, rel=1e-4)


def test_before_classes_are_enrolled_it_says_what_to_do():
    with pytest.raises(UsageError, match=r"this model knows no classes yet; enroll .* fgvc few-shot enroll"):
        make()(images(1))


def test_distances_are_computed_in_float32():
    model = make()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores = model.episode_scores(model.embed(images(6)), n_way=2, n_shot=2)
    assert scores.dtype == torch.float32


def test_a_model_file_holds_it(tmp_path):
    plain = {
        "class_path": "FewShotRecognizer",
        "init_args": {
            "backbone": {"class_path": "Backbone", "init_args": {"name": "conv4", "weights": "none"}},
            "classifier": {"class_path": "PrototypeClassifier", "init_args": {"distance": "cosine", "scale": 10.0}},
            "pooling": {"class_path": "FlattenPooling", "init_args": {}},
        },
    }
    model = build(plain, TREE, 48).eval()
    again = load(save(Model(model, plain, EvalResize(48)), tmp_path)).recognizer
    assert isinstance(again.classifier, PrototypeClassifier) and again.classifier.scale == 10
    own, theirs = model.state_dict(), again.state_dict()
    assert own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)
    with torch.no_grad():
        assert torch.equal(model.embed(images(2)), again.embed(images(2)))
