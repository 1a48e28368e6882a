"""ResNet-12, the larger network of few-shot learning, under the name `resnet12` in timm's registry.

Shape letters: N images, S side of the image, C channels in, D out, h, w grid.
"""

from collections.abc import Sequence
from typing import Any

from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from fgvc.methods.block_network import BlockNetwork, described

WIDTHS = (64, 160, 320, 640)
SLOPE = 0.1
"""Of the leaky ReLU below 0."""

default_cfgs = described("resnet12", "blocks.0.conv1")


class ResidualBlock(nn.Module):
    """Three 3 x 3 convolutions beside a 1 x 1 one, then the largest of 2 x 2: (N, C, h, w) -> (N, D, h/2, w/2)."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.norm3 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential(nn.Conv2d(in_channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.act = nn.LeakyReLU(SLOPE)
        self.pool = nn.MaxPool2d(2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, SLOPE, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, D, h/2, w/2), rounded down."""
        y = self.act(self.norm1(self.conv1(x)))
        y = self.act(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y)) + self.shortcut(x)
        return self.pool(self.act(y))  # type: ignore[no-any-return]


class ResNet12(BlockNetwork):
    """Four residual blocks of three convolutions; 84 px become a map of 640 x 5 x 5.

    Boris Oreshkin and others, "TADAM", NeurIPS 2018, in the widths of Kwonjoon Lee and others, "Meta-Learning with
    Differentiable Convex Optimization", CVPR 2019, without the DropBlock of the latter.

    Args:
        num_classes: of the classifier; 0 for none.
        in_chans: channels of the images.
        widths: channels of each block.
        global_pool: see `BlockNetwork`.
    """

    def __init__(
        self, num_classes: int = 0, in_chans: int = 3, widths: Sequence[int] = WIDTHS, global_pool: str = "avg"
    ) -> None:
        blocks = [*map(ResidualBlock, [in_chans, *widths[:-1]], widths)]
        super().__init__(blocks, widths, num_classes, global_pool)


@register_model  # type: ignore[untyped-decorator]
def resnet12(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Return ResNet-12; there are no pretrained weights of it."""
    return build_model_with_cfg(ResNet12, "resnet12", pretrained, **kwargs)  # type: ignore[no-any-return]
