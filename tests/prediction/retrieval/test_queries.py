import numpy as np
import pytest
import torch
from fakes.tiny_run import make_photos

from fgvc.data.datamodule import FineGrainedData
from fgvc.data.unlabelled import Unlabelled
from fgvc.errors import FgvcError, UsageError
from fgvc.features.embedding import embed
from fgvc.features.network import Wishes, read_network
from fgvc.prediction.retrieval.queries import embedded


def network():
    return read_network("test_resnet", Wishes(weights="none", image_size=32, crop_fraction=0.8))


@pytest.mark.parametrize("take", ["prelogits", "pooled"])
def test_queries_are_what_embed_computes_of_the_same_files(tmp_path, take):
    photos = make_photos(tmp_path / "photos", train=2, val=0, test=1)
    part = embed(network(), FineGrainedData(Unlabelled(str(photos))), tmp_path / "f", take, device="cpu").part("test")
    paths = [str(photos / path) for path in part.paths]
    paths.insert(4, str(tmp_path / "gone.png"))
    batches = list(embedded(network(), take, paths, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 2, 2, 2, 2]
    found = [query for batch in batches for query in batch]
    assert [query.path for query in found] == paths
    lost = found.pop(4)
    assert lost.vector is None and "gone.png" in lost.error
    np.testing.assert_allclose(np.stack([query.vector for query in found]), part.features, rtol=1e-4, atol=1e-5)


def test_a_batch_that_cannot_be_read_at_all_keeps_its_places(tmp_path):
    (batch,) = embedded(network(), "prelogits", [str(tmp_path / "a.png"), str(tmp_path / "b.png")])
    assert [query.vector for query in batch] == [None, None] and all(query.error for query in batch)


def test_numbers_that_are_none_and_batches_below_one_are_refused(tmp_path):
    with pytest.raises(UsageError, match="batch_size: 0; give 1 or more"):
        next(embedded(network(), "prelogits", [], batch_size=0))
    damaged = network()
    with torch.no_grad():
        next(damaged.module.parameters()).fill_(torch.nan)
    with pytest.raises(FgvcError, match="its weights are damaged"):
        next(embedded(damaged, "prelogits", [np.zeros((40, 40, 3), np.uint8)]))
