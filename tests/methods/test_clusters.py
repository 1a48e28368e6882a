import numpy as np
import pytest

from fgvc.methods.clusters import kmeans_owners, spectral_groups


def partition(owners):
    return {frozenset(np.flatnonzero(owners == group).tolist()) for group in np.unique(owners)}


@pytest.mark.parametrize("seed", range(4))
def test_the_blocks_of_a_shuffled_block_matrix_are_the_groups(seed):
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat([0, 1, 2], [9, 14, 7]))
    noise = rng.random((30, 30)) * 0.15
    affinity = np.where(truth[:, None] == truth, 0.6, 0.0) + (noise + noise.T) / 2
    assert partition(spectral_groups(affinity, 3)) == partition(truth)
    np.fill_diagonal(affinity, 50)  # what a thing is to itself says nothing
    assert partition(spectral_groups(affinity, 3)) == partition(truth)


def test_rings_that_kmeans_cannot_tell_are_told_by_their_neighbours():
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rows = np.concatenate([ring, 4 * ring])
    gaps = np.square(rows[:, None] - rows).sum(axis=2)
    assert partition(spectral_groups(np.exp(-2 * gaps), 2)) == {frozenset(range(40)), frozenset(range(40, 80))}
    assert len(partition(kmeans_owners(rows, 2)) & {frozenset(range(40))}) == 0


def test_there_are_no_more_clusters_than_rows_that_differ():
    assert kmeans_owners(np.zeros((5, 2)), 3).tolist() == [0] * 5
    assert len(set(kmeans_owners(np.repeat(np.eye(2), 3, axis=0), 4))) == 2
