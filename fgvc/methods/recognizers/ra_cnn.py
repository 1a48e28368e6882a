"""RA-CNN: look at the whole image, decide where to look closer, look again.

Shape letters: N images, S side of the source image, K leaves, D width of an embedding, C channels, h, w grid of a map.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.images.regions import crop_and_resize, downscale, erase, whole, within
from fgvc.methods.attention.apn import APN
from fgvc.methods.attention.base import Attention, AttentionFactory
from fgvc.methods.attention.objectives import evidence, ranking_loss
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import Head
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.module_list import ModuleListOf
from fgvc.methods.recognizers.base import (
    PRETRAINED,
    BackboneFactory,
    HeadFactory,
    PhasePlan,
    Recognizer,
    mean_probability,
)
from fgvc.taxonomy.tree import Taxonomy

FUSION_SCALE = 16.0
"""Factor on the embeddings of length 1 before their classifier: its weights need not grow for hundreds of steps."""


class Scale(nn.Module):
    """A backbone and its head: what looks at the images of one scale.

    Args:
        head: names what the backbone sees.
        trunk: the backbone.
        owns: whether this scale stores the backbone; a shared one is stored by the first scale alone.
    """

    def __init__(self, head: Head, trunk: Backbone, owns: bool) -> None:
        super().__init__()
        self.head = head
        self.backbone = trunk if owns else None
        self._trunk = (trunk,)  # in a tuple, so that a shared backbone is not stored twice

    @property
    def trunk(self) -> Backbone:
        """The backbone, this scale's own or another's."""
        return self._trunk[0]

    def forward(self, seen: Tensor, frame: Tensor) -> tuple[Prediction, Tensor]:
        """Images (N, 3, s, s) that show the boxes (N, 1, 4) -> their Prediction and map (N, C, h, w)."""
        features = self.trunk(seen)
        view = self.head(features)
        view.boxes = frame
        return view, features.map.detach()


class Step(NamedTuple):
    """What one attention answered, and what the terms of its phase need.

    box: (N, 4), as a fraction of what the coarser scale sees.
    start: () how far the box lies from where learning starts; None where the phase has no `locate` term, or the
        attention learns nothing.
    erased: the coarser scale's answer to its images without the box; None where the phase has no `erase` term.
    """

    box: Tensor
    start: Tensor | None
    erased: Prediction | None


@dataclass
class Closer(Prediction):
    """A prediction of RACNN.

    steps: what each attention answered, for the loss.
    """

    steps: list[Step] = field(default_factory=list)


class RACNN(Recognizer):
    """Recurrent attention: each scale sees the part of the image that the attention of the scale before chose.

    Jianlong Fu, Heliang Zheng, Tao Mei, "Look Closer to See Better: Recurrent Attention Convolutional Neural Network
    for Fine-grained Image Recognition", CVPR 2017.

    Phases:
        all: backbones, heads and fusion learn to classify, while the attentions follow their start (`start_loss`).
        head: only heads and fusion learn.
        locate: only the attentions learn: where to start.
        recognise: backbones, heads and fusion learn; the attentions stand still.
        refine: as `all`, but the first scale stands still and costs a quarter. It must have learnt before.
        attend: only the attentions learn: from the ranking loss, as published, and, where their weights are not 0,
            from what the coarser scale can still tell without the box, and from the size of the box.
    The classification never trains an attention: once a network knows its training images by heart, the best box is
    the whole image.

    The kinds of terms: `locate` is the distance of each box from its start, `classes` are the terms of the heads and of
    the fusion, `rank` is the ranking loss, `box` is the evidence outside each box and the size of the box.

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
            should tell nothing. Alone it asks for the largest box, so it needs a shrink_weight.
        shrink_weight: of the mean side of the box.

    Raises:
        UsageError: fewer than two scales, a size or sharpness that means nothing, or a shared backbone that sees images
            of one size only.
    """

    phases: ClassVar[Mapping[str, PhasePlan]] = {
        "all": PhasePlan(terms=("locate", "classes")),
        "head": PhasePlan(still=("attentions", *PRETRAINED)),
        "locate": PhasePlan(terms=("locate",), still=("scales", "fusion")),
        "recognise": PhasePlan(still=("attentions",)),
        "refine": PhasePlan(terms=("locate", "classes"), still=("scales.0",)),
        "attend": PhasePlan(terms=("rank", "box"), still=("scales", "fusion")),
    }

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
        self.scales: ModuleListOf[Scale] = ModuleListOf()
        self.attentions: ModuleListOf[Attention] = ModuleListOf()
        for number in range(num_scales):
            owns = number == 0 or not share_backbone
            trunk = backbone(self.crop_size if number else image_size) if owns else self.scales[0].trunk
            if not owns:
                trunk.check_side(self.crop_size)
            self.scales.append(Scale(head(taxonomy, trunk), trunk, owns))
            if number < num_scales - 1:
                self.attentions.append(attention(trunk))
        self.margin, self.rank_on = margin, rank_on
        self.weights = {"rank": rank_weight, "erase": erase_weight, "shrink": shrink_weight}
        self.sharpness, self.mask = sharpness, sharpness if crop == "mask" else None
        width = sum(scale.head.embedding_size for scale in self.scales)
        self.fusion = nn.Linear(width, taxonomy.num_classes) if fusion == "descriptors" else None

    def forward(self, images: Tensor) -> Closer:
        """Images (N, 3, S, S) -> Closer, whose views are scale1, scale2 ... and fused."""
        seen, frame = downscale(images, self.image_size), whole(images)
        view, looked = self.scales[0](seen, frame)
        views, steps = [view], []
        for attention, (coarse, fine) in zip(self.attentions, pairwise(self.scales), strict=True):
            steps.append(self._step(coarse, attention, seen, looked))
            frame = within(self._followed(steps[-1].box)[:, None], frame[:, 0])
            seen = crop_and_resize(images, frame, self.crop_size, self.mask)[:, 0]
            view, looked = fine(seen, frame)
            views.append(view)
        return self._fused(views, steps)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms of the phase; labels (N,) int64 node ids."""
        kinds = {
            "locate": self._start_terms,
            "classes": self._class_terms,
            "rank": self._rank_terms,
            "box": self._box_terms,
        }
        return {name: term for kind in self.plan.terms for name, term in kinds[kind](prediction, labels).items()}

    def measures(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the ranking loss of each step closer; labels (N,) int64 node ids."""
        level = self.taxonomy.leaf_level
        targets = self.taxonomy.targets(labels, level)
        logits = [view.logits[level] for name, view in prediction.views.items() if name != "fused"]
        return {
            f"rank{number}": ranking_loss(coarse, fine, targets, self.margin, self.rank_on)
            for number, (coarse, fine) in enumerate(pairwise(logits), start=1)
        }

    def check_phase(self, phase: str) -> None:
        """Raise UsageError for a phase that the recognizer does not know, or in which nothing would be learnt."""
        super().check_phase(phase)
        terms, still = self.phases.get(phase, self.heads_plan)
        if "scales" in still and not any(True for _ in self.attentions.parameters()):
            raise UsageError(
                f"phase {phase!r}: {type(self.attentions[0]).__name__} learns nothing; leave the phase out"
            )
        if "rank" in terms and not any(self.weights.values()):
            raise UsageError(
                f"phase {phase!r}: rank_weight, erase_weight and shrink_weight are all 0; nothing to learn"
            )
        if "scales.0" in still and self.scales[-1].backbone is None:
            raise UsageError(
                f"phase {phase!r}: the scales share one backbone, so none can stand still; use 'recognise'"
            )

    def _step(self, scale: Scale, attention: Attention, seen: Tensor, looked: Tensor) -> Step:
        """Say where to look closer, from the images (N, 3, s, s) and the map (N, C, h, w) of a scale."""
        terms, box = self.plan.terms, attention(looked)
        follows = "locate" in terms and (self.training or "classes" not in terms)
        start = attention.start_loss(box, looked) if follows else None
        erased = None
        if "box" in terms and self.weights["erase"]:
            erased = scale.head(scale.trunk(erase(seen, box, scale.trunk.mean, self.sharpness)))
        return Step(box, start, erased)

    def _followed(self, box: Tensor) -> Tensor:
        """Return the box for the next scale: through it the ranking loss reaches the attention, and no other term."""
        return box if "rank" in self.plan.terms else box.detach()

    def _fused(self, scales: list[Prediction], steps: list[Step]) -> Closer:
        embedding = torch.cat([normalize(view.embedding.float()) for view in scales], dim=1)
        logits = mean_probability(scales)
        if self.fusion is not None:
            side_by_side = FUSION_SCALE * embedding.detach().to(self.fusion.weight.dtype)
            logits = {**logits, self.taxonomy.leaf_level: self.fusion(side_by_side)}
        boxes = torch.cat([view.boxes for view in scales[1:] if view.boxes is not None], dim=1)
        views = {f"scale{number}": view for number, view in enumerate(scales, start=1)}
        return Closer(logits, embedding, boxes, {**views, "fused": Prediction(logits, embedding)}, steps)

    def _start_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        steps = enumerate(_steps(prediction), start=1)
        return {f"locate{number}": step.start for number, step in steps if step.start is not None}

    def _class_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        for number, scale in enumerate(self.scales, start=1):
            own = scale.head.loss(prediction.views[f"scale{number}"], labels)
            terms |= {f"scale{number}_{name}": term for name, term in own.items()}
        if self.fusion is not None:
            head, logits = self.scales[0].head, prediction.views["fused"].logits[self.taxonomy.leaf_level]
            # Not head.adjusted: the first scale may stand still while the fusion learns.
            logits = logits + head.log_prior if self.training else logits
            terms["fused_classes"] = head.leaf_loss(logits, labels)
        return terms

    def _rank_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        weight = self.weights["rank"]
        return {name: weight * term for name, term in self.measures(prediction, labels).items()} if weight else {}

    def _box_terms(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        level, terms = self.taxonomy.leaf_level, {}
        for number, step in enumerate(_steps(prediction), start=1):
            if step.erased is not None:
                left = evidence(step.erased.logits[level], self.taxonomy.targets(labels, level))
                terms[f"erase{number}"] = self.weights["erase"] * left
            if self.weights["shrink"]:
                terms[f"shrink{number}"] = self.weights["shrink"] * (step.box[:, 2:] - step.box[:, :2]).mean()
        return terms


def _steps(prediction: Prediction) -> list[Step]:
    return prediction.steps if isinstance(prediction, Closer) else []
