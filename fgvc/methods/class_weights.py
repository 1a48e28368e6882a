"""Weights of classes in a loss, by how many training images they have.

Shape letters: N images, K classes.
"""

import torch
from torch import Tensor, nn

from fgvc.confidence.effective_number import check_beta, class_weights


class ClassWeights(nn.Module):
    """Weights 1 / effective number, see `fgvc.confidence.effective_number`, for a loss to multiply its costs with.

    They are scaled so that their mean over the training images is 1: the loss keeps its size, and a learning rate that
    suits the plain loss suits this one. They act while training only.

    Deferred re-weighting (Kaidi Cao and others, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin
    Loss", NeurIPS 2019) lets the network learn unweighted first: the weights act in those phases of the training that
    say `reweight: true`.

    Args:
        num_classes: K.
        owner: the class of the loss, for messages.
        beta: of the effective number: 0 weighs all images alike, 1 all classes.
        deferred: whether the weights wait for a phase that asks for them.

    Attributes:
        waits: whether the weights wait; the recognizer sets it as each phase begins.

    Raises:
        UsageError: beta is outside its range.
    """

    def __init__(self, num_classes: int, owner: str, beta: float, deferred: bool) -> None:
        super().__init__()
        check_beta(f"{owner}: beta", beta)
        self.beta, self.deferred = beta, deferred
        self.waits = deferred
        for name in ("weights", "counts"):
            self.register_buffer(name, torch.ones(num_classes), persistent=False)
        self.weights: Tensor
        self.counts: Tensor

    def set_class_counts(self, counts: Tensor) -> None:
        """Set the number of training images per class, (K,)."""
        images = counts.double().cpu()
        weights = torch.from_numpy(class_weights(images.numpy(), self.beta))
        mean = (images * weights).sum() / images.sum()
        self.weights.copy_(weights / mean if bool(mean > 0) else torch.ones_like(weights))
        self.counts.copy_(images)

    def forward(self, inside: Tensor) -> Tensor:
        """Return the weight (N,) of each image.

        A label that names several classes has the mean of their weights over their training images.

        Args:
            inside: (N, K) bool, the classes that the label names.
        """
        if self.waits or not self.training:
            return torch.ones(len(inside), device=inside.device)
        named = inside.to(self.weights.dtype) @ torch.stack([self.counts * self.weights, self.counts], dim=1)
        return named[:, 0] / named[:, 1].clamp_min(1)
