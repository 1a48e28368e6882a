"""How evaluation sees a photograph: as the config says, and where it says nothing, as the weights ask."""

from collections.abc import Iterator
from typing import Any

import jsonargparse

from fgvc.images.resizing import EvalResize
from fgvc.images.sides import DEFAULT_SIDE
from fgvc.methods.pretrained import Preprocessing, preprocessing_of

_RESIZE = ("fit", "crop_fraction", "interpolation")


def follow_weights(config: Any) -> str:
    """Fill `model.image_size` and the evaluation resize of `data` where a config leaves them open.

    Args:
        config: parsed, with `model` and `data`; changed in place.

    Returns:
        One line that says what was chosen and why; empty where there are no weights that ask for anything.
    """
    model, data = config["model"], config["data"]
    network = next(_backbones(model), {"name": "", "weights": "none"})
    asked = preprocessing_of(network["name"]) if network["weights"] != "none" else None
    default = asked or Preprocessing(*EvalResize(DEFAULT_SIDE))
    if model["image_size"] is None:
        model["image_size"] = data["image_size"] = default.size
    for key in _RESIZE:
        if data[key] is None:
            data[key] = getattr(default, key)
    chosen = Preprocessing(model["image_size"], *(data[key] for key in _RESIZE))
    if asked is None:
        return ""
    line = _told(chosen)
    others = [name for name, *pair in zip(asked._fields, asked, chosen, strict=True) if pair[0] != pair[1]]
    if not others:
        return f"{line}, as the weights of {network['name']} ask"
    words = ", ".join(f"{name} {getattr(asked, name)}" for name in others)
    return f"{line} (the weights of {network['name']} were tested with {words})"


def _told(how: Preprocessing) -> str:
    shape = "whole picture squashed" if how.fit == "squash" else "centred square"
    part = "" if how.crop_fraction == 1 else f", {how.crop_fraction:g} of the side"
    return f"evaluation: {how.size} px, {shape}{part}, {how.interpolation}"


def _backbones(config: Any) -> Iterator[Any]:
    """Iterate over the arguments of every Backbone in a parsed config."""
    if not isinstance(config, jsonargparse.Namespace):
        return
    if str(config.get("class_path", "")).rpartition(".")[2] == "Backbone":
        yield config["init_args"]
    for value in vars(config).values():
        yield from _backbones(value)
