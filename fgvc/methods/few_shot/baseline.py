"""Baseline: a new linear classifier for every episode.

Shape letters: E episodes, W ways, S support images, Q query images, B images of a batch, D numbers of a vector.
"""

import torch
from torch import Tensor

from fgvc.methods.episode_sgd import Schedule, batch_order, descend, first_weights, gram, in_span, score_gradient
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments, check_above_zero, widened


class BaselineClassifier(FewShotClassifier):
    """A linear layer that SGD trains on the support images of each episode, the features frozen.

    Wei-Yu Chen, Yen-Cheng Liu, Zsolt Kira, Yu-Chiang Frank Wang, Jia-Bin Huang, "A Closer Look at Few-shot
    Classification", ICLR 2019: learning rate 0.01, momentum and dampening 0.9, weight decay 0.001, batches of 4. All
    episodes of a call are trained at once. No gradient reaches the features of the support images.

    Args:
        in_channels: D.
        epochs: passes through the support set.
        seed: of the first weights and the order of batches, the same for every episode with as many images.

    Raises:
        UsageError: epochs or a seed that make no sense.
    """

    def __init__(self, in_channels: int, epochs: int = 100, seed: int = 0) -> None:
        super().__init__(in_channels)
        check_above_zero(epochs=epochs, seed=seed + 1)
        self.schedule = Schedule(epochs=epochs)
        self.seed = seed

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> scores (E, Q, W)."""
        with torch.autocast(episode.support.device.type, enabled=False):
            episode = widened(episode)
            with torch.no_grad():
                weights, bias = self.train_weights(episode)
            return torch.bmm(episode.query, weights.transpose(1, 2)) + bias.to(weights.dtype)

    def train_weights(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Return the weights (E, W, D) and biases (E, 1, W) after all epochs."""
        start, bias = first_weights(episode.n_way, self.in_channels, self.seed)
        products, coefficients = gram(episode.support, start)
        targets = assignments(episode).to(products.dtype)

        def gradient(batch: Tensor, coefficients: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            batch = batch.to(products.device)
            pull = score_gradient(torch.bmm(products[:, batch], coefficients) + bias, targets[:, batch])
            return torch.zeros_like(coefficients).index_copy_(1, batch, pull), pull.sum(dim=1, keepdim=True)

        batches = batch_order(episode.support.shape[1], self.schedule, self.seed)
        biases = bias.to(products).expand(len(products), 1, -1)
        coefficients, biases = descend((coefficients, biases), gradient, batches, self.schedule)
        return in_span(coefficients, episode.support, start), biases
