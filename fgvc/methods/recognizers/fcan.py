"""FCAN: draw where to look closer from a map of probabilities, and reward the places that helped.

Shape letters: N images, S side of the source image, P parts, K places drawn per image and part, M = N K rows with the
draws of an image side by side, L leaves, D width of an embedding, C channels, h, w grid of the map.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.images.regions import centred_boxes, crop_and_resize, downscale, inside, whole
from fgvc.methods.backbone import Backbone
from fgvc.methods.cells import EVEN, Cells
from fgvc.methods.features import Features
from fgvc.methods.heads.base import Head
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.module_list import ModuleListOf
from fgvc.methods.recognizers.base import (
    PRETRAINED,
    BackboneFactory,
    HeadFactory,
    PhasePlan,
    Recognizer,
    closer_backbone,
    mean_probability,
)
from fgvc.methods.targets import mean_of_known
from fgvc.taxonomy.tree import Taxonomy

BASELINE_MOMENTUM = 0.9  # of the running mean of the rewards, per step


def cell_points(cells: Tensor, height: int, width: int, where: Cells = EVEN) -> Tensor:
    """Return (..., 2): the centres of the cells (...) of a grid in reading order, as fractions of the image."""
    row, column = cells.div(width, rounding_mode="floor"), cells % width
    return torch.stack([where.points((one + 0.5) / n, n) for one, n in ((column, width), (row, height))], dim=-1)


def greedy_rewards(scores: Tensor, targets: Tensor) -> Tensor:
    """Return (M, P): 1 where a part is right and, after the first, has a lower cross-entropy than the part before.

    scores: (M, P, L) logits of the parts 1 .. P. targets: (M,) int64; where they are -1, the rewards mean nothing.
    """
    scores = scores.detach().float().log_softmax(dim=2)
    places = targets.clamp_min(0)[:, None].expand(scores.shape[:2])
    hits = scores.gather(2, places[..., None])[..., 0]
    better = torch.ones_like(hits, dtype=torch.bool)
    better[:, 1:] = hits[:, 1:] > hits[:, :-1]
    return ((scores.argmax(dim=2) == places) & better).float()


def likelihood_rewards(scores: Tensor, targets: Tensor) -> Tensor:
    """Return (M, P): each part's log-probability of the true class; not in the paper. See `greedy_rewards`."""
    places = targets.clamp_min(0)[:, None, None].expand(-1, scores.shape[1], 1)
    return scores.detach().float().log_softmax(dim=2).gather(2, places)[..., 0]


def policy_loss(log_chances: Tensor, rewards: Tensor, baseline: Tensor, known: Tensor) -> Tensor:
    """Return -sum over parts of (r - b) log pi, as a mean over known rows; its gradient is REINFORCE's.

    log_chances: (M, P) log pi of what was drawn. rewards: (M, P). baseline: b, (P,) or (M, P). known: (M,) bool.
    """
    return -mean_of_known((rewards - baseline) * log_chances, known).sum()


def entropies(maps: Tensor) -> Tensor:
    """Return (N, P): the entropy, in nats, of maps (N, P, h, w) of log-probabilities."""
    return -(maps.exp() * maps).sum(dim=(2, 3))


def trespass(maps: Tensor, boxes: Tensor, where: Cells = EVEN) -> Tensor:
    """Return () the probability to draw a cell in the box of a part before: summed over parts, the mean over images.

    maps: (N, P, h, w) of log pi. boxes: (N, P, 4). where: the cells lie.
    """
    height, width = maps.shape[2:]
    points = cell_points(torch.arange(height * width, device=maps.device), height, width, where)
    shares = (maps.exp().flatten(2)[:, :, None] * inside(points, boxes)[:, None]).sum(dim=3)  # (N, part, window)
    return shares.tril(-1).sum(dim=(1, 2)).mean()


def part_attention(channels: int) -> nn.Module:
    """Return the layers that score each cell of a map: (N, C, h, w) -> (N, 1, h, w)."""
    return nn.Sequential(nn.Conv2d(channels, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 1, 1))


@dataclass
class Glimpses(Prediction):
    """A prediction of FCAN, with what its loss needs.

    boxes: (N, P, 4), where each part looked; its first draw while training.
    maps: (N, P, h, w) log pi of every cell.
    drawn: (M, P) log pi of the cells that were drawn; None where the most likely ones were taken.
    parts: the P answers to all draws, M rows each.
    """

    boxes: Tensor = field(kw_only=True)
    maps: Tensor = field(kw_only=True)
    drawn: Tensor | None = field(kw_only=True)
    parts: list[Prediction] = field(kw_only=True)


