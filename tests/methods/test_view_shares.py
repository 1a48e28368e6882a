import json

import pytest
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.errors import FgvcError
from fgvc.images.resizing import EvalResize
from fgvc.methods.view_shares import Share, weighed
from fgvc.model_file.architecture import build
from fgvc.model_file.model import Model, load, read_weights, save
from fgvc.prediction.predictor import Predictor

TINY = {"class_path": "Backbone", "init_args": {"name": "test_resnet"}}
PLAIN = {"class_path": "RACNN", "init_args": {"backbone": TINY, "attention": {"class_path": "CentreBox"}}}
SHARES = {"scale1": Share(2.0, 0.25), "scale2": Share(0.5, 0.75)}


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = Model(build(PLAIN, TAXONOMY, 64, weights="none").eval(), PLAIN, EvalResize(64))
    for scale in made.recognizer.scales:
        torch.nn.init.normal_(scale.head.classifier.weight)
    return made


def pictures():
    return torch.randint(256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def by_hand(views, level="species"):
    rows = [
        share.weight * (views[n].logits[level].double() / share.temperature).softmax(1) for n, share in SHARES.items()
    ]
    return sum(rows) / sum(share.weight for share in SHARES.values())


def test_a_view_of_weight_0_does_not_count_and_weights_need_not_sum_to_1():
    views = {"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([[5.0, -5.0]])}
    assert torch.equal(weighed(views, {"a": Share(1, 0.2), "b": Share(1, 0)}), weighed(views, {"a": Share(1, 1)}))
    torch.testing.assert_close(weighed(views, {"a": Share(2, 1)}).exp(), (views["a"] / 2).softmax(dim=1))


def test_a_model_answers_by_its_shares_wherever_it_is_read(model, tmp_path):
    plain = model.recognizer(pictures())
    model.recognizer.view_shares = SHARES
    answer = model.recognizer(pictures())
    expected = by_hand(plain.views)
    torch.testing.assert_close(answer.logits["species"].double().exp(), expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(plain.logits["species"].softmax(dim=1).double(), expected, atol=1e-2)
    torch.testing.assert_close(answer.views["fused"].logits["species"], plain.logits["species"])
    after = load(save(model, tmp_path))
    assert after.views == SHARES and json.loads((tmp_path / "fgvc.json").read_text())["views"]["scale1"] == {
        "temperature": 2.0,
        "weight": 0.25,
    }
    scores = Predictor(after).scores(pictures())[0]["species"]
    torch.testing.assert_close(scores.double(), expected, atol=1e-4, rtol=1e-3)
    other = build(PLAIN, TAXONOMY, 64, weights="none").eval()
    read_weights(other, tmp_path)
    assert other.view_shares == SHARES


def test_a_view_that_the_method_lacks_is_one_line(model):
    model.recognizer.view_shares = {"part1": Share(1.0, 1.0)}
    with pytest.raises(FgvcError, match="weighs the view 'part1', its method has scale1, scale2, fused"):
        model.recognizer(pictures())
