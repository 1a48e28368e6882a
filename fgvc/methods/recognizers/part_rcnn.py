"""Part R-CNN: find object, head and body, and look at each of them.

Shape letters: N images, R training photographs, S side of the source image, M windows, P body parts, C channels, h, w
grid of the map, H channels of the localizer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, logsigmoid

from fgvc.datatypes import Places, Prediction
from fgvc.errors import UsageError
from fgvc.images.regions import box_iou, crop_and_resize, downscale, fitted, whole
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.module_list import ModuleListOf
from fgvc.methods.part_layout import (
    LayoutPrior,
    best_windows,
    box_around,
    inside_object,
    layouts,
    placed,
    window_labels,
)
from fgvc.methods.part_localizer import (
    BIRD_HEAD,
    BIRD_POINTS,
    Located,
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
from fgvc.taxonomy.tree import Taxonomy

Windows = dict[str, tuple[Tensor, Tensor]]

PARTS = ("head", "body")
SIDE_MIN = 0.1
"""The smallest side of a crop, as a fraction of the image."""

SLACK = 0.1
"""How far a part may leave the box of its object, as a share of the object's sides."""

WINDOW_GRID = 3
"""A detector reads a window at 3 x 3 places, spread over it and a quarter of it around."""


def window_features(features: Tensor, windows: Tensor) -> Tensor:
    """Return (N, M, 9 H): what a map (N, H, h, w) holds at 3 x 3 places of each window (N, M, 4)."""
    steps = torch.linspace(-0.25, 1.25, WINDOW_GRID, device=windows.device)
    x = windows[..., 0, None] + (windows[..., 2] - windows[..., 0])[..., None] * steps
    y = windows[..., 1, None] + (windows[..., 3] - windows[..., 1])[..., None] * steps
    square = (*x.shape, WINDOW_GRID)
    places = torch.stack((x[..., None, :].expand(square), y[..., :, None].expand(square)), dim=-1)  # rows first
    grid = (2 * places - 1).flatten(2, 3)
    found = grid_sample(features.float(), grid, padding_mode="border", align_corners=False)  # (N, H, M, 9)
    return found.permute(0, 2, 3, 1).flatten(2)


@dataclass
class Detected(PartPrediction):
    """A prediction of PartRCNN.

    found: part -> the windows (N, M, 4) among which it was looked for, and the logits (N, M) of its detector.
    taught: the same for the windows that the detectors learn from.
    """

    found: Windows = field(kw_only=True)
    taught: Windows = field(kw_only=True)


