import pytest
import torch
from easyfsl.methods import BDCSPN
from fakes.episodes import UNEVEN, accuracies, doubled, drawn_episode, one_by_one, peers_answers
from torch.nn.functional import normalize

from fgvc.errors import UsageError
from fgvc.methods.few_shot.base import assignments, class_means
from fgvc.methods.few_shot.bd_cspn import BDCSPNClassifier
from fgvc.methods.few_shot.prototypes import PrototypeClassifier
from fgvc.methods.rectification import rectified


def test_scores_equal_the_peers():
    episode, truth = drawn_episode(episodes=100)
    ours = BDCSPNClassifier(32, scale=1.0)(episode)
    theirs = peers_answers(lambda: BDCSPN(feature_normalization=2.0), episode)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(accuracies(ours, truth), accuracies(theirs, truth), atol=1e-4, rtol=0)


def test_queries_help_where_images_are_few():
    episode, truth = drawn_episode(episodes=200, shots=(1,) * 5, queries=15)
    plain, ours = PrototypeClassifier(32, "cosine")(episode), BDCSPNClassifier(32)(episode)
    assert accuracies(ours, truth).mean() > accuracies(plain, truth).mean() + 0.01


def test_uneven_ways_and_the_length_of_vectors_are_no_trouble():
    episode, _ = drawn_episode(shots=UNEVEN)
    scores = BDCSPNClassifier(32)(episode)
    torch.testing.assert_close(scores, one_by_one(BDCSPNClassifier(32), episode))
    longer = episode._replace(support=3 * episode.support, query=7 * episode.query)
    torch.testing.assert_close(scores, BDCSPNClassifier(32)(longer))
    unit = doubled(episode)
    unit = unit._replace(support=normalize(unit.support, dim=2), query=normalize(unit.query, dim=2))
    prototypes = rectified(unit.support, assignments(unit), class_means(unit), unit.query, 10.0)
    inner = torch.einsum("eqd,ewd->eqw", unit.query, prototypes) / prototypes.norm(dim=2).unsqueeze(1)
    torch.testing.assert_close(scores.double(), inner, atol=1e-5, rtol=1e-5)


def test_a_negative_scale_is_refused():
    with pytest.raises(UsageError, match="scale -1"):
        BDCSPNClassifier(4, scale=-1)
