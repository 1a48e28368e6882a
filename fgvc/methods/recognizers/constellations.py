"""Constellations: channels whose gradients peak at places that move together are parts, found without annotations.

Shape letters: N images, R gathered images, S side of the source image, s side that is seen, C channels, h, w grid of
the map, P candidate channels, M parts.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.images.regions import centred_boxes, crop_and_resize, downscale, whole
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.part_views import Fusion, PartViews
from fgvc.methods.recognizers.base import (
    BackboneFactory,
    HeadFactory,
    PhasePlan,
    Recognizer,
    closer_backbone,
    mean_probability,
)
from fgvc.taxonomy.tree import Taxonomy

ROUNDS = 50
"""At most, of choosing parts and moving anchors."""

Peaks = tuple[Tensor, Tensor]


def peaks_of(maps: Tensor) -> Peaks:
    """Return the centre of the highest cell (..., 2), as fractions, and what it holds (...), of maps (..., h, w)."""
    height, width = maps.shape[-2:]
    highest, cell = maps.flatten(-2).max(dim=-1)
    places = torch.stack(
        ((cell % width + 0.5) / width, (cell.div(width, rounding_mode="floor") + 0.5) / height), dim=-1
    )
    return places, highest


def gradient_peaks(backbone: Backbone, images: Tensor, channels: Tensor) -> Peaks:
    """Return where a change of the image changes each channel most, (N, P, 2), and by how much, (N, P).

    The gradient of a channel's sum by the pixels, its absolute values summed over colours, and the peak of that. One
    backward pass per channel. Where a map does not hang on the pixels, as of a frozen copy, the channel's own peak.

    Args:
        backbone: in the mode in which it is to answer.
        images: (N, 3, s, s) in 0..255.
        channels: (P,) int64.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        pixels = images.detach().clone().float().requires_grad_()
        features = backbone.forward(pixels).map  # not called: what listens to the backbone is to hear its answers only
        found = []
        for channel in channels.tolist():
            total = features[:, channel].sum()
            slope = None
            if total.requires_grad:
                slope = torch.autograd.grad(total, pixels, retain_graph=True, allow_unused=True)[0]
            found.append(peaks_of((features[:, channel] if slope is None else slope.abs().sum(dim=1)).detach()))
    return torch.stack([place for place, _ in found], dim=1), torch.stack([height for _, height in found], dim=1)


def chosen_parts(places: Tensor, strengths: Tensor, number: int, apart: float = 0.0) -> list[int]:
    """Return M channels that keep their places relative to each other over the images, the steadiest first.

    Minimises sum over images and chosen channels of h |place - offset of the channel - anchor of the image|^2 by turns:
    offsets, which channels, anchors, until the choice stands. (Simon and Rodner, section 4, with one view.)

    Args:
        places: (R, P, 2).
        strengths: (R, P), not negative; h is each over its channel's mean.
        number: M.
        apart: least distance of the offsets of two chosen channels, as a fraction of the image; where too few channels
            are left, nearer ones are taken.
    """
    weights = strengths.double() / strengths.double().mean(dim=0).clamp_min(1e-12)
    weights = weights.clamp_min(1e-6)[..., None]
    places = places.double()
    anchors = (weights * places).sum(dim=1) / weights.sum(dim=1)
    chosen: list[int] = []
    for _ in range(ROUNDS):
        offsets = (weights * (places - anchors[:, None])).sum(dim=0) / weights.sum(dim=0)
        gaps = (places - offsets - anchors[:, None]).square().sum(dim=2, keepdim=True)
        costs = ((weights * gaps).sum(dim=0) / weights.sum(dim=0))[:, 0]
        before, chosen = chosen, _spread_out(costs.argsort().tolist(), offsets, number, apart)
        if chosen == before:
            break
        kept = weights[:, chosen]
        anchors = (kept * (places[:, chosen] - offsets[chosen])).sum(dim=1) / kept.sum(dim=1)
    return chosen


def _spread_out(order: list[int], offsets: Tensor, number: int, apart: float) -> list[int]:
    """Return the first channels of an order whose offsets (P, 2) lie apart, then the first others."""
    far: list[int] = []
    for channel in order:
        if len(far) < number and all(float((offsets[channel] - offsets[other]).norm()) >= apart for other in far):
            far.append(channel)
    return (far + [channel for channel in order if channel not in far])[:number]