class PartRCNN(Recognizer):
    """Object, head and body are found, cropped, and classified together with the whole image.

    Ning Zhang, Jeff Donahue, Ross Girshick, Trevor Darrell, "Part-based R-CNNs for Fine-grained Category Detection",
    ECCV 2014. Head and body are boxes around their annotated points. A detector scores windows; the best one by its
    probability and the geometric prior is the part. What differs: windows are the layouts of training photographs in
    the object's box, and the box around the points that the localizer sees, in place of a selective search; the box
    of the object is the localizer's; detectors read its map in place of a crop each; the whole image is a view too;
    all is trained together; and the prior by nearest neighbours is left out.

    Boxes and points of training photographs are learnt from. In evaluation no annotation changes an answer.

    Phases:
        all: everything learns.
        head: only the heads, the fusion and the localizer learn.
        locate: no crops are seen: the localizer, the detectors, the backbone and the head of the whole image learn.

    Args:
        taxonomy, image_size: see Recognizer.
        backbone: makes a backbone from the side of what it sees.
        head: makes a head for the whole image and for each of object, head and body.
        points: the names of the annotated points, in any order.
        head_points: those of the head; the others are the body's.
        crop_size: side, in pixels, at which crops are seen; by default image_size.
        share_backbone: whether the backbone of the whole image reads the crops too, or a second one.
        fusion: see PartViews.
        prior: `mixture` of Gaussians and the object's box, `box` alone (a part may leave it a little), or `none`.
        prior_strength: alpha.
        margin: share of each side that is added to crops on either side.
        learn_from: whether crops of training images lie where the parts are `predicted` or, as published, `annotated`.
        upper_bound: answer a second time, in the view `annotated`, from crops where the parts are annotated; of
            validation and test only. It is an upper bound: the answer itself never knows.
        localizer_channels: H.
        localizer_weight: of the terms of localizer and detectors.

    Raises:
        UsageError: a head point that is none of the points, no body point, or a negative setting.
    """

    phases: ClassVar[Mapping[str, PhasePlan]] = LOCATING
    heads_plan = PhasePlan(terms=("classes",))
    parts = ("object", *PARTS)

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        backbone: BackboneFactory = Backbone,
        head: HeadFactory = LinearHead,
        points: list[str] = list(BIRD_POINTS),  # noqa: B006 - read only
        head_points: list[str] = list(BIRD_HEAD),  # noqa: B006 - read only
        crop_size: int | None = None,
        share_backbone: bool = True,
        fusion: Fusion = "descriptors",
        prior: Literal["mixture", "box", "none"] = "mixture",
        prior_strength: float = 0.1,
        margin: float = 0.1,
        learn_from: Literal["predicted", "annotated"] = "annotated",
        upper_bound: bool = False,
        localizer_channels: int = 128,
        localizer_weight: float = 1.0,
    ) -> None:
        super().__init__(taxonomy, image_size)
        if min(prior_strength, margin, localizer_weight) < 0:
            raise UsageError("PartRCNN: prior_strength, margin and localizer_weight must not be negative")
        self.points = tuple(points)
        self._rows = head_and_body(points, head_points, type(self).__name__)
        self.crop_size, self.prior, self.prior_strength, self.margin = (
            crop_size or image_size,
            prior,
            prior_strength,
            margin,
        )
        self.learn_from, self.upper_bound, self.localizer_weight = learn_from, upper_bound, localizer_weight
        self.backbone = backbone(image_size)
        closer = closer_backbone(self.backbone, backbone, self.crop_size, share_backbone)
        self.localizer = PartLocalizer(self.backbone.channels, points, localizer_channels)
        self.detectors = nn.ModuleDict({part: nn.Linear(WINDOW_GRID**2 * localizer_channels, 1) for part in PARTS})
        self.priors: ModuleListOf[LayoutPrior] = ModuleListOf(LayoutPrior() for _ in PARTS)
        self.views = PartViews(taxonomy, head, self.backbone, closer, self.parts, fusion)

    def set_places(self, places: Places) -> None:
        """Fit the priors to the places of training photographs: box (R, 4), points (R, P, 2)."""
        for part, prior in zip(PARTS, self.priors, strict=True):
            seen = layouts(self.part_box(places.points, part), places.box)
            prior.fit(seen[seen.isfinite().all(dim=1)])

    def part_box(self, points: Tensor, part: str) -> Tensor:
        """Return (N, 4): the box around the known ones of the points (N, P, 2) of head or body; NaN where none is."""
        return box_around(points[:, self._rows[part]], side_min=SIDE_MIN)

    def forward(self, images: Tensor, places: Places | None = None) -> Detected:
        """Images (N, 3, S, S) -> Detected, whose views are whole, object, head, body; boxes (N, 3, 4)."""
        features = self.backbone(downscale(images, self.image_size))
        located = self.localizer(features.map)
        seen = self.localizer.trunk(features.map)
        found = self._detect(seen, located, located.box.detach())
        taught = dict(found)
        if self.training and places is not None:  # in the annotated box some are right from the start
            known = torch.where(places.box.isnan(), located.box.detach(), places.box)
            for part, extra in self._detect(seen, located, known).items():
                taught[part] = (
                    torch.cat((found[part][0], extra[0]), dim=1),
                    torch.cat((found[part][1], extra[1]), dim=1),
                )
        boxes = self._found(located.detached(), found)
        views = {"whole": self.views.whole(features)}
        views["whole"].boxes = whole(images)
        looks = self._told(boxes, places) if self.training and self.learn_from == "annotated" else boxes
        if not (self.training and self.phase == "locate"):
            views |= self._look(images, looks)
        answer = self.views.joined(views, mean_probability(list(views.values())))
        if self.upper_bound and not self.training and places is not None:
            views["annotated"] = self._annotated(images, self._told(boxes, places), views["whole"])
        return Detected(
            answer.logits,
            answer.embedding,
            fitted(looks, SIDE_MIN, margin=self.margin),
            views,
            points=located.detached().seen_points(),
            located=located,
            places=places,
            found=found,
            taught=taught,
        )

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms of the phase; labels (N,) int64 node ids. Without annotations, those of the classes alone.

        Raises:
            TypeError: the prediction is not this recognizer's.
        """
        seen = own_prediction(prediction, Detected, type(self).__name__)
        terms = self.views.loss(seen.views, seen, labels)
        if "locate" in self.plan.terms and seen.places is not None:
            terms |= self.localizer.terms(seen, self.localizer_weight)
            terms |= {f"detect_{part}": self.localizer_weight * self._detector_loss(seen, part) for part in PARTS}
        return terms

    def measures(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return `pck`, `object_iou`, `pcp_head` and `pcp_body`, each a mean over the images of which it is known.

        Percentage of correct parts, PCP: a part is correct if its box and the annotated one have an IoU of at least 0.5
        (Zhang and others, 2014).
        """
        seen = own_prediction(prediction, Detected, type(self).__name__)
        found = located_measures(seen.located, seen.places)
        if seen.places is None or self.training:  # the crops of a training may be the annotated ones
            return found
        boxes = self._found(seen.located.detached(), seen.found)
        for row, part in enumerate(PARTS, start=1):
            known = self.part_box(seen.places.points, part)
            has_box = ~known.isnan().any(dim=1)
            if has_box.any():
                found[f"pcp_{part}"] = (box_iou(boxes[:, row], known)[has_box] >= 0.5).float().mean()
        return found

    def _detect(self, seen: Tensor, located: Located, objects: Tensor) -> Windows:
        """Return for each part windows (N, M, 4) in the boxes of objects (N, 4), and their logits (N, M).

        seen: (N, H, h, w) the localizer's features.
        """
        points = located.detached().seen_points()
        found: Windows = {}
        for part, prior in zip(PARTS, self.priors, strict=True):
            box = self.part_box(points, part)
            own = torch.where(box.isnan(), objects, box)[:, None]
            windows = torch.cat((own, placed(prior.samples, objects[:, None])), dim=1).clamp(0, 1)
            scores = self.detectors[part](window_features(seen, windows).to(seen.dtype))[..., 0]
            found[part] = (windows, scores.float())
        return found

    def _found(self, located: Located, found: Windows) -> Tensor:
        """Return (N, 3, 4): the boxes of object, head and body."""
        boxes, objects = [located.box], located.box[:, None]
        for part, prior in zip(PARTS, self.priors, strict=True):
            windows, scores = found[part]
            likely = torch.zeros_like(scores)
            if self.prior == "mixture":
                likely = prior.log_density(layouts(windows, objects))
            allowed = inside_object(windows, objects, SLACK) | (self.prior == "none")
            best = best_windows(logsigmoid(scores.detach()), likely, allowed, self.prior_strength)
            boxes.append(windows[torch.arange(len(windows), device=windows.device), best])
        return torch.stack(boxes, dim=1)

    def _told(self, boxes: Tensor, places: Places | None) -> Tensor:
        """Return the boxes (N, 3, 4), those that are annotated in their place."""
        if places is None:
            return boxes
        known = torch.stack((places.box, *(self.part_box(places.points, part) for part in PARTS)), dim=1)
        return torch.where(known.isnan(), boxes, known)

    def _look(self, images: Tensor, boxes: Tensor, prefix: str = "") -> dict[str, Prediction]:
        frames = fitted(boxes, SIDE_MIN, margin=self.margin)
        return self.views.crops(crop_and_resize(images, frames, self.crop_size), frames, prefix)[0]

    def _annotated(self, images: Tensor, boxes: Tensor, whole_view: Prediction) -> Prediction:
        views = {"whole": whole_view, **self._look(images, boxes)}
        return self.views.joined(views, mean_probability(list(views.values())))

    def _detector_loss(self, seen: Detected, part: str) -> Tensor:
        assert seen.places is not None
        windows, scores = seen.taught[part]
        return balanced_loss(scores, window_labels(windows, self.part_box(seen.places.points, part)))


def balanced_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return (): the mean cross-entropy of right windows and that of wrong ones, averaged.

    scores: (N, M) logits. labels: (N, M), 1 or 0; NaN is left out.
    """
    right, wrong = labels == 1, labels == 0
    cost = torch.where(right, -logsigmoid(scores), -logsigmoid(-scores))
    return sum((cost * kind).sum() / kind.sum().clamp_min(1) for kind in (right, wrong)) / 2  # type: ignore[return-value]
