"""Where the evidence for a class lies, for convolutional networks and transformers alike.

Shape letters: N images, S side of the source image, M maps of one call of a backbone, C channels, h, w a map's grid,
K leaves, or boxes per image.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgvc.datatypes import Prediction
from fgvc.methods.backbone import Backbone
from fgvc.methods.cells import EVEN, Cells
from fgvc.methods.features import Features
from fgvc.methods.recognizers.base import Recognizer

FINER = 4
"""Cells of a heat map per cell of its map, where the map is displaced: the displacement is a part of a cell."""


class Seen(NamedTuple):
    """A map (M, C, h, w) of a backbone, cut off from what made it, and where its cells lie in what the backbone saw."""

    map: Tensor
    cells: Cells


Reads = list[tuple[Seen, Tensor]]


class Heat(NamedTuple):
    """What a recognizer answered and where its evidence lies; 0 is none, 1 the most of its map.

    prediction: the answer.
    whole: (N, h, w) over the whole image, for all answers that read the first map that a backbone made; None where no
        answer reads it, or where it shows a box.
    views: name of a view -> (N, h, w) over the part that it saw, for the views that saw one part.
    boxes: (N, K, h, w) over each box, 1 the most of an image's boxes, for a recognizer without views; else None.
    """

    prediction: Prediction
    whole: Tensor | None
    views: dict[str, Tensor]
    boxes: Tensor | None


def heat_maps(recognizer: Recognizer, images: Tensor, leaves: Tensor | None = None, in_place: bool = False) -> Heat:
    """Return how much each place of a map speaks for a class: max(0, sum over C of gradient * map), over its maximum.

    With average pooling this is Grad-CAM (Ramprasaath R. Selvaraju and others, "Grad-CAM: Visual Explanations from
    Deep Networks via Gradient-based Localization", ICCV 2017); with other poolings, which do not weight all places
    alike, the product place by place stays faithful (Rachel Lea Draelos, Lawrence Carin, "Use HiResCAM instead of
    Grad-CAM for faithful explanations of convolutional neural networks", 2020).

    No layer has to be chosen per family of networks: `Features.map` is what the heads read, for transformers the tokens
    after the last norm as a grid. Where heads read a class token, it is the grid of the tokens that its last block
    reads. What comes before the map in the backbone is not differentiated, so frozen parameters and scales that are
    detached from each other make no difference, and each map hears only from its own heads.

    Args:
        recognizer: any, in the mode in which it is to answer; neither its gradients nor its hooks change.
        images: (N, 3, S, S) uint8 or float in 0..255.
        leaves: (N,) int64, the class asked for; by default the most probable one.
        in_place: whether the heat lies where the cells look, see `Backbone.cells`, and not where their places in the
            grid suggest. A map that is displaced gets 4 h x 4 w places.
    """
    level = recognizer.taxonomy.leaf_level
    with _recorded(recognizer, in_place) as maps:
        prediction = recognizer(images)
        asked = prediction.logits[level].argmax(dim=1) if leaves is None else leaves
        answers = {"": prediction, **prediction.views}
        reads = {name: _read(log_odds(answer.logits[level], asked).sum(), maps) for name, answer in answers.items()}
    number = len(images)
    seen = {name: reads[name] for name, view in prediction.views.items() if view.boxes is not None}
    views = {name: heat for name, read in seen.items() if (heat := _nearest(read, number)) is not None}
    boxes = None
    if prediction.boxes is not None and not prediction.views:
        boxes = _last_parts(reads[""], number, prediction.boxes.shape[1])
    whole = None if _starts_in_a_box(prediction, reads, maps) else _nearest(_of_the_first(reads, maps), number)
    return Heat(prediction, whole, views, boxes)


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
def _recorded(recognizer: Recognizer, in_place: bool) -> Iterator[list[Seen]]:
    """Collect the maps that the backbones answer."""
    maps: list[Seen] = []

    def before(*_: Any) -> None:
        torch.set_grad_enabled(False)  # the graph of a backbone would be the larger part of the memory

    def tokens(backbone: Backbone, out: Tensor) -> Tensor:
        """Record the grid in the tokens (M, T + h w, C) that a class token reads; later layers read the record."""
        torch.set_grad_enabled(True)
        h, w = backbone.grid
        prefix, grid = out.detach().tensor_split([out.shape[1] - h * w], dim=1)
        maps.append(Seen(grid.transpose(1, 2).reshape(len(grid), -1, h, w).requires_grad_(), EVEN))
        return torch.cat([prefix, maps[-1].map.flatten(2).transpose(1, 2)], dim=1)

    def after(backbone: Any, given: Any, features: Features) -> Features:
        """Record the map of a backbone; the heads read a copy of the record."""
        torch.set_grad_enabled(True)
        if features.map.requires_grad:  # of a class token: what it reads is recorded already
            return features
        cells = backbone.cells(given[0].shape[-1]) if in_place else EVEN
        maps.append(Seen(features.map.detach().requires_grad_(), cells))
        return features._replace(map=maps[-1].map.clone())  # a copy, which a head may change in place

    hooks: list[Any] = []
    for backbone in recognizer.backbones():
        hooks += [backbone.register_forward_pre_hook(before), backbone.register_forward_hook(after)]
        if (module := backbone.class_token_reads()) is not None:
            hooks.append(module.register_forward_hook(lambda _module, _given, out, of=backbone: tokens(of, out)))
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield maps
    finally:
        for hook in hooks:
            hook.remove()


def _read(answer: Tensor, maps: Sequence[Seen]) -> Reads:
    """Return the maps that an answer () reads, each with its gradient, in the order in which they were made."""
    if not answer.requires_grad or not maps:
        return []
    gradients = torch.autograd.grad(answer, [seen.map for seen in maps], retain_graph=True, allow_unused=True)
    return [(seen, slope) for seen, slope in zip(maps, gradients, strict=True) if slope is not None]


def _of_the_first(reads: Mapping[str, Reads], maps: Sequence[Seen]) -> Reads:
    """Return the first map with the sum of its gradients."""
    slopes = [slope for read in reads.values() for seen, slope in read if seen is maps[0]]
    return [(maps[0], torch.stack(slopes).sum(dim=0))] if slopes else []


def _starts_in_a_box(prediction: Prediction, reads: Mapping[str, Reads], maps: Sequence[Seen]) -> bool:
    """Whether the first map shows a box and not the whole image."""
    for name, view in prediction.views.items():
        if view.boxes is not None and reads[name] and reads[name][-1][0] is maps[0]:
            return not torch.allclose(view.boxes, view.boxes.new_tensor([0.0, 0.0, 1.0, 1.0]), atol=1e-4)
    if prediction.boxes is None or prediction.views:
        return False
    return sum(len(seen.map) for seen, _ in reads[""]) <= prediction.boxes.shape[:2].numel()


def _nearest(read: Reads, number: int) -> Tensor | None:
    """Return (N, h, w) 0..1 of the map that was made last, the closest look; None where there is none."""
    if not read:
        return None
    heat = _evidence(*read[-1])
    if len(heat) != number:  # the parts of all images in one call: an answer reads one of them per image, in order
        heat = heat[read[-1][1].flatten(1).any(dim=1)]
    return _over_maximum(heat) if len(heat) == number else None


def _last_parts(read: Reads, number: int, count: int) -> Tensor | None:
    """Return (N, K, h, w) 0..1 of the last K parts that an answer reads, in one call or many; None if there are fewer.

    In one call, the parts of an image lie side by side, as `regions.crop_and_resize` gives them.
    """
    calls = [_evidence(*pair) for pair in read if len(pair[0].map) % number == 0]
    parts = [part for call in calls for part in call.view(number, -1, *call.shape[1:]).unbind(1)][-count:]
    if len(parts) < count or len({part.shape for part in parts}) != 1:
        return None
    return _over_maximum(torch.stack(parts, dim=1))


def _evidence(seen: Seen, slope: Tensor) -> Tensor:
    """Return (M, h, w) of a map and its gradient (M, C, h, w); of a displaced one, in place, (M, 4 h, 4 w)."""
    heat = (seen.map.detach() * slope).sum(dim=1).relu().float()
    return heat if seen.cells == EVEN else seen.cells.resampled(heat, FINER * max(heat.shape[1:]))


def _over_maximum(heat: Tensor) -> Tensor:
    """Divide each image's numbers (N, ...) by the largest of them."""
    highest = heat.flatten(1).amax(dim=1).clamp_min(torch.finfo(heat.dtype).tiny)
    return heat / highest.view(-1, *[1] * (heat.ndim - 1))
