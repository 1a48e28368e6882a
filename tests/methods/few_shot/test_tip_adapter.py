import math

import pytest
import torch
from fakes.feature_episodes import drawn, ragged

from fgvc.errors import UsageError
from fgvc.methods.few_shot.tip_adapter import CacheClassifier


@pytest.mark.parametrize("episode", [drawn(3), ragged(episodes=3)], ids=["even", "ragged"])
def test_scores_equal_a_slow_loop(episode):
    alpha, beta, scale = 1.7, 3.0, 20.0
    scores = CacheClassifier(32, alpha, beta, scale)(episode)
    for e in range(3):
        support = [x.double() / x.double().norm() for x in episode.support[e]]
        for q, query in enumerate(episode.query[e].double()):
            for way in range(episode.n_way):
                own = [x for x, label in zip(support, episode.labels[e], strict=True) if label == way]
                cosines = [torch.cosine_similarity(query, x, dim=0).item() for x in own]
                to_mean = torch.cosine_similarity(query, sum(own) / len(own), dim=0).item()
                expected = scale * to_mean + alpha * sum(math.exp(-beta * (1 - cosine)) for cosine in cosines)
                assert scores[e, q, way] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["alpha", "beta", "scale"])
def test_factors_of_nothing_are_refused(name):
    with pytest.raises(UsageError, match=f"{name}: 0; it must be a number above 0"):
        CacheClassifier(4, **{name: 0})
