"""The answers to a whole image and to crops of its parts, and to all of them together.

Shape letters: N images, K parts, s side of a crop, D width of an embedding, L leaves.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fgvc.datatypes import Prediction
from fgvc.methods.backbone import Backbone
from fgvc.methods.features import Features
from fgvc.methods.heads.base import Head
from fgvc.methods.module_list import ModuleListOf
from fgvc.taxonomy.tree import Taxonomy

Fusion = Literal["descriptors", "average"]

FUSION_SCALE = 16.0
"""Factor on the embeddings of length 1 before their classifier, as of RA-CNN."""


class PartViews(nn.Module):
    """A head for the whole image and for each part, and what classifies all of their embeddings side by side.

    Args:
        taxonomy: the classes.
        head: makes a head for the whole image and for each part.
        trunk: the backbone of the whole image; it is not stored here.
        closer: the backbone of the crops; None where that of the whole image reads them too.
        names: of the K parts.
        fusion: `descriptors` classifies the embeddings side by side, each of length 1; `average` is the mean of the
            views' probabilities.
        extra: further numbers of each part for the fusion, beside its embedding.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        head: Callable[[Taxonomy, Backbone], Head],
        trunk: Backbone,
        closer: Backbone | None,
        names: Sequence[str],
        fusion: Fusion = "average",
        extra: int = 0,
    ) -> None:
        super().__init__()
        self.taxonomy, self.names = taxonomy, tuple(names)
        self.closer = closer
        self._trunk = (closer or trunk,)  # in a tuple, so that a shared backbone is not stored twice
        self.heads: ModuleListOf[Head] = ModuleListOf(
            [head(taxonomy, trunk), *(head(taxonomy, closer or trunk) for _ in names)]
        )
        width = sum(one.embedding_size for one in self.heads) + extra * len(self.names)
        self.fusion = nn.Linear(width, taxonomy.num_classes) if fusion == "descriptors" else None

    def whole(self, features: Features) -> Prediction:
        """Return the answer to the whole image's Features."""
        return self.heads[0](features)  # type: ignore[no-any-return]

    def crops(self, seen: Tensor, boxes: Tensor, prefix: str = "") -> tuple[dict[str, Prediction], list[Features]]:
        """Crops (N, K, 3, s, s) of the boxes (N, K, 4) -> part -> Prediction, and the Features of each part."""
        features: Features = self._trunk[0](seen.flatten(0, 1))
        count = len(self.names)

        def rows(field: Tensor | None, part: int) -> Tensor | None:
            return None if field is None else field.reshape(-1, count, *field.shape[1:])[:, part]

        each = [Features(*(rows(field, part) for field in features)) for part in range(count)]  # type: ignore[arg-type]
        views = {}
        for part, (name, head) in enumerate(zip(self.names, list(self.heads)[1:], strict=True)):
            views[prefix + name] = head(each[part])
            views[prefix + name].boxes = boxes[:, part : part + 1]
        return views, each

    def joined(
        self, views: Mapping[str, Prediction], mean: dict[str, Tensor], extra: Sequence[Tensor] = ()
    ) -> Prediction:
        """Return the answer to whole image and all parts, in their order.

        Args:
            views: the answers.
            mean: level -> (N, ...), the log of their mean probability.
            extra: further numbers (N, ...) of each part.
        """
        vectors = [view.embedding for view in views.values()] + list(extra)
        embedding = torch.cat([normalize(vector.float()) for vector in vectors], dim=1)
        if self.fusion is None or not all(name in views for name in self.names):
            return Prediction(mean, embedding)
        fused = self.fusion(FUSION_SCALE * embedding.detach().to(self.fusion.weight.dtype))
        return Prediction({**mean, self.taxonomy.leaf_level: fused}, embedding)

    def loss(self, views: Mapping[str, Prediction], joined: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the terms of each view's head, and `fused_classes` where there is a fusion and every part was seen.

        Args:
            views: name -> answer; those that no head of ours made are passed over.
            joined: the answer to all.
            labels: (N,) int64 node ids, -1 unknown.
        """
        terms: dict[str, Tensor] = {}
        for name, head in zip(("whole", *self.names), self.heads, strict=True):
            if name in views:
                terms |= {f"{name}_{term}": value for term, value in head.loss(views[name], labels).items()}
        if self.fusion is not None and all(name in views for name in self.names):
            head, logits = self.heads[0], joined.logits[self.taxonomy.leaf_level]
            logits = head.adjusted(logits)
            terms["fused_classes"] = head.leaf_loss(logits, labels)
        return terms
