from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from fgvc.errors import UsageError
from fgvc.features.folder import Part
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training import probe as module
from fgvc.training.calibration import halves
from fgvc.training.logistic import Reached
from fgvc.training.probe import Tried, probe, scores

TREE = Taxonomy(["genus", "species"], [["A", "a1"], ["A", "a2"], ["B", "b1"], ["B", "b2"]])
CENTRES = np.random.default_rng(9).normal(size=(4, 6))


def part(n, seed, labels=None, noise=1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 4 if labels is None else np.asarray(labels)
    x = CENTRES[np.where(labels < 4, labels, 0)] + noise * rng.normal(size=(len(labels), 6))
    return Part([f"{seed}/{i}.jpg" for i in range(len(labels))], labels.astype(np.int32), x.astype(np.float32))


def folder(**parts):
    return SimpleNamespace(
        path=Path("features/x"), splits=tuple(parts), taxonomy=TREE, part=lambda split, view: parts[split]
    )


def optimum(one, rows, penalty):
    """Return the best weights (K, D) and biases (K,) of raw features, by scipy in float64."""
    x, y = one.features[rows].astype(np.float64), one.labels[rows]
    mean, spread = x.mean(axis=0), x.std(axis=0)
    z = (x - mean) / spread

    def cost(flat):
        w = flat.reshape(-1, 4)
        return -log_softmax(z @ w[:-1] + w[-1], axis=1)[np.arange(len(y)), y].mean() + penalty * (w[:-1] ** 2).sum()

    w = minimize(cost, np.zeros(28), method="BFGS").x.reshape(-1, 4)
    return w[:-1].T / spread, w[-1] - (w[:-1].T / spread) @ mean


def logits_of(linear, x):
    found = x.astype(np.float64) @ np.asarray(linear[0], np.float64).T + np.asarray(linear[1], np.float64)
    return found - found.mean(axis=1, keepdims=True)


def test_the_classifier_is_the_optimum_on_all_of_train():
    train = part(80, 1)
    done = probe(folder(train=train, test=part(40, 2)), penalties=[0.01])
    wanted = optimum(train, np.arange(80), 0.01)
    np.testing.assert_allclose(logits_of(done.linear, train.features), logits_of(wanted, train.features), atol=0.02)
    assert (done.fitted, done.held_out, done.choosing, done.left_out, done.without) == (80, "train", 4, 0, 0)


def test_with_val_all_of_train_is_fitted_and_half_of_val_chooses():
    train, val = part(60, 1), part(30, 2)
    penalties = [1.0, 0.1, 0.01, 0.001]
    done = probe(folder(train=train, val=val), penalties=penalties)
    choosing = halves(30)[0].numpy()
    best = []
    for penalty in penalties[: len(done.tried)]:
        logits = logits_of(optimum(train, np.arange(60), penalty), val.features[choosing])
        right = (logits.argmax(axis=1) == val.labels[choosing]).mean()
        loss = -log_softmax(logits, axis=1)[np.arange(15), val.labels[choosing]].mean()
        best.append((right, -loss, penalty))
    assert done.penalty == max(best)[2]
    for tried, (right, loss, penalty) in zip(done.tried, best, strict=True):
        assert (tried.penalty, tried.reached.right) == (penalty, right)
        assert tried.reached.loss == pytest.approx(-loss, abs=2e-3)
    wanted = optimum(train, np.arange(60), done.penalty)
    np.testing.assert_allclose(logits_of(done.linear, val.features), logits_of(wanted, val.features), atol=0.03)
    assert done.calibration.images == 30


def test_a_split_val_without_classes_does_not_choose():
    train = part(80, 1)
    done = probe(folder(train=train, val=part(10, 2, labels=[-1] * 10)))
    assert (done.held_out, done.choosing, done.scores["val"].images) == ("train", 4, 10)
    assert torch.equal(done.linear.weight, probe(folder(train=train)).linear.weight)


def test_the_images_that_are_counted_were_not_fitted_and_did_not_choose(monkeypatch):
    train = part(200, 3)
    seen = {}

    def choose(images, rows, held, choosing, *rest):
        seen.update(rows=set(rows.tolist()), choosing=set(choosing.tolist()))
        return original(images, rows, held, choosing, *rest)

    def calibrated(linear, held, rows, taxonomy):
        seen["counted"] = set(rows[halves(len(rows))[1]].tolist())
        return None

    original = module.choose
    monkeypatch.setattr(module, "choose", choose)
    monkeypatch.setattr(module, "_calibrated", calibrated)
    probe(folder(train=train))
    assert len(seen["rows"]) == 180 and len(seen["counted"]) == len(seen["choosing"]) == 10
    assert not seen["counted"] & (seen["rows"] | seen["choosing"]) and not seen["rows"] & seen["choosing"]


def test_the_scores_of_test_choose_nothing():
    train = part(80, 1)
    first = probe(folder(train=train, test=part(40, 2)))
    second = probe(folder(train=train, test=part(40, 2, labels=np.arange(40) // 10)))
    assert first.penalty == second.penalty and torch.equal(first.linear.weight, second.linear.weight)
    assert first.scores["test"] != second.scores["test"]


def test_labels_of_inner_nodes_are_left_out_of_train_and_count_where_they_say_something():
    genus_b = TREE.node("genus", 1)
    train = part(48, 1, labels=[*(np.arange(44) % 4), genus_b, genus_b, -1, -1])
    test = part(12, 2, labels=[0, 1, 2, 3, 0, 1, 2, 3, genus_b, genus_b, -1, -1], noise=0.1)
    done = probe(folder(train=train, test=test), penalties=[0.01])
    assert (done.fitted, done.left_out) == (44, 4)
    logits = logits_of(done.linear, test.features)
    p = np.exp(log_softmax(logits, axis=1))
    right = (logits.argmax(axis=1) == test.labels)[:8]
    of_genus = (p[:, :2].sum(axis=1) < p[:, 2:].sum(axis=1))[:10] == np.array([0, 0, 1, 1, 0, 0, 1, 1, 1, 1], bool)
    found = done.scores["test"]
    assert found.known == {"genus": 10, "species": 8} and found.images == 12
    assert found.shares["species/top1"] == pytest.approx(right.mean())
    assert found.shares["genus/top1"] == pytest.approx(of_genus.mean())


def test_the_sweep_ends_where_smaller_penalties_are_better_in_nothing(monkeypatch):
    reached = iter([(0.5, 2.0), (0.6, 1.0), (0.6, 1.1), (0.5, 1.2), (0.5, 1.3), (0.9, 0.1)])
    monkeypatch.setattr(module, "reached", lambda *_: Reached(*next(reached)))
    one = module.images_of(folder(train=part(20, 1)), "train", "whole", torch.device("cpu"))
    every = torch.arange(20)
    best, tried, _ = module.choose(one, every, one, every, 4, [6, 5, 4, 3, 2, 1])
    assert best == 5 and [one.penalty for one in tried] == [6, 5, 4, 3, 2]


def test_of_equally_right_penalties_the_surer_one_is_best(monkeypatch):
    reached = iter([(0.5, 2.0), (0.5, 1.0), (0.5, 1.5)])
    monkeypatch.setattr(module, "reached", lambda *_: Reached(*next(reached)))
    one = module.images_of(folder(train=part(20, 1)), "train", "whole", torch.device("cpu"))
    every = torch.arange(20)
    best, tried, _ = module.choose(one, every, one, every, 4, [3, 2, 1])
    assert best == 2 and tried[1] == Tried(2, Reached(0.5, 1.0))


def test_a_class_without_photograph_is_counted_and_not_answered():
    train = part(60, 1, labels=np.arange(60) % 3)
    done = probe(folder(train=train, test=part(40, 2)))
    assert done.without == 1
    logits = logits_of(done.linear, part(40, 2).features)
    assert not (logits.argmax(axis=1) == 3).any()


def test_of_many_held_out_images_some_are_drawn(monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 4 * 10)
    done = probe(folder(train=part(60, 1), val=part(30, 2)))
    assert done.calibration.images == 10 and done.choosing == 5


def test_one_photograph_of_each_class_cannot_choose():
    with pytest.raises(UsageError, match="no photograph can be held out to choose the penalty; give --penalties"):
        probe(folder(train=part(4, 1)))
    done = probe(folder(train=part(4, 1), test=part(8, 2)), penalties=[0.1])
    assert done.calibration is None and done.fitted == 4 and len(done.scores["test"].shares) > 0


def test_a_split_without_labels_has_no_scores():
    done = probe(folder(train=part(40, 1), test=part(5, 2, labels=[-1] * 5)))
    assert done.scores["test"].known == {"genus": 0, "species": 0}
    assert not any(name.endswith(("/top1", "/mean_per_class")) for name in done.scores["test"].shares)


def test_scores_are_those_of_chunks_of_any_size(monkeypatch):
    one = module.images_of(folder(test=part(30, 2)), "test", "whole", torch.device("cpu"))
    linear = probe(folder(train=part(60, 1)), penalties=[0.1]).linear
    whole = scores(linear, one, TREE)
    monkeypatch.setattr(module, "AT_ONCE", 7)
    assert scores(linear, one, TREE) == whole


@pytest.mark.parametrize("penalties", [[], [0.0], [-1.0, 0.1], [float("nan")], [float("inf")]])
def test_odd_penalties_are_refused(penalties):
    with pytest.raises(UsageError, match=r"penalties: .*give numbers above 0"):
        probe(folder(train=part(40, 1)), penalties=penalties)


def test_maps_and_photographs_without_classes_are_refused():
    maps = Part(["x.jpg"], np.zeros(1, np.int32), np.zeros((1, 2, 3, 3), np.float32))
    with pytest.raises(UsageError, match="holds maps, and a probe reads vectors"):
        probe(folder(train=maps))
    with pytest.raises(UsageError, match="no photograph of train has a species"):
        probe(folder(train=part(3, 1, labels=[-1, -1, 4])))
