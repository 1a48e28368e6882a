"""How far the cells of a network's map look past the places that they seem to have.

Shape letters: H, W sides of the probe, C channels, h, w grid.
"""

from functools import partial
from typing import Any

import torch
from timm.layers import pad_same
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d

from fgvc.methods.features import Layout, from_network

STRIDES = 16
"""Least width of the probe, in strides of the map: so much of a receptive field is seen."""
GLOBAL = 0.5
"""Share of what an even spread would leave far from the middle, from which on a cell has no place of its own."""
FAINT = 1e-6
"""Value of the probe's pixels: the activations stay where they are nearly linear, and gates move little."""


def displacement(net: Any, layout: Layout, stride: int, side: int) -> float:
    """Return how far the middle of a map lies from the middle of the image, in pixels, to a hundredth; 0 if nowhere.

    All weights become positive and alike, so that the answer tells the geometry and nothing else: maxima are taken for
    means, norms are left out, and the pixels are nearly 0. The gradient of the middle column of cells is then the
    weight with which each pixel reaches it; its centroid along x is where these cells look. The probe is a strip, wider
    than the image by a multiple of twice the stride, which leaves the borders of every layer as they are.

    Where a network mixes all places (attention, global gates), a cell has no receptive field of its own: where at least
    half as much of the gradient as of an even spread lies in the outer half of the probe, the answer is 0.

    Args:
        net: a network of timm's that may be spoilt, on the CPU, for sides of any length.
        layout: of its answer.
        stride: pixels from one cell to the next.
        side: of the image, in pixels.
    """
    _linearise(net.double().eval())
    short = STRIDES * stride - side
    width = side + 2 * stride * max(1, -(-short // (2 * stride)))
    probe = torch.full((1, 3, 3 * stride, width), FAINT, dtype=torch.float64)
    with torch.inference_mode(False), torch.enable_grad():
        probe = probe.clone().requires_grad_()
        seen = from_network(net.forward_features(probe), layout).map
        cells = seen.shape[3]
        middle = seen[..., (cells - 1) // 2 : cells // 2 + 1].sum()
        (slope,) = torch.autograd.grad(middle, probe)
    weights = slope.abs().sum(dim=(0, 1, 2))
    weights = weights / weights.sum()
    places = torch.arange(width, dtype=torch.float64) + 0.5 - width / 2
    far = weights[places.abs() > width / 4].sum()
    if not bool(weights.isfinite().all()) or far > GLOBAL * 0.5:
        return 0.0
    return round(float(weights @ places), 2) + 0.0  # no -0.0


def _linearise(net: nn.Module) -> None:
    """Make the layers of a network positive, linear and alike, in place."""
    for module in net.modules():
        name = type(module).__name__
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if "StdConv" in name:  # they would take the mean of the weights away
                module.forward = partial(_plain_convolution, module)  # type: ignore[method-assign]
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            _fill(module, "weight", 1.0)
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
            module.forward = _unchanged  # type: ignore[assignment, method-assign]
        elif isinstance(module, nn.MaxPool2d):
            module.forward = partial(_mean_pool, module)  # type: ignore[method-assign]
        _fill(module, "bias", 0.0)


def _fill(module: nn.Module, name: str, value: float) -> None:
    own = getattr(module, name, None)
    if isinstance(own, nn.Parameter):
        nn.init.constant_(own, value)


def _unchanged(x: Tensor) -> Tensor:
    return x


def _plain_convolution(layer: Any, x: Tensor) -> Tensor:
    if getattr(layer, "same_pad", False):
        x = pad_same(x, layer.kernel_size, layer.stride, layer.dilation)
    return conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def _mean_pool(layer: Any, x: Tensor) -> Tensor:
    """Pool by the mean: of equal values the maximum would be the first, which says nothing of the others."""
    if type(layer).__name__.endswith("Same"):
        x = pad_same(x, layer.kernel_size, layer.stride)
    return avg_pool2d(x, layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode)
