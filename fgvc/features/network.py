"""The network that makes features: a trained model of fgvc's, or any network of timm."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from fgvc.errors import UsageError, did_you_mean
from fgvc.files.run_folder import followed
from fgvc.images.resizing import EvalResize
from fgvc.images.sides import DEFAULT_SIDE, check_side
from fgvc.methods.backbone import Backbone
from fgvc.methods.pretrained import Preprocessing, preprocessing_of
from fgvc.methods.recognizers.base import Recognizer
from fgvc.methods.recognizers.ensemble import Ensemble
from fgvc.model_file import model

_TRAINED_ON = {
    "in1k": "ImageNet-1k", "in12k": "ImageNet-12k", "in21k": "ImageNet-21k", "in22k": "ImageNet-22k",
    "in22ft1k": "ImageNet-22k", "lvd142m": "LVD-142M", "lvd1689m": "LVD-1689M", "sat493m": "SAT-493M",
    "laion2b": "LAION-2B", "laion400m": "LAION-400M", "laiona": "LAION-Aesthetics", "datacompxl": "DataComp-XL",
    "openai": "OpenAI's pairs of pictures and texts", "webli": "WebLI", "metaclip": "MetaCLIP", "dfn2b": "DFN-2B",
    "inat18": "iNaturalist 2018", "inat21": "iNaturalist 2021", "yfcc100m": "YFCC-100M", "jft": "JFT",
}  # fmt: skip
"""Words in the tags of timm's weights -> what those were trained on."""


@dataclass
class Network:
    """A network, how photographs are shown to it, and where it comes from.

    module: in evaluation mode.
    name: of the run, or of timm.
    timm_name: of its first backbone.
    given: what its weights were said to be: `pretrained`, `none`, a file, or the folder of a model.
    resize: how a photograph becomes the square that it sees.
    built: what it was built from, as plain data; equal networks have equal ones.
    seen: in words, what it was trained on; "" where that is not known.
    arguments: of a network of timm, those of Backbone beside size and weights that differ from the usual; else None.
    """

    module: Recognizer | Backbone
    name: str
    timm_name: str
    given: str
    resize: EvalResize
    built: Mapping[str, Any]
    seen: str = ""
    arguments: Mapping[str, Any] | None = None

    @property
    def image_size(self) -> int:
        """The side at which it sees the whole image, in pixels."""
        return self.module.image_size


@dataclass(frozen=True)
class Wishes:
    """What a person says of a network; None or nothing follows the weights, and for a trained model the model.

    weights, model_args, mean, std: see `Backbone`. image_size, fit, crop_fraction, interpolation: see `EvalResize`.
    """

    weights: str | None = None
    image_size: int | None = None
    model_args: Mapping[str, Any] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    fit: str | None = None
    crop_fraction: float | None = None
    interpolation: str | None = None


def read_network(name: str, wishes: Wishes = Wishes()) -> Network:
    """Read a trained model, or make a network of timm.

    Args:
        name: a run folder, a model folder, or a name from `timm.list_models()`.
        wishes: where it is to differ from what the weights ask for.

    Raises:
        UsageError: neither a model nor a name, or a wish that does not fit.
        FgvcError: a damaged model, or pretrained weights that cannot be loaded.
    """
    if name.partition(".")[0] in timm.list_models() and not os.path.isdir(name):  # noqa: PTH112 - any text
        return _of_timm(name, wishes)
    path = followed(Path(name))
    if not os.path.lexists(path) and len(path.parts) == 1:
        near = did_you_mean(name, timm.list_models())
        raise UsageError(f"{name}: neither the folder of a model nor a network of timm{near}")
    return _of_model(path, wishes)


def state_sha256(module: nn.Module) -> str:
    """Return the hash of all tensors of a module, with their names and shapes, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def plain_sha256(plain: Any) -> str:
    """Return the hash of plain data, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def _of_timm(name: str, wishes: Wishes) -> Network:
    weights = wishes.weights or "pretrained"
    asked = preprocessing_of(name) if weights != "none" else None
    default = asked or Preprocessing(*EvalResize(DEFAULT_SIDE))
    size = default.size if wishes.image_size is None else wishes.image_size
    check_side("image_size", size)
    resize = _wished(EvalResize(size, *default[1:]), wishes)
    arguments = dict(wishes.model_args or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # `none` is a control: the same numbers each time, so that its features are known again
        backbone = Backbone(size, name, weights, arguments, wishes.mean, wishes.std)
    seen = _seen(backbone.net.pretrained_cfg, weights)
    given = {"model_args": arguments or None, "mean": wishes.mean, "std": wishes.std}
    told = {"name": name} | {key: value for key, value in given.items() if value is not None}
    built = {"name": name, "model_args": arguments}
    return Network(backbone.eval(), name, name, weights, resize, built, seen, told)


def _of_model(path: Path, wishes: Wishes) -> Network:
    for flag in ("weights", "model_args", "mean", "std"):
        if getattr(wishes, flag) is not None:
            raise UsageError(f"--{flag}: {path} is a trained model, which has its own; leave it out")
    loaded = model.load(path)
    if isinstance(loaded.recognizer, Ensemble) or not isinstance(loaded.resize, EvalResize):
        raise UsageError(f"{path}: an ensemble, which has no features of one network; give one of its members")
    if wishes.image_size not in (None, loaded.recognizer.image_size):
        raise UsageError(
            f"--image_size {wishes.image_size}: {path} was trained for {loaded.recognizer.image_size} px; leave it out"
        )
    home = path.resolve()
    name = home.parent.name if home.name == "model" else home.name
    run = loaded.provenance.get("run") or name
    first, weights = next(_backbones(loaded.architecture), ("", ""))
    start = {"": "", "none": " from nothing", "pretrained": " from timm's weights"}.get(weights, " from a weight file")
    seen = f"run {run}, {loaded.taxonomy.num_classes} classes{start}"
    return Network(loaded.recognizer, name, first, str(path), _wished(loaded.resize, wishes), loaded.architecture, seen)


def _wished(resize: EvalResize, wishes: Wishes) -> EvalResize:
    own = {key: getattr(wishes, key) for key in ("fit", "crop_fraction", "interpolation")}
    return resize._replace(**{key: value for key, value in own.items() if value is not None}).check()


def _seen(config: Mapping[str, Any], weights: str) -> str:
    """Say what the weights of timm were trained on, by the tag of their name."""
    if weights != "pretrained":
        return ""
    tag = str(config.get("tag") or "")
    words = [told for word, told in _TRAINED_ON.items() if word in tag.split("_")]
    return f"weights {tag} of timm{': ' if words else ''}{', '.join(words)}" if tag else ""


def _backbones(plain: Any) -> Iterator[tuple[str, str]]:
    """Yield name and weights of timm's networks in the tree of a model file."""
    if isinstance(plain, Mapping):
        if plain.get("class_path") == "Backbone":
            given = plain.get("init_args") or {}
            yield str(given.get("name", "resnet50")), str(given.get("weights", "pretrained"))
        for value in plain.values():
            yield from _backbones(value)
