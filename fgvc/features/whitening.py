"""PCA-whitening of features: directions that vary much no longer outweigh the others.

Source: Herve Jegou, Ondrej Chum, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and
whitening", ECCV 2012. It is learned without labels, on photographs that are searched in or on train, never on queries.

Shape letters: N photographs, D width of a feature, d width of a whitened one.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from fgvc.errors import UsageError
from fgvc.features.folder import FeatureFolder, Part

_TOGETHER = 4096
_LEAST = 1e-10
"""Least variance of a direction over the largest: what lies below is rounding of float32."""

Vectors = npt.NDArray[np.floating[Any]]


class Whitening(NamedTuple):
    """What turns features into whitened ones.

    mean: (D,) float64. projection: (D, d) float64, the directions of most variance first, each over its deviation.
    """

    mean: npt.NDArray[np.float64]
    projection: npt.NDArray[np.float64]

    def apply(self, features: Vectors) -> npt.NDArray[np.float32]:
        """Features (N, D) -> (N, d) float32.

        Over what it was learned on, each number has mean 0 and variance 1, and no two go together.
        """
        out = np.empty((len(features), self.projection.shape[1]), dtype=np.float32)
        for start in range(0, len(features), _TOGETHER):
            some = slice(start, start + _TOGETHER)
            out[some] = (features[some] - self.mean) @ self.projection
        return out


def whitening(features: Vectors, width: int | None = None) -> Whitening:
    """Learn a whitening from features (N, D).

    Args:
        features: of photographs; labels are not needed.
        width: d; by default as many directions as vary.

    Raises:
        UsageError: maps, too few photographs, more directions than vary, or features that are no numbers.
    """
    if features.ndim != 2:
        raise UsageError(f"whitening: features of the shape {features.shape[1:]}; it takes vectors")
    if len(features) < 2:
        raise UsageError(f"whitening: {len(features)} photographs; it takes at least 2")
    mean = features.mean(axis=0, dtype=np.float64)
    square = np.zeros((len(mean), len(mean)))
    for start in range(0, len(features), _TOGETHER):
        centred = features[start : start + _TOGETHER] - mean
        square += centred.T @ centred
    if not np.isfinite(square).all():
        raise UsageError("whitening: the features hold what is no number (NaN or infinite); embed them again")
    variances, directions = eigh(square / len(features))
    variances, directions = variances[::-1], directions[:, ::-1]
    varying = min(int((variances > _LEAST * variances[0]).sum()), len(features) - 1) if variances[0] > 0 else 0
    wanted = varying if width is None else width
    if not 1 <= wanted <= varying:
        raise UsageError(
            f"whitening: width {wanted}; give 1 to {varying}: so many directions vary in these photographs"
        )
    chosen = directions[:, :wanted]
    signs = np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(wanted)])  # else free: machines would differ
    return Whitening(mean, chosen * signs / np.sqrt(variances[:wanted]))


class WhitenedFolder(FeatureFolder):
    """A folder of features whose vectors are whitened where they are read; the files stay as they are.

    Args:
        folder: the features.
        split: on which it is learned.
        view: of it.
        width: see `whitening`.

    Attributes:
        whitening: what was learned.

    Raises:
        UsageError: no such split or view, or what `whitening` refuses.
    """

    def __init__(
        self, folder: FeatureFolder, split: str = "train", view: str = "whole", width: int | None = None
    ) -> None:
        super().__init__(folder.path, folder.description)
        self.whitening = whitening(folder.part(split, view).features, width)

    def part(self, split: str, view: str = "whole") -> Part:
        """Return the whitened features of a split in a view.

        Raises:
            UsageError: there are none, or they are damaged.
        """
        part = super().part(split, view)
        return part._replace(features=self.whitening.apply(part.features))
