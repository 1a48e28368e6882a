import numpy as np
import pytest
import torch

from fgvc.data.splitting import name_keys, stratified_folds
from fgvc.errors import UsageError
from fgvc.training import out_of_fold as module
from fgvc.training.logistic import fit, standardised
from fgvc.training.out_of_fold import out_of_fold
from fgvc.training.probe import Images


def images(per_class=(12, 12, 12), width=6, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(per_class)), per_class)
    means = 3 * rng.normal(size=(len(per_class), width))
    features = means[labels] + spread * rng.normal(size=(len(labels), width))
    paths = [f"{i}.jpg" for i in range(len(labels))]
    return Images(torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels), paths)


def test_each_photograph_is_answered_by_a_classifier_of_the_other_folds():
    given = images()
    found = out_of_fold(given, 3, folds=3, penalties=[0.01])
    folds = stratified_folds(given.labels.numpy(), 3, 0, None, name_keys(given.paths))
    for fold in range(3):
        rest = torch.from_numpy(np.flatnonzero(folds != fold))
        part = standardised(given.features, given.labels, rest)
        linear = part.folded(fit(part, 3, 0.01))
        expected = linear.logits(given.features[folds == fold]).softmax(dim=1)
        torch.testing.assert_close(torch.from_numpy(found.probabilities[folds == fold]), expected, rtol=0.05, atol=5e-3)
    assert found.judged.all() and found.penalty == 0.01
    assert found.right == (found.probabilities.argmax(axis=1) == given.labels.numpy()).mean()


def test_a_changed_label_does_not_change_the_answer_for_its_own_photograph(monkeypatch):
    given = images()
    folds = np.arange(36) % 3
    monkeypatch.setattr(module, "stratified_folds", lambda *_: folds)
    before = out_of_fold(given, 3, folds=3, penalties=[0.01]).probabilities
    labels = given.labels.clone()
    labels[4] = 2
    after = out_of_fold(given._replace(labels=labels), 3, folds=3, penalties=[0.01]).probabilities
    same = folds == folds[4]
    assert (after[same] == before[same]).all()
    assert (after[~same] != before[~same]).any()


def test_unknown_labels_are_passed_over_and_a_class_of_one_is_not_judged():
    given = images((12, 12, 1))
    labels = given.labels.clone()
    labels[:2] = torch.tensor([-1, 3])
    found = out_of_fold(given._replace(labels=labels), 3, folds=4, penalties=[0.01])
    assert found.rows.tolist() == list(range(2, 25))
    assert found.probabilities.shape == (23, 3)
    assert np.flatnonzero(~found.judged).tolist() == [22]


def test_a_group_is_never_on_both_sides():
    given = images((12, 12, 12), width=40, spread=3.0)
    groups = np.arange(36) // 2
    features = given.features.clone()
    features[1::2] = features[::2]  # the second of a group is a copy of the first
    given = given._replace(features=features)
    apart = out_of_fold(given, 3, folds=3, penalties=[1e-4], groups=groups)
    np.testing.assert_allclose(apart.probabilities[::2], apart.probabilities[1::2], rtol=1e-5)
    assert apart.right < out_of_fold(given, 3, folds=3, penalties=[1e-4]).right


def test_the_penalty_is_the_best_on_the_first_fold():
    given = images((20, 20, 20), width=30, spread=4.0)
    folds = stratified_folds(given.labels.numpy(), 5, 0, None, name_keys(given.paths))
    rest, first = (torch.from_numpy(np.flatnonzero(mask)) for mask in (folds != 0, folds == 0))
    scores = {}
    for penalty in (10.0, 0.1, 1e-6):
        part = standardised(given.features, given.labels, rest)
        logits = part.folded(fit(part, 3, penalty)).logits(given.features[first])
        loss = torch.nn.functional.cross_entropy(logits, given.labels[first])
        scores[penalty] = (float((logits.argmax(dim=1) == given.labels[first]).float().mean()), -float(loss))
    best = max(scores, key=lambda penalty: scores[penalty])
    assert out_of_fold(given, 3, penalties=[10.0, 0.1, 1e-6]).penalty == best
    assert len(set(scores.values())) == 3


def test_what_does_not_fit_is_refused(monkeypatch):
    with pytest.raises(UsageError, match="folds: 99; give at least 2 and at most 36"):
        out_of_fold(images(), 3, folds=99, penalties=[0.1])
    monkeypatch.setattr(module, "MOST", 100)
    with pytest.raises(UsageError, match="36 photographs of 3 classes: more than 100 probabilities"):
        out_of_fold(images(), 3, penalties=[0.1])
