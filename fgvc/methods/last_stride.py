"""A finer last map: the last stage of a timm network without its stride, and without the dilation that timm's own
`output_stride` puts in its place.

Shape letters: S side of the image, h, w grid.
"""

import warnings
from typing import Any

import torch
from torch import nn

from fgvc.errors import UsageError
from fgvc.methods.features import from_network, layout_of
from fgvc.methods.last_stage import after_the_cut
from fgvc.methods.own_head import stand_in
from fgvc.methods.weight_report import in_one_line

TWO = (2, (2, 2), [2, 2])


def remove_last_stride(net: Any, name: str, image_size: int) -> None:
    """Let the convolutions of a network's last stage take steps of 1 in place of 2, and drop its poolings by 2.

    The weights fit as before; h and w of the map double. A convolution whose even kernel sees no border, as those of
    ConvNeXt, gets one as wide as it takes.

    Args:
        net: a timm network, changed in place.
        name: its name, for the error.
        image_size: S, in pixels.

    Raises:
        UsageError: the last stage has no such stride, or the network does not run without it.
    """
    refusal = f"backbone {name}: last_stride 1: "
    try:
        before = _grid(net, image_size)
        found = _strided(net)
        for layer in found:
            _take_steps_of_one(net, layer)
        after = _grid(net, image_size) if found else before
    except Exception as error:  # branches that no longer fit each other raise whatever they meet first
        raise UsageError(f"{refusal}it does not run so ({in_one_line(error)}); leave last_stride out") from None
    if not found:
        raise UsageError(f"{refusal}its last stage has no strided convolution; leave last_stride out")
    if not all(low < high and abs(high - 2 * low) <= 1 for low, high in zip(before, after, strict=True)):
        raise UsageError(f"{refusal}its map would be {after}, not twice as fine as {before}; leave last_stride out")


def _grid(net: Any, image_size: int) -> list[int]:
    own = stand_in(net).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's and torch's, of each other
        blank = torch.zeros(1, 3, image_size, image_size, device=next(own.parameters()).device)
        out = own.forward_features(blank)
    return list(from_network(out, layout_of(own, out)).map.shape[2:])


def _strided(net: Any) -> list[str]:
    kinds = (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d)
    last = after_the_cut(net)
    return [
        name
        for name, layer in net.named_modules()
        if isinstance(layer, kinds)
        and layer.stride in TWO
        and any(f"{name}.".startswith(f"{stage}.") for stage in last)
    ]


def _take_steps_of_one(net: nn.Module, name: str) -> None:
    above, _, key = name.rpartition(".")
    parent = net.get_submodule(above)
    layer: Any = getattr(parent, key)
    if isinstance(layer, nn.Conv2d):
        layer.stride = (1, 1)
        if type(layer) is nn.Conv2d and layer.padding == (0, 0) and layer.kernel_size[0] > 1:
            layer.padding = "same"
    elif layer.kernel_size in TWO:
        setattr(parent, key, nn.Identity())
    else:
        layer.stride = 1
