"""A network of blocks that each halve the map, as timm wants one: what Conv-4 and ResNet-12 share.

Shape letters: N images, S side of the image, D width of the map, h, w grid.
"""

from collections.abc import Sequence
from typing import Any

from timm.layers import SelectAdaptivePool2d
from timm.models import generate_default_cfgs
from torch import Tensor, nn


class BlockNetwork(nn.Module):
    """Blocks one after the other, then the mean over the map and a classifier.

    Args:
        blocks: each (N, C, h, w) -> (N, D, h/2, w/2).
        widths: D of each block.
        num_classes: of the classifier; 0 for none.
        global_pool: what is done to the map before the classifier, `avg` or another word of timm.
    """

    def __init__(self, blocks: Sequence[nn.Module], widths: Sequence[int], num_classes: int, global_pool: str) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.feature_info = [
            {"num_chs": width, "reduction": 2 ** (i + 1), "module": f"blocks.{i}"} for i, width in enumerate(widths)
        ]
        self.num_features = self.head_hidden_size = widths[-1]
        self.reset_classifier(num_classes, global_pool)

    def get_classifier(self) -> nn.Module:
        """Return the classifier; timm asks for it."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Make a new classifier, and another pooling where one is named."""
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=True)
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (N, 3, S, S) -> map (N, D, h, w)."""
        return self.blocks(x)  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map (N, D, h, w) -> (N, D), or the logits."""
        pooled = self.global_pool(x)
        return pooled if pre_logits else self.head(pooled)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, S, S) -> logits, or (N, D) without a classifier."""
        return self.forward_head(self.forward_features(x))


def described(name: str, first: str) -> Any:
    """Return what timm's registry holds of a network without pretrained weights, made for 84 px.

    Args:
        name: of the network.
        first: of its first convolution.
    """
    facts: dict[str, Any] = {"url": "", "num_classes": 0, "input_size": (3, 84, 84), "pool_size": (5, 5)}
    colours = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    return generate_default_cfgs({name: {**facts, "first_conv": first, "classifier": "head", **colours}})
