"""Pose-normalised crops: regions are turned and scaled until their points lie where a prototype has them.

Shape letters: N images, R training photographs, S side of the source image, s side of a crop, P body parts, K regions,
M prototypes of a region, J candidates.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fgvc.datatypes import Places, Prediction
from fgvc.errors import UsageError
from fgvc.images.regions import downscale, fitted, whole
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.part_layout import box_around
from fgvc.methods.part_localizer import (
    BIRD_HEAD,
    BIRD_POINTS,
    PartLocalizer,
    PartPrediction,
    head_and_body,
    located_measures,
    own_prediction,
)
from fgvc.methods.part_views import Fusion, PartViews
from fgvc.methods.recognizers.base import (
    LOCATING,
    BackboneFactory,
    HeadFactory,
    PhasePlan,
    Recognizer,
    closer_backbone,
    mean_probability,
)
from fgvc.methods.similarity import fitted_similarity, frames_of, misfit, warped
from fgvc.taxonomy.tree import Taxonomy

REGIONS = ("object", "head", "body")
SHORTEST, LONGEST = 0.1, 1.5
"""Sides that a crop may show, as fractions of the image."""

UNCOVERED = 0.1
"""The cost of a photograph's point that a prototype lacks, beside squares of distances as fractions of a crop."""

MOST_CANDIDATES = 100


def prototype_frames(points: Tensor, margin: float) -> Tensor:
    """Return (R, P, 2): points (R, P, 2) as fractions of the square around them, which has a margin; NaN stays NaN."""
    boxes = box_around(points)
    middle, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True)
    side = (side * (1 + 2 * margin)).clamp_min(1e-3)
    return (points - (middle - side / 2)[:, None]) / side[:, None]


def costs(shapes: Tensor, candidates: Tensor) -> Tensor:
    """Return (R, J): how badly a candidate fits a shape.

    The mean square of what the best similarity transform onto the candidate leaves, over the points that both have, at
    most 1, and `UNCOVERED` times the share of the shape's points that the candidate lacks.

    Args:
        shapes: (R, P, 2), NaN where a point is hidden.
        candidates: (J, P, 2), the same as fractions of a crop.
    """
    seen, has = ~shapes.isnan().any(dim=2), ~candidates.isnan().any(dim=2)
    both = seen[:, None] & has
    left = misfit(shapes[:, None].nan_to_num(), candidates.nan_to_num(), both.float()).clamp_max(1.0)
    lacking = (seen[:, None] & ~has).sum(dim=2) / seen.sum(dim=1, keepdim=True).clamp_min(1)
    return left + UNCOVERED * lacking


def chosen_prototypes(cost: Tensor, number: int) -> list[int]:
    """Return up to M candidates, one after the other the one that lowers the sum of each shape's least cost most.

    The greedy way to place facilities, of which Branson and others say how prototypes are learnt.

    Args:
        cost: (R, J).
        number: M.
    """
    least = torch.full_like(cost[:, 0], torch.inf)
    chosen: list[int] = []
    for _ in range(min(number, cost.shape[1])):
        sums = torch.minimum(least[:, None], cost).sum(dim=0)
        sums[chosen] = torch.inf
        chosen.append(int(sums.argmin()))
        least = torch.minimum(least, cost[:, chosen[-1]])
    return chosen


