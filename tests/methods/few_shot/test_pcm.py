import numpy as np
import pytest
import torch
from fakes.episodes import UNEVEN, accuracies, doubled, drawn_episode, one_by_one
from torch.nn.functional import linear

from fgvc.errors import UsageError
from fgvc.methods import in_parts
from fgvc.methods.few_shot.pcm import GlobalMapping, PCMClassifier, PiecewiseMapping

MAPPINGS = ("piecewise", "global", "identity")


def slow_bilinear(image):
    """Return (D, D) of a map (D, h, w), by the definition."""
    depth, height, width = image.shape
    total = np.zeros((depth, depth))
    for y in range(height):
        for x in range(width):
            total += np.outer(image[:, y, x], image[:, y, x])
    total /= height * width
    root = total / np.sqrt(np.abs(total) + 1e-6)
    return root / np.sqrt((root**2).sum())


def test_the_identity_equals_a_slow_bilinear_loop_in_float64():
    episode = doubled(drawn_episode(episodes=3, shots=UNEVEN, shape=(9, 2, 3), queries=2)[0])
    classifier = PCMClassifier(9, channels=6, mapping="identity").double()
    weight, bias = (x.detach().numpy() for x in classifier.reduce.parameters())
    found = classifier(episode).detach().numpy()
    for e in range(3):
        support, labels, query = (x[e].numpy() for x in episode[:3])
        support, query = (
            [slow_bilinear(np.tensordot(weight[:, :, 0, 0], image, 1) + bias[:, None, None]) for image in images]
            for images in (support, query)
        )
        means = [np.mean([b for b, y in zip(support, labels, strict=True) if y == w], axis=0) for w in range(5)]
        slowly = [[(b * mean).sum() for mean in means] for b in query]
        np.testing.assert_allclose(found[e], slowly, rtol=1e-9)


def test_the_grouped_mapping_is_a_loop_of_small_networks():
    mapping = PiecewiseMapping(7)
    features = torch.randn(4, 7, 7)
    found = mapping(features)
    for d in range(7):
        x = features[:, d]
        for layer in range(3):
            x = linear(x.relu() if layer else x, mapping.weights[layer][d].T, mapping.biases[layer][d, 0])
        torch.testing.assert_close(found[:, d], x)


def test_both_mappings_have_about_as_many_weights():
    sizes = [sum(p.numel() for p in kind(32).parameters()) for kind in (PiecewiseMapping, GlobalMapping)]
    assert abs(sizes[0] / sizes[1] - 1) < 0.03, sizes


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("cosine", [False, True])
def test_the_order_of_shots_and_the_batch_do_not_matter(mapping, cosine, monkeypatch):
    episode, _ = drawn_episode(episodes=4, shots=UNEVEN, shape=(9, 2, 3))
    classifier = PCMClassifier(9, channels=6, mapping=mapping, cosine=cosine)
    scores = classifier(episode)
    order = torch.randperm(episode.labels.shape[1])
    other = episode._replace(support=episode.support[:, order], labels=episode.labels[:, order])
    torch.testing.assert_close(scores, classifier(other))
    torch.testing.assert_close(scores, one_by_one(classifier, episode))
    monkeypatch.setattr(in_parts, "BUDGET", 1)
    torch.testing.assert_close(scores, classifier(episode))


@pytest.mark.parametrize("mapping", ["piecewise", "global"])
def test_a_residual_mapping_starts_as_the_identity_and_learns(mapping):
    episode, _ = drawn_episode(shape=(9, 2, 3))
    control, ours = PCMClassifier(9, mapping="identity"), PCMClassifier(9, mapping=mapping, residual=True)
    ours.reduce.load_state_dict(control.reduce.state_dict())
    torch.testing.assert_close(ours(episode), control(episode))
    ours(episode).square().sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())
    assert sum((p.grad != 0).sum() for p in ours.mapping.parameters()) > 0


def test_training_on_episodes_makes_the_piecewise_mapping_answer():
    torch.manual_seed(0)
    episode, truth = drawn_episode(episodes=30, shape=(6, 2, 2), spread=0.3)
    fresh, fresh_truth = drawn_episode(episodes=30, shape=(6, 2, 2), spread=0.3, seed=1)
    classifier = PCMClassifier(6)
    adam = torch.optim.Adam(classifier.parameters(), lr=0.01)
    assert accuracies(classifier(fresh), fresh_truth).mean() < 0.5
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(classifier(episode).flatten(0, 1), truth.flatten())
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert accuracies(classifier(fresh), fresh_truth).mean() > 0.6


def test_only_a_mapping_needs_training():
    assert [PCMClassifier(4, mapping=mapping).needs_training for mapping in MAPPINGS] == [True, True, False]
    assert PCMClassifier.needs_training


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"mapping": "piecwise"}, "did you mean"),
        ({"channels": 0}, "channels 0"),
        ({"mapping": "identity", "residual": True}, "nothing to add"),
    ],
)
def test_senseless_arguments_are_refused(arguments, told):
    with pytest.raises(UsageError, match=told):
        PCMClassifier(4, **arguments)
