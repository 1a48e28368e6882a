import random

import pytest
import torch

from fgvc.errors import UsageError
from fgvc.taxonomy.limits import MAX_CELLS, MAX_LEAVES, MAX_LEVELS, too_large
from fgvc.taxonomy.tree import Taxonomy


def test_the_trees_of_the_field_fit():
    for levels, leaves in ((1, 500_000), (7, 10_000), (8, 454_000), (64, 5000)):
        assert too_large(levels, leaves) is None
    assert too_large(MAX_LEVELS + 1, 1) == f"{MAX_LEVELS + 1} levels; at most {MAX_LEVELS}"
    assert too_large(1, MAX_LEAVES + 1) == f"{MAX_LEAVES + 1} classes; at most {MAX_LEAVES}"
    assert too_large(64, 20_000) == "64 levels over 20000 classes; with 64 levels at most 7812 classes"
    assert 64**2 * 7812 <= MAX_CELLS < 64**2 * 7813


def test_a_tree_that_is_too_large_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(torch, "full", lambda *_, **__: pytest.fail("it is made"))
    path = tuple("ab" * 32)
    with pytest.raises(UsageError, match="taxonomy: 64 levels over 20000 classes; with 64 levels at most 7812 classes"):
        Taxonomy([str(i) for i in range(64)], [(*path[:-1], str(leaf)) for leaf in range(20_000)])


def naive(levels, leaves):
    """Return the ancestors as the definition has them: of each node, the places of its prefixes."""
    paths = [list(dict.fromkeys(leaf[: d + 1] for leaf in leaves)) for d in range(len(levels))]
    rows = [
        [paths[up].index(path[: up + 1]) if up <= d else -1 for up in range(len(levels))]
        for d in reversed(range(len(levels)))
        for path in paths[d]
    ]
    return rows, [path for d in reversed(range(len(levels))) for path in paths[d]]


@pytest.mark.parametrize("seed", range(20))
def test_a_tree_is_what_its_definition_says(seed):
    draw = random.Random(seed)
    depth = draw.randint(1, 6)
    leaves = list(dict.fromkeys(tuple(str(draw.randint(0, 2)) for _ in range(depth)) for _ in range(40)))
    tree = Taxonomy([f"level {d}" for d in range(depth)], leaves)
    rows, paths = naive(tree.levels, leaves)
    assert tree.ancestors.tolist() == rows
    assert [tree.path(node) for node in range(tree.num_nodes)] == paths
    for level in tree.levels:
        own = [path for path in paths if len(path) == tree.depth(level) + 1]
        assert tree.names(level) == tuple(path[-1] for path in own)
        same = [sum(other[-1] == path[-1] for other in own) for path in own]
        assert tree.unique_names(level) == tuple(
            path[-1] if times == 1 else " > ".join(path) for path, times in zip(own, same, strict=True)
        )