class PoseNormalised(Recognizer):
    """Object, head and body are brought into a pose of the training photographs, and classified with the whole image.

    Steve Branson, Grant Van Horn, Serge Belongie, Pietro Perona, "Bird Species Categorization Using Pose Normalized
    Deep Convolutional Nets", BMVC 2014. Prototypes of a region are training photographs, chosen without labels so that
    each photograph's points fit one of them after a similarity transform. A region of an image is warped to the one
    that its points fit best, and is described by two layers. What differs: the points are the localizer's, weighed by
    how sure it is to see them; one network is trained as a whole; a linear layer takes the place of the SVM; the whole
    image is a view too.

    Boxes and points of training photographs are learnt from. In evaluation no annotation changes an answer.

    Phases: those of PartRCNN: `all`, `head`, and `locate`, in which no crops are seen.

    Args:
        taxonomy, image_size: see Recognizer.
        backbone: makes a backbone from the side of what it sees.
        head: makes a head for the whole image and for each of object, head and body.
        points, head_points: see PartRCNN; the region of the object has all points.
        num_prototypes: M of each region.
        layers: `both` describes a crop by the last map and by an earlier one (see `Backbone.keep_earlier`), `last` by
            the last alone.
        crop_size, share_backbone, learn_from, upper_bound, localizer_channels, localizer_weight: see PartRCNN.
        fusion: see PartViews; two layers need `descriptors`.
        margin: of a prototype's crop around its points, as a share of their extent, on each side.

    Raises:
        UsageError: a head point that is none of the points, no body point, two layers without descriptors, a network
            without an earlier map, or a setting outside its range.
    """

    phases: ClassVar[Mapping[str, PhasePlan]] = LOCATING
    parts = REGIONS

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        backbone: BackboneFactory = Backbone,
        head: HeadFactory = LinearHead,
        points: list[str] = list(BIRD_POINTS),  # noqa: B006 - read only
        head_points: list[str] = list(BIRD_HEAD),  # noqa: B006 - read only
        num_prototypes: int = 4,
        layers: Literal["both", "last"] = "both",
        crop_size: int | None = None,
        share_backbone: bool = True,
        fusion: Fusion = "descriptors",
        margin: float = 0.2,
        learn_from: Literal["predicted", "annotated"] = "annotated",
        upper_bound: bool = False,
        localizer_channels: int = 128,
        localizer_weight: float = 1.0,
    ) -> None:
        super().__init__(taxonomy, image_size)
        if min(margin, localizer_weight) < 0 or num_prototypes < 1:
            raise UsageError(
                f"PoseNormalised: num_prototypes {num_prototypes} must be 1 or more, margin {margin} and "
                f"localizer_weight {localizer_weight} not negative"
            )
        if layers == "both" and fusion != "descriptors":
            raise UsageError("PoseNormalised: layers: both are joined in `fusion: descriptors`; or give layers: last")
        self.points = tuple(points)
        self._rows = {"object": list(range(len(points))), **head_and_body(points, head_points, type(self).__name__)}
        self.crop_size, self.margin, self.layers = crop_size or image_size, margin, layers
        self.learn_from, self.upper_bound, self.localizer_weight = learn_from, upper_bound, localizer_weight
        self.backbone = backbone(image_size)
        closer = closer_backbone(self.backbone, backbone, self.crop_size, share_backbone)
        extra = (closer or self.backbone).keep_earlier() if layers == "both" else 0
        self.localizer = PartLocalizer(self.backbone.channels, points, localizer_channels)
        self.views = PartViews(taxonomy, head, self.backbone, closer, REGIONS, fusion, extra)
        self.register_buffer("prototypes", torch.zeros(len(REGIONS), num_prototypes, len(points), 2))
        self.register_buffer("in_prototype", torch.zeros(len(REGIONS), num_prototypes, len(points), dtype=torch.bool))
        self.prototypes: Tensor
        self.in_prototype: Tensor

    def set_places(self, places: Places) -> None:
        """Choose the prototypes among the places of training photographs, points (R, P, 2)."""
        for number, region in enumerate(REGIONS):
            shapes = self._region(places.points, region)
            shapes = shapes[(~shapes.isnan().any(dim=2)).sum(dim=1) >= 2]
            if not len(shapes):
                continue
            few = torch.linspace(0, len(shapes) - 1, min(MOST_CANDIDATES, len(shapes))).round().long()
            candidates = prototype_frames(shapes[few], self.margin)
            best = chosen_prototypes(costs(shapes, candidates), self.prototypes.shape[1])
            device = self.prototypes.device
            self.in_prototype[number] = False
            self.in_prototype[number, : len(best)] = ~candidates[best].isnan().any(dim=2).to(device)
            self.prototypes[number, : len(best)] = candidates[best].nan_to_num().to(device)

    def forward(self, images: Tensor, places: Places | None = None) -> PartPrediction:
        """Images (N, 3, S, S) -> PartPrediction, whose views are whole, object, head, body.

        boxes: (N, 3, 4), around what the crops show; the crops themselves may be turned.
        """
        features = self.backbone(downscale(images, self.image_size))
        located = self.localizer(features.map)
        seen = located.detached()
        predicted = self._poses(seen.points, seen.visible.sigmoid().clamp_min(0.01))
        poses = self._told(predicted, places) if self.training and self.learn_from == "annotated" else predicted
        views = {"whole": self.views.whole(features)}
        views["whole"].boxes = whole(images)
        extra: list[Tensor] = []
        if not (self.training and self.phase == "locate"):
            more, extra = self._look(images, poses)
            views |= more
        answer = self.views.joined(views, mean_probability(list(views.values())), extra)
        if self.upper_bound and not self.training and places is not None:
            views["annotated"] = self._annotated(images, self._told(predicted, places), views["whole"])
        return PartPrediction(
            answer.logits,
            answer.embedding,
            frames_of(*poses),
            views,
            points=seen.seen_points(),
            located=located,
            places=places,
        )

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms of the phase; labels (N,) int64 node ids. Without annotations, those of the classes alone.

        Raises:
            TypeError: the prediction is not this recognizer's.
        """
        seen = own_prediction(prediction, PartPrediction, type(self).__name__)
        terms = self.views.loss(seen.views, seen, labels)
        if "locate" in self.plan.terms:
            terms |= self.localizer.terms(seen, self.localizer_weight)
        return terms

    def measures(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return `pck` and `object_iou`, see `located_measures`."""
        seen = own_prediction(prediction, PartPrediction, type(self).__name__)
        return located_measures(seen.located, seen.places)

    def _region(self, points: Tensor, region: str) -> Tensor:
        """Return points (..., P, 2), NaN where they belong to another region."""
        other = torch.ones(len(self.points), dtype=torch.bool, device=points.device)
        other[self._rows[region]] = False
        return points.masked_fill(other[:, None], torch.nan)

    def _poses(self, points: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return a, b (N, 3, 2) from crop to image, see `warped`, from points (N, P, 2) and their weights (N, P).

        Of a region's prototypes the one is taken that leaves least once the points are moved onto it.
        """
        found = []
        rows = torch.arange(len(points), device=points.device)
        for prototypes, has in zip(self.prototypes, self.in_prototype, strict=True):
            every = weights[:, None] * has  # (N, M, P)
            best = misfit(points[:, None], prototypes, every).argmin(dim=1)
            found.append(fitted_similarity(prototypes[best], points, every[rows, best], SHORTEST, LONGEST))
        return torch.stack([a for a, _ in found], dim=1), torch.stack([b for _, b in found], dim=1)

    def _told(self, predicted: tuple[Tensor, Tensor], places: Places | None) -> tuple[Tensor, Tensor]:
        """Return the poses a, b (N, 3, 2), from the annotated points of regions that have two in their place."""
        if places is None:
            return predicted
        known = ~places.points.isnan().any(dim=2)
        enough = torch.stack([known[:, self._rows[region]].sum(dim=1) >= 2 for region in REGIONS], dim=1)[..., None]
        told = self._poses(places.points.nan_to_num(), known.float())
        return torch.where(enough, told[0], predicted[0]), torch.where(enough, told[1], predicted[1])

    def _look(self, images: Tensor, poses: tuple[Tensor, Tensor]) -> tuple[dict[str, Prediction], list[Tensor]]:
        """Return the views of the crops, and what their earlier layer says, (N, C') each."""
        crops = warped(images, *poses, self.crop_size)
        views, features = self.views.crops(crops, fitted(frames_of(*poses)))
        extra = [one.earlier.mean(dim=(2, 3)) for one in features if one.earlier is not None]
        return views, extra if self.layers == "both" else []

    def _annotated(self, images: Tensor, poses: tuple[Tensor, Tensor], whole_view: Prediction) -> Prediction:
        more, extra = self._look(images, poses)
        views = {"whole": whole_view, **more}
        return self.views.joined(views, mean_probability(list(views.values())), extra)
