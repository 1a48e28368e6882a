"""Spatial transformers: a network says where to crop, and learns from the gradient of the crops.

Shape letters: N images, S side of the source image, K crops, L leaves, D width of an embedding, C channels, h, w grid
of a map.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, pad

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.images.regions import bounded_boxes, crop_and_resize, downscale
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import PoolingFactory
from fgvc.methods.losses.base import LossFactory, make_losses
from fgvc.methods.losses.cross_entropy import CrossEntropy
from fgvc.methods.module_list import ModuleListOf
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.pooling.native import NativePooling
from fgvc.methods.recognizers.base import PRETRAINED, BackboneFactory, PhasePlan, Recognizer
from fgvc.taxonomy.tree import Taxonomy


def spread_positions(number: int, side: float) -> list[list[float]]:
    """Return the centres (x, y) of squares that are spread evenly over the image, row by row.

    Args:
        number: K.
        side: of the squares, as a fraction of the image.
    """
    columns = math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    places = [((i % columns + 0.5) / columns, (i // columns + 0.5) / rows) for i in range(number)]
    return [[side / 2 + (1 - side) * x, side / 2 + (1 - side) * y] for x, y in places]


def raw_boxes(positions: Sequence[Sequence[float]], side: float, side_min: float, side_max: float) -> Tensor:
    """Return (K, 3): the input that `regions.bounded_boxes` maps to squares of a side around positions (x, y)."""
    room = (torch.tensor(positions, dtype=torch.float64) - side / 2) / (1 - side)
    share = 0.5 if side_min == side_max else (side - side_min) / (side_max - side_min)
    sides = torch.full((len(positions), 1), share, dtype=torch.float64)
    return torch.cat((room, sides), dim=1).logit().float()


class Localiser(nn.Module):
    """Map (N, C, h, w) -> (N, K, P): 1 x 1 convolution, pooled to a grid, fully connected, ReLU, fully connected.

    Args:
        channels: C.
        number: K.
        numbers: P, how many numbers a crop has: 2 for its centre, 3 with its side.
        hidden: channels after the convolution, and width of the hidden layer.
        grid: side to which the map is pooled.
    """

    def __init__(self, channels: int, number: int, numbers: int, hidden: int = 128, grid: int = 7) -> None:
        super().__init__()
        self.shape, self.grid = (number, numbers), grid
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.hidden = nn.Linear(hidden * grid * grid, hidden)
        self.out = nn.Linear(hidden, number * numbers)
        nn.init.zeros_(self.out.weight)  # all images start from the default positions
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, K, P)."""
        pooled = adaptive_avg_pool2d(self.reduce(features), self.grid)
        return self.out(self.hidden(pooled.flatten(1)).relu()).view(-1, *self.shape)  # type: ignore[no-any-return]


