"""The mean of the weights of several trainings that began from the same weights.

Mitchell Wortsman, Gabriel Ilharco, Samir Yitzhak Gadre, Rebecca Roelofs, Raphael Gontijo-Lopes, Ari S. Morcos, Hongseok
Namkoong, Ali Farhadi, Yair Carmon, Simon Kornblith, Ludwig Schmidt, "Model soups: averaging weights of multiple
fine-tuned models improves accuracy without increasing inference time", ICML 2022. Of the checkpoints of one training:
Pavel Izmailov, Dmitrii Podoprikhin, Timur Garipov, Dmitry Vetrov, Andrew Gordon Wilson, "Averaging Weights Leads to
Wider Optima and Better Generalization", UAI 2018.

Shape letters: N images, S side of a square.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fgvc.datatypes import Sample
from fgvc.errors import UsageError
from fgvc.methods.recognizers.base import Recognizer

State = dict[str, Tensor]
STATISTICS = ("running_mean", "running_var")


def mean_state(states: Sequence[Mapping[str, Tensor]], learnt: Iterable[str]) -> State:
    """Return the mean of the tensors that are learnt, taken in float64; the others are those of the first state.

    Args:
        states: at least one; the same names and shapes.
        learnt: names of parameters and of statistics of batch normalisation, see `averaged_names`.
    """
    wanted = set(learnt)
    mean: State = {}
    for name, first in states[0].items():
        if name in wanted and first.is_floating_point():
            total = torch.stack([state[name].double() for state in states]).mean(dim=0)
            mean[name] = total.to(first.dtype)
        else:
            mean[name] = first
    return mean


def averaged_names(recognizer: nn.Module) -> list[str]:
    """Return the names of what is averaged: parameters, and running statistics, which belong to them."""
    statistics = [name for name, _ in recognizer.named_buffers() if name.rpartition(".")[2] in STATISTICS]
    return [name for name, _ in recognizer.named_parameters()] + statistics


def moving_norms(recognizer: nn.Module, states: Sequence[Mapping[str, Tensor]]) -> list[str]:
    """Return the batch normalisations, by name, whose running statistics differ between states."""
    norms = [name for name, module in recognizer.named_modules() if isinstance(module, _BatchNorm)]
    names = {norm: [f"{norm}.{one}" for one in STATISTICS if f"{norm}.{one}" in states[0]] for norm in norms}
    return [
        norm
        for norm, tensors in names.items()
        if any(not torch.equal(state[name], states[0][name]) for name in tensors for state in states[1:])
    ]


@torch.no_grad()
def recompute_statistics(
    recognizer: Recognizer, norms: Sequence[str], batches: Iterable[Sample], device: torch.device
) -> int:
    """Replace the running statistics of some batch normalisations by those of images, all batches counting alike.

    The mean of the statistics of networks that lie far apart is not the statistics of their mean, whose activations
    vary less (Keller Jordan, Hanie Sedghi, Olga Saukh, Rahim Entezari, Behnam Neyshabur, "REPAIR: REnormalizing
    Permuted Activations for Interpolation Repair", ICLR 2023), so they are measured. All else stays in evaluation mode.

    Args:
        recognizer: is left in evaluation mode on the device.
        norms: names of batch normalisations.
        batches: Samples of N images (N, 3, S, S) each.
        device: where it computes.

    Returns:
        How many images were seen.
    """
    recognizer.to(device).eval()
    modules: list[Any] = [recognizer.get_submodule(name) for name in norms]
    momenta, seen = [module.momentum for module in modules], 0
    for module in modules:
        module.reset_running_stats()
        module.momentum = None  # the mean of all batches
        module.train()
    try:
        for batch in batches:
            if len(batch.image) > 1:
                recognizer(batch.image.to(device))
                seen += len(batch.image)
    finally:
        for module, momentum in zip(modules, momenta, strict=True):
            module.momentum = momentum
        recognizer.eval()
    return seen


@torch.inference_mode()
def accuracy(recognizer: Recognizer, batches: Iterable[Sample], device: torch.device) -> float:
    """Return the share of images with a known leaf whose most probable leaf is right.

    Raises:
        UsageError: no such image.
    """
    recognizer.to(device).eval()
    right = count = 0
    for batch in batches:
        leaf = recognizer(batch.image.to(device)).logits[recognizer.taxonomy.leaf_level].argmax(dim=1).cpu()
        known = (batch.label >= 0) & (batch.label < recognizer.taxonomy.num_classes)
        right += int((leaf == batch.label)[known].sum())
        count += int(known.sum())
    if not count:
        raise UsageError(
            "soup: no held-out image has a known class, so nothing can be chosen; give --data, or --uniform"
        )
    return right / count


def greedy(alone: Sequence[float], score: Callable[[list[int]], float]) -> tuple[list[int], float]:
    """Choose what is averaged: from the best on, each is added if the score of the mean does not fall.

    Args:
        alone: score of each by itself.
        score: places -> score of the mean of these.

    Returns:
        The places that are kept, the best first, and their score.
    """
    order = sorted(range(len(alone)), key=lambda i: -alone[i])
    kept, best = order[:1], alone[order[0]]
    for place in order[1:]:
        found = score([*kept, place])
        if found >= best:
            kept, best = [*kept, place], found
    return kept, best


def first_difference(one: Any, other: Any, where: str = "recognizer") -> str:
    """Return where two plain trees first differ, with both values: `recognizer.head: A and B`; "" where they do not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            inner = where if key == "init_args" else f"{where}.{key}"
            if found := first_difference(one.get(key), other.get(key), inner):
                return found
        return ""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        places = (first_difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True)))
        return next(filter(None, places), "")
    return "" if one == other else f"{where}: {one} and {other}"
