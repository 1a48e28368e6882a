import pytest
import torch

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.pooling.class_mean import ClassMeanPooling


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_registers_are_left_out():
    map_, prefix = noise(2, 3, 4, 5), noise(2, 4, 3, seed=1)
    found = ClassMeanPooling(3).pool(Features(map_, None, prefix))
    for image in range(2):
        sums = sum(map_[image, :, y, x] for y in range(4) for x in range(5))
        torch.testing.assert_close(found[image], torch.cat([prefix[image, 0], sums / 20]))


def test_the_mean_stands_for_a_token_that_is_not_there():
    map_ = noise(2, 3, 4, 5)
    found = ClassMeanPooling(3)(map_)
    assert found.shape == (2, ClassMeanPooling(3).out_features)
    torch.testing.assert_close(found[:, :3], found[:, 3:])


def test_a_network_without_class_token_is_refused():
    assert ClassMeanPooling(64).attach(Backbone(32, "test_vit", "none"))
    with pytest.raises(UsageError, match="ResNet has no class token"):
        ClassMeanPooling(96).attach(Backbone(32, "test_resnet", "none"))
