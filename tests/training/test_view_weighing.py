import numpy as np
import pytest
import torch
from fakes.tiny_model import TAXONOMY
from scipy.optimize import minimize

from fgvc.datatypes import Prediction, Sample
from fgvc.images.resizing import EvalResize
from fgvc.methods.recognizers.base import Recognizer
from fgvc.methods.view_shares import weighed
from fgvc.model_file.model import Model
from fgvc.training.calibration import halves
from fgvc.training.view_weighing import fit_shares, mixture_weights, weigh, weigh_views


def answers(size=400, strengths=(0.6, 2.0), seed=0):
    """Targets, and views (N, 5) that know them as well as their strengths say, each by itself."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(5, (size,), generator=generator)
    hot = torch.nn.functional.one_hot(targets, 5).float()
    views = {
        f"scale{i + 1}": strength * (hot * 2 + torch.randn(size, 5, generator=generator))
        for i, strength in enumerate(strengths)
    }
    return views, targets


def averaged(views):
    return torch.stack([x.softmax(dim=1) for x in views.values()]).mean(dim=0).log()


def likelihood(logs, targets):
    return float(logs.log_softmax(dim=1).gather(1, targets[:, None]).mean())


def test_the_weights_are_those_of_scipy():
    chances = torch.rand(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 2
    p = chances.numpy()

    def cost(raw):
        w = np.exp(raw - np.logaddexp.reduce(raw))
        return -np.log(p @ w).sum() - np.log(w).sum()  # the prior: one image per view

    best = minimize(cost, np.zeros(3), tol=1e-12).x
    expected = np.exp(best - np.logaddexp.reduce(best))
    np.testing.assert_allclose(mixture_weights(chances).numpy(), expected, atol=1e-4)


def test_a_view_that_knows_nothing_hardly_counts_and_a_sure_one_is_cooled():
    views, targets = answers(strengths=(1.0, 5.0))
    views["noise"] = torch.randn(400, 5, generator=torch.Generator().manual_seed(9))
    shares = fit_shares(views, targets)
    assert sum(share.weight for share in shares.values()) == pytest.approx(1)
    assert "noise" not in shares or shares["noise"].weight < 0.1
    assert shares["scale2"].temperature > 2 * shares["scale1"].temperature


def test_the_weighed_answer_is_the_mean_of_the_views_in_float64():
    views, targets = answers(20)
    shares = fit_shares(views, targets)
    total = sum(
        shares[name].weight * torch.softmax(x.double() / shares[name].temperature, dim=1) for name, x in views.items()
    )
    torch.testing.assert_close(weighed(views, shares).double(), total.log(), atol=1e-5, rtol=1e-5)


def test_a_weak_view_no_longer_pulls_a_good_one_down():
    views, targets = answers(800)
    views["scale1"] = torch.randn(800, 5, generator=torch.Generator().manual_seed(3)) * 3  # sure of nothing true
    found = weigh(views, averaged(views), targets)
    assert found.gain > 5 * found.error > 0
    fresh, truth = answers(800, seed=5)
    fresh["scale1"] = torch.randn(800, 5, generator=torch.Generator().manual_seed(4)) * 3
    joined = weighed({name: fresh[name] for name in found.shares}, found.shares)
    right = [(x.argmax(dim=1) == truth).float().mean().item() for x in (joined, averaged(fresh), fresh["scale2"])]
    assert right[0] > right[1] + 0.02 and right[0] > right[2] - 0.005
    assert likelihood(joined, truth) > likelihood(averaged(fresh), truth)


def test_where_the_mean_is_as_good_the_method_answers_as_it_did():
    views, targets = answers(400, (1.0, 1.0))
    assert weigh(views, averaged(views), targets).shares == {}
    few = {name: x[:8] for name, x in views.items()}
    assert weigh(few, averaged(few), targets[:8]).shares == {}
    assert weigh({"scale1": views["scale1"]}, views["scale1"], targets).shares == {}


class Looks(Recognizer):
    """Reads its two views from the pixels: the true leaf is the first pixel, and the second view knows it."""

    def __init__(self, views=True):
        super().__init__(TAXONOMY, 8)
        self.has_views = views

    def forward(self, images):
        hot = 6 * torch.nn.functional.one_hot(images[:, 0, 0, 0].long(), 5).float()
        wrong = 6 * torch.nn.functional.one_hot(images[:, 1, 0, 0].long(), 5).float()
        parts = {
            name: Prediction({"species": x}, torch.zeros(len(x), 2)) for name, x in (("near", hot), ("far", wrong))
        }
        mean = averaged({name: one.logits["species"] for name, one in parts.items()})
        return Prediction({"species": mean}, torch.zeros(len(mean), 2), views=parts if self.has_views else {})

    def loss(self, prediction, labels):
        return {}


class Data:
    """A datamodule of one split that remembers which rows were read."""

    def __init__(self, size=60):
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.randint(5, (size,), generator=generator)
        self.images = torch.zeros(size, 3, 8, 8, dtype=torch.uint8)
        self.images[:, 0] = self.labels[:, None, None]
        self.images[:, 1] = torch.randint(5, (size,), generator=generator)[:, None, None]
        self.read = []

    def records(self, split):
        return range(len(self.labels))

    def whole_split(self, split, rows):
        self.read += rows
        yield Sample(self.images[rows], self.labels[rows], torch.tensor(rows), torch.zeros(len(rows), 4))


def test_the_views_of_a_model_are_weighed_on_the_half_that_fits_its_temperatures():
    data, model = Data(), Model(Looks().eval(), {}, EvalResize(8))
    plain = model.recognizer(data.images).logits["species"]
    told = weigh_views(model, data, "val", torch.device("cpu"))
    assert sorted(data.read) == sorted(halves(60)[0].tolist())
    assert told.startswith("views weighed on 30 val images: near 0.9") and model.views["near"].weight > 0.9
    answer = model.recognizer(data.images).logits["species"]
    views = model.recognizer(data.images).views
    torch.testing.assert_close(answer, weighed({n: views[n].logits["species"] for n in model.views}, model.views))
    assert likelihood(answer, data.labels) > likelihood(plain, data.labels) + 0.3
    model.recognizer.train()
    assert torch.equal(model.recognizer(data.images).logits["species"], plain)  # while training nothing changes


def test_a_method_of_one_view_is_left_alone():
    model = Model(Looks(views=False).eval(), {}, EvalResize(8))
    assert "has one view" in weigh_views(model, Data(), "val", torch.device("cpu")) and model.views == {}