class Constellations(Recognizer):
    """The whole image and crops around parts: places where the gradients of chosen channels peak.

    Marcel Simon, Erik Rodner, "Neural Activation Constellations: Unsupervised Part Model Discovery with Convolutional
    Networks", ICCV 2015. Labels of images are all that is used, and not for the parts. What differs: candidates are
    some of the channels, since each costs a backward pass; chosen ones lie apart, as there are fewer of them; there is
    one view; crops have one size; and a linear layer takes the place of the SVM.

    The first training images of a phase that looks at parts are gathered; then the parts are chosen, once, and kept in
    the model. Until then only the whole image is looked at.

    Phases:
        all: everything learns.
        head: only the heads and the fusion learn.
        whole: no parts are seen or gathered.

    Args:
        taxonomy, image_size: see Recognizer.
        backbone: makes a backbone from the side of what it sees.
        head: makes a head for the whole image and for each part.
        num_parts: M.
        part_size: side of a part's crop, as a fraction of the image.
        num_candidates: P, channels at even distances; no more than C.
        num_images: R, training images that are gathered.
        apart: see `chosen_parts`; 0 as published.
        peaks: of each channel's `gradient`, as published: M backward passes for every batch, in evaluation too; or of
            its `activation`, at no cost, to the cell.
        crop_size: side, in pixels, at which crops are seen; by default image_size.
        share_backbone: whether the backbone of the whole image reads the crops too, or a second one.
        fusion: see PartViews.

    Raises:
        UsageError: fewer candidates than parts, more than channels, or a setting outside its range.
    """

    phases: ClassVar[Mapping[str, PhasePlan]] = {**Recognizer.phases, "whole": PhasePlan()}

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        backbone: BackboneFactory = Backbone,
        head: HeadFactory = LinearHead,
        num_parts: int = 4,
        part_size: float = 0.35,
        num_candidates: int = 64,
        num_images: int = 64,
        apart: float = 0.1,
        peaks: Literal["gradient", "activation"] = "gradient",
        crop_size: int | None = None,
        share_backbone: bool = True,
        fusion: Fusion = "descriptors",
    ) -> None:
        super().__init__(taxonomy, image_size)
        self.backbone = backbone(image_size)
        channels = self.backbone.channels
        if not 1 <= num_parts <= num_candidates <= channels or not 0 < part_size <= 1 or num_images < 2 or apart < 0:
            raise UsageError(
                f"Constellations: num_parts {num_parts} and num_candidates {num_candidates} must be from 1 to the "
                f"network's {channels} channels, parts no more than candidates, part_size {part_size} in (0, 1], "
                f"num_images {num_images} 2 or more, apart {apart} not negative"
            )
        self.crop_size, self.num_parts, self.part_size = crop_size or image_size, num_parts, part_size
        self._apart, self.peaks = apart, peaks
        closer = closer_backbone(self.backbone, backbone, self.crop_size, share_backbone)
        self.parts = tuple(f"part{i + 1}" for i in range(num_parts))
        self.views = PartViews(taxonomy, head, self.backbone, closer, self.parts, fusion)
        candidates = torch.linspace(0, channels - 1, num_candidates).round().long()
        self.register_buffer("candidates", candidates, persistent=False)
        self.register_buffer("chosen", torch.full((num_parts,), -1))
        self.candidates: Tensor
        self.chosen: Tensor
        self._num_images, self._gathered = num_images, list[Peaks]()

    def forward(self, images: Tensor) -> Prediction:
        """Images (N, 3, S, S) -> Prediction, whose views are whole, part1 ...; boxes (N, M, 4)."""
        seen = downscale(images, self.image_size)
        features = self.backbone(seen)
        views = {"whole": self.views.whole(features)}
        views["whole"].boxes = whole(images)
        boxes = None
        if not (self.training and (self.phase == "whole" or not self._has_parts(seen, features.map))):
            channels = torch.where(self.chosen < 0, self.candidates[: self.num_parts], self.chosen)
            places, _ = self._peaks(seen, features.map, channels)
            boxes = centred_boxes(places, self.part_size)
            views |= self.views.crops(crop_and_resize(images, boxes, self.crop_size), boxes)[0]
        answer = self.views.joined(views, mean_probability(list(views.values())))
        return Prediction(answer.logits, answer.embedding, boxes, views)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms of the heads and of the fusion; labels (N,) int64 node ids."""
        return self.views.loss(prediction.views, prediction, labels)

    def _has_parts(self, seen: Tensor, features: Tensor) -> bool:
        """Say whether the parts are chosen; else gather a training batch, and choose them when there are enough."""
        if (self.chosen >= 0).all():
            return True
        self._gathered.append(self._peaks(seen, features, self.candidates))
        if sum(len(places) for places, _ in self._gathered) < self._num_images:
            return False
        places, strengths = (torch.cat(part) for part in zip(*self._gathered, strict=True))
        best = chosen_parts(places, strengths, self.num_parts, self._apart)
        self.chosen.copy_(self.candidates[best])
        self._gathered.clear()
        return True

    def _peaks(self, seen: Tensor, features: Tensor, channels: Tensor) -> Peaks:
        """Return the peaks of channels in images (N, 3, s, s), whose map (N, C, h, w) is known."""
        if self.peaks == "activation":
            return peaks_of(features[:, channels].detach().float())
        self.backbone.eval()
        try:
            return gradient_peaks(self.backbone, seen, channels)
        finally:
            self.train(self.training)  # what stands still in the phase stays in evaluation mode
