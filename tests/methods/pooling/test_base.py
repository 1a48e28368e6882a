import pytest
import torch

from fgvc.methods.features import Features
from fgvc.methods.pooling.average import AveragePooling
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.pooling.native import NativePooling


def test_a_pooling_publishes_the_width_that_it_was_handed():
    pooling = AveragePooling(7)
    assert (pooling.in_channels, pooling.out_features) == (7, 7)
    with pytest.raises(TypeError, match="abstract"):
        Pooling(7)


@pytest.mark.parametrize("pooling", [AveragePooling(3), NativePooling(3)], ids=["average", "native"])
def test_a_vector_that_is_known_is_handed_on(pooling):
    vector = torch.rand(2, 3)
    assert pooling.pool(Features(torch.rand(2, 3, 1, 1), vector=vector)) is vector
