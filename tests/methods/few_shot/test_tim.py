import pytest
import torch
from easyfsl.methods import TIM
from fakes.episodes import UNEVEN, accuracies, doubled, drawn_episode, one_by_one, peers_answers
from torch.nn.functional import cross_entropy, normalize

from fgvc.errors import UsageError
from fgvc.methods.few_shot.tim import TIMClassifier

PEERS = {"distance": "cosine", "temperature": 10.0, "steps": 50, "support_weight": 1.0}


@pytest.mark.parametrize("shots", [(3,) * 5, UNEVEN])
def test_answers_equal_the_peers(shots):
    episode, truth = drawn_episode(episodes=25, shots=shots, queries=15, spread=2.0)
    ours = TIMClassifier(32, **PEERS, lr=0.01)(doubled(episode))
    peer = lambda: TIM(feature_normalization=2.0, fine_tuning_lr=0.01)  # noqa: E731
    theirs = peers_answers(peer, doubled(episode))
    torch.testing.assert_close(ours / 10, theirs, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(accuracies(ours, truth), accuracies(theirs, truth), atol=1e-4, rtol=0)
    single = TIMClassifier(32, **PEERS)(episode)
    theirs = peers_answers(lambda: TIM(feature_normalization=2.0), episode)
    torch.testing.assert_close(accuracies(single, truth), accuracies(theirs, truth), atol=1e-4, rtol=0)


def slow(support, labels, query, ways, steps, lr):
    support, query = normalize(support, dim=1), normalize(query, dim=1)
    prototypes = torch.stack([support[labels == w].mean(0) for w in range(ways)]).requires_grad_()
    adam = torch.optim.Adam([prototypes], lr=lr)

    def scores(vectors):
        return -7.5 * (vectors.unsqueeze(1) - prototypes).square().sum(dim=2)

    for _ in range(steps):
        p = scores(query).softmax(dim=1)
        sure, even = -(p * p.log()).sum(dim=1).mean(), -(p.mean(dim=0) * p.mean(dim=0).log()).sum()
        loss = 0.3 * cross_entropy(scores(support), labels) - 0.8 * even + 0.2 * sure
        adam.zero_grad()
        loss.backward()
        adam.step()
    return scores(query).detach()


def test_the_published_form_equals_autograd_and_adam_episode_by_episode():
    episode = doubled(drawn_episode(episodes=4, shots=UNEVEN)[0])
    weights = {"support_weight": 0.3, "marginal_weight": 0.8, "conditional_weight": 0.2}
    with torch.inference_mode():
        found = TIMClassifier(32, steps=60, lr=0.01, **weights)(episode)
    slowly = torch.stack([slow(*(x[e] for x in episode[:3]), 5, 60, 0.01) for e in range(4)])
    torch.testing.assert_close(found.clone(), slowly, atol=1e-6, rtol=1e-6)


def test_an_episode_is_answered_as_alone():
    episode = doubled(drawn_episode(shots=UNEVEN)[0])
    torch.testing.assert_close(TIMClassifier(32)(episode), one_by_one(TIMClassifier(32), episode))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"distance": "euclid"}, "did you mean"),
        ({"temperature": 0}, "temperature 0"),
        ({"lr": -1}, "lr -1"),
        ({"steps": -1}, "steps -1"),
        ({"marginal_weight": -0.5}, "marginal_weight -0.5"),
    ],
)
def test_senseless_arguments_are_refused(arguments, told):
    with pytest.raises(UsageError, match=told):
        TIMClassifier(4, **arguments)
