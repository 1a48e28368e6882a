import pytest
import torch

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.pooling.flatten import FlattenPooling


def test_every_number_of_the_map_is_kept_channel_by_channel():
    pooling = FlattenPooling(64).attach(Backbone(84, "conv4", "none"))
    assert pooling.out_features == 1600
    maps = torch.rand(2, 64, 5, 5)
    expected = [[float(maps[n, c, y, x]) for c in range(64) for y in range(5) for x in range(5)] for n in range(2)]
    assert pooling.pool(Features(maps)).tolist() == expected


def test_a_map_of_another_grid_is_refused():
    pooling = FlattenPooling(64).attach(Backbone(84, "conv4", "none"))
    with pytest.raises(UsageError, match="a map of 64x6x5 makes 1920 numbers, but the backbone's makes 1600"):
        pooling(torch.rand(1, 64, 6, 5))
