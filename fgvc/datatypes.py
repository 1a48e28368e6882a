"""What travels: Sample (pixels, and Places where annotations are learnt from), Prediction (scores).

Shape letters: N images, S side of the source image, K boxes per image, P body parts, D width of the embedding; of an
episode: W ways, K shots.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


class Places(NamedTuple):
    """What is annotated of a photograph, or of a batch, in the part of it that is shown; NaN where nothing is known.

    box: (4,) or (N, 4) float32 xyxy of the object, as fractions of what is shown, cut at its edges.
    points: (P, 2) or (N, P, 2) float32 xy of named body parts, in the order asked for; NaN too where a part is hidden
        or lies outside. Where the photograph is shown mirrored, left and right parts have swapped their names.
    """

    box: Tensor
    points: Tensor


class Sample(NamedTuple):
    """One decoded photograph, or a batch of them when collated.

    image: (3, S, S) or (N, 3, S, S) uint8 RGB.
    label: () or (N,) int64 node id; -1 where nothing is known.
    index: () or (N,) int64 position in the split's records.
    view: (4,) or (N, 4) float32 xyxy: the part of the upright photograph that is shown, as fractions of it.
    places: what is annotated there; None unless a recognizer learns from annotations.
    """

    image: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]
    view: Tensor
    places: Places | None = None


class EpisodeSample(NamedTuple):
    """The photographs of one few-shot episode: W K of the support way by way, then the queries way by way.

    image, label, index, view: as a batch of Samples.
    n_way, n_shot: W and K.
    """

    image: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]
    view: Tensor
    n_way: int
    n_shot: int


@dataclass
class Prediction:
    """What a recognizer answers for N images.

    logits: level name -> (N, classes of that level); only levels the head scores, the leaf level always.
    embedding: (N, D).
    boxes: (N, K, 4) xyxy as fractions of the source image, or None.
    points: (N, P, 2) xy as fractions of the source image, NaN where a body part is taken for hidden; or None.
    views: name -> Prediction of a part of the method (scale1, crop, fused ...), each logged by its name.
    """

    logits: dict[str, Tensor]
    embedding: Tensor
    boxes: Tensor | None = None
    views: "dict[str, Prediction]" = field(default_factory=dict)
    points: Tensor | None = field(default=None, kw_only=True)
