"""A few-shot network: what it says of an image is measured against a few photographs of each class.

Shape letters: N images, S side of the image, D numbers of a vector, C channels, h, w grid, K leaves, W ways (classes of
an episode), Q query images.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.images.regions import downscale
from fgvc.methods.backbone import Backbone
from fgvc.methods.few_shot.base import Episode, FewShotClassifier
from fgvc.methods.few_shot.prototypes import PrototypeClassifier
from fgvc.methods.heads.base import PoolingFactory, node_loss
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.pooling.native import NativePooling
from fgvc.methods.recognizers.base import BackboneFactory, Recognizer
from fgvc.taxonomy.tree import Taxonomy

ClassifierFactory = Callable[[int], FewShotClassifier]


class FewShotRecognizer(Recognizer):
    """One backbone and a few-shot classifier, trained on episodes (Snell and others, NeurIPS 2017, and after them).

    After training it knows no classes. `support` and `support_labels` hold what an image of each class looks like; with
    them, `forward` answers with all classes of the taxonomy as the ways of one episode.

    Args:
        taxonomy, image_size: see Recognizer.
        backbone: makes the backbone from the image size.
        classifier: makes the classifier from the numbers of a vector, or from the channels of a map.
        pooling: makes the pooling from the number of channels, for a classifier that takes vectors.
        n_support: how many support images the model holds; 0 while it is trained.

    Attributes:
        support: (n_support, D) or (n_support, C, h, w), what `embed` says of the support images.
        support_labels: (n_support,) int64, their leaves.

    Raises:
        UsageError: a number of support images below 0.
    """

    learns_from_episodes: ClassVar[bool] = True

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        backbone: BackboneFactory = Backbone,
        classifier: ClassifierFactory = PrototypeClassifier,
        pooling: PoolingFactory = NativePooling,
        n_support: int = 0,
    ) -> None:
        super().__init__(taxonomy, image_size)
        if n_support < 0:
            raise UsageError(f"n_support: {n_support}; give 0 or more")
        self.backbone = backbone(image_size)
        channels = self.backbone.channels
        self.pooling: Pooling | None = None
        self.classifier = classifier(channels)
        if self.classifier.takes == "vector":
            self.pooling = pooling(channels).attach(self.backbone)
            if self.pooling.out_features != channels:
                self.classifier = classifier(self.pooling.out_features)
        shape = (channels, *self.backbone.grid) if self.pooling is None else (self.pooling.out_features,)
        self.register_buffer("support", torch.zeros(n_support, *shape))
        self.register_buffer("support_labels", torch.zeros(n_support, dtype=torch.int64))
        self.support: Tensor
        self.support_labels: Tensor

    def embed(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S) -> (N, D), or maps (N, C, h, w) where the classifier takes them."""
        features = self.backbone(downscale(images, self.image_size))
        return features.map if self.pooling is None else self.pooling.pool(features)

    def episode_scores(self, features: Tensor, n_way: int, n_shot: int) -> Tensor:
        """Score the queries of one episode.

        Args:
            features: what `embed` says of its images: n_shot of the support of each way, way by way, then the queries.
            n_way: W.
            n_shot: support images of each way.

        Returns:
            (Q, W) logits.
        """
        ways = torch.arange(n_way, device=features.device).repeat_interleave(n_shot)
        return self._scores(features[: len(ways)], ways, features[len(ways) :], n_way)

    def forward(self, images: Tensor) -> Prediction:
        """Images (N, 3, S, S) -> Prediction of the leaf level.

        Raises:
            UsageError: the model holds no support images.
        """
        if not len(self.support):
            raise UsageError("this model knows no classes yet; enroll photographs of some with fgvc few-shot enroll")
        features = self.embed(images)
        logits = self._scores(self.support, self.support_labels, features, self.taxonomy.num_classes)
        vectors = features.mean(dim=(2, 3)) if features.ndim == 4 else features
        return Prediction({self.taxonomy.leaf_level: logits}, vectors)

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy of the leaves; labels (N,) int64 node ids, -1 unknown."""
        return {"classes": node_loss(prediction.logits[self.taxonomy.leaf_level], labels, self.taxonomy)}

    def _scores(self, support: Tensor, ways: Tensor, query: Tensor, n_way: int) -> Tensor:
        """Return (Q, W), computed in float32: distances of many numbers overflow half precision."""
        with torch.autocast(query.device.type, enabled=False):
            known, asked = (x if x.dtype == torch.float64 else x.float() for x in (support, query))
            return self.classifier(Episode(known[None], ways[None], asked[None], n_way))[0]  # type: ignore[no-any-return]
