"""RA-CNN: look at the whole image, decide where to look closer, look again.

Shape letters: N images, S side of the source image, K leaves, D width of an embedding, C channels, h, w grid of a map.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.images.regions import crop_and_resize, downscale, erase, whole, within
from fgvc.methods.attention.apn import APN
from fgvc.methods.attention.base import AttentionFactory
from fgvc.methods.attention.objectives import evidence, ranking_loss
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import node_loss
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.recognizers.base import BackboneFactory, HeadFactory, Recognizer, Scale, mean_probability
from fgvc.taxonomy.tree import Taxonomy

FUSION_SCALE = 16.0
"""Factor on the embeddings of length 1 before their classifier: its weights need not grow for hundreds of steps."""


class Step(NamedTuple):
    """What a step closer leaves for the loss of its attention.

    box: (N, 4) the attention's answer, as a fraction of what the coarser scale sees.
    start: () how far it lies from where learning starts, or None where nothing is learnt.
    erased: the coarser scale's answer to what it sees without the box, or None where nobody asks.
    """

    box: Tensor
    start: Tensor | None
    erased: Prediction | None


@dataclass
class Closer(Prediction):
    """A prediction that remembers what its loss needs, one entry per step closer.

    steps: the attention's answers.
    """

    steps: list[Step] = field(default_factory=list)


class RACNN(Recognizer):
    """Recurrent attention: each scale sees the part of the image that the attention of the scale before chose.

    Jianlong Fu, Heliang Zheng, Tao Mei, "Look Closer to See Better: Recurrent Attention Convolutional Neural Network
    for Fine-grained Image Recognition", CVPR 2017.

    Phases, for PhaseSchedule:
        all: backbones, heads and fusion learn to classify, while the attentions follow their start (`start_loss`).
        locate: the attentions alone learn where to start.
        refine: as `all`, but the first scale, which must have learnt before, stands still, at a quarter of its cost.
        recognise: backbones, heads and fusion alone.
        attend: the attentions alone learn: from the ranking loss, as published, and, where their weights are not 0,
            from what the coarser scale can still tell without the box, and from the size of the box.
        head: heads and fusion only.
    The classification never trains an attention: on training images that a network knows by heart, the best box is all
    of the image.

    Args:
        taxonomy, image_size: see Recognizer.
        backbone: makes a backbone from the side of what it sees.
        head: makes a head for each scale.
        attention: makes an attention for each scale but the last.
        num_scales: 2 or more.
        crop_size: side, in pixels, at which the finer scales see; by default image_size.
        share_backbone: whether one backbone serves all scales, or each has its own, as published.
        fusion: `descriptors` classifies the scales' embeddings side by side, each of length 1, as published; `average`
            is the mean of the scales' probabilities.
        crop: the gradient reaches the box through the `mask` of `regions.boxcar`, as published, or through the
            `sampler`.
        sharpness: slope of the edges of the mask and of what is painted over, per side of the image.
        margin: of the ranking loss.
        rank_on: see `ranking_loss`.
        rank_weight: of the ranking loss.
        erase_weight: of the true class's log-probability when the box is painted over: what lies outside the box
            should tell nothing. Alone it asks for the largest box; it needs
        shrink_weight: of the mean side of the box.

    Raises:
        UsageError: fewer than two scales, a size or sharpness that means nothing, or a shared backbone that sees images
            of one size only.
    """

    phases = ("all", "head", "locate", "recognise", "refine", "attend")

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        backbone: BackboneFactory = Backbone,
        head: HeadFactory = LinearHead,
        attention: AttentionFactory = APN,
        num_scales: int = 2,
        crop_size: int | None = None,
        share_backbone: bool = False,
        fusion: Literal["descriptors", "average"] = "descriptors",
        crop: Literal["mask", "sampler"] = "sampler",
        sharpness: float = 90.0,
        margin: float = 0.05,
        rank_on: Literal["probability", "log_probability"] = "probability",
        rank_weight: float = 1.0,
        erase_weight: float = 0.0,
        shrink_weight: float = 0.0,
    ) -> None:
        super().__init__(taxonomy, image_size)
        if num_scales < 2:
            raise UsageError(f"RACNN: num_scales {num_scales}; it looks closer at least once, so give 2 or more")
        if (crop_size is not None and crop_size < 1) or sharpness <= 0:
            raise UsageError(f"RACNN: crop_size {crop_size} must be 1 or more, sharpness {sharpness} above 0")
        self.crop_size = crop_size or image_size
        self.scales, self.attentions = nn.ModuleList(), nn.ModuleList()
        for number in range(num_scales):
            own = number == 0 or not share_backbone
            trunk: Any = backbone(self.crop_size if number else image_size) if own else self._trunk(0)
            if not own:
                trunk.check_side(self.crop_size)
            self.scales.append(Scale(head(taxonomy, trunk), trunk if own else None))
            if number < num_scales - 1:
                self.attentions.append(attention(trunk))
        self.margin, self.rank_on = margin, rank_on
        self.weights = {"rank": rank_weight, "erase": erase_weight, "shrink": shrink_weight}
        self.crop, self.sharpness = crop, sharpness
        width = sum(scale.head.embedding_size for scale in self.scales)  # type: ignore[union-attr, misc]
        self.fusion = nn.Linear(width, taxonomy.num_classes) if fusion == "descriptors" else None

    def forward(self, images: Tensor) -> Closer:
        """Images (N, 3, S, S) -> Closer, whose views are scale1, scale2 ... and fused."""
        seen, frame = downscale(images, self.image_size), whole(images)
        views: dict[str, Prediction] = {}
        steps: list[Step] = []
        for number in range(len(self.scales)):
            features = self._trunk(number)(seen)
            views[f"scale{number + 1}"] = view = self._head(number)(features)
            view.boxes = frame
            if number < len(self.attentions):
                steps.append(self._step(number, seen, features.map.detach()))
                box = steps[-1].box if self.phase == "attend" else steps[-1].box.detach()
                frame = within(box[:, None], frame[:, 0])
                seen = crop_and_resize(images, frame, self.crop_size, self._mask())[:, 0]
        return self._fused(views, steps)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms of the phase; labels (N,) int64 node ids."""
        if self.phase == "attend":
            return self._attention_loss(prediction, labels)
        terms: dict[str, Tensor] = {}
        if self.phase in ("all", "refine", "locate"):
            steps = prediction.steps if isinstance(prediction, Closer) else []
            terms = {f"locate{i + 1}": step.start for i, step in enumerate(steps) if step.start is not None}
        for name, view in prediction.views.items() if self.phase != "locate" else ():
            terms |= {f"{name}_{term}": value for term, value in self._view_loss(name, view, labels).items()}
        return terms

    def measures(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the ranking loss of each step closer; labels (N,) int64 node ids."""
        level = self.taxonomy.leaf_level
        targets = self.taxonomy.targets(labels, level)
        logits = [view.logits[level] for name, view in prediction.views.items() if name != "fused"]
        return {
            f"rank{i + 1}": ranking_loss(logits[i], logits[i + 1], targets, self.margin, self.rank_on)
            for i in range(len(logits) - 1)
        }

    def _attention_loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        level = self.taxonomy.leaf_level
        targets = self.taxonomy.targets(labels, level)
        terms = {
            n: self.weights["rank"] * v for n, v in self.measures(prediction, labels).items() if self.weights["rank"]
        }
        for i, step in enumerate(prediction.steps if isinstance(prediction, Closer) else []):
            if step.erased is not None:
                terms[f"erase{i + 1}"] = self.weights["erase"] * evidence(step.erased.logits[level], targets)
            if self.weights["shrink"]:
                terms[f"shrink{i + 1}"] = self.weights["shrink"] * (step.box[:, 2:] - step.box[:, :2]).mean()
        return terms

    def _step(self, number: int, seen: Tensor, looked: Tensor) -> Step:
        """Decide where to look closer, from what a scale sees (N, 3, s, s) and its map (N, C, h, w)."""
        attention: Any = self.attentions[number]
        box = attention(looked)
        erased = None
        if self.weights["erase"] and self.phase == "attend":
            trunk = self._trunk(number)
            erased = self._head(number)(trunk(erase(seen, box, trunk.mean, self.sharpness)))
        follows = self.phase == "locate" or (self.training and self.phase in ("all", "refine"))
        return Step(box, attention.start_loss(box, looked) if follows else None, erased)

    def _mask(self) -> float | None:
        return self.sharpness if self.crop == "mask" else None

    def check_phase(self, phase: str) -> None:
        """Raise UsageError for a phase that the recognizer does not know, or in which nothing would be learnt."""
        super().check_phase(phase)
        if phase in ("locate", "attend") and not any(True for _ in self.attentions.parameters()):
            raise UsageError(
                f"phase {phase!r}: {type(self.attentions[0]).__name__} learns nothing; leave the phase out"
            )
        if phase == "attend" and not any(self.weights.values()):
            raise UsageError("phase 'attend': rank_weight, erase_weight and shrink_weight are all 0; nothing to learn")
        if phase == "refine" and self.scales[-1].backbone is None:
            raise UsageError("phase 'refine': the scales share one backbone, so none can stand still; use 'recognise'")

    def frozen(self, phase: str) -> Iterator[nn.Module]:
        """Iterate over the modules that stand still in a phase."""
        if phase in ("locate", "attend"):
            yield self.scales
            if self.fusion is not None:
                yield self.fusion
        elif phase in ("recognise", "head"):
            yield self.attentions
        if phase == "refine":
            yield self.scales[0]
        yield from super().frozen(phase)

    def _fused(self, views: dict[str, Prediction], steps: list[Step]) -> Closer:
        scales, level = list(views.values()), self.taxonomy.leaf_level
        embedding = torch.cat([normalize(view.embedding.float()) for view in scales], dim=1)
        logits = mean_probability(scales)
        if self.fusion is not None:
            side_by_side = FUSION_SCALE * embedding.detach().to(self.fusion.weight.dtype)
            logits = {**logits, level: self.fusion(side_by_side)}
        boxes = torch.cat([view.boxes for view in scales[1:] if view.boxes is not None], dim=1)
        return Closer(logits, embedding, boxes, {**views, "fused": Prediction(logits, embedding)}, steps)

    def _view_loss(self, name: str, view: Prediction, labels: Tensor) -> dict[str, Tensor]:
        if name != "fused":
            return self._head(int(name.removeprefix("scale")) - 1).loss(view, labels)  # type: ignore[no-any-return]
        if self.fusion is None:
            return {}
        level, head = self.taxonomy.leaf_level, self._head(0)
        logits = view.logits[level] + head.log_prior if self.training else view.logits[level]
        return {"classes": node_loss(logits, labels, self.taxonomy, head.label_smoothing)}

    def _trunk(self, number: int) -> Any:
        own, first = (self.scales[i].backbone for i in (number, 0))
        return first if own is None else own

    def _head(self, number: int) -> Any:
        return self.scales[number].head
