"""Generalised-mean pooling.

Shape letters: N images, C channels, h, w grid.
"""

import torch
from torch import Tensor, nn

from fgvc.errors import UsageError
from fgvc.methods.pooling.base import Pooling


def generalised_mean(features: Tensor, power: Tensor, eps: float = 1e-6) -> Tensor:
    """Return ((1 / hw) sum x^p)^(1/p) over positions, where x is at least eps.

    Args:
        features: (N, C, h, w).
        power: () p; 1 is the average, infinity the maximum.
        eps: floor that keeps the gradient of the root finite.

    Returns:
        (N, C) in the type of `features`; computed in float32, where x^p overflows later than in half precision.
    """
    with torch.autocast(features.device.type, enabled=False):
        wide = (features if features.dtype == torch.float64 else features.float()).clamp_min(eps)
        # The mean is homogeneous: after division by the largest value, powers neither overflow nor all vanish.
        peak = wide.detach().amax(dim=(2, 3), keepdim=True)
        mean = (wide / peak).pow(power).mean(dim=(2, 3)).pow(1 / power)
        return (mean * peak[..., 0, 0]).to(features.dtype)


class GeMPooling(Pooling):
    """Generalised mean with a learnt power.

    Filip Radenovic, Giorgos Tolias, Ondrej Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation",
    TPAMI 2018.

    Args:
        in_channels: C, handed down by the head.
        power: p at the start of training, at least 1.
        learn_power: whether p is trained.

    Raises:
        UsageError: a power below 1.
    """

    def __init__(self, in_channels: int, power: float = 3.0, learn_power: bool = True) -> None:
        super().__init__(in_channels)
        if power < 1:
            raise UsageError(f"GeMPooling: power {power}; it must be at least 1 (1 is the average)")
        self.power = nn.Parameter(torch.tensor(float(power)), requires_grad=learn_power)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, C)."""
        return generalised_mean(features, self.power.clamp_min(1))
