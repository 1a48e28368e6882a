"""What a backbone answers: a map, and what its network keeps beside the map.

Shape letters: N images, C channels, h, w grid, T tokens.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgvc.errors import UsageError


class Features(NamedTuple):
    """What a backbone answers.

    map: (N, C, h, w), for convolutional networks and transformers alike.
    trunk: the input of the last stage, in the form that this stage reads; None unless a head asked for a copy of it.
    prefix: (N, T, C) the tokens before those of the grid, such as the class token; None where there are none.
    vector: (N, D) what the pooling made of the map earlier, and hands on as it is; None where it has not seen it.
    earlier: (N, C', h', w'), the map of an earlier layer; None unless it was asked for.
    """

    map: Tensor
    trunk: Tensor | None = None
    prefix: Tensor | None = None
    vector: Tensor | None = None
    earlier: Tensor | None = None


class Layout(NamedTuple):
    """How the answer of a timm network becomes a map.

    kind: `tokens` (N, T + h w, C), `nchw` or `nhwc`.
    prefix: T. grid: (h, w) of the tokens, or None where they form a square.
    """

    kind: str
    prefix: int = 0
    grid: tuple[int, int] | None = None


def layout_of(net: Any, out: Any) -> Layout:
    """Return how the answer `out` of a timm network becomes a map.

    Raises:
        UsageError: it is no map, said without the network's name.
    """
    if not isinstance(out, Tensor):
        raise UsageError(f"it answers {_words(out)}, not one map")
    if out.ndim == 4:
        return Layout("nhwc" if getattr(net, "output_fmt", "NCHW") == "NHWC" else "nchw")
    if out.ndim != 3:
        raise UsageError(f"it answers the shape {tuple(out.shape)}, not a map")
    prefix = getattr(net, "num_prefix_tokens", 0)
    count = out.shape[1] - prefix
    grid = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    if grid is not None and math.prod(grid) == count:
        return Layout("tokens", prefix, tuple(grid))
    if count < 1 or math.isqrt(count) ** 2 != count:
        raise UsageError(f"it answers {count} tokens, which are no grid")
    return Layout("tokens", prefix)


def _words(out: Any) -> str:
    return f"{len(out)} tensors" if isinstance(out, list | tuple) else type(out).__name__


def from_network(out: Tensor, layout: Layout) -> Features:
    """Turn (N, T + h w, C), (N, h, w, C) or (N, C, h, w) into Features."""
    if layout.kind == "nchw":
        return Features(out)
    if layout.kind == "nhwc":
        return Features(out.permute(0, 3, 1, 2))
    tokens = out[:, layout.prefix :]
    h, w = layout.grid or (math.isqrt(tokens.shape[1]),) * 2
    prefix = out[:, : layout.prefix] if layout.prefix else None
    return Features(tokens.transpose(1, 2).reshape(len(tokens), -1, h, w), None, prefix)


def to_network(features: Features, layout: Layout) -> Tensor:
    """Turn Features into the form that the layers of the network read: the inverse of `from_network`.

    Where a map comes without the tokens before the grid (a masked or a guided map), its mean stands for each of them.
    """
    if layout.kind == "nchw":
        return features.map
    if layout.kind == "nhwc":
        return features.map.permute(0, 2, 3, 1)
    tokens = features.map.flatten(2).transpose(1, 2)
    if not layout.prefix:
        return tokens
    prefix = features.prefix
    if prefix is None:
        prefix = tokens.mean(dim=1, keepdim=True).expand(-1, layout.prefix, -1)
    return torch.cat([prefix, tokens], dim=1)
