import math
import statistics

import numpy as np
import pytest
import torch

from fgvc.training.metrics.episodes import EpisodeAccuracy


def test_mean_and_interval_are_those_of_the_accuracies():
    numbers = np.random.default_rng(0)
    episodes = [numbers.random(30) < share for share in numbers.random(40)]
    metric = EpisodeAccuracy()
    for right in episodes:
        metric.update(torch.from_numpy(right))
    accuracies = [right.sum() / 30 for right in episodes]
    found = {name: float(value) for name, value in metric.compute().items()}
    half = 1.96 * statistics.stdev(accuracies) / math.sqrt(40)
    assert found == {"top1": pytest.approx(statistics.fmean(accuracies)), "interval": pytest.approx(half)}


def test_one_episode_has_no_interval():
    metric = EpisodeAccuracy()
    metric.update(torch.tensor([True, False, True, True]))
    assert {name: float(value) for name, value in metric.compute().items()} == {"top1": 0.75}
