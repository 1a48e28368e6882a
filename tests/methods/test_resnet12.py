import torch
from torch.nn.functional import batch_norm, conv2d, leaky_relu, max_pool2d

from fgvc.methods.backbone import Backbone


def normed(x, conv, norm, padding):
    return batch_norm(
        conv2d(x, conv.weight, padding=padding), norm.running_mean, norm.running_var, norm.weight, norm.bias
    )


def test_84_pixels_become_640_x_5_x_5_and_the_numbers_are_those_of_the_layers():
    backbone = Backbone(84, "resnet12", "none").eval()
    x = torch.rand(2, 3, 84, 84, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        found = backbone(x).map
        x = (x - backbone.mean) / backbone.std
        for block in backbone.net.blocks:
            y = leaky_relu(normed(x, block.conv1, block.norm1, 1), 0.1)
            y = leaky_relu(normed(y, block.conv2, block.norm2, 1), 0.1)
            y = normed(y, block.conv3, block.norm3, 1) + normed(x, *block.shortcut, 0)
            x = max_pool2d(leaky_relu(y, 0.1), 2)
    torch.testing.assert_close(found, x, atol=1e-4, rtol=1e-4)
    assert found.shape == (2, 640, 5, 5)


def test_it_has_the_papers_number_of_numbers():
    pairs = [(3, 64), (64, 160), (160, 320), (320, 640)]
    counted = sum(9 * c * d + 2 * 9 * d * d + c * d + 4 * 2 * d for c, d in pairs)
    assert sum(p.numel() for p in Backbone(84, "resnet12", "none").parameters()) == counted
    assert 12.4e6 < counted < 12.5e6
