"""Symmetric cross-entropy: the label's cost under the network, and the network's cost under the label.

Shape letters: N images, K classes.
"""

import torch
from torch import Tensor

from fgvc.errors import UsageError
from fgvc.methods.losses.base import ClassLoss, named


class SymmetricCrossEntropy(ClassLoss):
    """alpha * -log p + beta * -log_zero * (1 - p) of the probability p of what the label names.

    Yisen Wang, Xingjun Ma, Zaiyi Chen, Yuan Luo, Jinfeng Yi, James Bailey, "Symmetric Cross Entropy for Robust Learning
    with Noisy Labels", ICCV 2019. The second term is the reverse cross-entropy, -sum of p log t over the classes, in
    which the log of a target t of 0 is `log_zero`. It is bounded, so a wrong label pulls little through it, and the
    first term makes sure that learning goes on.

    Args:
        num_classes: K.
        alpha: of the cross-entropy, 0 or more.
        beta: of the reverse cross-entropy, 0 or more. The paper takes alpha 0.1, beta 1 for ten classes and alpha 6,
            beta 0.1 for a hundred, of networks that start from nothing; pretrained ones can trust the label less.
        log_zero: what stands for the log of 0, below 0. Only beta * log_zero counts.

    Raises:
        UsageError: a number outside its range, or both weights 0.
    """

    def __init__(self, num_classes: int, alpha: float = 0.01, beta: float = 1.0, log_zero: float = -4.0) -> None:
        super().__init__(num_classes)
        if not (alpha >= 0 and beta >= 0 and alpha + beta > 0 and log_zero < 0):
            raise UsageError(
                f"SymmetricCrossEntropy: alpha {alpha}, beta {beta}, log_zero {log_zero}; give weights of 0 or more, "
                "not both 0, and a log_zero below 0 (usual: 0.01 to 0.1, 1, -4)"
            )
        self.alpha, self.beta, self.log_zero = alpha, beta, log_zero

    def per_image(self, log_p: Tensor, inside: Tensor) -> Tensor:
        """Map log-probabilities (N, K), named classes (N, K) bool -> costs (N,)."""
        log_named = named(log_p, inside)
        reverse = self.log_zero * torch.expm1(log_named)  # log_zero * (p - 1)
        return self.beta * reverse - self.alpha * log_named
