"""The nearest photographs of a gallery beside an answer, from the embedding that the answer itself was made of.

Shape letters: N images, D numbers of a vector.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fgvc.errors import UsageError
from fgvc.features.folder import open_features
from fgvc.features.rebuilding import answers_with_its_embedding, check_same
from fgvc.images.resizing import EvalResize
from fgvc.model_file.model import Model
from fgvc.prediction.retrieval.gallery import Gallery
from fgvc.prediction.retrieval.nearest import ExactSearch
from fgvc.prediction.retrieval.neighbour import Neighbour


class Beside:
    """Finds the photographs that a model's answers stand near to, by the cosine.

    Args:
        model: whose answers.
        features: the folder that `fgvc embed` wrote with this model.
        count: how many photographs.
        splits: of the folder; all by default.
        device: where products are taken.

    Attributes:
        gallery: the photographs. count: how many are told of each.

    Raises:
        UsageError: no features there, those of another model, or of something else than its embedding.
    """

    def __init__(
        self,
        model: Model,
        features: str | Path,
        count: int = 5,
        splits: Sequence[str] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        if count < 1:
            raise UsageError(f"neighbours: {count}; give 1 or more")
        if not isinstance(model.resize, EvalResize):
            raise UsageError(
                f"{features}: an ensemble has no features of one network to compare; leave the gallery out"
            )
        folder = open_features(features)
        take = folder.description["terms"].get("take", "prelogits")
        if take != "prelogits" or not answers_with_its_embedding(model.recognizer):
            kind = type(model.recognizer).__name__
            raise UsageError(
                f"{folder.path}: holds {take} of photographs; beside the answers of {kind} stand those whose prelogits "
                "are near: fgvc embed with --take prelogits, or fgvc search"
            )
        check_same(folder, model.recognizer, model.resize, model.architecture, "the model")
        self.gallery, self.count = Gallery(folder, splits), count
        self._search = ExactSearch(self.gallery.features, "cosine", device)

    def neighbours(self, embedding: Tensor, paths: Sequence[str | None]) -> list[list[Neighbour]]:
        """Return the nearest photographs of each image.

        Args:
            embedding: (N, D) of the answers.
            paths: (N,) files; none stands beside itself.
        """
        vectors = embedding.detach().float().cpu().numpy()
        return self.gallery.neighbours(self._search.nearest(vectors, self.count, self.gallery.own(paths)))
