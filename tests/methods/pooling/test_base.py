import pytest

from fgvc.methods.pooling.average import AveragePooling
from fgvc.methods.pooling.base import Pooling


def test_a_pooling_publishes_the_width_that_it_was_handed():
    pooling = AveragePooling(7)
    assert (pooling.in_channels, pooling.out_features) == (7, 7)
    with pytest.raises(TypeError, match="abstract"):
        Pooling(7)
