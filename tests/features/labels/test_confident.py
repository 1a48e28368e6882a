"""Against slow loops written from the paper (Northcutt and others 2021, section 3), and by hand."""

import numpy as np
import pytest

from fgvc.features.labels import confident


def example(seed, photographs=120, classes=7, noise=0.3):
    """Return probabilities (N, K) of a classifier that is mostly right, and labels of which a share is drawn anew."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes - 1, photographs)  # the last class has no photograph
    logits = rng.normal(size=(photographs, classes))
    logits[np.arange(photographs), true] += 2.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.where(rng.random(photographs) < noise, rng.integers(0, classes - 1, photographs), true)
    return probabilities, labels


def slow_joint(probabilities, labels):
    """Return the K x K estimate: confident counts, rows scaled to the number of each label."""
    number, classes = probabilities.shape
    reach = {}
    for k in range(classes):
        own = [probabilities[n, k] for n in range(number) if labels[n] == k]
        reach[k] = sum(own) / len(own) if own else float("inf")
    counts = [[0.0] * classes for _ in range(classes)]
    for n in range(number):
        over = [(probabilities[n, k], k) for k in range(classes) if probabilities[n, k] >= reach[k]]
        if over:
            counts[labels[n]][max(over)[1]] += 1
    for k in range(classes):
        total, size = sum(counts[k]), list(labels).count(k)
        counts[k] = [value * size / total for value in counts[k]] if total else counts[k]
        if not total and size:
            counts[k][k] = size
    return np.array(counts)


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_and_joint_are_those_of_a_slow_loop(seed):
    probabilities, labels = example(seed)
    expected = slow_joint(probabilities, labels)
    pairs, numbers = confident.joint(probabilities, labels)
    table = np.zeros_like(expected)
    table[tuple(pairs.T)] = numbers
    np.testing.assert_allclose(table, expected, rtol=1e-12)
    assert confident.share_of_joint(pairs, numbers) == pytest.approx(1 - np.trace(expected) / len(labels))
    assert confident.thresholds(probabilities, labels)[-1] == np.inf


@pytest.mark.parametrize("seed", range(4))
def test_both_published_rules_prune_what_a_slow_loop_prunes(seed):
    probabilities, labels = example(seed)
    expected = slow_joint(probabilities, labels)
    by_class, by_rate = set(), set()
    for k in range(len(expected)):
        rows = [n for n in range(len(labels)) if labels[n] == k]
        wrong = round(sum(expected[k]) - expected[k][k])
        by_class |= set(sorted(rows, key=lambda n, k=k: probabilities[n, k])[:wrong])
        for j in range(len(expected)):
            if j != k:
                margin = {n: probabilities[n, j] - probabilities[n, k] for n in rows}
                by_rate |= set(sorted(rows, key=lambda n, of=margin: -of[n])[: round(expected[k][j])])
    assert set(np.flatnonzero(confident.prune_by_class(probabilities, labels))) == by_class
    assert set(np.flatnonzero(confident.prune_by_noise_rate(probabilities, labels))) == by_rate
    assert set(np.flatnonzero(confident.both(probabilities, labels))) == by_class & by_rate
    assert len(by_class) > 10 and by_class != by_rate


def test_a_label_whose_photographs_are_confidently_nothing_counts_as_right():
    probabilities = np.array([[0.4, 0.6, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0], [0.1, 0.2, 0.7]])
    labels = np.array([0, 0, 1, 2])
    assert confident.confident_class(probabilities, labels).tolist() == [-1, 0, 1, 2]
    lonely = np.array([[0.3, 0.3, 0.4], [0.1, 0.2, 0.7], [0.05, 0.2, 0.75]])
    pairs, numbers = confident.joint(lonely, np.array([1, 2, 2]))
    assert confident.confident_class(lonely, np.array([1, 2, 2])).tolist() == [1, -1, 2]
    assert dict(zip(map(tuple, pairs.tolist()), numbers.tolist(), strict=True)) == {(1, 1): 1.0, (2, 2): 2.0}


def test_labels_at_random_are_counted_and_relatives_are_not():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 50, 20_000)
    logits = rng.normal(size=(len(true), 50))
    logits[np.arange(len(true)), true] += 6
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert confident.share_at_random(probabilities, true) < 0.002
    labels = np.where(rng.random(len(true)) < 0.3, rng.integers(0, 50, len(true)), true)
    # an estimate of a share of 0.3 less the fiftieth that is right by chance; its deviation is 0.005
    assert confident.share_at_random(probabilities, labels) == pytest.approx(0.3 * 49 / 50, abs=0.02)
    flags, wrong = confident.at_random(probabilities, labels), labels != true
    assert wrong[flags].mean() > 0.97 and flags[wrong].mean() > 0.97
    second = np.argsort(-probabilities, axis=1)[:, 1]
    assert confident.share_at_random(probabilities, second) < 0.01


def test_a_single_class_has_no_wrong_labels():
    probabilities, labels = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0])
    assert confident.share_at_random(probabilities, labels) == 0
    assert not confident.at_random(probabilities, labels).any()


def test_the_likely_class_is_never_the_label():
    probabilities, labels = example(0)
    likely = confident.likely_class(probabilities, labels)
    for row, (label, one) in enumerate(zip(labels, likely, strict=True)):
        assert one == max((k for k in range(7) if k != label), key=lambda k, row=row: probabilities[row, k])
