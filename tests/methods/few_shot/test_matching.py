import pytest
import torch
from easyfsl.methods import MatchingNetworks
from fakes.feature_episodes import accuracies, drawn, peers_scores, ragged
from torch import nn

from fgvc.errors import UsageError
from fgvc.methods.few_shot.matching import MatchingClassifier


class NoContext(nn.Module):
    """Takes the place of the LSTM over the support set: adds nothing."""

    def forward(self, features):
        return (torch.zeros(1, features.shape[1], 2 * features.shape[2]), None)


class Times(nn.Module):
    """Takes the place of the LSTM cell of the queries, to whose answer the query is added: scale * query in all."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, both, state):
        query = both[:, : both.shape[1] // 2]
        return (self.scale - 1) * query, state[1]


@pytest.mark.parametrize("scale", [1.0, 8.0])
@pytest.mark.parametrize("episode", [drawn(), ragged()], ids=["even", "ragged"])
def test_attention_and_accuracies_equal_the_peers_without_context(scale, episode):
    peer = MatchingNetworks(
        feature_dimension=32, support_encoder=NoContext(), query_encoder=Times(scale), feature_normalization=2.0
    )
    theirs, ours = peers_scores(peer, episode), MatchingClassifier(32, scale)(episode)
    torch.testing.assert_close((ours.exp() + 1e-6).log(), theirs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(accuracies(ours, 4), accuracies(theirs, 4), atol=1e-4, rtol=0)


def test_scores_equal_a_slow_loop_where_attention_underflows():
    episode, scale = ragged(episodes=3), 300.0
    scores = MatchingClassifier(32, scale)(episode)
    for e in range(3):
        for q, query in enumerate(episode.query[e].double()):
            weights = [scale * torch.cosine_similarity(query, x.double(), dim=0) for x in episode.support[e]]
            total = torch.stack(weights).logsumexp(dim=0)
            for way in range(4):
                own = [w for w, label in zip(weights, episode.labels[e], strict=True) if label == way]
                assert scores[e, q, way] == pytest.approx((torch.stack(own).logsumexp(dim=0) - total).item(), abs=1e-3)
    assert scores.min() < -90  # float32 has no e^-104


def test_a_scale_of_nothing_is_refused():
    with pytest.raises(UsageError, match="scale: 0; it must be a number above 0"):
        MatchingClassifier(4, 0)
