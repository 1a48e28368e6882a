"""Relation networks: a learned comparison of two maps.

Shape letters: E episodes, W ways, Q query images, C channels, H hidden channels, h, w grid.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from fgvc.errors import UsageError
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, class_means


class RelationClassifier(FewShotClassifier):
    """A small network says of a class's mean map and a query's map how well they go together.

    Flood Sung, Yongxin Yang, Li Zhang, Tao Xiang, Philip H. S. Torr, Timothy M. Hospedales, "Learning to Compare:
    Relation Network for Few-Shot Learning", CVPR 2018. It differs from the paper: there a sigmoid ends the network and
    the squared error to 0 or 1 trains it; here scores are what the sigmoid would take, and are trained with the
    cross-entropy over the ways, as every classifier here. Several shots are averaged, not summed, as ways may have
    different numbers of images. Adaptive max pooling takes any grid; the batch norm keeps running averages, so the
    score of an image does not hang on its batch once training is over.

    Args:
        in_channels: C.
        hidden: H, channels of its two convolutions.
        inner: numbers between its two linear layers.

    Raises:
        UsageError: fewer than one of them.
    """

    takes: ClassVar[Literal["vector", "map"]] = "map"
    needs_training: ClassVar[bool] = True

    def __init__(self, in_channels: int, hidden: int = 64, inner: int = 8) -> None:
        super().__init__(in_channels)
        for name, value in (("hidden", hidden), ("inner", inner)):
            if value < 1:
                raise UsageError(f"{name}: {value}; it must be at least 1")
        self.pairing = nn.Conv2d(2 * in_channels, hidden, 3, padding=1)
        self.relation = nn.Sequential(
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(5),
            nn.Conv2d(hidden, hidden, 3),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(hidden, inner),
            nn.ReLU(),
            nn.Linear(inner, 1),
        )

    def forward(self, episode: Episode) -> Tensor:
        """Maps of an episode -> scores (E, Q, W)."""
        means, query = class_means(episode), episode.query
        # The first convolution of a pair is the sum of one over each half: W + Q of them for an episode, not W * Q.
        ours, theirs = torch.split(self.pairing.weight, self.in_channels, dim=1)
        left = conv2d(means.flatten(0, 1), ours, self.pairing.bias, padding=1)
        right = conv2d(query.flatten(0, 1), theirs, padding=1)
        left = left.reshape(len(query), 1, -1, *left.shape[1:])
        pairs = left + right.reshape(len(query), -1, 1, *right.shape[1:])  # (E, Q, W, H, h, w)
        scores: Tensor = self.relation(pairs.flatten(0, 2))
        return scores.view(pairs.shape[:3])
