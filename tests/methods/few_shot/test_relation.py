import pytest
import torch
from easyfsl.methods import RelationNetworks
from fakes.feature_episodes import accuracies, drawn, peers_scores, ragged

from fgvc.errors import UsageError
from fgvc.methods.few_shot.relation import RelationClassifier

NAMES = {
    "0.0": "pairing",
    "0.1": "relation.0",
    "1.0": "relation.3",
    "1.1": "relation.4",
    "3": "relation.8",
    "5": "relation.10",
}
"""Where the layers of the peer's relation module are here."""


def pair_of_networks():
    torch.manual_seed(0)
    peer, ours = RelationNetworks(feature_dimension=6).eval(), RelationClassifier(6, hidden=6, inner=8).eval()
    state = {}
    for key, value in peer.relation_module.state_dict().items():
        layer, _, rest = key.rpartition(".")
        state[f"{NAMES[layer]}.{rest}"] = value
    ours.load_state_dict(state)
    return peer, ours


@pytest.mark.parametrize("shape", [(5, 5), (3, 4), (10, 7)])
@pytest.mark.parametrize("kind", [drawn, ragged])
def test_scores_and_accuracies_equal_the_peers_with_the_same_weights(kind, shape):
    peer, ours = pair_of_networks()
    episode = kind(episodes=4, d=6, shape=shape)
    theirs, scores = peers_scores(peer, episode), ours(episode)
    torch.testing.assert_close(scores.sigmoid(), theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(accuracies(scores.detach(), 4), accuracies(theirs, 4), atol=1e-4, rtol=0)


def test_it_learns_to_tell_ways_apart_from_episodes():
    torch.manual_seed(0)
    classifier = RelationClassifier(4, hidden=16)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.01)
    right = torch.arange(3).repeat_interleave(4).expand(8, -1)

    def accuracy(seed):
        episode = drawn(8, ways=3, d=4, spread=0.3, seed=seed, shape=(3, 3))
        return (classifier.eval()(episode).argmax(dim=2) == right).double().mean().item()

    before = accuracy(999)
    for seed in range(60):
        scores = classifier.train()(drawn(8, ways=3, d=4, spread=0.3, seed=seed, shape=(3, 3)))
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), right.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert before < 0.6 and accuracy(999) > 0.85


@pytest.mark.parametrize("name", ["hidden", "inner"])
def test_layers_without_numbers_are_refused(name):
    with pytest.raises(UsageError, match=f"{name}: 0; it must be at least 1"):
        RelationClassifier(4, **{name: 0})
