"""Random trees in which levels are missing, for the tests of heads."""

import random

from fgvc.taxonomy.tree import Taxonomy


def ragged_tree(seed):
    """Return a random tree in which some nodes have a single child and some levels repeat the parent."""
    rng = random.Random(seed)
    leaves = []
    for a in range(3):
        for b in range(rng.randint(1, 3)):
            family = f"a{a}" if b == 0 else f"a{a}b{b}"
            leaves += [(f"a{a}", family, f"c{b}{c}") for c in range(rng.randint(2, 4))]
            leaves += [(f"a{a}", f"alone{b}", f"alone{b}")]
    rng.shuffle(leaves)
    return Taxonomy(["top", "middle", "leaf"], leaves), leaves


def under_one_root(tree, ranks=1):
    """Return a tree below ranks of one node, as birds below "Chordata > Aves"; the leaves keep their numbers."""
    names = [f"rank {i}" for i in range(ranks)]
    return Taxonomy([*names, *tree.levels], [(*names, *tree.path(leaf)) for leaf in range(tree.num_classes)])


def same_nodes(labels, tree, grown):
    """Return the node ids of a tree as those of the same nodes in `under_one_root` of it; -1 stays."""
    ranks = len(grown.levels) - len(tree.levels)
    node_of = {grown.path(node)[ranks:]: node for node in range(grown.num_nodes - ranks)}
    return labels.clone().apply_(lambda label: -1 if label < 0 else node_of[tree.path(label)])
