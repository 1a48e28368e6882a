import numpy as np
from fakes.cub import make_fake

from benchmarks.experiments.cub_variant import CUBVariant
from fgvc.data.sources.cub import CUB


def test_fewer_classes_keep_their_names_and_their_photographs(tmp_path):
    arguments = make_fake(tmp_path)
    whole, some = CUB(**arguments, protocol="dev"), CUBVariant(**arguments, num_classes=2)
    assert [some.taxonomy.path(leaf) for leaf in range(2)] == [whole.taxonomy.path(leaf) for leaf in range(2)]
    assert some.taxonomy.num_classes == 2 < whole.taxonomy.num_classes
    for split in whole.splits:
        wanted = [record for record in whole.records(split) if record.label < 2]
        assert list(some.records(split)) == wanted
    assert 0 < len(some.records("train")) < len(whole.records("train"))


def test_a_shuffled_tree_has_the_same_shape_and_other_neighbours(tmp_path):
    arguments = make_fake(tmp_path)
    plain, mixed = CUBVariant(**arguments), CUBVariant(**arguments, shuffle_seed=0)
    assert mixed.taxonomy.names("species") == plain.taxonomy.names("species")
    assert mixed.taxonomy != plain.taxonomy
    for level in plain.taxonomy.levels:
        depth = plain.taxonomy.depth(level)
        sizes = [
            np.unique(t.ancestors[: t.num_classes, depth], return_counts=True)[1]
            for t in (plain.taxonomy, mixed.taxonomy)
        ]
        assert sorted(sizes[0]) == sorted(sizes[1])
    assert list(plain.records("train")) == list(mixed.records("train"))
    assert CUBVariant(**arguments, shuffle_seed=0).taxonomy == mixed.taxonomy
