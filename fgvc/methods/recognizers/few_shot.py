"""A few-shot network: what it says of an image is measured against a few photographs of each class.

Shape letters: N images, S side of the image, D numbers of a vector, C channels, h, w grid, K leaves, W ways (classes of
an episode), Q query images.
"""

from typing import ClassVar

import torch
from torch import Tensor

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.images.regions import downscale
from fgvc.methods.backbone import Backbone
from fgvc.methods.few_shot.base import ClassifierFactory, Episode
from fgvc.methods.few_shot.prototypes import PrototypeClassifier
from fgvc.methods.heads.base import PoolingFactory
from fgvc.methods.losses.cross_entropy import node_loss
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.pooling.native import NativePooling
from fgvc.methods.recognizers.base import BackboneFactory, Recognizer
from fgvc.taxonomy.tree import Taxonomy


class FewShotRecognizer(Recognizer):
    """One backbone and a few-shot classifier, trained on episodes (Snell and others, NeurIPS 2017, and after them).

    After training it knows no classes: `fgvc few-shot enroll` makes an EnrolledRecognizer of it, which does.

    Args:
        taxonomy, image_size: see Recognizer.
        backbone: makes the backbone from the image size.
        classifier: makes the classifier from the numbers of a vector, or from the channels of a map.
        pooling: makes the pooling from the number of channels, for a classifier that takes vectors.
    """

    learns_from_episodes: ClassVar[bool] = True

    def __init__(
        self,
        taxonomy: Taxonomy,
        image_size: int,
        backbone: BackboneFactory = Backbone,
        classifier: ClassifierFactory = PrototypeClassifier,
        pooling: PoolingFactory = NativePooling,
    ) -> None:
        super().__init__(taxonomy, image_size)
        self.backbone = backbone(image_size)
        channels = self.backbone.channels
        self.pooling: Pooling | None = None
        self.classifier = classifier(channels)
        if self.classifier.takes == "vector":
            self.pooling = pooling(channels).attach(self.backbone)
            if self.pooling.out_features != channels:
                self.classifier = classifier(self.pooling.out_features)

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
            (Q, W) logits, computed in float32: distances of many numbers overflow half precision.
        """
        ways = torch.arange(n_way, device=features.device).repeat_interleave(n_shot)
        with torch.autocast(features.device.type, enabled=False):
            wide = features if features.dtype == torch.float64 else features.float()
            episode = Episode(wide[None, : len(ways)], ways[None], wide[None, len(ways) :], n_way)
            return self.classifier(episode)[0]  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Prediction:
        """Raise UsageError: a network that was trained on episodes names nothing before classes are enrolled."""
        raise UsageError("this model knows no classes yet; enroll photographs of some with fgvc few-shot enroll")

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy of the leaves; labels (N,) int64 node ids, -1 unknown."""
        return {"classes": node_loss(prediction.logits[self.taxonomy.leaf_level], labels, self.taxonomy)}
