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