class SpatialTransformer(Recognizer):
    """K crops, placed by a localiser that learns only from the classification loss, and one classifier for all crops.

    Max Jaderberg, Karen Simonyan, Andrew Zisserman, Koray Kavukcuoglu, "Spatial Transformer Networks", NIPS 2015.
    The gradient reaches the boxes through the sampling positions. A box is bounded by construction and lies inside the
    image. The phase `head` trains only the classifier, on crops that stand still.

    The published localiser learns at 1e-4 to 1e-2 of the rate of the rest. Scaling its gradient would have no effect
    under AdamW, which divides each parameter's step by the size of its gradients. So the factor scales the answer,
    raw = start + ratio * net(x), where no optimizer can undo it. Under Adam and AdamW the boxes move at
    `localiser_lr_ratio` times the speed; under plain SGD, where it scales the gradient too, at its square.

    Args:
        taxonomy, image_size: see Recognizer.
        backbone: makes a backbone from the side of what it sees.
        pooling: makes the pooling of a crop's map.
        num_crops: K.
        side: of the crops, as a fraction of the image; it stays as it is, as published, unless `learn_scale` is true.
        learn_scale: whether the side is learnt too, between `side_min` and `side_max`.
        positions: centres (x, y) where learning starts; by default spread over the image.
        crop_size: side, in pixels, at which crops are seen; by default image_size.
        share_backbone: whether one backbone reads all crops, or each has its own, as published.
        share_localiser: whether the localiser reads the map of the first crop's backbone, or has its own, as published.
        localiser_lr_ratio: see above.
        label_smoothing, loss: see Head.

    Raises:
        UsageError: sides or positions that do not fit.
    """

    phases: ClassVar[Mapping[str, PhasePlan]] = {
        "all": PhasePlan(),
        "head": PhasePlan(still=("localiser", *PRETRAINED)),
    }

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        backbone: BackboneFactory = Backbone,
        pooling: PoolingFactory = NativePooling,
        num_crops: int = 2,
        side: float = 0.5,
        learn_scale: bool = False,
        side_min: float = 0.25,
        side_max: float = 0.75,
        positions: list[list[float]] | None = None,
        crop_size: int | None = None,
        share_backbone: bool = False,
        share_localiser: bool = False,
        localiser_lr_ratio: float = 0.01,
        label_smoothing: float = 0.0,
        loss: LossFactory = CrossEntropy,
    ) -> None:
        super().__init__(taxonomy, image_size)
        _check_sides(num_crops, side, (side_min, side_max) if learn_scale else None, localiser_lr_ratio)
        centres = spread_positions(num_crops, side) if positions is None else positions
        _check_positions(centres, num_crops, side)
        self.side_min, self.side_max = (side_min, side_max) if learn_scale else (side, side)
        self.crop_size, self.ratio, self.label_smoothing = crop_size or image_size, localiser_lr_ratio, label_smoothing
        self.register_buffer("start", raw_boxes(centres, side, self.side_min, self.side_max))
        self.start: Tensor
        (self.class_loss,) = make_losses(loss, [taxonomy.num_classes], label_smoothing, type(self).__name__)
        self.trunks: ModuleListOf[Backbone] = ModuleListOf(
            backbone(self.crop_size) for _ in range(1 if share_backbone else num_crops)
        )
        self.scout = None if share_localiser else backbone(image_size)
        if share_localiser:
            self.trunks[0].check_side(image_size)
        channels = self.trunks[0].channels
        self.localiser = Localiser(channels, num_crops, 3 if learn_scale else 2)
        self.poolings: ModuleListOf[Pooling] = ModuleListOf(
            pooling(channels).attach(self.trunks[i % len(self.trunks)]) for i in range(num_crops)
        )
        self.classifier = nn.Linear(sum(one.out_features for one in self.poolings), taxonomy.num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Prediction:
        """Images (N, 3, S, S) -> Prediction with boxes (N, K, 4)."""
        boxes = self._locate(downscale(images, self.image_size))
        crops = crop_and_resize(images, boxes, self.crop_size)
        embedding = torch.cat(self._read(crops), dim=1)
        return Prediction({self.taxonomy.leaf_level: self.classifier(embedding)}, embedding, boxes)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss of the classes; labels (N,) int64 node ids."""
        logits = prediction.logits[self.taxonomy.leaf_level]
        return {"classes": self.class_loss.of_nodes(logits, labels, self.taxonomy, self.label_smoothing)}

    def measures(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return `moved` (): the mean distance of the centres from their start, in sides of the image."""
        if prediction.boxes is None:
            return {}
        away = prediction.boxes - bounded_boxes(self.start, self.side_min, self.side_max)
        return {"moved": ((away[..., :2] + away[..., 2:]) / 2).norm(dim=2).mean()}

    def _locate(self, images: Tensor) -> Tensor:
        """Images (N, 3, s, s) -> boxes (N, K, 4)."""
        trunk = self.trunks[0] if self.scout is None else self.scout
        answer = self.localiser(trunk(images).map).float()
        answer = pad(answer, (0, self.start.shape[1] - answer.shape[2]))  # a side that is not learnt stays
        return bounded_boxes(self.start + self.ratio * answer, self.side_min, self.side_max)

    def _read(self, crops: Tensor) -> list[Tensor]:
        """Crops (N, K, 3, s, s) -> K descriptors (N, D / K)."""
        seen = [self.trunks[i % len(self.trunks)](crops[:, i]) for i in range(crops.shape[1])]
        return [pooling.pool(one) for pooling, one in zip(self.poolings, seen, strict=True)]


def _check_sides(number: int, side: float, bounds: tuple[float, float] | None, ratio: float) -> None:
    if number < 1 or not 0 < side < 1 or ratio <= 0:
        asked = f"num_crops {number}, side {side}, localiser_lr_ratio {ratio}"
        raise UsageError(f"SpatialTransformer: {asked}; give 1 crop or more, 0 < side < 1 and a ratio above 0")
    if bounds and not 0 < bounds[0] < side < bounds[1] <= 1:
        asked = f"side {side}, side_min {bounds[0]}, side_max {bounds[1]}"
        raise UsageError(f"SpatialTransformer: {asked}; a learnt side needs 0 < side_min < side < side_max <= 1")


def _check_positions(positions: Sequence[Sequence[float]], number: int, side: float) -> None:
    inside = all(len(one) == 2 and side / 2 < min(one) and max(one) < 1 - side / 2 for one in positions)
    if len(positions) != number or not inside:
        room = f"{number} centres [x, y] between {side / 2:g} and {1 - side / 2:g}, so that a crop can move either way"
        raise UsageError(f"SpatialTransformer: positions {positions}; give {room}")
