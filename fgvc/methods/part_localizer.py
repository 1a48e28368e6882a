"""Where an object and its parts are, read off the map of any backbone: learnt from annotated boxes and points.

Shape letters: N images, C channels, h, w grid of the map, P body parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from fgvc.datatypes import Places, Prediction
from fgvc.errors import UsageError, did_you_mean
from fgvc.images.regions import box_iou, fitted
from fgvc.methods.targets import mean_of_known

BIRD_POINTS = (
    "back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg",
    "left wing", "nape", "right eye", "right leg", "right wing", "tail", "throat",
)  # fmt: skip
"""The body parts that CUB-200-2011 annotates."""

BIRD_HEAD = ("beak", "crown", "forehead", "left eye", "nape", "right eye", "throat")
"""Those of the head."""

TOLERANCE = 0.1
"""Of PCK, as a share of the longer side of the object's box."""

SIDE_MIN = 0.05
"""The smallest side of an object's box, as a fraction of the image."""


class Located(NamedTuple):
    """Where the localizer sees things, as fractions of the image.

    box: (N, 4) xyxy of the object.
    points: (N, P, 2) xy, of hidden parts too.
    visible: (N, P) logits of whether a part can be seen.
    maps: (N, P, h, w) log-probabilities of the cells in which a part may lie.
    edges: (N, 4, h, w) the same of the box's left, upper, right and lower edge, see `box_of_edges`.
    """

    box: Tensor
    points: Tensor
    visible: Tensor
    maps: Tensor
    edges: Tensor

    def detached(self) -> "Located":
        """Return the same without the gradient."""
        return Located(*(part.detach() for part in self))

    def seen_points(self) -> Tensor:
        """Return (N, P, 2): the points, NaN where a part is more likely hidden than not."""
        return self.points.masked_fill(self.visible[..., None] < 0, torch.nan)


@dataclass
class PartPrediction(Prediction):
    """A prediction of a recognizer that locates parts, with what its loss needs.

    located: what the localizer sees.
    places: what is annotated of the images; None where nobody told.
    """

    located: Located = field(kw_only=True)
    places: Places | None = field(kw_only=True)


Own = TypeVar("Own", bound=PartPrediction)


def cell_targets(points: Tensor, height: int, width: int) -> Tensor:
    """Return (..., h, w): how a point shares itself out among the four cells around it.

    Their centres, weighted so, have the point as their mean; a point beyond the outermost centres moves to them.

    Args:
        points: (..., 2) xy as fractions of the image.
        height, width: h, w.
    """
    shares = []
    for axis, cells in ((0, width), (1, height)):
        place = (points[..., axis] * cells - 0.5).clamp(0, cells - 1)[..., None]
        shares.append((1 - (place - torch.arange(cells, device=points.device)).abs()).clamp_min(0))
    return shares[1][..., :, None] * shares[0][..., None, :]


def mean_places(maps: Tensor) -> Tensor:
    """Return (..., 2): the mean of the cells' centres under maps (..., h, w) of log-probabilities.

    Xiao Sun and others, "Integral Human Pose Regression", ECCV 2018.
    """
    height, width = maps.shape[-2:]
    shares = maps.exp()
    x = (torch.arange(width, device=maps.device) + 0.5) / width
    y = (torch.arange(height, device=maps.device) + 0.5) / height
    return torch.stack(((shares.sum(dim=-2) * x).sum(dim=-1), (shares.sum(dim=-1) * y).sum(dim=-1)), dim=-1)


def box_of_edges(maps: Tensor) -> Tensor:
    """Return (N, 4) xyxy inside 0..1: the box whose left, upper, right and lower edge lie where four maps say.

    An edge is the mean column or row of its map, stretched about the middle, so that it can reach the image's edge.

    Args:
        maps: (N, 4, h, w) log-probabilities.
    """
    cells = maps.new_tensor((maps.shape[3], maps.shape[2]))
    places = (mean_places(maps) - 0.5) * cells / (cells - 1).clamp_min(1) + 0.5  # (N, 4, 2)
    corners = torch.stack((places[:, 0, 0], places[:, 1, 1], places[:, 2, 0], places[:, 3, 1]), dim=1).view(-1, 2, 2)
    return fitted(torch.cat((corners.amin(dim=1), corners.amax(dim=1)), dim=1), SIDE_MIN)


def edge_loss(maps: Tensor, boxes: Tensor) -> Tensor:
    """Return (N,): the cross-entropy of each edge's columns or rows with those that have the edge as their mean.

    Args:
        maps: (N, 4, h, w) log-probabilities, see `box_of_edges`.
        boxes: (N, 4) xyxy.
    """
    terms = []
    for edge in range(4):
        line = maps[:, edge].logsumexp(dim=2 if edge % 2 else 1)  # over the columns for upper and lower
        cells = line.shape[1]
        place = boxes[:, edge, None] * (cells - 1)  # the middles of the outermost cells are the image's edges
        shares = (1 - (place - torch.arange(cells, device=line.device)).abs()).clamp_min(0)
        terms.append(-(shares * line).sum(dim=1))
    return torch.stack(terms).mean(dim=0)


def correct_points(points: Tensor, known: Places, tolerance: float = TOLERANCE) -> tuple[Tensor, Tensor]:
    """Return which points are right, and which can be judged, both (N, P) bool.

    Percentage of correct keypoints, PCK (Yi Yang, Deva Ramanan, "Articulated Human Detection with Flexible Mixtures of
    Parts", TPAMI 2013): a point is right if it lies within a share of the longer side of the object's box of where it
    is annotated. Parts that are hidden, or whose object has no box, are not judged.

    Args:
        points: (N, P, 2).
        known: box (N, 4), points (N, P, 2).
        tolerance: the share.
    """
    longer = (known.box[:, 2:] - known.box[:, :2]).amax(dim=1)
    judged = ~known.points.isnan().any(dim=2) & ~longer.isnan()[:, None]
    return ((points - known.points).norm(dim=2) <= tolerance * longer[:, None]) & judged, judged


