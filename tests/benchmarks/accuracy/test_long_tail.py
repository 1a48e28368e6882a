from types import SimpleNamespace

import numpy as np
from fakes.tiny_run import TREE, make_photos

from benchmarks.accuracy import long_tail as script
from fgvc.data.long_tail import LongTail
from fgvc.data.sources.image_folder import ImageFolder
from fgvc.methods.backbone import Backbone


def test_every_method_learns_a_tail_that_can_be_learnt(tmp_path):
    """Vectors that say their class: whoever learns anything answers all of them."""
    source = ImageFolder(str(make_photos(tmp_path, train=30, val=4, test=4)), levels=["genus", "species"])
    backbone, draw = Backbone(32, "test_resnet", "none"), np.random.default_rng(0)
    means = {name: 3 * draw.standard_normal(backbone.channels) for name in TREE}
    known = {}
    for split in ("train", "val", "test"):
        records = source.records(split)
        paths = [records.relative_path(i) for i in range(len(records))]
        known |= {path: means[path.split("/")[-2]] + 0.1 * draw.standard_normal(backbone.channels) for path in paths}
    tail = script.tail_of(source, known, LongTail(20, 2, seed=3), "uniform", 0.9, batch_size=4)
    assert sorted(tail.counts.tolist()) == [2, 6, 20] and len(tail.test.features) == 12
    records = tail.data.records("val")
    assert np.allclose(tail.val.features[5], known[records.relative_path(5)], atol=1e-6)
    assert tail.val.labels[5] == records.labels[5]

    options = SimpleNamespace(most=20, least=2, seeds=[3, 4], rates=[0.01], epochs=10, batch_size=4)
    found = list(script.compare(source, known, backbone, options))
    assert [method.name for method, *_ in found] == [method.name for method in script.METHODS]
    for _, reached, rate, _ in found:
        assert rate == 0.01 and all(one.test == dict.fromkeys(script.MEASURES, 1.0) for one in reached)
    assert [one.tau for method, reached, *_ in found for one in reached if method.tau] == [0.0, 0.0]  # nothing to gain


def test_a_row_tells_means_and_the_spread_of_the_difference():
    def reached(*values):
        return script.Reached(0.5, dict(zip(script.MEASURES, values, strict=True)), 0.25)

    method = script.Method("shorter rows", betas=(0.9, 0.99), tau=True)
    plain = [reached(0.5, 0.7, 0.5, 0.1), reached(0.6, 0.7, 0.5, 0.2)]
    row = script.row(method, [reached(0.52, 0.7, 0.5, 0.2), reached(0.61, 0.6, 0.5, 0.4)], 0.01, 0.9, plain)
    assert row == (
        "| shorter rows | 56.5 | 65.0 | 50.0 | 30.0 | +1.5 (+1.0 to +2.0) | +15.0 (+10.0 to +20.0) | "
        "beta 0.9, tau 0.25, 0.25 |"
    )
