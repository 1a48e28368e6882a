"""The flags of a command that takes a trained model or any network of timm."""

from pathlib import Path
from typing import Any

import jsonargparse

from fgvc.features.network import Wishes

_OF_TIMM = ("weights", "image_size", "model_args", "mean", "std")
_RESIZE = ("fit", "crop_fraction", "interpolation")


def add_network_flags(parser: jsonargparse.ArgumentParser) -> None:
    """Add what a person may say of a network, see `Wishes`."""
    add = parser.add_argument
    add(
        "--weights",
        type=str | None,
        default=None,
        help="of a network of timm: pretrained (default), a file, or none: always the same random ones",
    )
    add("--image_size", type=int | None, default=None, help="of a network of timm, in pixels")
    add("--model_args", type=dict[str, Any] | None, default=None, help="of a network of timm, e.g. {pad_type: same}")
    add("--mean", type=list[float] | None, default=None, help="of the pixels over 0..1, where the weights ask for it")
    add("--std", type=list[float] | None, default=None, help="their standard deviation")
    add("--fit", type=str | None, default=None, help="crop or squash, in place of what the weights ask for")
    add("--crop_fraction", type=float | None, default=None, help="side of the evaluation cut over the photograph's")
    add("--interpolation", type=str | None, default=None, help="area, bilinear or bicubic")


def wishes_of(name: str, options: jsonargparse.Namespace) -> Wishes:
    """Return what is said of the network; a data config's resize counts for a network of timm, as in a training."""
    resize = {key: options[key] for key in _RESIZE}
    if not Path(name).is_dir():
        resize = {key: options.data[key] if value is None else value for key, value in resize.items()}
    return Wishes(**{key: options[key] for key in _OF_TIMM}, **resize)
