"""WS-DAN and CAL: attention maps crop and drop parts of the training images, and later say where to look closer.

Shape letters: N images, S side of the source image, s side that is seen, K leaves, D width of an embedding, M attention
maps, h, w grid of a map.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.images.regions import boxes_of_masks, crop_and_resize, downscale, whole
from fgvc.methods.backbone import Backbone
from fgvc.methods.cells import EVEN, Cells
from fgvc.methods.losses.base import LossFactory, make_losses
from fgvc.methods.losses.cross_entropy import CrossEntropy
from fgvc.methods.pooling.bap import BAPPooling, bilinear_attention
from fgvc.methods.recognizers.base import BackboneFactory, Recognizer, mean_probability
from fgvc.methods.targets import mean_of_known
from fgvc.taxonomy.tree import Taxonomy


def drawn_maps(maps: Tensor, number: int) -> Tensor:
    """Draw maps of each image, with replacement, each with a probability proportional to sqrt(its sum).

    Args:
        maps: (N, M, h, w), not negative.
        number: how many of each image.

    Returns:
        (N, number, h, w).
    """
    weights = maps.float().sum(dim=(2, 3)).clamp_min(1e-12).sqrt()
    chosen = weights.multinomial(number, replacement=True)
    return maps.gather(1, chosen[..., None, None].expand(-1, -1, *maps.shape[2:]))


def peak_masks(
    maps: Tensor, shares: Tensor | float, size: int, cells: Cells = EVEN, above_least: bool = False
) -> Tensor:
    """Return (N, s, s) bool: where a map, resized to s x s, is above a share of its maximum.

    Args:
        maps: (N, h, w).
        shares: (N, 1, 1), or one for all.
        size: s.
        cells: where the cells of the map lie.
        above_least: whether the share is of the way from the map's least value to its maximum.
    """
    smooth = cells.resampled(maps, size)
    if above_least:
        smooth = smooth - smooth.amin(dim=(1, 2), keepdim=True)
    return smooth > shares * smooth.amax(dim=(1, 2), keepdim=True)


def padded_boxes(masks: Tensor, padding: float) -> Tensor:
    """Return (N, 1, 4): the boxes around masks (N, s, s), wider by a share of the image on each side, cut at its edge.

    Not `regions.fitted`: the published padding is a share of the image, not of the box.
    """
    outwards = torch.tensor([-padding, -padding, padding, padding], device=masks.device)
    return (boxes_of_masks(masks) + outwards).clamp(0, 1)[:, None]


def centre_distance(embeddings: Tensor, centres: Tensor, targets: Tensor) -> Tensor:
    """Return () the mean squared distance to the centres, scaled to length 1, over known images; 0 where none is known.

    Args:
        embeddings: (N, D).
        centres: (K, D).
        targets: (N,) int64; -1 is unknown.
    """
    gaps = (embeddings - normalize(centres[targets.clamp_min(0)], dim=1)).square().sum(dim=1)
    return mean_of_known(gaps, targets >= 0)


@torch.no_grad()
def move_centres(centres: Tensor, embeddings: Tensor, targets: Tensor, rate: float) -> None:
    """Move, in place, the centre of each class in the batch by rate * (mean embedding of its images - centre).

    This is the paper's update. Code in circulation subtracts the centre scaled to length 1 instead. The mean of unit
    vectors is shorter than that, so such a centre shrinks until it points the wrong way.

    Args: see `centre_distance`.
    """
    known = targets >= 0
    alike = (targets[:, None] == targets).sum(dim=1)
    place = targets.clamp_min(0)
    steps = (rate * known / alike)[:, None] * (embeddings - centres[place])
    centres.index_add_(0, place, steps.to(centres.dtype))


@dataclass
class Attended(Prediction):
    """A view of WS-DAN.

    effect: (N, K) logits less those under random attention; None without `counterfactual`, and in evaluation.
    """

    effect: Tensor | None = None


class WSDAN(Recognizer):
    """Attention maps with bilinear pooling, trained on the image, on a crop and on the image with a part dropped.

    Tao Hu, Honggang Qi, Qingming Huang, Yan Lu, "See Better Before Looking Closer: Weakly Supervised Data Augmentation
    Network for Fine-Grained Visual Classification", 2019. Crops are cut from the source image. In evaluation nothing is
    random: there is one crop, from the mean of the maps, and the answer is the mean softmax of image and crop.

    With `counterfactual` it is CAL: Yongming Rao, Guangyi Chen, Jiwen Lu, Jie Zhou, "Counterfactual Attention Learning
    for Fine-Grained Visual Categorization and Re-identification", ICCV 2021.

    The class centres are a buffer of K * M * channels floats in the checkpoint: 52 MB for 200 classes and a ResNet-50,
    2.6 GB for 10,000 (`centre_weight: 0` leaves it out). With several processes DDP copies the buffers of the first to
    all before each forward, so the centres follow the images of the first process.

    Args:
        taxonomy, image_size: see Recognizer.
        backbone: makes the backbone from the image size.
        num_attentions: M.
        feature_scale: factor on the embedding, of length 1, before the classifier, which has no bias.
        crop_threshold: the crop of a training image contains all cells above a share of the map's maximum; the share is
            drawn between these two.
        crop_padding: share of the image's side that is added to the crop on each side.
        drop_threshold: cells above a share, drawn between these two, are dropped: they get the backbone's mean colour.
        answer_threshold, answer_padding: the same for the crop in evaluation.
        threshold_of: a share is one of the map's `maximum`, as published, or of its `range`, from its least value to
            its maximum. Nine cells of a small map may all lie above a tenth of the maximum: then the crop is the image.
        counterfactual: also classify by the difference to random attention.
        centre_weight: weight of the squared distance between the image's embedding and the centre of its class.
        centre_rate: beta, see `move_centres`.
        label_smoothing, loss: see Head; they act on each view and on the effect.
        true_places: whether a cell lies where the network looks, see `Backbone.cells`, and not where its place in the
            grid suggests.

    Raises:
        UsageError: a threshold outside 0 <= low <= high < 1, a negative setting, no attention map.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        backbone: BackboneFactory = Backbone,
        num_attentions: int = 32,
        feature_scale: float = 100.0,
        crop_threshold: tuple[float, float] = (0.4, 0.6),
        crop_padding: float = 0.1,
        drop_threshold: tuple[float, float] = (0.2, 0.5),
        answer_threshold: float = 0.1,
        answer_padding: float = 0.05,
        threshold_of: Literal["maximum", "range"] = "maximum",
        counterfactual: bool = False,
        centre_weight: float = 1.0,
        centre_rate: float = 0.05,
        label_smoothing: float = 0.0,
        loss: LossFactory = CrossEntropy,
        true_places: bool = True,
    ) -> None:
        super().__init__(taxonomy, image_size)
        _check_threshold("crop_threshold", *crop_threshold)
        _check_threshold("drop_threshold", *drop_threshold)
        _check_threshold("answer_threshold", answer_threshold, answer_threshold)
        if min(feature_scale, crop_padding, answer_padding, centre_weight, centre_rate) < 0:
            raise UsageError("WSDAN: feature_scale, paddings, centre_weight and centre_rate must not be negative")
        self.crop_threshold, self.crop_padding = crop_threshold, crop_padding
        self.drop_threshold, self.feature_scale = drop_threshold, feature_scale
        self.answer_threshold, self.answer_padding = answer_threshold, answer_padding
        self.counterfactual, self.label_smoothing = counterfactual, label_smoothing
        self.centre_weight, self.centre_rate = centre_weight, centre_rate
        (self.class_loss,) = make_losses(loss, [taxonomy.num_classes], label_smoothing, type(self).__name__)
        self.true_places, self.threshold_of = true_places, threshold_of
        self.backbone = backbone(image_size)
        self.pooling = BAPPooling(self.backbone.channels, num_attentions)
        self.classifier = nn.Linear(self.pooling.out_features, taxonomy.num_classes, bias=False)
        rows = taxonomy.num_classes if centre_weight else 0
        self.register_buffer("centres", torch.zeros(rows, self.pooling.out_features))
        self.centres: Tensor

    def forward(self, images: Tensor) -> Prediction:
        """Images (N, 3, S, S) -> Prediction, whose views are raw, crop and, while training, drop."""
        seen = downscale(images, self.image_size)
        raw, maps = self._look(seen, whole(images))
        boxes, dropped = self._chosen(maps.detach())
        crop, _ = self._look(crop_and_resize(images, boxes, self.image_size)[:, 0], boxes)
        views: dict[str, Prediction] = {"raw": raw, "crop": crop}
        if dropped is not None:
            views["drop"], _ = self._look(torch.where(dropped[:, None], self.backbone.mean, seen), whole(images))
        return Prediction(mean_probability([raw, crop]), raw.embedding, boxes, views)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return a term per view, their mean effect term and the distance to the centres; labels (N,) int64 node ids.

        While training, each call moves the centres once.
        """
        level, views = self.taxonomy.leaf_level, prediction.views
        targets = self.taxonomy.targets(labels, level)

        def cost(logits: Tensor) -> Tensor:
            return self.class_loss.of_nodes(logits, labels, self.taxonomy, self.label_smoothing) / len(views)

        terms = {name: cost(view.logits[level]) for name, view in views.items()}
        effects = [view.effect for view in views.values() if isinstance(view, Attended) and view.effect is not None]
        if effects:
            terms["effect"] = torch.stack([cost(effect) for effect in effects]).sum()
        if self.centre_weight:
            terms["centre"] = self.centre_weight * centre_distance(prediction.embedding, self.centres, targets)
            if self.training:
                move_centres(self.centres, prediction.embedding, targets, self.centre_rate)
        return terms

    def _look(self, seen: Tensor, boxes: Tensor) -> tuple[Attended, Tensor]:
        """Images (N, 3, s, s) that show the boxes (N, 1, 4) -> their Prediction and attention maps (N, M, h, w)."""
        features: Tensor = self.backbone(seen).map
        maps: Tensor = self.pooling.maps(features)
        embedding = bilinear_attention(features, maps)
        embedding = embedding.to(self.classifier.weight.dtype)
        logits = self.classifier(self.feature_scale * embedding)
        effect = None
        if self.counterfactual and self.training:
            random = bilinear_attention(features, 2 * torch.rand(maps.shape, device=maps.device))
            effect = logits - self.classifier(self.feature_scale * random.to(embedding.dtype))
        return Attended({self.taxonomy.leaf_level: logits}, embedding, boxes, effect=effect), maps

    def _chosen(self, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Maps (N, M, h, w) -> crop boxes (N, 1, 4) and, while training, masks (N, s, s) of what is dropped."""
        cells = self.backbone.cells() if self.true_places else EVEN
        seen = self.image_size, cells, self.threshold_of == "range"
        if not self.training:
            masks = peak_masks(maps.mean(dim=1), self.answer_threshold, *seen)
            return padded_boxes(masks, self.answer_padding), None
        to_crop, to_drop = drawn_maps(maps, 2).unbind(dim=1)
        shares = torch.empty(2, len(maps), 1, 1, device=maps.device)
        crop_masks = peak_masks(to_crop, shares[0].uniform_(*self.crop_threshold), *seen)
        dropped = peak_masks(to_drop, shares[1].uniform_(*self.drop_threshold), *seen)
        return padded_boxes(crop_masks, self.crop_padding), dropped


def _check_threshold(name: str, low: float, high: float) -> None:
    if not 0 <= low <= high < 1:
        raise UsageError(f"WSDAN: {name} from {low} to {high}; 0 <= low <= high < 1 is needed")
