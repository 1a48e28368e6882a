"""Parameter groups, timm's optimizers and the curve of the learning rate."""

import fnmatch
import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from timm.models import group_parameters
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn
from torch.optim import Optimizer

from fgvc.errors import UsageError, did_you_mean


def parameter_groups(
    backbones: Sequence[nn.Module],
    model: nn.Module,
    lr: float,
    weight_decay: float,
    head_lr_ratio: float = 1.0,
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Divide the parameters of a model into groups that carry their own learning rate and weight decay.

    Frozen parameters are in a group too: a later phase may thaw them. Vectors and scalars (norm scales, biases) and
    the names that a net lists in its `no_weight_decay` are not decayed. With `layer_decay` the group of a layer that
    lies i layers below the head learns at lr * layer_decay**i (Clark, Luong, Le and Manning, ELECTRA, 2020); what
    timm leaves in a key that PyTorch's schedulers do not read is multiplied in.

    Args:
        backbones: the timm nets inside the model, not their wrappers: layers are found by the net's own names.
        model: everything that is trained.
        lr: learning rate of the backbones.
        weight_decay: for matrices and kernels.
        head_lr_ratio: learning rate of what lies outside the backbones over that of the backbones.
        layer_decay: factor per layer in (0, 1], or None.

    Returns:
        One dict per group with `params`, `lr`, `weight_decay`, both again as `initial_lr` and `initial_weight_decay`
        for who changes them on the way, and a unique `name` such as "backbone.layer03.decay" or "head.no_decay".

    Raises:
        UsageError: a layer decay outside (0, 1] or for nets whose layers timm does not know.
    """
    _check_layer_decay(layer_decay, backbones)
    placed: set[int] = set()
    groups: dict[str, dict[str, Any]] = {}

    def add(part: str, parameter: nn.Parameter, ratio: float, exempt: bool) -> None:
        """Put a parameter that has no place yet into the group of its part."""
        if id(parameter) in placed:
            return
        placed.add(id(parameter))
        decays = parameter.ndim > 1 and not exempt
        name = f"{part}.{'decay' if decays else 'no_decay'}"
        rates = {"lr": lr * ratio, "weight_decay": weight_decay if decays else 0.0}
        initial = {f"initial_{key}": value for key, value in rates.items()}
        groups.setdefault(name, {"params": [], **rates, **initial, "name": name})["params"].append(parameter)

    for number, net in enumerate(backbones):
        label = f"backbone{number}" if len(backbones) > 1 else "backbone"
        exempt = list(getattr(net, "no_weight_decay", set)())
        for layer, ratio, name, parameter in _layers(net, layer_decay):
            part = label if layer is None else f"{label}.layer{layer:02d}"
            add(part, parameter, ratio, any(fnmatch.fnmatch(name, pattern) for pattern in exempt))
    for parameter in model.parameters():
        add("head", parameter, head_lr_ratio, exempt=False)
    return list(groups.values())


def _layers(net: nn.Module, layer_decay: float | None) -> Iterator[tuple[int | None, float, str, nn.Parameter]]:
    """Yield (layer, learning-rate ratio, name, parameter); the head of the model stands in for the net's classifier."""
    numbers = _layer_numbers(net) if layer_decay is not None else {}
    head = numbers.pop("", 0)
    for name, parameter in net.named_parameters():
        if layer_decay is None:
            yield None, 1.0, name, parameter
        else:
            layer = numbers.get(name, 0)
            yield layer, layer_decay ** (head - layer), name, parameter


def _layer_numbers(net: nn.Module) -> dict[str, int]:
    """Return parameter name -> layer, counted from the stem, and the head's layer under the empty name.

    A net that does not tell its layers is one layer below the head.
    """
    names = [name for name, _ in net.named_parameters()]
    if not hasattr(net, "group_matcher"):
        return {**dict.fromkeys(names, 0), "": 1}
    classifier = (getattr(net, "pretrained_cfg", None) or {}).get("classifier") or "head"
    first = classifier if isinstance(classifier, str) else classifier[0]
    # A net made without a classifier has one layer less, and every layer would learn one step too fast.
    stand_in = f"{first}.weight"
    named = SimpleNamespace(named_parameters=lambda: [(name, None) for name in dict.fromkeys([*names, stand_in])])
    matcher: Any = net.group_matcher
    numbers: dict[str, int] = group_parameters(named, matcher(coarse=False), reverse=True)
    return {**{name: numbers[name] for name in names}, "": numbers[stand_in]}


def _check_layer_decay(layer_decay: float | None, backbones: Sequence[nn.Module]) -> None:
    _check_range(layer_decay)
    if layer_decay is not None and not any(hasattr(net, "group_matcher") for net in backbones):
        kinds = sorted({type(net).__name__ for net in backbones})
        raise UsageError(
            f"layer_decay: timm does not know the layers of {kinds or 'a model without backbone'}; use null"
        )


def _check_range(layer_decay: float | None) -> None:
    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise UsageError(f"layer_decay: {layer_decay}; it must be above 0 and at most 1, or null (usual: 0.65 to 0.9)")


class Rates:
    """Learning rates and weight decay of a run's parameter groups, which a phase may change.

    lr, weight_decay: of the phase that is trained, before the warm-up and the cosine.
    initial: learning rate of each group as the optimizer was built.
    fixed: in place of `lr` times the factor, while rates are swept; None otherwise.

    Args:
        lr: the run's learning rate, which `initial` was made with.
        weight_decay: the run's weight decay.
    """

    def __init__(self, lr: float, weight_decay: float) -> None:
        self._base = lr
        self.lr, self.weight_decay = lr, weight_decay
        self.initial: list[float] = []
        self.fixed: float | None = None

    def set(self, groups: Sequence[dict[str, Any]], factor: float) -> None:
        """Give every group its rates for the next step.

        Args:
            groups: the optimizer's.
            factor: of the step, see `warmup_cosine`.
        """
        scale = (self.lr * factor if self.fixed is None else self.fixed) / self._base
        for group, rate in zip(groups, self.initial, strict=True):
            group["lr"] = rate * scale
            if not group["name"].endswith("no_decay"):
                group["weight_decay"] = self.weight_decay


def build_optimizer(
    model: nn.Module,
    backbones: Sequence[nn.Module],
    name: str = "adamw",
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    head_lr_ratio: float = 1.0,
    layer_decay: float | None = None,
    **kwargs: Any,
) -> Optimizer:
    """Return one of timm's optimizers over `parameter_groups`.

    Args:
        model: everything that is trained.
        backbones: the timm nets inside it.
        name: timm's word, e.g. "adamw", "lamb", "sgd" (with Nesterov momentum 0.9); "lookahead_" may stand before it.
        lr: learning rate of the backbones.
        weight_decay: for matrices and kernels.
        head_lr_ratio: see `parameter_groups`.
        layer_decay: see `parameter_groups`.
        **kwargs: for the optimizer itself, e.g. `betas` or `momentum`.

    Raises:
        UsageError: an unknown name, or arguments that this optimizer refuses.
    """
    _check_name(name)
    groups = parameter_groups(backbones, model, lr, weight_decay, head_lr_ratio, layer_decay)
    try:
        optimizer: Optimizer = create_optimizer_v2(groups, opt=name, lr=lr, weight_decay=weight_decay, **kwargs)
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise UsageError(f"optimizer {name!r} with {kwargs}: {error}") from None
    return optimizer


def check_settings(optimizer: str, lr: float, layer_decay: float | None, **rates: float) -> None:
    """Check what a run says about its optimizer, before anything is made.

    Args:
        optimizer: see `build_optimizer`.
        lr: the learning rate.
        layer_decay: see `parameter_groups`.
        **rates: other numbers of the model that must not be negative, by their key.

    Raises:
        UsageError: an unknown name, or a number outside its range.
    """
    _check_name(optimizer)
    if not 0 < lr < math.inf:
        raise UsageError(f"model.lr: {lr}; it must be a number above 0 (usual: 0.0001 to 0.01)")
    for key, rate in rates.items():
        if not 0 <= rate < math.inf:
            raise UsageError(f"model.{key}: {rate}; it must be a number of at least 0")
    _check_range(layer_decay)


def _check_name(name: str) -> None:
    known = list_optimizers()
    if name.lower().removeprefix("lookahead_") not in known:
        usual = "; usual are adamw, sgd and lamb"
        raise UsageError(f"model.optimizer: timm has no {name[:80]!r}{did_you_mean(name[:80].lower(), known) or usual}")


def warmup_cosine(step: int, steps: int, warmup_steps: int = 0, final_ratio: float = 0.0) -> float:
    """Return the learning rate of an optimizer step over its peak.

    A straight rise over the first `warmup_steps` steps, then half a cosine down to `final_ratio` (Loshchilov and
    Hutter, SGDR, 2017). A function of the step alone, so that a resumed run needs no state.

    Args:
        step: counted from 0; beyond the last step the rate stays at its end.
        steps: all steps of the run, warm-up included.
        warmup_steps: the last of them has the full rate.
        final_ratio: the end over the peak.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return final_ratio + (1 - final_ratio) * (1 + math.cos(math.pi * progress)) / 2
