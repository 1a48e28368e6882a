"""Conv-4, the small network of few-shot learning, under the name `conv4` in timm's registry.

Shape letters: N images, S side of the image, C channels in, D out, h, w grid.
"""

from typing import Any

from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from fgvc.methods.block_network import BlockNetwork, described

BLOCKS = 4

default_cfgs = described("conv4", "blocks.0.conv")


class ConvBlock(nn.Module):
    """A 3 x 3 convolution, batch normalisation, ReLU, the largest of 2 x 2: (N, C, h, w) -> (N, D, h/2, w/2)."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)  # the normalisation has a bias
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, D, h/2, w/2), rounded down."""
        return self.pool(self.act(self.norm(self.conv(x))))  # type: ignore[no-any-return]


class Conv4(BlockNetwork):
    """Four blocks of one convolution; 84 px become a map of 64 x 5 x 5.

    Oriol Vinyals and others, "Matching Networks for One Shot Learning", NeurIPS 2016. Snell and others 2017 take its
    whole map as a vector: `FlattenPooling`.

    Args:
        num_classes: of the classifier; 0 for none.
        in_chans: channels of the images.
        width: channels of each block.
        global_pool: see `BlockNetwork`.
    """

    def __init__(self, num_classes: int = 0, in_chans: int = 3, width: int = 64, global_pool: str = "avg") -> None:
        blocks = [ConvBlock(width if i else in_chans, width) for i in range(BLOCKS)]
        super().__init__(blocks, [width] * BLOCKS, num_classes, global_pool)


@register_model  # type: ignore[untyped-decorator]
def conv4(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Return Conv-4; there are no pretrained weights of it."""
    return build_model_with_cfg(Conv4, "conv4", pretrained, **kwargs)  # type: ignore[no-any-return]
