"""Several trained recognizers that answer together.

Shape letters: N images, S side of a square, H, W sides of a strip of squares, C classes of a level, D numbers of a
vector, M members.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.images.resizing import EvalResize, Shown, cut_strip, laid_side_by_side, shown_together
from fgvc.images.sides import check_side
from fgvc.methods.losses.cross_entropy import node_loss
from fgvc.methods.module_list import ModuleListOf
from fgvc.methods.recognizers.base import Recognizer
from fgvc.methods.view_shares import Share
from fgvc.taxonomy.readouts import LINEAGE_READOUTS, OWN, lineage_log_probs
from fgvc.taxonomy.tree import Taxonomy

RecognizerFactory = Callable[[Taxonomy, int], Recognizer]
NAME = r"[\w.+-]{1,200}"
"""What a member may be called: its name stands in names of metrics and columns."""


def weighted_mean(log_probs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the log of a weighted mean of probabilities.

    Args:
        log_probs: M tensors (N, C).
        weights: M numbers of sum 1.

    Returns:
        (N, C) float32.
    """
    terms = [x.float() + math.log(w) for x, w in zip(log_probs, weights, strict=True) if w > 0]
    return torch.stack(terms).logsumexp(dim=0)


class Ensemble(Recognizer):
    """Answer with the weighted mean of the calibrated probabilities of several recognizers, at every level.

    Balaji Lakshminarayanan, Alexander Pritzel, Charles Blundell, "Simple and Scalable Predictive Uncertainty Estimation
    using Deep Ensembles", NIPS 2017. Each member sees a photograph as it did alone: evaluation resizes it once for each
    unlike way, and lays the squares side by side. A single square is shown to all. The embedding is that of all
    members in a row, each of length sqrt(weight), so that a product of two is the weighted mean of cosines.

    Args:
        taxonomy: the classes, those of every member.
        image_size: see Recognizer; that of the largest member.
        members: make the members.
        image_sizes: the side at which each sees the whole image.
        inputs: how a photograph is shown to each, see `EvalResize`.
        names: of the members; the view `member_<name>` of the prediction is what one answers alone.
        weights: of the members, with sum 1; None for equal ones.
        temperatures: of each member, level -> T; None for 1.
        readouts: of each member, see `lineage_log_probs`; None for `own`.
        shares: of each member, view -> [temperature, weight], see `Share`; None where no views are weighed.

    Raises:
        UsageError: lists of unlike lengths, or a weight, temperature or name that makes no sense.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        members: Sequence[RecognizerFactory],
        image_sizes: Sequence[int],
        inputs: Sequence[dict[str, Any]],
        names: Sequence[str],
        weights: Sequence[float] | None = None,
        temperatures: Sequence[dict[str, float]] | None = None,
        readouts: Sequence[str] | None = None,
        shares: Sequence[dict[str, list[float]]] | None = None,
    ) -> None:
        super().__init__(taxonomy, image_size)
        count = len(members)
        self.weights = [1 / max(count, 1)] * count if weights is None else [float(w) for w in weights]
        self.temperatures = [{}] * count if temperatures is None else [dict(one) for one in temperatures]
        self.readouts = [OWN] * count if readouts is None else list(readouts)
        self.names = [str(name) for name in names]
        self.shares = [{}] * count if shares is None else [dict(one) for one in shares]
        _check(count, self, image_sizes, inputs)
        self.weights = [w / sum(self.weights) for w in self.weights]  # a file holds a few digits
        try:
            squares = [EvalResize(**one).check() for one in inputs]
        except TypeError as error:
            raise UsageError(f"ensemble inputs: {error}; each has size, fit, crop_fraction, interpolation") from None
        self.shown, self._places = shown_together(squares)
        self.shown.check()
        sizes = zip(members, image_sizes, strict=True)
        self.members: ModuleListOf[Recognizer] = ModuleListOf(member(taxonomy, size) for member, size in sizes)
        for recognizer, of_views in zip(self.members, self.shares, strict=True):
            recognizer.view_shares = {name: Share(*pair) for name, pair in of_views.items()}

    def resize(self, own: EvalResize) -> Shown:
        """Return how evaluation shows a photograph: in each way that a member asks for."""
        return self.shown

    def apart(self, images: Tensor) -> tuple[Tensor, ...]:
        """Cut (N, 3, H, W), squares side by side, into these; or return the one square (N, 3, S, S) that all see."""
        return cut_strip(images, self.shown)

    def together(self, squares: Sequence[Tensor]) -> Tensor:
        """Lay squares (N, 3, S, S) side by side again, (N, 3, H, W)."""
        return laid_side_by_side(squares)

    def forward(self, images: Tensor) -> Prediction:
        """Images (N, 3, S, S), or squares side by side (N, 3, H, W) -> Prediction with a view for each member."""
        squares = self.apart(images)
        views, embeddings = {}, []
        for i, member in enumerate(self.members):
            seen = member(squares[self._places[i] if len(squares) > 1 else 0])
            scores = lineage_log_probs(seen.logits, self.taxonomy, self.temperatures[i], self.readouts[i])
            views[f"member_{self.names[i]}"] = Prediction(scores, seen.embedding)
            embeddings.append(math.sqrt(self.weights[i]) * normalize(seen.embedding.flatten(1).float(), dim=1))
        logits = {
            level: weighted_mean([view.logits[level] for view in views.values()], self.weights)
            for level in self.taxonomy.levels
        }
        return Prediction(logits, torch.cat(embeddings, dim=1), views=views)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy of the leaves, `classes`; labels (N,) int64 node ids."""
        return {"classes": node_loss(prediction.logits[self.taxonomy.leaf_level], labels, self.taxonomy)}


