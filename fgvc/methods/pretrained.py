"""How the weights of a timm network were tested: what evaluation follows unless a config says otherwise."""

from typing import NamedTuple

import timm


class Preprocessing(NamedTuple):
    """The preprocessing that timm names for the weights of a network.

    size: side of the image in pixels. fit, crop_fraction, interpolation: see `EvalResize`.
    """

    size: int
    fit: str
    crop_fraction: float
    interpolation: str


def preprocessing_of(name: str) -> Preprocessing | None:
    """Return what timm knows of the weights `mobilenetv2_100.ra_in1k` and the like; None for an unknown name.

    Filters that fgvc has not (Lanczos) become bicubic, and pictures that timm pads to a square are cut.
    """
    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if known is None:
        return None
    fit = "squash" if known.crop_mode == "squash" else "crop"
    interpolation = "bilinear" if known.interpolation == "bilinear" else "bicubic"
    return Preprocessing(known.input_size[-1], fit, known.crop_pct, interpolation)
