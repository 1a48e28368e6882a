"""Baseline++: a new cosine classifier for every episode.

Shape letters: E episodes, W ways, S support images, Q query images, B images of a batch, D numbers of a vector.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fgvc.methods.episode_sgd import Schedule, batch_order, descend, first_weights, gram, in_span, score_gradient
from fgvc.methods.few_shot.base import Episode, FewShotClassifier, assignments, check_above_zero, widened


class BaselinePPClassifier(FewShotClassifier):
    """Scores scale * g_w <x/|x|, v_w/|v_w|>, whose g and v SGD trains on the support images of each episode.

    Wei-Yu Chen, Yen-Cheng Liu, Zsolt Kira, Yu-Chiang Frank Wang, Jia-Bin Huang, "A Closer Look at Few-shot
    Classification", ICLR 2019, as in its code: weight normalisation keeps a length g per way, which is trained as well
    and starts at the length of v; scale 2; the rates of Baseline. All episodes of a call are trained at once. No
    gradient reaches the features of the support images.

    Args:
        in_channels: D.
        scale: factor on the products.
        epochs: passes through the support set.
        seed: of the first weights and the order of batches, the same for every episode with as many images.

    Raises:
        UsageError: a scale, epochs or a seed that make no sense.
    """

    def __init__(self, in_channels: int, scale: float = 2.0, epochs: int = 100, seed: int = 0) -> None:
        super().__init__(in_channels)
        check_above_zero(scale=scale, epochs=epochs, seed=seed + 1)
        self.scale = scale
        self.schedule = Schedule(epochs=epochs)
        self.seed = seed

    def forward(self, episode: Episode) -> Tensor:
        """Vectors of an episode -> scores (E, Q, W)."""
        with torch.autocast(episode.support.device.type, enabled=False):
            episode = widened(episode)
            with torch.no_grad():
                lengths, directions = self.train_weights(episode)
            cosines = torch.bmm(normalize(episode.query, dim=2), normalize(directions, dim=2).transpose(1, 2))
            return self.scale * lengths.to(cosines.dtype) * cosines

    def train_weights(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Return the lengths g (E, 1, W) and the directions v (E, W, D) after all epochs."""
        support = normalize(episode.support, dim=2)
        start, _ = first_weights(episode.n_way, self.in_channels, self.seed)
        products, first = gram(support, start)
        targets = assignments(episode).to(products.dtype)

        def gradient(batch: Tensor, lengths: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
            """Return the gradients of the lengths and of the directions' coefficients over a batch (B,) of rows."""
            batch = batch.to(products.device)
            along = torch.bmm(products, coefficients)
            norms = (coefficients * along).sum(dim=1, keepdim=True).sqrt()
            cosines = along[:, batch] / norms
            pull = self.scale * score_gradient(self.scale * lengths * cosines, targets[:, batch])
            by_length = (pull * cosines).sum(dim=1, keepdim=True)
            by_direction = -coefficients * by_length / norms  # the part of the gradient along v is taken out
            by_direction.index_add_(1, batch, pull)
            return by_length, by_direction * lengths / norms

        batches = batch_order(support.shape[1], self.schedule, self.seed)
        lengths = start.norm(dim=1).to(products).expand(len(products), 1, -1)
        lengths, coefficients = descend((lengths, first), gradient, batches, self.schedule)
        return lengths, in_span(coefficients, support, start)