def _check(count: int, made: Ensemble, image_sizes: Sequence[int], inputs: Sequence[Any]) -> None:
    lists = {"image_sizes": image_sizes, "inputs": inputs, "names": made.names, "weights": made.weights}
    lists |= {"temperatures": made.temperatures, "readouts": made.readouts, "shares": made.shares}
    if not count:
        raise UsageError("ensemble members: none; give at least one")
    for key, one in lists.items():
        if len(one) != count:
            raise UsageError(f"ensemble {key}: {len(one)} for {count} members; give one each")
    for key, side in [
        *(("image_sizes", side) for side in image_sizes),
        *(("inputs", one.get("size")) for one in inputs),
    ]:
        if type(side) is not int:
            raise UsageError(f"ensemble {key}: {side!r}; a side in pixels")
        check_side(f"ensemble {key}", side)
    if len(set(made.names)) < count or not all(re.fullmatch(NAME, name) for name in made.names):
        said = ", ".join(map(repr, made.names))[:200]
        raise UsageError(f"ensemble names: {said}; each member needs one of its own, of letters, digits, _ . + -")
    if not all(0 <= w <= 1 for w in made.weights) or abs(sum(made.weights) - 1) > 1e-3:
        raise UsageError(f"ensemble weights: {made.weights}; numbers of 0 to 1 whose sum is 1")
    for readout in made.readouts:
        if readout not in LINEAGE_READOUTS:
            raise UsageError(f"ensemble readouts: {readout}; {' or '.join(LINEAGE_READOUTS)}")
    for of_member in made.temperatures:
        for level, value in of_member.items():
            if level not in made.taxonomy.levels or not 0 < value < math.inf:
                raise UsageError(f"ensemble temperatures: {level} {value}; a level of the taxonomy, a number above 0")
    for pair in [one for of_views in made.shares for one in of_views.values()]:
        if len(pair) != 2 or not (0 < pair[0] < math.inf and 0 <= pair[1] < math.inf):
            raise UsageError(f"ensemble shares: {pair}; a temperature above 0 and a weight of 0 or more")
