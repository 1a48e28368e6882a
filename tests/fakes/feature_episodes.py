"""Episodes of made-up features, and the scores of peers that take one episode at a time."""

import torch

from fgvc.methods.few_shot.base import Episode


def drawn(episodes=20, ways=5, shots=3, queries=4, d=32, spread=2.0, seed=0, shape=()):
    """Return episodes about random centres; features are vectors of d numbers, or maps (d, *shape)."""
    numbers = torch.Generator().manual_seed(seed)
    centres = torch.randn(episodes, ways, 1, d, *shape, generator=numbers)
    support, query = (
        (centres + spread * torch.randn(episodes, ways, n, d, *shape, generator=numbers)).flatten(1, 2)
        for n in (shots, queries)
    )
    return Episode(support, torch.arange(ways).repeat_interleave(shots).expand(episodes, -1), query, ways)


def ragged(**arguments):
    """Return episodes whose ways have different numbers of images, in an order of its own in each episode."""
    episode = drawn(**{"shots": 4, "ways": 4, **arguments})
    numbers = torch.Generator().manual_seed(9)
    keep = torch.tensor([0, 4, 5, 8, 9, 10, 12, 13, 14, 15])  # 1, 2, 3 and 4 images
    rows = torch.stack([keep[torch.randperm(10, generator=numbers)] for _ in episode.support])
    each = torch.arange(len(rows))[:, None]
    return episode._replace(support=episode.support[each, rows], labels=episode.labels[each, rows])


def peers_scores(peer, episode):
    """Return the scores (E, Q, W) of a classifier of easyfsl, one episode after the other."""
    scores = []
    for support, labels, query in zip(episode.support, episode.labels, episode.query, strict=True):
        peer.process_support_set(support, labels)
        scores.append(peer(query).detach())
    return torch.stack(scores)


def accuracies(scores, queries):
    """Return the accuracy (E,) of each episode whose queries stand way by way."""
    answers = scores.argmax(dim=2)
    return (answers == torch.arange(scores.shape[2]).repeat_interleave(queries)).double().mean(dim=1)
