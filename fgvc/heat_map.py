"""Where the evidence for a class lies, for convolutional networks and transformers alike.

Shape letters: N images, S side of the source image, M maps of one call of a backbone, C channels, h, w a map's grid,
K leaves.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgvc.backbone import Features
from fgvc.datatypes import Prediction
from fgvc.recognizers.base import Recognizer


class Heat(NamedTuple):
    """What a recognizer answered and where its evidence lies; 0 is none, 1 the most of its map.

    prediction: the answer.
    whole: (N, h, w) over the whole image, as the first call of a backbone sees it; None where no answer reads that map.
    views: name of a view -> (N, h, w) over the part that it saw, for the views that saw one part.
    """

    prediction: Prediction
    whole: Tensor | None
    views: dict[str, Tensor]


def heat_maps(recognizer: Recognizer, images: Tensor, leaves: Tensor | None = None) -> Heat:
    """Return how much each place of a map speaks for a class: max(0, sum over C of gradient * map), over its maximum.

    With average pooling this is Grad-CAM (Ramprasaath R. Selvaraju and others, "Grad-CAM: Visual Explanations from
    Deep Networks via Gradient-based Localization", ICCV 2017); with other poolings, which do not weight all places
    alike, the product place by place stays faithful (Rachel Lea Draelos, Lawrence Carin, "Use HiResCAM instead of
    Grad-CAM for faithful explanations of convolutional neural networks", 2020).

    No layer has to be chosen per family of networks: `Features.map` is what the heads read, for transformers the tokens
    after the last norm as a grid. What comes before it in the backbone is not differentiated, so frozen parameters and
    scales that are detached from each other make no difference, and each map hears only from its own heads.

    Args:
        recognizer: any, in the mode in which it is to answer; neither its gradients nor its hooks change.
        images: (N, 3, S, S) uint8 or float in 0..255.
        leaves: (N,) int64, the class asked for; by default the most probable one.
    """
    level = recognizer.taxonomy.leaf_level
    with _recorded(recognizer) as maps:
        prediction = recognizer(images)
        asked = prediction.logits[level].argmax(dim=1) if leaves is None else leaves
        answers = {"": prediction, **prediction.views}
        odds = {name: log_odds(answer.logits[level], asked).sum() for name, answer in answers.items()}
        whole = _nearest(_gradients(torch.stack(list(odds.values())).sum(), maps[:1]), len(images))
        found = {
            name: _nearest(_gradients(odds[name], maps), len(images))
            for name, view in prediction.views.items()
            if view.boxes is not None
        }
    return Heat(prediction, whole, {name: heat for name, heat in found.items() if heat is not None})


def log_odds(logits: Tensor, leaves: Tensor) -> Tensor:
    """Return (N,): log(p / (1 - p)) of a class.

    Its gradient points where that of log p does, yet does not vanish as p nears 1; and unlike that of the logit alone,
    it leaves out what speaks for all classes.

    Args:
        logits: (N, K).
        leaves: (N,) int64.
    """
    place = leaves[:, None]
    chosen = logits.float().gather(1, place)[:, 0]
    if logits.shape[1] == 1:
        return chosen
    return chosen - logits.float().scatter(1, place, -torch.inf).logsumexp(dim=1)


@contextmanager
def _recorded(recognizer: Recognizer) -> Iterator[list[Tensor]]:
    """Collect the maps (M, C, h, w) that the backbones answer, cut off from what made them."""
    maps: list[Tensor] = []

    def before(*_: Any) -> None:
        torch.set_grad_enabled(False)  # the graph of a backbone would be the larger part of the memory

    def after(_module: Any, _images: Any, features: Features) -> Features:
        torch.set_grad_enabled(True)
        maps.append(features.map.detach().requires_grad_())
        return features._replace(map=maps[-1].clone())  # a copy, which a head may change in place

    hooks: list[Any] = []
    for backbone in recognizer.backbones():
        hooks += [backbone.register_forward_pre_hook(before), backbone.register_forward_hook(after)]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield maps
    finally:
        for hook in hooks:
            hook.remove()


def _gradients(answer: Tensor, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return the maps that an answer () reads, each with the gradient."""
    if not answer.requires_grad:
        return []
    gradients = torch.autograd.grad(answer, maps, retain_graph=True, allow_unused=True)
    return [(read.detach(), slope) for read, slope in zip(maps, gradients, strict=True) if slope is not None]


def _nearest(read: Sequence[tuple[Tensor, Tensor]], number: int) -> Tensor | None:
    """Return (N, h, w) 0..1 of the map that was made last, the closest look; None where there is none."""
    if not read:
        return None
    features, slope = read[-1]
    heat = (features * slope).sum(dim=1).relu().float()
    if len(heat) != number:  # the parts of all images in one call: an answer reads one of them per image, in order
        heat = heat[slope.flatten(1).any(dim=1)]
    if len(heat) != number:
        return None
    return heat / heat.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(heat.dtype).tiny)
