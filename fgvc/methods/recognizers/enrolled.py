"""A network that was taught new classes by a few photographs, without training.

Shape letters: N images, S side of the source image, K leaves, M photographs that were enrolled, W classes that were
enrolled, D numbers of a vector, C channels, h, w grid.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.few_shot.base import ClassifierFactory, Episode
from fgvc.methods.losses.cross_entropy import node_loss
from fgvc.methods.recognizers.base import Recognizer
from fgvc.taxonomy.tree import Taxonomy

RecognizerFactory = Callable[[Taxonomy, int], Recognizer]


class EnrolledRecognizer(Recognizer):
    """A recognizer whose embedding is compared with that of a few photographs of each new class.

    The photographs are the support of one episode, every image is a query. Beside its old classes the logits of the new
    ones are `scale * score + shift`, so that both kinds share one softmax. `fgvc few-shot enroll` fills the buffers.

    Args:
        taxonomy: the new classes, and with `keep_old` the old ones too.
        image_size: see Recognizer.
        recognizer: makes the network from its own classes and the image size.
        known: its own classes, as `Taxonomy.to_plain` writes them.
        classifier: makes the few-shot classifier from D or C.
        support_shape: [M, D] or [M, C, h, w].
        length_one: whether embeddings are scaled to length 1, after `centre` is taken off.
        keep_old: whether the old classes are answered too.

    Attributes:
        support: (M, D) or (M, C, h, w), embeddings of the enrolled photographs.
        support_labels: (M,) int64, the leaf of each.
        centre: (D,) what is taken off embeddings; 0 by default.
        old_leaves: (K_old,) int64, the leaf that each old leaf has now; empty without `keep_old`.
        scale, shift: () of the new classes' logits; 1 and 0 without `keep_old`.

    Raises:
        UsageError: a shape without photographs or numbers.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        recognizer: RecognizerFactory,
        known: dict[str, Any],
        classifier: ClassifierFactory,
        support_shape: Sequence[int],
        length_one: bool = False,
        keep_old: bool = False,
    ) -> None:
        super().__init__(taxonomy, image_size)
        if len(support_shape) not in (2, 4) or min(support_shape) < 1:
            raise UsageError(f"support_shape: {list(support_shape)}; it is [M, D] or [M, C, h, w]")
        try:
            old = Taxonomy.from_plain(known)
        except (KeyError, TypeError) as error:
            raise UsageError(f"known: no classes ({type(error).__name__} {error})") from None
        self.recognizer = recognizer(old, image_size)
        self.classifier = classifier(support_shape[1])
        self.length_one, self.keep_old = length_one, keep_old
        self.support: Tensor
        self.register_buffer("support", torch.zeros(*support_shape))
        self.support_labels: Tensor
        self.register_buffer("support_labels", torch.zeros(support_shape[0], dtype=torch.int64))
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(support_shape[1:2]))
        self.old_leaves: Tensor
        self.register_buffer("old_leaves", torch.zeros(old.num_classes if keep_old else 0, dtype=torch.int64))
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()))
        self.shift: Tensor
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, images: Tensor) -> Prediction:
        """Images (N, 3, S, S) -> Prediction of the leaf level."""
        if not self.keep_old:
            embedding = self.recognizer.embed(images)
            return Prediction({self.taxonomy.leaf_level: self.scores(embedding)}, embedding)
        seen = self.recognizer(images)
        old = seen.logits[self.recognizer.taxonomy.leaf_level]
        return Prediction({self.taxonomy.leaf_level: self.joined(old, self.scores(seen.embedding))}, seen.embedding)

    def scores(self, embedding: Tensor) -> Tensor:
        """Embeddings (N, D) or (N, C, h, w) -> scores (N, W) of the enrolled classes, in the order of their leaves."""
        query, support = self.prepared(embedding.float()), self.prepared(self.support)
        leaves, ways = self.ways()
        episode = Episode(support[None], ways[None], query[None], len(leaves))
        return self.classifier(episode)[0]  # type: ignore[no-any-return]

    def ways(self) -> tuple[Tensor, Tensor]:
        """Return the leaves (W,) that were enrolled, ascending, and the place there (M,) of each photograph's class."""
        return torch.unique(self.support_labels, return_inverse=True)  # type: ignore[no-any-return]

    def prepared(self, embedding: Tensor) -> Tensor:
        """Return embeddings (N, D) as the classifier takes them; maps as they are."""
        if embedding.ndim != 2:
            return embedding
        centred = embedding - self.centre
        return normalize(centred, dim=1) if self.length_one else centred

    def joined(self, old: Tensor, new: Tensor) -> Tensor:
        """Logits (N, K_old) and scores (N, W) -> logits (N, K) of old and new classes."""
        logits = old.new_empty(len(old), self.taxonomy.num_classes, dtype=torch.float32)
        logits[:, self.old_leaves] = old.float()
        logits[:, self.ways()[0]] = self.scale * new.float() + self.shift
        return logits

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy of the leaves, `classes`; labels (N,) int64 node ids."""
        return {"classes": node_loss(prediction.logits[self.taxonomy.leaf_level], labels, self.taxonomy)}
