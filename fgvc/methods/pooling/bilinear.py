"""Bilinear pooling: every channel of one stream with every channel of another, averaged over positions.

Tsung-Yu Lin, Aruni RoyChowdhury, Subhransu Maji, "Bilinear CNN Models for Fine-Grained Visual Recognition", ICCV 2015.

Shape letters: N images, C channels, a and b channels of the two streams, h, w grid, D = a b.
"""

import torch
from torch import Tensor, nn

from fgvc.errors import UsageError
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.signed_root import self_product, signed_root

LARGEST = 512 * 512
"""Most numbers per image, those of the paper's VGG: a classifier of 200 classes has 52 million weights for them."""


def bilinear(first: Tensor, second: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Average the outer products over positions, take signed square roots, scale the whole to length 1.

    Computed in float32 or better, also under autocast.

    Args:
        first: (N, a, h, w).
        second: (N, b, h, w); None: the first again.
        eps: see `signed_root`.

    Returns:
        (N, a b), starting with the b products of the first channel; 0 where all products are 0.
    """
    kind = torch.promote_types(first.dtype, torch.float32)
    with torch.autocast(first.device.type, enabled=False):
        left = first.to(kind).flatten(2)
        product = self_product(left) if second is None else left @ second.to(kind).flatten(2).mT
        return signed_root(product.flatten(1) / left.shape[2], eps)


class BilinearPooling(Pooling):
    """Bilinear pooling of a map with itself, or of two reductions of it (1 x 1 convolutions) with each other.

    The paper's second stream is a network of its own; here both read one map.

    Args:
        in_channels: C, handed down by the head.
        streams: 1, the map with itself, or 2.
        reduced_channels: of each stream, by a convolution; None is the map itself, for one stream only.
        eps: see `signed_root`.

    Attributes:
        out_features: D, the square of the channels of a stream.

    Raises:
        UsageError: an argument outside its range, or more than LARGEST numbers per image.
    """

    def __init__(
        self, in_channels: int, streams: int = 1, reduced_channels: int | None = None, eps: float = 1e-5
    ) -> None:
        super().__init__(in_channels)
        if streams not in (1, 2) or (reduced_channels is not None and reduced_channels < 1) or eps <= 0:
            raise UsageError(
                f"BilinearPooling: streams {streams} must be 1 or 2, reduced_channels {reduced_channels} 1 or more, or "
                f"null, eps {eps} above 0"
            )
        if streams == 2 and reduced_channels is None:
            raise UsageError("BilinearPooling: two streams of one map would be equal; give reduced_channels (try 256)")
        width = in_channels if reduced_channels is None else reduced_channels
        if width**2 > LARGEST:
            raise UsageError(
                f"BilinearPooling: {width} channels make {width**2:,} numbers per image, at most {LARGEST:,} go; give "
                "reduced_channels (try 256), or take CompactBilinearPooling"
            )
        self.eps = eps
        self.out_features = width**2
        self.reductions = nn.ModuleList(
            nn.Conv2d(in_channels, width, 1) for _ in range(0 if reduced_channels is None else streams)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, D)."""
        made = [reduction(features) for reduction in self.reductions]
        return bilinear(made[0] if made else features, made[1] if len(made) > 1 else None, self.eps)