def pck(points: Tensor, known: Places) -> Tensor | None:
    """Return () the share of right points of an image, as a mean over the images that have some; None where none has.

    Args: see `correct_points`.
    """
    right, judged = correct_points(points, known)
    has_some = judged.any(dim=1)
    if not has_some.any():
        return None
    return (right.sum(dim=1) / judged.sum(dim=1).clamp_min(1))[has_some].mean()


class PartLocalizer(nn.Module):
    """Map -> box of the object, place and visibility of each body part.

    A 1 x 1 and a 3 x 3 convolution; on them a map per part and per edge of the box, whose softmax over the cells has
    the place as its mean, see `mean_places`, and a layer that tells from mean and maximum which parts can be seen. It
    learns from annotations that are known: hidden parts and images without annotations cost nothing.

    Args:
        channels: C.
        names: of the P parts.
        hidden: channels of the convolutions.

    Raises:
        UsageError: no name, one name twice, or no channel.
    """

    def __init__(self, channels: int, names: Sequence[str], hidden: int = 128) -> None:
        super().__init__()
        if not names or len(set(names)) != len(names) or hidden < 1:
            raise UsageError(
                f"part localizer: points {list(names)}, hidden {hidden}; give each part one name, and channels"
            )
        self.names = tuple(names)
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, hidden, 3, padding=1), nn.ReLU()
        )
        self.maps = nn.Conv2d(hidden, len(names), 1)
        self.visible = nn.Linear(2 * hidden, len(names))
        self.edges = nn.Conv2d(hidden, 4, 1)

    def forward(self, features: Tensor) -> Located:
        """Map (N, C, h, w) -> Located."""
        seen = self.trunk(features)
        maps, edges = _log_shares(self.maps(seen)), _log_shares(self.edges(seen))
        visible = self.visible(torch.cat((seen.mean(dim=(2, 3)), seen.amax(dim=(2, 3))), dim=1)).float()
        return Located(box_of_edges(edges), mean_places(maps), visible, maps, edges)

    def loss(self, located: Located, places: Places) -> dict[str, Tensor]:
        """Return the terms `box`, `points` and `visible`, 0 where nothing is known.

        `box`: 1 - IoU, and `edge_loss`. `points`: the cross-entropy of each visible part's map with `cell_targets`.
        `visible`: the cross-entropy of what can be seen, in images of which any part is known.

        Args:
            located: of N images.
            places: box (N, 4), points (N, P, 2).
        """
        has_box = ~places.box.isnan().any(dim=1)
        box = torch.where(has_box[:, None], places.box, located.box.detach())
        gaps = 1 - box_iou(located.box, box) + edge_loss(located.edges, box)
        is_seen = ~places.points.isnan().any(dim=2)
        targets = cell_targets(places.points.nan_to_num(0.5), *located.maps.shape[2:])
        apart = -(targets * located.maps).sum(dim=(2, 3))
        hidden = binary_cross_entropy_with_logits(located.visible, is_seen.float(), reduction="none").mean(dim=1)
        return {
            "box": mean_of_known(gaps, has_box),
            "points": mean_of_known(apart.flatten(), is_seen.flatten()),
            "visible": mean_of_known(hidden, is_seen.any(dim=1)),
        }

    def terms(self, prediction: PartPrediction, weight: float) -> dict[str, Tensor]:
        """Return the terms of `loss` times a weight; none where nothing is annotated."""
        if prediction.places is None:
            return {}
        return {name: weight * term for name, term in self.loss(prediction.located, prediction.places).items()}


def located_measures(located: Located, places: Places | None) -> dict[str, Tensor]:
    """Return `pck` and `object_iou`, each () a mean over the images of which it is known; what none has is left out."""
    if places is None:
        return {}
    found = {"pck": pck(located.points, places)}
    if (has_box := ~places.box.isnan().any(dim=1)).any():
        found["object_iou"] = box_iou(located.box, places.box)[has_box].mean()
    return {name: value for name, value in found.items() if value is not None}


def _log_shares(scores: Tensor) -> Tensor:
    """Return the log-softmax of maps (N, ..., h, w) over their cells, in float32."""
    return scores.float().flatten(2).log_softmax(dim=2).view(scores.shape)


def head_and_body(names: Sequence[str], head: Sequence[str], owner: str) -> dict[str, list[int]]:
    """Return `head` and `body` -> at which places their points stand among the names; the body has all but the head's.

    Raises:
        UsageError: a point of the head that is none of the names, or no point for one of the two; names the owner.
    """
    for name in head:
        if name not in names:
            raise UsageError(
                f"head_points: {name!r} is none of the points{did_you_mean(name, names)}; there are {list(names)}"
            )
    if not head:
        raise UsageError(f"head_points: give at least one of the points {list(names)}")
    rows = [list(names).index(name) for name in head]
    others = [row for row in range(len(names)) if row not in rows]
    if not others:
        raise UsageError(f"{owner}: head_points are all of the points {list(names)}; leave some to the body")
    return {"head": rows, "body": others}


def own_prediction(prediction: Prediction, kind: type[Own], owner: str) -> Own:
    """Return a prediction as the kind that a recognizer makes; raises TypeError for another's."""
    if not isinstance(prediction, kind):
        raise TypeError(f"{owner} reads its own {kind.__name__}, not a {type(prediction).__name__}")
    return prediction
