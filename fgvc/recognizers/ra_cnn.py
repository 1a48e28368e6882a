"""RA-CNN: look at the whole image, decide where to look closer, look again.

Shape letters: N images, S side of the source image, K leaves, D width of an embedding, C channels, h, w grid of a map.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fgvc.attention.apn import APN
from fgvc.attention.base import AttentionFactory
from fgvc.backbone import Backbone
from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.heads.base import class_loss
from fgvc.heads.linear import LinearHead
from fgvc.recognizers.base import BackboneFactory, HeadFactory, Recognizer, Scale
from fgvc.regions import crop_and_resize, downscale, whole, within
from fgvc.taxonomy import Taxonomy

RANKS = {"probability": torch.exp, "log_probability": lambda scores: scores}


def ranking_loss(coarse: Tensor, fine: Tensor, targets: Tensor, margin: float, on: str = "probability") -> Tensor:
    """Return the mean of max(0, p_coarse - p_fine + margin) over images whose class is known; 0 where none is.

    The coarse scale is detached: the loss cannot fall because the coarse scale gets worse.

    Args:
        coarse, fine: (N, K) logits of two scales.
        targets: (N,) int64; -1 is unknown.
        margin: by how much the finer scale is to be better.
        on: compare `probability` (of the true class), as published, or `log_probability`, whose gradient does not
            vanish where an image is wrong or all but right.
    """
    known = targets >= 0
    place = targets.clamp_min(0)[:, None]
    before, after = (RANKS[on](x.float().log_softmax(dim=1).gather(1, place)[:, 0]) for x in (coarse.detach(), fine))
    return ((before - after + margin).clamp_min(0) * known).sum() / known.sum().clamp_min(1)


@dataclass
class Closer(Prediction):
    """A prediction that remembers what its loss needs.

    starts: for each step closer, how far its box lies from where learning starts, (); None where nothing is learnt.
    """

    starts: list[Tensor | None] = field(default_factory=list)


class RACNN(Recognizer):
    """Recurrent attention: each scale sees the part of the image that the attention of the scale before chose.

    Jianlong Fu, Heliang Zheng, Tao Mei, "Look Closer to See Better: Recurrent Attention Convolutional Neural Network
    for Fine-grained Image Recognition", CVPR 2017.

    Phases, for PhaseSchedule:
        locate: the attentions alone learn where to start (their `start_loss`).
        recognise: backbones, heads and fusion learn to classify; the attentions stand still.
        refine: the same, but the first scale stands still too, at a quarter of its cost.
        attend: the attentions alone learn from the ranking loss.
        all: everything at once. head: heads and fusion only.

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
        sharpness: slope of the mask, per side of the image.
        margin: of the ranking loss.
        rank_on: see `ranking_loss`.

    Raises:
        UsageError: fewer than two scales.
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
        crop: Literal["mask", "sampler"] = "mask",
        sharpness: float = 90.0,
        margin: float = 0.05,
        rank_on: Literal["probability", "log_probability"] = "probability",
    ) -> None:
        super().__init__(taxonomy, image_size)
        if num_scales < 2:
            raise UsageError(f"RACNN: num_scales {num_scales}; it looks closer at least once, so give 2 or more")
        self.crop_size = crop_size or image_size
        self.scales, self.attentions = nn.ModuleList(), nn.ModuleList()
        for number in range(num_scales):
            own = number == 0 or not share_backbone
            trunk: Any = backbone(self.crop_size if number else image_size) if own else self._trunk(0)
            self.scales.append(Scale(head(taxonomy, trunk), trunk if own else None))
            if number < num_scales - 1:
                self.attentions.append(attention(trunk))
        self.margin, self.rank_on = margin, rank_on
        self.sharpness = sharpness if crop == "mask" else None
        width = sum(scale.head.embedding_size for scale in self.scales)  # type: ignore[union-attr, misc]
        self.fusion = nn.Linear(width, taxonomy.num_classes) if fusion == "descriptors" else None

    def forward(self, images: Tensor) -> Closer:
        """Images (N, 3, S, S) -> Closer, whose views are scale1, scale2 ... and fused."""
        seen, frame = downscale(images, self.image_size), whole(images)
        views: dict[str, Prediction] = {}
        starts: list[Tensor | None] = []
        for number in range(len(self.scales)):
            features = self._trunk(number)(seen)
            views[f"scale{number + 1}"] = view = self._head(number)(features)
            view.boxes = frame
            if number < len(self.attentions):
                attention: Any = self.attentions[number]
                looked = features.map.detach()
                box = attention(looked)
                starts.append(attention.start_loss(box, looked))
                frame = within(box[:, None], frame[:, 0])
                seen = crop_and_resize(images, frame, self.crop_size, self.sharpness)[:, 0]
        return self._fused(views, starts)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms of the phase; labels (N,) int64 node ids."""
        terms: dict[str, Tensor] = {}
        if self.phase == "locate":
            starts = prediction.starts if isinstance(prediction, Closer) else []
            return {f"locate{i + 1}": start for i, start in enumerate(starts) if start is not None}
        if self.phase != "attend":
            for name, view in prediction.views.items():
                terms |= {f"{name}_{term}": value for term, value in self._view_loss(name, view, labels).items()}
        if self.phase in ("attend", "all"):
            terms |= self.measures(prediction, labels)
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

    def check_phase(self, phase: str) -> None:
        """Raise UsageError for a phase that the recognizer does not know, or in which nothing would be learnt."""
        super().check_phase(phase)
        if phase in ("locate", "attend") and not any(True for _ in self.attentions.parameters()):
            raise UsageError(f"phase {phase!r}: {type(self.attentions[0]).__name__} learns nothing; leave the phase out")
        if phase == "refine" and self.scales[-1].backbone is None:
            raise UsageError("phase 'refine': the scales share one backbone, so none can stand still; use 'recognise'")

    def frozen(self, phase: str) -> Iterator[nn.Module]:
        """Iterate over the modules that stand still in a phase."""
        if phase in ("locate", "attend"):
            yield self.scales
            if self.fusion is not None:
                yield self.fusion
        elif phase in ("recognise", "refine", "head"):
            yield self.attentions
        if phase == "refine":
            yield self.scales[0]
        yield from super().frozen(phase)

    def _fused(self, views: dict[str, Prediction], starts: list[Tensor | None]) -> Closer:
        scales, level = list(views.values()), self.taxonomy.leaf_level
        embedding = torch.cat([normalize(view.embedding.float()) for view in scales], dim=1)
        if self.fusion is not None:
            logits = {level: self.fusion(embedding.detach())}
        else:
            logits = {name: _mean_probability([view.logits[name] for view in scales]) for name in scales[0].logits}
        boxes = torch.cat([view.boxes for view in scales[1:] if view.boxes is not None], dim=1)
        return Closer(logits, embedding, boxes, {**views, "fused": Prediction(logits, embedding)}, starts)

    def _view_loss(self, name: str, view: Prediction, labels: Tensor) -> dict[str, Tensor]:
        if name != "fused":
            return self._head(int(name.removeprefix("scale")) - 1).loss(view, labels)  # type: ignore[no-any-return]
        if self.fusion is None:
            return {}
        level = self.taxonomy.leaf_level
        smoothing = self._head(0).label_smoothing
        return {"classes": class_loss(view.logits[level], self.taxonomy.targets(labels, level), smoothing)}

    def _trunk(self, number: int) -> Any:
        own, first = (self.scales[i].backbone for i in (number, 0))
        return first if own is None else own

    def _head(self, number: int) -> Any:
        return self.scales[number].head


def _mean_probability(logits: list[Tensor]) -> Tensor:
    """Return the log of the mean softmax of (N, K) logits."""
    return torch.stack([one.float().log_softmax(dim=1) for one in logits]).logsumexp(dim=0) - math.log(len(logits))