class FCAN(Recognizer):
    """Fully convolutional attention: each part has a map of probabilities and looks at a place drawn from it.

    Xiao Liu, Tian Xia, Jiang Wang, Yi Yang, Feng Zhou, Yuanqing Lin, "Fully Convolutional Attention Networks for
    Fine-Grained Recognition", 2016. The glimpse of a part has a fixed size. The answer is the mean softmax of the whole
    image and the parts. In evaluation a part looks at its most likely cell. The gradient reaches the attentions only
    through log pi.

    Phases:
        all: everything learns.
        head: only the heads learn.
        recognise: backbones and heads learn, on glimpses that are drawn; the attentions stand still.
        attend: only the attentions learn, from the policy term.

    The kinds of terms: `classes` are those of the heads, `policy` is the policy term with its bonus and its penalty.

    Args:
        taxonomy, image_size: see Recognizer.
        backbone: makes a backbone from the side of what it sees.
        head: makes a head for the whole image and for each part.
        part_sizes: side of each part's glimpse as a fraction of the image, largest first.
        crop_size: side, in pixels, at which glimpses are seen; by default image_size.
        share_backbone: whether the backbone of the whole image reads the glimpses too, as published, or a second one.
        num_samples: K, places drawn per image and part while training. The baseline of a reward is the part's running
            mean if K is 1, else the mean over an image's draws; that includes the draw itself, so the gradient is
            (K - 1) / K of the full one.
        reward: `greedy`, 0 or 1, as published, or `log_probability` of the true class, which also tells apart places
            where a part is wrong; see docs/results/fcan.md.
        policy_weight: of the policy term; under Adam or AdamW it matters only relative to one of the next two.
        entropy_weight: of a bonus on each map's entropy; not in the paper.
        diversity_weight: of a penalty on the probability to look where a part before it looked; not in the paper.
        true_places: whether a cell lies where the network looks, see `Backbone.cells`. Off: the cells are the places to
            choose from, and moved by half a cell those of a small map leave an edge of the image out.

    Raises:
        UsageError: sizes outside (0, 1] or not largest first, or no sample.
    """

    phases: ClassVar[Mapping[str, PhasePlan]] = {
        "all": PhasePlan(terms=("classes", "policy")),
        "head": PhasePlan(still=("attentions", *PRETRAINED)),
        "recognise": PhasePlan(still=("attentions",)),
        "attend": PhasePlan(terms=("policy",), still=("heads", Backbone)),
    }
    heads_plan = PhasePlan(terms=("classes", "policy"))  # the running baseline goes on, though no attention learns

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        backbone: BackboneFactory = Backbone,
        head: HeadFactory = LinearHead,
        part_sizes: list[float] = [0.5, 0.25],  # noqa: B006 - read only
        crop_size: int | None = None,
        share_backbone: bool = True,
        num_samples: int = 1,
        policy_weight: float = 1.0,
        entropy_weight: float = 0.0,
        diversity_weight: float = 0.0,
        true_places: bool = False,
        reward: Literal["greedy", "log_probability"] = "greedy",
    ) -> None:
        super().__init__(taxonomy, image_size)
        sizes = sorted(part_sizes, reverse=True)
        if not sizes or sizes != list(part_sizes) or not 0 < sizes[-1] <= sizes[0] <= 1 or num_samples < 1:
            asked = f"part_sizes {part_sizes}, num_samples {num_samples}"
            raise UsageError(f"FCAN: {asked}; give sizes in (0, 1], largest first, and at least 1 sample")
        self.part_sizes, self.crop_size, self.num_samples = part_sizes, crop_size or image_size, num_samples
        self.policy_weight, self.entropy_weight, self.diversity_weight = policy_weight, entropy_weight, diversity_weight
        self.true_places, self.reward = true_places, reward
        self.backbone = backbone(image_size)
        self.closer = closer_backbone(self.backbone, backbone, self.crop_size, share_backbone)
        trunks = [self.backbone] + [self.closer or self.backbone] * len(part_sizes)
        self.heads: ModuleListOf[Head] = ModuleListOf(head(taxonomy, trunk) for trunk in trunks)
        self.attentions = nn.ModuleList(part_attention(self.backbone.channels) for _ in part_sizes)
        self.register_buffer("baseline", torch.zeros(len(part_sizes)))
        self.baseline: Tensor

    def forward(self, images: Tensor) -> Glimpses:
        """Images (N, 3, S, S) -> Glimpses, whose views are whole, part1, part2 ...; boxes (N, P, 4)."""
        features = self.backbone(downscale(images, self.image_size))
        maps = self._maps(features.map.detach())
        cells, drawn = self._choose(maps)
        height, width = maps.shape[2:]
        points = cell_points(cells, height, width, self._where())
        boxes = torch.stack([centred_boxes(points[:, i], side) for i, side in enumerate(self.part_sizes)], dim=1)
        parts = self._look(images, boxes)
        views = {"whole": replace(self.heads[0](features), boxes=whole(images))}
        views |= {f"part{i + 1}": _first(part, boxes[:, i, :1]) for i, part in enumerate(parts)}
        logits = mean_probability(list(views.values()))
        embedding = torch.cat([normalize(one.embedding.float()) for one in views.values()], dim=1)
        return Glimpses(logits, embedding, views=views, boxes=boxes[:, :, 0], maps=maps, drawn=drawn, parts=parts)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms of the phase, or those of the classes where it has none; labels (N,) int64 node ids.

        The policy has no terms where nothing was drawn, as in evaluation.

        Raises:
            TypeError: the prediction is not this recognizer's.
        """
        seen = _own(prediction)
        kinds = {"classes": self._class_terms, "policy": self._policy_terms}
        terms = {name: term for kind in self.plan.terms for name, term in kinds[kind](seen, labels).items()}
        return terms or self._class_terms(seen, labels)

    def measures(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return each part's mean reward and the entropy of its map in nats; labels (N,) int64 node ids."""
        seen = _own(prediction)
        means = {"reward": mean_of_known(*self._rewards(seen, labels)), "entropy": entropies(seen.maps).mean(dim=0)}
        return {f"{name}{i + 1}": value for name, values in means.items() for i, value in enumerate(values)}

    def _maps(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> log pi of every cell (N, P, h, w)."""
        scores = torch.cat([attention(features) for attention in self.attentions], dim=1)
        return scores.float().flatten(2).log_softmax(dim=2).reshape(scores.shape)

    def _where(self) -> Cells:
        return self.backbone.cells() if self.true_places else EVEN

    def _choose(self, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Maps (N, P, h, w) -> cells (N, P, K) in reading order, and their log pi (M, P) if they are drawn."""
        flat = maps.flatten(2)
        if not self.training:
            return flat.argmax(dim=2, keepdim=True), None
        cells = torch.multinomial(flat.detach().exp().flatten(0, 1), self.num_samples, replacement=True)
        cells = cells.view(*flat.shape[:2], -1)
        return cells, flat.gather(2, cells).transpose(1, 2).flatten(0, 1)

    def _look(self, images: Tensor, boxes: Tensor) -> list[Prediction]:
        """Images (N, 3, S, S), boxes (N, P, K, 4) -> P answers of M rows."""
        crops = crop_and_resize(images, boxes.flatten(1, 2), self.crop_size).flatten(0, 1)
        features: Features = (self.closer or self.backbone)(crops)

        def by_part(rows: Tensor) -> list[Tensor]:
            return [x.flatten(0, 1) for x in rows.reshape(*boxes.shape[:3], *rows.shape[1:]).unbind(dim=1)]

        fields = [[None] * len(self.part_sizes) if field is None else by_part(field) for field in features]
        return [head(Features(*part)) for head, *part in zip(list(self.heads)[1:], *fields, strict=True)]

    def _class_terms(self, seen: Glimpses, labels: Tensor) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        for view, head, answer in zip(seen.views, self.heads, (seen.views["whole"], *seen.parts), strict=True):
            rows = labels.repeat_interleave(len(answer.embedding) // len(labels))
            terms |= {f"{view}_{name}": term for name, term in head.loss(answer, rows).items()}
        return terms

    def _policy_terms(self, seen: Glimpses, labels: Tensor) -> dict[str, Tensor]:
        if seen.drawn is None:
            return {}
        rewards, known = self._rewards(seen, labels)
        baseline = self._baseline(rewards, known)
        terms = {"policy": self.policy_weight * policy_loss(seen.drawn, rewards, baseline, known)}
        if self.entropy_weight:
            terms["entropy"] = -self.entropy_weight * entropies(seen.maps).sum(dim=1).mean()
        if self.diversity_weight:
            terms["diversity"] = self.diversity_weight * trespass(seen.maps, seen.boxes, self._where())
        return terms

    def _rewards(self, seen: Glimpses, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return rewards (M, P) and known (M,) bool."""
        level = self.taxonomy.leaf_level
        scores = torch.stack([part.logits[level] for part in seen.parts], dim=1)
        targets = self.taxonomy.targets(labels, level).repeat_interleave(len(scores) // len(labels))
        rewards = greedy_rewards if self.reward == "greedy" else likelihood_rewards
        return rewards(scores, targets), targets >= 0

    def _baseline(self, rewards: Tensor, known: Tensor) -> Tensor:
        """Return the baseline of rewards (M, P); they enter the running mean only afterwards."""
        if self.num_samples > 1:
            draws = rewards.view(-1, self.num_samples, rewards.shape[1])
            return draws.mean(dim=1).repeat_interleave(self.num_samples, dim=0)
        before = self.baseline.clone()
        rewards = rewards.to(before.dtype)
        self.baseline.lerp_(mean_of_known(rewards, known), (1 - BASELINE_MOMENTUM) * known.any().float())
        return before


def _own(prediction: Prediction) -> Glimpses:
    if not isinstance(prediction, Glimpses):
        raise TypeError(f"FCAN reads its own Glimpses, not a {type(prediction).__name__}")
    return prediction


def _first(part: Prediction, boxes: Tensor) -> Prediction:
    """Return a part's answer to the first draw of each image: rows M -> N; boxes (N, 1, 4)."""
    step = len(part.embedding) // len(boxes)
    return Prediction({name: rows[::step] for name, rows in part.logits.items()}, part.embedding[::step], boxes)
