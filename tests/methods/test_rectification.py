import numpy as np
import torch
from fakes.episodes import UNEVEN, drawn_episode

from fgvc.methods.few_shot.base import assignments, class_means
from fgvc.methods.rectification import cosines, rectified


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def slow(support, labels, query, ways, scale):
    means = np.stack([support[labels == w].mean(0) for w in range(ways)])
    shifted = query + means.mean(0) - query.mean(0)
    pseudo = np.array([np.argmax([cosine(q, m) for m in means]) for q in shifted])
    prototypes = []
    for w in range(ways):
        members = np.concatenate([support[labels == w], shifted[pseudo == w]])
        weights = np.array([np.exp(scale * cosine(x, means[w])) for x in members])
        prototypes.append((weights[:, None] * members).sum(0) / weights.sum())
    return np.stack(prototypes)


def test_prototypes_equal_a_slow_loop_for_ways_of_different_numbers():
    episode, _ = drawn_episode(shots=UNEVEN)
    found = rectified(episode.support, assignments(episode), class_means(episode), episode.query, 7.0)
    for e in range(len(found)):
        support, labels, query = (x[e].numpy() for x in episode[:3])
        slowly = slow(support.astype(np.float64), labels, query.astype(np.float64), 5, 7.0)
        np.testing.assert_allclose(found[e].numpy(), slowly, atol=1e-4)


def test_a_way_that_no_query_is_near_to_keeps_its_support():
    support = torch.tensor([[[1.0, 0], [0, 1], [-1, 0.1]]])
    query = torch.tensor([[[2.0, 1], [-1, 1.2]]])
    moved = rectified(support, torch.eye(3).unsqueeze(0), support, query, 10.0)
    torch.testing.assert_close(moved[0, 1], support[0, 1])
    torch.testing.assert_close(cosines(support, support)[0].diagonal(), torch.ones(3))
