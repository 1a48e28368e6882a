"""The tensors of a local file of weights, by the names that a network has for them.

A file is one of safetensors or of `torch.save` (`.pth`, `.bin`, `.ckpt`), whatever its suffix. Of the latter only
numbers and plain data are made: a pickle that would run code is refused.
"""

import argparse
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fgvc.errors import UsageError
from fgvc.files.weight_files import is_pickle, odd_pickle, too_large
from fgvc.methods.weight_report import in_one_line

PREFERRED = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where weights lie in a checkpoint that holds several, the first that is there; the order is timm's."""
_DEPTH = 3  # mappings inside each other that are looked through


class LocalWeights(NamedTuple):
    """Tensors for a network.

    tensors: by the network's names where it has them, else as the file calls them.
    place: the key in the file below which they lie; empty for the file itself.
    prefix: what stood before the network's names.
    """

    tensors: dict[str, Tensor]
    place: str = ""
    prefix: str = ""

    def __str__(self) -> str:
        parts = [f"its {self.place}"] if self.place else []
        parts += [f"names without {self.prefix!r}"] if self.prefix else []
        return f" ({', '.join(parts)})" if parts else ""


def read(path: Path, wanted: Collection[str]) -> LocalWeights:
    """Read a file of weights for a network.

    Args:
        path: of safetensors, or of `torch.save` with a state dict, alone or inside a checkpoint.
        wanted: the names of the network's tensors.

    Raises:
        UsageError: no such file, none that holds tensors alone, or two networks in it that would do.
    """
    if not path.is_file():
        raise UsageError(
            f"backbone weights: {path} is no file; give 'pretrained', 'none' or a file of weights (safetensors, .pth)"
        )
    try:
        if odd := too_large(path):
            raise UsageError(f"backbone weights: {path}: {odd}")
        if not is_pickle(path):
            return _fitting(path, {"": load_file(path)}, wanted)
        if odd := odd_pickle(path):
            raise UsageError(f"backbone weights: {path}: {odd}")
    except (SafetensorError, OSError) as error:
        raise UsageError(f"backbone weights: {path} is not a whole safetensors file ({in_one_line(error)})") from None
    found = dict(_mappings(_unpickled(path)))
    _check(path, found)
    return _fitting(path, found, wanted)


def _unpickled(path: Path) -> Any:
    """Return what `torch.save` wrote, if it is numbers and plain data."""
    try:
        # timm's own training script stores its arguments; a Namespace is plain data
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # of torch, of its own older formats
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a hostile or a broken file leads to
        if code := re.search(r"(?:GLOBAL |unrecognized function |class )<?(?:class )?'?([\w.]*\w)", str(error)):
            raise UsageError(
                f"backbone weights: {path} holds {code[1]}, which is no tensor and could run code: it is not opened; "
                "save the network's state_dict() alone, best as safetensors"
            ) from None
        raise UsageError(f"backbone weights: {path} is no whole file of torch.save ({in_one_line(error)})") from None


def _mappings(value: Any, place: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each mapping that holds tensors by name, with the dotted key that leads to it."""
    if not isinstance(value, Mapping) or not depth:
        return
    named = {key: one for key, one in value.items() if isinstance(key, str)}
    if tensors := {key: one.detach() for key, one in named.items() if isinstance(one, Tensor)}:
        yield place, tensors
    for key, one in named.items():
        yield from _mappings(one, f"{place}.{key}".lstrip("."), depth - 1)


def _check(path: Path, found: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Refuse tensors that are not plain numbers, or stand for more numbers than the file has room for."""
    if not found:
        raise UsageError(f"backbone weights: {path} holds no tensors by name; save the network's state_dict()")
    room = path.stat().st_size
    for tensors in found.values():
        for name, one in tensors.items():
            plain = one.layout == torch.strided and one.device.type == "cpu" and not one.is_quantized
            if not plain or type(one) not in (Tensor, nn.Parameter):
                raise UsageError(f"backbone weights: {path}: {name[:80]}: not plain numbers; save it as float32")
            if one.numel() * one.element_size() > room:
                shape = " x ".join(map(str, one.shape))
                raise UsageError(f"backbone weights: {path}: {name[:80]}: {shape} numbers, more than the file has")


def _fitting(path: Path, found: Mapping[str, dict[str, Tensor]], wanted: Collection[str]) -> LocalWeights:
    """Choose, of the mappings in a file, the one that names most of a network's tensors."""
    counts = {place: _prefixes(tensors, wanted) for place, tensors in found.items()}
    most = {place: max(count.values(), default=0) for place, count in counts.items()}
    best = [place for place in found if most[place] == max(most.values())]
    named = [place for place in PREFERRED if place in best]
    if len(best) > 1 and not named and most[best[0]]:
        raise UsageError(
            f"backbone weights: {path} holds this network at {' and at '.join(repr(place) for place in best[:3])}; "
            "save the one that is meant alone"
        )
    place = (named or best)[0]
    fit = [prefix for prefix, count in counts[place].items() if count == most[place]]
    if len(fit) > 1 and "" not in fit:
        raise UsageError(
            f"backbone weights: {path} holds this network {len(fit)} times, as {fit[0]!r} and {fit[1]!r}; save the one "
            "that is meant alone"
        )
    prefix = "" if "" in fit or not fit else fit[0]
    inner = {name.removeprefix(prefix): one for name, one in found[place].items() if name.startswith(prefix)}
    others = {name: one for name, one in found[place].items() if not name.startswith(prefix) and name not in wanted}
    return LocalWeights({**others, **inner}, place, prefix)


def _prefixes(names: Collection[str], wanted: Collection[str]) -> Counter[str]:
    """Count, for each text that stands before names of a network, before how many of them it does."""
    deepest = max((name.count(".") for name in wanted), default=0)
    counts: Counter[str] = Counter()
    for name in names:
        place = len(name)
        for _ in range(deepest + 1):
            place = name.rfind(".", 0, max(place, 0))
            if name[place + 1 :] in wanted:
                counts[name[: place + 1]] += 1
            if place < 0:
                break
    return counts
