"""Compact bilinear pooling: bilinear pooling in few numbers, by a tensor sketch.

Yang Gao, Oscar Beijbom, Ning Zhang, Trevor Darrell, "Compact Bilinear Pooling", CVPR 2016.

Shape letters: N images, C channels, h, w grid, M = h w positions, D width of the sketch.
"""

import random

import torch
from torch import Tensor
from torch.fft import irfft, rfft

from fgvc.errors import UsageError
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.signed_root import self_product, signed_root


def tensor_sketch(positions: Tensor, places: Tensor, signs: Tensor, width: int) -> Tensor:
    """Return the sum over positions x of a sketch f(x), for which <f(x), f(y)> is <x, y>^2 on average over the hashes.

    f(x) is the circular convolution of two count sketches of x, a product after a Fourier transform.

    Args:
        positions: (N, C, M), float32 or better.
        places: (2, C) int64, where each channel goes in either count sketch.
        signs: (2, C), -1 or 1.
        width: D.

    Returns:
        (N, D).
    """
    number, _, count = positions.shape
    spectra = []
    for place, sign in zip(places, signs, strict=True):
        sketch = positions.new_zeros(number, width, count).index_add(1, place, positions * sign[:, None])
        spectra.append(rfft(sketch, dim=1))
    # the inverse transform is linear: one of the sum is the sum of those of the positions
    summed: Tensor = irfft((spectra[0] * spectra[1]).sum(dim=2), n=width)
    return summed


def tensor_sketch_by_products(positions: Tensor, places: Tensor, signs: Tensor, width: int) -> Tensor:
    """Return `tensor_sketch` without a Fourier transform: channel products, summed over positions, each in its place.

    The convolution puts the product of channels i and j at places_0(i) + places_1(j) modulo D, for every position.
    Memory is C C per image, that of `tensor_sketch` several times M D.
    """
    products = self_product(positions) * (signs[0, :, None] * signs[1])
    index = (places[0, :, None] + places[1]).remainder(width).flatten().expand(positions.shape[0], -1)
    return positions.new_zeros(positions.shape[0], width).scatter_add(1, index, products.flatten(1))


class CompactBilinearPooling(Pooling):
    """The tensor sketch of a map, signed square roots of it, length 1.

    Computed in float32 or better, also under autocast, the way that takes less memory. The hashes are drawn once and
    are part of the model file.

    Args:
        in_channels: C, handed down by the head.
        width: D.
        seed: of the hashes.
        eps: see `signed_root`.

    Attributes:
        out_features: D.
        places, signs: the hashes, see `tensor_sketch`.

    Raises:
        UsageError: a width below 1, or an eps that is not above 0.
    """

    places: Tensor
    signs: Tensor

    def __init__(self, in_channels: int, width: int = 8192, seed: int = 0, eps: float = 1e-10) -> None:
        super().__init__(in_channels)
        if width < 1 or eps <= 0:
            raise UsageError(
                f"CompactBilinearPooling: width {width} must be 1 or more (usual: 8192), eps {eps} above 0"
            )
        self.eps = eps
        self.out_features = width
        draw = random.Random(seed)
        places = [[draw.randrange(width) for _ in range(in_channels)] for _ in range(2)]
        signs = [[draw.choice((-1.0, 1.0)) for _ in range(in_channels)] for _ in range(2)]
        self.register_buffer("places", torch.tensor(places))
        self.register_buffer("signs", torch.tensor(signs))

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, D)."""
        kind = torch.promote_types(features.dtype, torch.float32)
        with torch.autocast(features.device.type, enabled=False):
            positions = features.to(kind).flatten(2)
            by_products = positions.shape[1] ** 2 <= positions.shape[2] * self.out_features
            sketch = tensor_sketch_by_products if by_products else tensor_sketch
            return signed_root(sketch(positions, self.places, self.signs.to(kind), self.out_features), self.eps)
