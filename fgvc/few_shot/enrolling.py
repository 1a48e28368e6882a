"""Teach a network new classes from a few photographs, and say how sure it may be of them.

Shape letters: M photographs that are enrolled, W new classes, V photographs of old classes, K_old old leaves, D numbers
of a vector, C channels, h, w grid.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cross_entropy

from fgvc.data.records import Records
from fgvc.few_shot.methods import Method
from fgvc.files.bars import bar
from fgvc.images.decoding import USUAL, Limits
from fgvc.images.pictures import Square, in_threads, square_of
from fgvc.images.resizing import Shown
from fgvc.methods.few_shot.base import Episode
from fgvc.methods.recognizers.base import Recognizer
from fgvc.methods.recognizers.enrolled import EnrolledRecognizer
from fgvc.model_file.architecture import build
from fgvc.model_file.model import Model
from fgvc.taxonomy.tree import Taxonomy

AT_ONCE = 32
FALSE_NEW = 0.05
"""Where one photograph per class says nothing of how far new classes reach: the share of old ones that may be lost."""


class Seen(NamedTuple):
    """What a network says of photographs.

    embedding: (N, D) or (N, C, h, w). logits: (N, K_old) of its leaves; (N, 0) where it knows no classes.
    """

    embedding: Tensor
    logits: Tensor


class Old(NamedTuple):
    """What is known of a model's own classes on photographs that it was not trained on.

    labels: (V,) leaves. seen: what the network says of the photographs.
    """

    labels: Tensor
    seen: Seen


class Weighing(NamedTuple):
    """How new classes stand beside the old ones.

    scale, shift: of their scores. from_photographs: whether photographs of new classes decided, or, with one each, the
    share of old ones that may be lost.
    """

    scale: float
    shift: float
    from_photographs: bool


def look(
    recognizer: Recognizer,
    records: Records,
    resize: Shown,
    doing: str,
    classes: bool,
    limits: Limits = USUAL,
    device: str = "cpu",
) -> Seen:
    """Run a network over photographs.

    Args:
        recognizer: in evaluation mode.
        records: the photographs.
        resize: how it sees them.
        doing: words for the progress bar.
        classes: whether the logits of its own classes are wanted too.
        limits: which photographs are read.
        device: where it computes.

    Raises:
        ImageError: a photograph cannot be read.
    """
    found, logits = [], []
    paths = [records[i].path for i in range(len(records))]
    squares = bar(doing, in_threads(lambda path: square_of(path, resize, limits), paths, 2 * AT_ONCE), total=len(paths))
    for batch in _batches(squares):
        images = torch.from_numpy(np.stack([one.pixels for one in batch])).permute(0, 3, 1, 2).to(device)
        with torch.inference_mode():
            if classes:
                prediction = recognizer(images)
                found.append(prediction.embedding.float().cpu())
                logits.append(prediction.logits[recognizer.taxonomy.leaf_level].float().cpu())
            else:
                found.append(recognizer.embed(images).float().cpu())
    embedding = torch.cat(found).clone()
    return Seen(embedding, torch.cat(logits).clone() if classes else embedding.new_zeros(len(embedding), 0))


def _batches(squares: Iterator[Square]) -> Iterator[list[Square]]:
    batch: list[Square] = []
    for one in squares:
        batch.append(one)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def enrolled(
    model: Model, method: Method, taxonomy: Taxonomy, seen: Seen, leaves: Tensor, old: Old | None = None
) -> tuple[EnrolledRecognizer, dict[str, Any]]:
    """Put a recognizer that knows photographs of new classes around a network.

    Args:
        model: the network; it stays as it is.
        method: how photographs are compared. The mean that it takes off, or what it learns from base classes, comes
            from the photographs of old classes, else from the new ones themselves.
        taxonomy: the new classes, behind the old ones where those are kept.
        seen: what the network says of the M photographs.
        leaves: (M,) int64, their leaves there.
        old: photographs of the old classes, which are then kept, in their order the first of the taxonomy.

    Returns:
        The recognizer, whose `scale` and `shift` are still 1 and 0, and its architecture for a model file.
    """
    architecture = {
        "class_path": EnrolledRecognizer.__name__,
        "init_args": {
            "recognizer": model.architecture,
            "known": model.taxonomy.to_plain(),
            "classifier": method.plain,
            "support_shape": [*seen.embedding.shape],
            "length_one": method.features != "raw",
            "keep_old": old is not None,
        },
    }
    made: Any = build(architecture, taxonomy, model.recognizer.image_size, weights="none").eval()
    made.recognizer.load_state_dict(model.recognizer.state_dict())
    made.classifier.load_state_dict(method.make(seen.embedding.shape[1]).state_dict())
    made.support.copy_(seen.embedding)
    made.support_labels.copy_(leaves)
    base, labels = (seen.embedding, leaves) if old is None else (old.seen.embedding, old.labels)
    if method.features == "cl2n" and base.ndim == 2:
        made.centre.copy_(base.mean(dim=0))
    with torch.no_grad():
        made.classifier.prepare(made.prepared(base), labels)
    if old is not None:
        made.old_leaves.copy_(torch.arange(len(made.old_leaves)))
    return made, architecture


def set_beside(
    model: EnrolledRecognizer, seen: Seen, old: Old, of_old: Tensor, rows: Tensor, scores: Tensor
) -> Weighing:
    """Choose scale and shift of the new classes beside the old ones, see `weigh`, and set them.

    Args:
        model, seen: see `enrolled`.
        old: photographs of the old classes.
        of_old: (V, W) the new classes' scores for them.
        rows, scores: see `leave_one_out`.
    """
    ways = model.ways()[1]
    found = weigh(old.seen.logits, old.labels, of_old, seen.logits[rows], ways[rows], scores)
    model.scale.fill_(found.scale)
    model.shift.fill_(found.shift)
    return found


def leave_one_out(model: EnrolledRecognizer) -> tuple[Tensor, Tensor]:
    """Score each enrolled photograph by the others.

    Returns:
        Which photographs have another one of their class, (R,) int64, and their scores (R, W).
    """
    support = model.prepared(model.support)
    _, ways = model.ways()
    counts = torch.bincount(ways)
    rows = (counts[ways] > 1).nonzero()[:, 0]
    scores = [support.new_zeros(0, len(counts))]
    everyone = torch.arange(len(support))
    for row in bar("leave one out", rows.tolist(), delay=2):
        others = everyone != row
        with torch.no_grad():
            episode = Episode(support[others][None], ways[others][None], support[row][None, None], len(counts))
            scores.append(model.classifier(episode)[0])
    return rows, torch.cat(scores)


def weigh(
    old: Tensor, old_labels: Tensor, old_scores: Tensor, new: Tensor, new_labels: Tensor, new_scores: Tensor
) -> Weighing:
    """Fit scale and shift of the new classes' scores so that old and new classes share one softmax.

    The cross-entropy over photographs of both kinds is least, each class counting alike.

    Args:
        old: (V, K_old) logits of old classes for photographs of old classes that were not trained on.
        old_labels: (V,) their leaves among the old.
        old_scores: (V, W) the new classes' scores for them.
        new: (R, K_old) logits of old classes for enrolled photographs.
        new_labels: (R,) their ways, 0 .. W-1.
        new_scores: (R, W) scores by the other photographs. R may be 0: then at most `FALSE_NEW` of the old photographs
            may be taken for new ones.
    """
    if not len(new):
        scale = _own_scale(old_scores)
        reach = (old.amax(dim=1) - scale * old_scores.amax(dim=1)).double().numpy()
        return Weighing(scale, float(np.quantile(reach, FALSE_NEW)), from_photographs=False)
    known = torch.cat([old, new]).double()
    scores = torch.cat([old_scores, new_scores]).double()
    targets = torch.cat([old_labels, new_labels + old.shape[1]])
    weights = (1.0 / torch.bincount(targets).clamp_min(1))[targets].double()
    start = _own_scale(new_scores)
    middle = float((new.amax(dim=1) - start * new_scores.amax(dim=1)).mean())

    def loss(numbers: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        """Return the cross-entropy at (log of the scale, shift), and its gradient (2,)."""
        with torch.enable_grad():
            free = torch.tensor(numbers, requires_grad=True)
            logits = torch.cat([known, free[0].exp() * scores + free[1]], dim=1)
            total = (weights * cross_entropy(logits, targets, reduction="none")).sum() / weights.sum()
            (gradient,) = torch.autograd.grad(total, free)
        return float(total.detach()), gradient.numpy()

    found = minimize(loss, np.array([np.log(start), middle]), jac=True, method="L-BFGS-B")
    return Weighing(float(np.exp(found.x[0])), float(found.x[1]), from_photographs=True)


def _own_scale(scores: Tensor) -> float:
    """Return the factor that gives the best scores of photographs a spread of 1 across the classes."""
    return 1.0 / max(float(scores.std(dim=1).mean()), 1e-6) if scores.shape[1] > 1 else 1.0
