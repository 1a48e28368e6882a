"""Any timm network as a map: images -> (N, C, h, w). This file alone creates timm models.

Shape letters: N images, S side of the image, C channels, h, w grid.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fgvc.errors import FgvcError, UsageError, did_you_mean
from fgvc.methods.last_stage import LastStage, cut, layout_of, to_map

_RESERVED = frozenset({"num_classes", "features_only", "pretrained", "checkpoint_path", "cache_dir"})

_verify_cuts = ContextVar("verify_cuts", default=True)


@contextmanager
def unverified_cuts() -> Iterator[None]:
    """Let backbones cut off their last stage without comparing numbers: see `cut`."""
    token = _verify_cuts.set(False)
    try:
        yield
    finally:
        _verify_cuts.reset(token)


class Features(NamedTuple):
    """What a backbone answers.

    map: (N, C, h, w), for convolutional networks and transformers alike.
    trunk: the input of the last stage, in the form that this stage reads; None unless a head asked for a copy of it.
    """

    map: Tensor
    trunk: Tensor | None = None


@dataclass(frozen=True)
class WeightReport:
    """Which tensors a network took from a file.

    kept: in both. reset: only in the network, so they are random. ignored: only in the file.
    what: network and file, in words.
    """

    kept: tuple[str, ...]
    reset: tuple[str, ...]
    ignored: tuple[str, ...]
    what: str = ""

    def __str__(self) -> str:
        return self.what + self.counts

    @property
    def counts(self) -> str:
        """How many tensors there are of each kind, and the names of the first ones."""
        parts = [f"kept {len(self.kept)} tensors"]
        for word, names in (("reset", self.reset), ("ignored", self.ignored)):
            listed = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
            parts.append(f"{word} {len(names)}" + (f" ({listed})" if names else ""))
        return ", ".join(parts)


class Backbone(nn.Module):
    """A timm network without its classifier, which normalises its own input.

    Args:
        image_size: side of the images it will see, in pixels.
        name: a name from `timm.list_models()`.
        weights: `pretrained` (downloaded by timm), `none`, or the path of a safetensors file.
        min_kept: least share of the network's numbers that a weight file must fill.
        model_args: further arguments of the timm model, e.g. `{drop_path_rate: 0.1}`.
        mean, std: of the pixels over 0..1, one per channel; by default those the timm weights were trained with.

    Attributes:
        image_size: side of the images it was made for.
        channels: C of the map.
        stride: pixels per step of the map's grid.
        report: WeightReport of a local file, else None.

    Raises:
        UsageError: an unknown name, a missing or unfit weight file, or arguments or a size that the network refuses.
        FgvcError: the pretrained weights cannot be loaded.
    """

    def __init__(
        self,
        image_size: int,
        name: str = "resnet50",
        weights: str = "pretrained",
        model_args: dict[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        min_kept: float = 0.5,
    ) -> None:
        super().__init__()
        if name.partition(".")[0] not in timm.list_models():
            raise UsageError(f"backbone: timm has no model {name!r}{did_you_mean(name, timm.list_models())}")
        self.net: Any
        self.net, self.report = _create(name, weights, dict(model_args or {}), min_kept)
        _set_input_size(self.net, name, image_size)
        if hasattr(self.net, "pre_logits"):
            self.net.pre_logits = nn.Identity()  # VGG's fully connected layers, which no map reads
        self.image_size = image_size
        self._layout = layout_of(self.net)
        self._cut: tuple[str, list[str]] | None = None
        self._trunk: list[Tensor] = []
        self.channels: int = self.net.num_features
        self.stride: int = self.net.feature_info[-1]["reduction"]
        config = self.net.pretrained_cfg
        self.register_buffer("mean", 255 * torch.tensor(mean or config["mean"]).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std or config["std"]).view(1, 3, 1, 1))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Features:
        """Images (N, 3, S, S) in 0..255, uint8 or float -> Features."""
        normalised = (images.to(self.mean.dtype) - self.mean) / self.std
        seen = to_map(self.net.forward_features(normalised), self._layout)
        return Features(seen, self._trunk.pop() if self._trunk else None)

    def new_last_stage(self) -> LastStage:
        """Return a copy of the last stage, weights included. From now on `forward` also returns its input, the trunk.

        Raises:
            UsageError: this network's last stage cannot be cut off.
        """
        modules = dict(self.net.named_modules())
        if self._cut is None:
            self._cut = cut(self.net, self.image_size, verify=_verify_cuts.get())
            modules[self._cut[0]].register_forward_hook(self._keep)
        exempt: set[str] = getattr(self.net, "no_weight_decay", set)()
        return LastStage({name: modules[name] for name in self._cut[1]}, self._layout, exempt)

    def before_last_stage(self) -> Iterator[nn.Module]:
        """Iterate over the smallest modules outside the last stage; over all of them before `new_last_stage` is called.

        Parameters that a larger module owns itself (tokens, scales of a block) come as a ParameterList.
        """
        own = tuple(f"{name}." for name in self._cut[1]) if self._cut else ()
        for name, module in self.net.named_modules():
            if f"{name}.".startswith(own or ("\0",)):
                continue
            if not any(True for _ in module.children()):
                yield module
            elif alone := list(module.parameters(recurse=False)):
                yield nn.ParameterList(alone)

    def _keep(self, module: nn.Module, given: Any, answer: Tensor) -> None:
        self._trunk[:] = [answer]

    def check_side(self, side: int) -> None:
        """Raise UsageError for another side than the network was made for, if it cannot see other sides."""
        one_size = hasattr(self.net, "set_input_size") or self.net.pretrained_cfg.get("fixed_input_size")
        if one_size and side != self.image_size:
            raise UsageError(
                f"backbone {type(self.net).__name__}: made for {self.image_size} px, so it cannot be shared with "
                f"images of {side} px; give both the same size, or each a backbone of its own"
            )


def _create(
    name: str, weights: str, model_args: dict[str, Any], min_kept: float
) -> tuple[nn.Module, WeightReport | None]:
    taken = sorted(key for key in model_args if key in _RESERVED or key.startswith("pretrained_"))
    if taken:  # a model file must not make timm fetch or open anything
        raise UsageError(f"backbone {name}: model_args {taken} are set by Backbone itself; see `weights`")
    source: dict[str, Any] = {"pretrained": weights == "pretrained"}
    if weights not in ("pretrained", "none"):
        tensors = _tensor_names(Path(weights))
        source = {"pretrained": True, "pretrained_cfg_overlay": {"file": weights}, "pretrained_strict": False}
    try:
        net: nn.Module = timm.create_model(name, num_classes=0, **source, **model_args)
    except TypeError as error:
        raise UsageError(f"backbone {name}: model_args {model_args} do not fit ({_in_one_line(error)})") from None
    except Exception as error:
        raise _weights_error(name, weights, error) from None
    if weights in ("pretrained", "none"):
        return net, None
    return net, _compare(net, tensors, name, weights, min_kept)


def _tensor_names(path: Path) -> set[str]:
    if not path.is_file():
        raise UsageError(f"backbone weights: {path} is no file; give 'pretrained', 'none' or a safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise UsageError(f"backbone weights: {path} is not a whole safetensors file ({_in_one_line(error)})") from None


def _compare(net: nn.Module, tensors: set[str], name: str, weights: str, min_kept: float) -> WeightReport:
    sizes = {key: value.numel() for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    wanted = set(sizes)
    kept, reset, ignored = (tuple(sorted(names)) for names in (wanted & tensors, wanted - tensors, tensors - wanted))
    if not kept:
        raise UsageError(f"backbone weights: {weights} shares no tensor with the network (it has {ignored[:2]} ...)")
    ignored = tuple(key for key in ignored if not key.endswith("num_batches_tracked"))
    report = WeightReport(kept, reset, ignored, f"{name} from {weights}: ")
    share = sum(sizes[key] for key in kept) / sum(sizes.values())
    if share < min_kept:
        raise UsageError(
            f"backbone weights: {weights} fills {share:.1%} of the numbers of {name} ({report.counts}); give a file of "
            f"this network, or min_kept: {int(1000 * share) / 1000:g} to start from it all the same"
        )
    return report


def _weights_error(name: str, weights: str, error: Exception) -> FgvcError:
    reason = _in_one_line(error)
    if weights == "none":
        return UsageError(f"backbone {name}: timm cannot create it ({reason})")
    if weights == "pretrained":
        return FgvcError(
            f"backbone {name}: its pretrained weights could not be had ({reason}); "
            "give a local safetensors file as `weights`, or `weights: none` to start from random values"
        )
    return UsageError(f"backbone {name}: {weights} does not fit ({reason})")


def _set_input_size(net: Any, name: str, image_size: int) -> None:
    """Tell a transformer with a fixed grid the size, and try it on a blank image; convolutional networks take any."""
    patches = getattr(net, "patch_embed", None)
    if hasattr(net, "set_input_size") and patches is not None and not getattr(patches, "dynamic_img_pad", False):
        _check_patches(name, image_size, max(patches.patch_size))
    try:
        if hasattr(net, "set_input_size"):
            net.set_input_size(img_size=(image_size, image_size))
        if net.pretrained_cfg.get("fixed_input_size") and net.pretrained_cfg["input_size"][-1] != image_size:
            with torch.no_grad():
                net.eval().forward_features(torch.zeros(1, 3, image_size, image_size))
            net.train()
    except (AssertionError, ValueError, RuntimeError) as error:
        raise UsageError(f"backbone {name}: image size {image_size} does not fit ({_in_one_line(error)})") from None


def _check_patches(name: str, image_size: int, patch: int) -> None:
    """Refuse a size that is no multiple of the patch: the rest would be dropped silently, and boxes would be off."""
    if image_size % patch:
        lower = image_size // patch * patch
        near = " or ".join(str(size) for size in (lower, lower + patch) if size)
        raise UsageError(f"backbone {name}: image size {image_size} is no multiple of its patch, {patch}; give {near}")


def _in_one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (" ".join(lines[:2]) if lines else type(error).__name__)[:200]
