"""Support images of an episode, put side by side per class though classes have different numbers of them.

Shape letters: E episodes, S support images, W ways, K the most images that a way has, h, w grid.
"""

import torch
from torch import Tensor


def stacked_by_class(values: Tensor, ones: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images of each way in the order of the episode, and which places hold one.

    Args:
        values: (E, S, ...).
        ones: (E, S, W), 1 at the way of each image, else 0.

    Returns:
        (E, W, K, ...), 0 at the places where a way has no further image, and (E, W, K) bool, true where there is one.
    """
    counts = ones.sum(dim=1).long()
    labels = ones.argmax(dim=2)
    places = (ones.cumsum(dim=1) - 1).gather(2, labels.unsqueeze(2)).squeeze(2).long()
    episodes = torch.arange(len(values), device=values.device).unsqueeze(1)
    most = int(counts.max())
    stacked = values.new_zeros(len(values), ones.shape[2], most, *values.shape[2:])
    stacked = stacked.index_put((episodes, labels, places), values)
    return stacked, torch.arange(most, device=values.device) < counts.unsqueeze(2)
