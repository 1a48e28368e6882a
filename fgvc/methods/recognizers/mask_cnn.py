"""Mask-CNN: keep the descriptors that lie on object, head and body, of the image and of a crop of each.

Shape letters: N images, S side of the source image, P body parts, C channels, h, w grid of a map, K streams.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from fgvc.datatypes import Places, Prediction
from fgvc.errors import UsageError
from fgvc.images.regions import crop_and_resize, downscale, fitted, whole
from fgvc.methods.backbone import Backbone
from fgvc.methods.losses.cross_entropy import node_loss
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
from fgvc.methods.point_masks import cell_centres, covered
from fgvc.methods.recognizers.base import LOCATING, BackboneFactory, PhasePlan, Recognizer, closer_backbone
from fgvc.methods.scda import descriptor
from fgvc.taxonomy.tree import Taxonomy

CROPS = ("object", "head", "body")
SIDE_MIN = 0.1
"""The smallest side of a crop, as a fraction of the image."""

FEATURE_SCALE = 16.0
"""Factor on descriptors of length 1 before their classifier, as of RA-CNN's fusion."""


class MaskCNN(Recognizer):
    """Four streams, of image, object, head and body; each keeps the descriptors on its mask, their mean and maximum.

    Xiu-Shen Wei, Chen-Wei Xie, Jianxin Wu, Chunhua Shen, "Mask-CNN: Localizing parts and selecting descriptors for
    fine-grained bird species categorization", Pattern Recognition 2018. Mean and maximum of each stream are of length
    1 each, and one linear layer classifies all eight. What differs: the masks lie between the points that the localizer
    sees, see `covered`, where the paper trains a segmentation on masks made of annotated points; that of the object is
    head and body together; one backbone may serve all streams.

    Boxes and points of training photographs are learnt from. In evaluation no annotation changes an answer.

    Phases: those of PartRCNN: `all`, `head`, and `locate`, in which no crops are seen and their descriptors are 0.

    Args:
        taxonomy, image_size: see Recognizer.
        backbone: makes a backbone from the side of what it sees.
        points, head_points, crop_size, share_backbone, margin, learn_from: see PartRCNN; the masks of training images
            too come from where `learn_from` says.
        reach: how far beyond its points a mask goes, as a share of the longer side of the object's box.
        upper_bound, localizer_channels, localizer_weight: see PartRCNN.
        label_smoothing: see `node_loss`.

    Raises:
        UsageError: a head point that is none of the points, no body point, or a negative setting.
    """

    phases: ClassVar[Mapping[str, PhasePlan]] = LOCATING
    parts = CROPS

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        backbone: BackboneFactory = Backbone,
        points: list[str] = list(BIRD_POINTS),  # noqa: B006 - read only
        head_points: list[str] = list(BIRD_HEAD),  # noqa: B006 - read only
        crop_size: int | None = None,
        share_backbone: bool = True,
        reach: float = 0.1,
        margin: float = 0.1,
        learn_from: Literal["predicted", "annotated"] = "annotated",
        upper_bound: bool = False,
        localizer_channels: int = 128,
        localizer_weight: float = 1.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(taxonomy, image_size)
        if min(reach, margin, localizer_weight, label_smoothing) < 0:
            raise UsageError("MaskCNN: reach, margin, localizer_weight and label_smoothing must not be negative")
        self.points = tuple(points)
        self._rows = head_and_body(points, head_points, type(self).__name__)
        self.crop_size, self.reach, self.margin = crop_size or image_size, reach, margin
        self.learn_from, self.upper_bound = learn_from, upper_bound
        self.localizer_weight, self.label_smoothing = localizer_weight, label_smoothing
        self.backbone = backbone(image_size)
        self.closer = closer_backbone(self.backbone, backbone, self.crop_size, share_backbone)
        self.localizer = PartLocalizer(self.backbone.channels, points, localizer_channels)
        trunks = [self.backbone] + [self.closer or self.backbone] * len(CROPS)
        self.classifier = nn.Linear(2 * sum(trunk.channels for trunk in trunks), taxonomy.num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor, places: Places | None = None) -> PartPrediction:
        """Images (N, 3, S, S) -> PartPrediction; boxes (N, 3, 4) of the crops."""
        features = self.backbone(downscale(images, self.image_size))
        located = self.localizer(features.map)
        seen = Places(located.box.detach(), located.detached().seen_points())
        told = _told(seen, places)
        where = told if self.training and self.learn_from == "annotated" else seen
        frames = self._frames(where)
        embedding = self._described(images, features.map, where, frames)
        views = {}
        if self.upper_bound and not self.training and places is not None:
            bound = self._described(images, features.map, told, self._frames(told))
            views["annotated"] = Prediction(self._scores(bound), bound)
        return PartPrediction(
            self._scores(embedding), embedding, frames, views, points=seen.points, located=located, places=places
        )

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return `classes` and, with annotations, the terms of the localizer; labels (N,) int64 node ids.

        Raises:
            TypeError: the prediction is not this recognizer's.
        """
        seen = own_prediction(prediction, PartPrediction, type(self).__name__)
        logits = seen.logits[self.taxonomy.leaf_level]
        terms = {"classes": node_loss(logits, labels, self.taxonomy, self.label_smoothing)}
        if "locate" in self.plan.terms:
            terms |= self.localizer.terms(seen, self.localizer_weight)
        return terms

    def measures(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return `pck` and `object_iou`, see `located_measures`."""
        seen = own_prediction(prediction, PartPrediction, type(self).__name__)
        return located_measures(seen.located, seen.places)

    def masks(self, where: Places, frames: Tensor, streams: tuple[str, ...], height: int, width: int) -> Tensor:
        """Return (N, K, h, w) bool: the cells of each stream's grid that lie on its part; all where none does.

        Args:
            where: box (N, 4), points (N, P, 2).
            frames: (N, K, 4), what each stream shows.
            streams: K names: `head`, `body`, or others that have both.
            height, width: h, w.
        """
        reach = self.reach * (where.box[:, 2:] - where.box[:, :2]).amax(dim=1)
        found = []
        for number, stream in enumerate(streams):
            places = cell_centres(frames[:, number], height, width)
            parts = [stream] if stream in self._rows else list(self._rows)
            on = torch.stack([covered(where.points[:, self._rows[part]], places, reach) for part in parts]).any(dim=0)
            found.append(on | ~on.any(dim=1, keepdim=True))
        return torch.stack(found, dim=1).view(len(frames), len(streams), height, width)

    def _described(self, images: Tensor, features: Tensor, where: Places, frames: Tensor) -> Tensor:
        """Return (N, D): mean and maximum of each stream's selected descriptors; of crops 0 in the phase `locate`."""
        masks = self.masks(where, whole(images), ("image",), *features.shape[2:])
        first = descriptor(features, masks[:, 0])
        if self.training and self.phase == "locate":
            return nn.functional.pad(first, (0, self.classifier.in_features - first.shape[1]))
        crops = crop_and_resize(images, frames, self.crop_size).flatten(0, 1)
        closer = (self.closer or self.backbone)(crops).map
        masks = self.masks(where, frames, CROPS, *closer.shape[2:])
        return torch.cat((first, descriptor(closer, masks.flatten(0, 1)).view(len(first), -1)), dim=1)

    def _scores(self, embedding: Tensor) -> dict[str, Tensor]:
        return {self.taxonomy.leaf_level: self.classifier(FEATURE_SCALE * embedding.to(self.classifier.weight.dtype))}

    def _frames(self, where: Places) -> Tensor:
        """Return (N, 3, 4): the crops of object, head and body; of a part without points, that of the object."""
        around = [box_around(where.points[:, rows], side_min=SIDE_MIN) for rows in self._rows.values()]
        boxes = [where.box, *around]
        known = [torch.where(box.isnan(), where.box, box) for box in boxes]
        return fitted(torch.stack(known, dim=1), SIDE_MIN, margin=self.margin)


def _told(seen: Places, places: Places | None) -> Places:
    """Return what is annotated, and what is seen where no box or no point of an image is annotated."""
    if places is None:
        return seen
    has_some = (~places.points.isnan().any(dim=2)).any(dim=1)
    points = torch.where(has_some[:, None, None], places.points, seen.points)
    return Places(torch.where(places.box.isnan(), seen.box, places.box), points)
