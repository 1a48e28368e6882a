"""CUB with fewer classes, or with a tree that means nothing: the controls of docs/results/levels_all_methods.md.

fgvc fit --config cub --config hse --data.source benchmarks.experiments.cub_variant.CUBVariant \
    --data.source.init_args.root $CUB ...
"""

import numpy as np

from fgvc.data.sources.cub import CUB, Protocol, Tree
from fgvc.taxonomy.tree import Taxonomy


class CUBVariant(CUB):
    """CUB with its first classes only, and species that may be dealt out to the genera at random.

    Args:
        root, protocol, tree: see CUB.
        num_classes: how many classes, from the first on.
        shuffle_seed: deal the species out to the places of the tree by this seed; its shape and sizes stay. None leaves
            them where they belong.
    """

    def __init__(
        self,
        root: str = "data/CUB_200_2011",
        protocol: Protocol = "dev",
        tree: Tree = "clements",
        num_classes: int = 200,
        shuffle_seed: int | None = None,
    ) -> None:
        super().__init__(root, protocol, tree)
        whole = self._taxonomy
        paths = [whole.path(leaf) for leaf in range(min(num_classes, whole.num_classes))]
        places = list(range(len(paths)))
        if shuffle_seed is not None:
            places = np.random.default_rng(shuffle_seed).permutation(len(paths)).tolist()
        self._taxonomy = Taxonomy(
            whole.levels, [(*paths[place][:-1], path[-1]) for path, place in zip(paths, places, strict=True)]
        )
        for split, records in self._records.items():
            chosen = np.flatnonzero(records.labels < len(paths))
            self._rows[split] = [self._rows[split][row] for row in chosen.tolist()]
            self._records[split] = records.subset(chosen.tolist())
