import itertools
import math

import numpy as np
import pytest
from scipy.stats import chisquare

from fgvc.data.samplers import EvalSampler, TrainSampler, image_weights

LONG_TAIL = np.repeat(np.array([0, 3, 5, -1], dtype=np.int32), [60, 25, 12, 3])
BALANCES = ["uniform", "sqrt", "class_balanced", "repeat_factor", "effective_number"]


def indices(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return [index for _, index in sampler]


def slow_weights(labels, balance, threshold=1e-3, beta=0.999):
    """One image after the other. LVIS: r(c) = max(1, sqrt(t / f(c))). Cui: 1 over 1 + beta + ... + beta^(n - 1)."""
    weights = []
    for label in labels:
        n = sum(other == label for other in labels)
        class_share = {
            "sqrt": math.sqrt(n),
            "class_balanced": 1.0,
            "repeat_factor": n * max(1.0, math.sqrt(threshold / (n / len(labels)))),
            "effective_number": n / sum(beta**j for j in range(n)),
        }[balance]
        weights.append(class_share / n)
    return np.array(weights) / sum(weights)


@pytest.mark.parametrize("balance", BALANCES[1:])
@pytest.mark.parametrize("threshold", [1e-3, 0.2])
def test_weights_agree_with_a_slow_loop(balance, threshold):
    shuffled = np.random.default_rng(0).permutation(LONG_TAIL)
    weights = image_weights(shuffled, balance, threshold)
    np.testing.assert_allclose(weights, slow_weights(shuffled, balance, threshold), rtol=1e-12)
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.99])
def test_effective_numbers_lie_between_uniform_and_class_balanced(beta):
    weights = image_weights(LONG_TAIL, "effective_number", beta=beta)
    np.testing.assert_allclose(weights, slow_weights(LONG_TAIL, "effective_number", beta=beta), rtol=1e-12)
    if beta == 0:
        np.testing.assert_allclose(weights, 1 / len(LONG_TAIL))
    balanced = image_weights(LONG_TAIL, "effective_number", beta=1.0)
    np.testing.assert_allclose(balanced, image_weights(LONG_TAIL, "class_balanced"), rtol=1e-12)


def test_beta_reaches_the_draws():
    drawn = {}
    for beta in (0.5, 0.99):
        sampler = TrainSampler(LONG_TAIL, "effective_number", seed=1, beta=beta)
        labels = LONG_TAIL[np.concatenate([indices(sampler, epoch) for epoch in range(60)])]
        weights = slow_weights(LONG_TAIL, "effective_number", beta=beta)
        classes = np.unique(LONG_TAIL)
        drawn[beta] = [np.count_nonzero(labels == label) for label in classes]
        expected = [len(labels) * weights[label == LONG_TAIL].sum() for label in classes]
        assert chisquare(drawn[beta], expected).pvalue > 1e-3
    assert drawn[0.99][0] > 1.5 * drawn[0.5][0]  # -1, the rarest class


def test_weights_by_hand():
    labels = np.array([0, 0, 0, 0, 1], dtype=np.int32)
    # class_balanced: half of the draws to either class.
    np.testing.assert_allclose(image_weights(labels, "class_balanced"), [1 / 8] * 4 + [1 / 2])
    # sqrt: classes 2 : 1.
    np.testing.assert_allclose(image_weights(labels, "sqrt"), [1 / 6] * 4 + [1 / 3])
    # repeat_factor with t = 0.8: r = 1 for the class of share 0.8, 2 for the class of share 0.2.
    np.testing.assert_allclose(image_weights(labels, "repeat_factor", 0.8), [1 / 6] * 4 + [2 / 6])
    assert image_weights(labels, "uniform") is None


@pytest.mark.parametrize("balance", BALANCES[1:])
def test_classes_are_drawn_as_often_as_their_weights_say(balance):
    sampler = TrainSampler(LONG_TAIL, balance, seed=1)
    drawn = LONG_TAIL[np.concatenate([indices(sampler, epoch) for epoch in range(60)])]
    weights = slow_weights(LONG_TAIL, balance)
    classes = np.unique(LONG_TAIL)
    observed = [np.count_nonzero(drawn == label) for label in classes]
    expected = [len(drawn) * weights[label == LONG_TAIL].sum() for label in classes]
    assert chisquare(observed, expected).pvalue > 1e-3
    if balance != "repeat_factor":  # no class here is rarer than 1 in 1000
        uniform = [len(drawn) * np.mean(label == LONG_TAIL) for label in classes]
        assert chisquare(observed, uniform).pvalue < 1e-9


@pytest.mark.parametrize("balance", BALANCES)
def test_the_order_is_a_function_of_seed_epoch_and_rank(balance):
    def order(seed, epoch, rank):
        return indices(TrainSampler(LONG_TAIL, balance, seed, rank, world_size=2), epoch)

    sampler = TrainSampler(LONG_TAIL, balance, 0, 0, 2)
    first, second = indices(sampler, 0), indices(sampler, 1)
    assert indices(sampler, 0) == first == order(0, 0, 0)  # whatever was asked before
    assert len({tuple(each) for each in (first, second, order(1, 0, 0), order(0, 0, 1))}) == 4
    assert indices(TrainSampler(LONG_TAIL, balance, 0, 0, 2), 1) == second  # a resumed run starts anywhere


def test_the_epoch_travels_with_the_index_and_stays_that_of_the_pass():
    sampler = TrainSampler(LONG_TAIL)
    assert sampler.epoch == 0
    sampler.set_epoch(4)
    started = iter(sampler)
    sampler.set_epoch(5)
    assert {epoch for epoch, _ in started} == {4}
    assert {epoch for epoch, _ in sampler} == {5}
    assert all(type(epoch) is int and type(index) is int for epoch, index in sampler)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [7, 12])
def test_ranks_are_disjoint_equally_long_and_leave_out_less_than_one_round(size, world_size):
    labels = np.zeros(size, dtype=np.int32)
    samplers = [TrainSampler(labels, rank=rank, world_size=world_size) for rank in range(world_size)]
    parts = [indices(sampler, 2) for sampler in samplers]
    assert {len(part) for part in parts} == {len(sampler) for sampler in samplers} == {size // world_size}
    together = list(itertools.chain(*parts))
    assert len(set(together)) == len(together) > size - world_size
    assert set(together) <= set(range(size))


def test_what_an_epoch_leaves_out_differs_between_epochs():
    labels = np.zeros(7, dtype=np.int32)
    left_out = set()
    for epoch in range(30):
        parts = [indices(TrainSampler(labels, rank=rank, world_size=2), epoch) for rank in range(2)]
        left_out |= set(range(7)) - set(itertools.chain(*parts))
    assert len(left_out) > 4


def test_one_rank_sees_every_image_once_in_a_new_order():
    sampler = TrainSampler(LONG_TAIL)
    first, second = indices(sampler, 0), indices(sampler, 1)
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second
    assert first != list(range(100))


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 7, 11, 12])
def test_evaluation_covers_every_image_once(size, world_size):
    samplers = [EvalSampler(size, rank, world_size) for rank in range(world_size)]
    parts = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(part) for part in parts]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert sorted(itertools.chain(*parts)) == [(0, index) for index in range(size)]


def test_evaluation_of_one_process_is_in_the_order_of_the_records():
    assert list(EvalSampler(4)) == [(0, 0), (0, 1), (0, 2), (0, 3)]
