"""Two-level attention: classify windows on the object, and parts that groups of filters find, without annotations.

Shape letters: N images, S side of the source image, C channels, h, w grid of the map, T windows, G parts, L leaves.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.images.regions import boxes_of_masks, centred_boxes, crop_and_resize, downscale, fitted, whole
from fgvc.methods.backbone import Backbone
from fgvc.methods.clusters import spectral_groups
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
from fgvc.methods.scda import object_masks
from fgvc.taxonomy.tree import Taxonomy

WINDOW_SIDES = (0.5, 0.75)
"""Of the windows of the grid, as fractions of the image; they overlap by half."""

WEIGHTS = 21
"""How many weights of the parts from 0 to 1 are tried on validation images."""


def grid_windows() -> Tensor:
    """Return (M, 4) xyxy: squares of each side of `WINDOW_SIDES`, a half of it apart, over the whole image."""
    rows = []
    for side in WINDOW_SIDES:
        steps = round((1 - side) / (side / 2))
        starts = [i * (1 - side) / steps for i in range(steps + 1)]
        rows += [(x, y, x + side, y + side) for y in starts for x in starts]
    return torch.tensor(rows)


def objectness(windows: Tensor, masks: Tensor) -> Tensor:
    """Return (N, M): the overlap (IoU) of windows with the cells of an object.

    windows: (M, 4) xyxy. masks: (N, h, w) bool; a cell counts with the share of it that lies in a window.
    """
    height, width = masks.shape[1:]
    shares = []
    for axis, cells in ((0, width), (1, height)):
        edges = torch.arange(cells + 1, device=windows.device) / cells
        inner = torch.minimum(windows[:, axis + 2, None], edges[1:]) - torch.maximum(windows[:, axis, None], edges[:-1])
        shares.append(inner.clamp_min(0) * cells)
    area = masks.float()
    shared = torch.einsum("mx,my,nyx->nm", *shares, area)
    sizes = shares[0].sum(dim=1) * shares[1].sum(dim=1)
    return shared / (sizes + area.sum(dim=(1, 2))[:, None] - shared)


def kept_windows(windows: Tensor, masks: Tensor, number: int, threshold: float) -> tuple[Tensor, Tensor]:
    """Return boxes (N, T, 4), and which count, (N, T) bool: the object filter.

    The first is the box around the object's mask, which always counts; the others are the grid's windows with the
    highest `objectness`, which count where that reaches the threshold.

    Args:
        windows: (M, 4). masks: (N, h, w) bool. number: T. threshold: of the IoU.
    """
    scores, best = objectness(windows, masks).topk(number - 1, dim=1)
    boxes = torch.cat((fitted(boxes_of_masks(masks), 0.1)[:, None], windows[best]), dim=1)
    return boxes, torch.cat((torch.ones_like(scores[:, :1], dtype=torch.bool), scores >= threshold), dim=1)


def map_filters(backbone: Backbone) -> Tensor:
    """Return (C, F): the weights of the last convolution that answers as many channels as the map has.

    Raises:
        UsageError: the network has none but its first layer, as transformers.
    """
    layers = [module for module in backbone.net.modules() if isinstance(module, nn.Conv2d)]
    fit = [layer for layer in layers[1:] if layer.out_channels == backbone.channels and layer.groups == 1]
    if not fit:
        kind = type(backbone.net).__name__
        raise UsageError(
            f"TwoLevelAttention: no convolution of {kind} makes its map, so there are no filters to group; choose a "
            "convolutional network"
        )
    return fit[-1].weight.detach().flatten(1)


def filter_groups(filters: Tensor, number: int) -> Tensor:
    """Return (C,) int64: the group of each filter (C, F) by spectral clustering of their cosines, below 0 cut to 0."""
    rows = nn.functional.normalize(filters.double().cpu(), dim=1)
    return torch.from_numpy(spectral_groups((rows @ rows.T).clamp_min(0).numpy(), number))


def part_cells(features: Tensor, groups: Tensor, number: int) -> Tensor:
    """Return (N, G, 2): the centre of the cell, as fractions, where the sum of each group's channels is highest.

    features: (N, C, h, w). groups: (C,) int64.
    """
    height, width = features.shape[2:]
    sums = torch.stack([features[:, groups == group].float().sum(dim=1) for group in range(number)], dim=1)
    best = sums.flatten(2).argmax(dim=2)
    return torch.stack(((best % width + 0.5) / width, (best.div(width, rounding_mode="floor") + 0.5) / height), dim=2)


def best_weight(hits: Tensor) -> float:
    """Return the weight of the second level, 0..1, under which the most images are right; of equal ones the middle.

    hits: (WEIGHTS,) how many images are right under each weight.
    """
    best = (hits == hits.max()).nonzero()[:, 0]
    return float(best[len(best) // 2]) / (WEIGHTS - 1)


class TwoLevelAttention(Recognizer):
    """The mean answer to windows on the object, and the answer to object and parts, added with a weight.

    Tianjun Xiao, Yichong Xu, Kuiyuan Yang, Jiaxing Zhang, Yuxin Peng, Zheng Zhang, "The Application of Two-Level
    Attention Models in Deep Convolutional Neural Network for Fine-Grained Image Classification", CVPR 2015. Parts are
    found by groups of filters: the best place of a group's summed activation is looked at closer. Labels of images are
    all that is used. What differs: windows are SCDA's box and a grid in place of a selective search, and SCDA's mask
    filters them in place of the classes of an ImageNet network; the filters are those of the map's last convolution; a
    linear layer takes the place of the SVM; one network serves both levels; the whole image is read beside object and
    parts.

    The filters are grouped once, at the first training step that looks at parts, and the groups are kept in the model.
    The weight is set at the end of each validation of a training; without validation it stays one half.
    Of several processes, the first one's validation images set it.

    Phases:
        all: everything learns.
        head: only the heads and the fusion learn.
        object: no parts are seen; windows of the object are classified.

    Args:
        taxonomy, image_size: see Recognizer.
        backbone: makes a backbone from the side of what it sees; a convolutional one.
        head: makes a head for the whole image, for windows on the object and for each part.
        num_parts: G.
        part_size: side of a part's crop, as a fraction of the image.
        num_windows: T, windows of the object in evaluation, SCDA's box among them; in training one of them is drawn.
        window_overlap: IoU with the object's mask from which a window of the grid counts.
        crop_size: side, in pixels, at which crops are seen; by default image_size.
        share_backbone: whether the backbone of the whole image reads the crops too, or a second one.
        fusion: see PartViews: of object and parts.

    Raises:
        UsageError: a network without filters to group, or a setting outside its range.
    """

    phases: ClassVar[Mapping[str, PhasePlan]] = {
        **Recognizer.phases,
        "object": PhasePlan(),
    }

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        backbone: BackboneFactory = Backbone,
        head: HeadFactory = LinearHead,
        num_parts: int = 3,
        part_size: float = 0.35,
        num_windows: int = 4,
        window_overlap: float = 0.3,
        crop_size: int | None = None,
        share_backbone: bool = True,
        fusion: Fusion = "descriptors",
    ) -> None:
        super().__init__(taxonomy, image_size)
        windows = grid_windows()
        in_range = 0 < part_size <= 1 and 1 <= num_windows <= len(windows) and 0 <= window_overlap <= 1
        if num_parts < 1 or not in_range:
            raise UsageError(
                f"TwoLevelAttention: num_parts {num_parts} must be 1 or more, part_size {part_size} in (0, 1], "
                f"num_windows {num_windows} from 1 to {len(windows)}, window_overlap {window_overlap} in 0..1"
            )
        self.crop_size, self.num_parts, self.part_size = crop_size or image_size, num_parts, part_size
        self.num_windows, self.window_overlap = num_windows, window_overlap
        self.backbone = backbone(image_size)
        closer = closer_backbone(self.backbone, backbone, self.crop_size, share_backbone)
        map_filters(self.backbone)
        self.parts = ("object", *(f"part{i + 1}" for i in range(num_parts)))
        self.views = PartViews(taxonomy, head, self.backbone, closer, self.parts, fusion)
        self.register_buffer("windows", windows, persistent=False)
        self.register_buffer("groups", torch.full((self.backbone.channels,), -1))
        self.register_buffer("part_weight", torch.tensor(0.5))
        self.register_buffer("hits", torch.zeros(WEIGHTS), persistent=False)
        self.windows: Tensor
        self.groups: Tensor
        self.part_weight: Tensor
        self.hits: Tensor

    def forward(self, images: Tensor) -> Prediction:
        """Images (N, 3, S, S) -> Prediction; boxes (N, 1 + G, 4).

        Its views are whole, object, part1 ..., and the two levels: windows and parts.
        """
        features = self.backbone(downscale(images, self.image_size))
        seen = features.map.detach()
        if self.training and self.phase != "object" and (self.groups < 0).any():
            self.groups.copy_(filter_groups(map_filters(self.backbone), self.num_parts))
        masks = object_masks(seen)
        boxes, counts = kept_windows(self.windows, masks, self.num_windows, self.window_overlap)
        first = self._drawn(boxes, counts) if self.training else boxes[:, 0]
        places = part_cells(seen, self.groups, self.num_parts)
        looks = torch.cat((first[:, None], centred_boxes(places, self.part_size)), dim=1)
        views = {"whole": self.views.whole(features)}
        views["whole"].boxes = whole(images)
        if self.training and self.phase == "object":
            views["object"] = self._windows(images, first[:, None])[0]
            views["object"].boxes = first[:, None]
            return Prediction(views["object"].logits, views["object"].embedding, first[:, None], views)
        more, _ = self.views.crops(crop_and_resize(images, looks, self.crop_size), looks)
        views |= more
        parts = self.views.joined(views, mean_probability(list(views.values())))
        windows = self._level(images, more["object"], boxes, counts)
        views |= {"windows": Prediction(windows, parts.embedding), "parts": Prediction(parts.logits, parts.embedding)}
        logits = self._weighted(windows, parts.logits, float(self.part_weight)) if not self.training else parts.logits
        return Prediction(logits, parts.embedding, looks, views)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms of the heads and of the fusion; labels (N,) int64 node ids."""
        return self.views.loss(prediction.views, prediction.views.get("parts", prediction), labels)

    def watch(self, prediction: Prediction, labels: Tensor) -> None:
        """Count which weights of the parts would name the images of a validation batch rightly."""
        level = self.taxonomy.leaf_level
        known = self.taxonomy.targets(labels, level)
        windows, parts = (prediction.views[name].logits[level] for name in ("windows", "parts"))
        for i in range(WEIGHTS):
            both = self._weighted({level: windows}, {level: parts}, i / (WEIGHTS - 1))[level]
            self.hits[i] += ((both.argmax(dim=1) == known) & (known >= 0)).sum()

    def settle(self) -> None:
        """Set the weight of the parts by what the validation counted."""
        if self.hits.any():
            self.part_weight.fill_(best_weight(self.hits))
        self.hits.zero_()

    def _drawn(self, boxes: Tensor, counts: Tensor) -> Tensor:
        """Return (N, 4): one of the windows that count, drawn for each image."""
        chosen = torch.multinomial(counts.float(), 1)[:, 0]
        return boxes[torch.arange(len(boxes), device=boxes.device), chosen]

    def _windows(self, images: Tensor, boxes: Tensor) -> list[Prediction]:
        """Return the answers of the object's head to boxes (N, T, 4), one after the other."""
        trunk, head = self.views.closer or self.backbone, list(self.views.heads)[1]
        return [head(trunk(crop_and_resize(images, box[:, None], self.crop_size)[:, 0])) for box in boxes.unbind(1)]

    def _level(self, images: Tensor, first: Prediction, boxes: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """Return level -> (N, ...), the log of the mean probability of the windows (N, T, 4) that count, (N, T).

        In training, where one of them is drawn, that one's.
        """
        answers = [first] if self.training else [first, *self._windows(images, boxes[:, 1:])]
        counts = counts[:, : len(answers), None] | (torch.tensor(len(answers) == 1))
        mean = {}
        for level in first.logits:
            logs = torch.stack([one.logits[level].float().log_softmax(dim=1) for one in answers], dim=1)
            mean[level] = logs.masked_fill(~counts, -torch.inf).logsumexp(dim=1) - counts.sum(dim=1).log()
        return mean

    def _weighted(self, windows: dict[str, Tensor], parts: dict[str, Tensor], weight: float) -> dict[str, Tensor]:
        """Return level -> the log of (1 - weight) p(windows) + weight p(parts)."""
        return {
            level: ((1 - weight) * windows[level].float().softmax(dim=1) + weight * parts[level].float().softmax(dim=1))
            .clamp_min(1e-12)
            .log()
            for level in windows
        }
