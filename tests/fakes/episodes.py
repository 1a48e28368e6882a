"""Episodes of random features, and what easyfsl answers to them one by one."""

import torch

from fgvc.methods.few_shot.base import Episode

UNEVEN = (1, 4, 2, 6, 3)  # support images of each way


def drawn_episode(episodes=12, shots=(3, 3, 3, 3, 3), queries=5, shape=(32,), spread=1.5, seed=0, positive=False):
    """Return an Episode in float32 whose support images lie in a random order, and (E, Q) the ways of its queries."""
    numbers = torch.Generator().manual_seed(seed)
    ways = len(shots)
    centres = torch.randn(episodes, ways, *shape, generator=numbers)
    if positive:
        centres = centres.abs()
    of_support = torch.arange(ways).repeat_interleave(torch.tensor(shots))
    labels = torch.stack([of_support[torch.randperm(sum(shots), generator=numbers)] for _ in range(episodes)])
    truth = torch.stack([torch.arange(ways).repeat(queries)] * episodes)
    features = []
    for classes in (labels, truth):
        centre = torch.stack([centres[e, classes[e]] for e in range(episodes)])
        feature = centre + spread * torch.randn(centre.shape, generator=numbers)
        features.append(feature.relu() if positive else feature)
    return Episode(features[0], labels, features[1], ways), truth


def doubled(episode):
    """Return the episode in float64."""
    return episode._replace(support=episode.support.double(), query=episode.query.double())


def one_by_one(classifier, episode):
    """Return the scores (E, Q, W) of a classifier that is shown every episode alone."""
    parts = zip(*(x.split(1) for x in episode[:3]), strict=True)
    return torch.cat([classifier(Episode(*part, episode.n_way)) for part in parts])


def peers_answers(peer, episode):
    """Return (E, Q, W), what a method of easyfsl, made anew by `peer()` for each episode, answers."""
    answers = []
    for support, labels, query in zip(episode.support, episode.labels, episode.query, strict=True):
        method = peer()
        method.process_support_set(support, labels)
        answers.append(method(query).detach())
    return torch.stack(answers)


def accuracies(answers, truth):
    """Return (E,), the accuracy of each episode."""
    return (answers.argmax(dim=2) == truth).double().mean(dim=1)
