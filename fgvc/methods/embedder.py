"""What a network says of a photograph before any class is named: images -> features.

Shape letters: N images, S side of the image, C channels, h, w grid, D width of the vector.
"""

from typing import Literal, get_args

from torch import Tensor, nn

from fgvc.errors import UsageError, did_you_mean
from fgvc.images.regions import downscale
from fgvc.methods.backbone import Backbone
from fgvc.methods.pooling.average import AveragePooling
from fgvc.methods.pooling.base import Pooling
from fgvc.methods.pooling.class_mean import ClassMeanPooling
from fgvc.methods.pooling.native import NativePooling
from fgvc.methods.recognizers.base import Recognizer
from fgvc.methods.recognizers.few_shot import FewShotRecognizer
from fgvc.methods.scda import SCDA

Take = Literal["prelogits", "pooled", "map", "cls+mean", "scda", "scda+", "scda_flip", "scda_flip+"]
TAKES: tuple[str, ...] = get_args(Take)
_POOLINGS: dict[str, type[Pooling]] = {"pooled": AveragePooling, "cls+mean": ClassMeanPooling}


class Embedder(nn.Module):
    """Images -> features, of a recognizer or of a backbone alone.

    Args:
        network: either; its first backbone makes the maps.
        take: `prelogits`, the vector that the classifier reads: the embedding of a recognizer's Prediction, or what the
            own head of a backbone makes (NativePooling), (N, D); `pooled`, the mean of the map over its cells, (N, C);
            `map`, (N, C, h, w); `cls+mean`, (N, 2 C), see ClassMeanPooling; `scda`, (N, 2 C), `scda+`, `scda_flip` and
            `scda_flip+`, see SCDA.

    Raises:
        UsageError: another word, a network without class token or earlier map, or one without a head of its own.
    """

    def __init__(self, network: Recognizer | Backbone, take: Take = "prelogits") -> None:
        super().__init__()
        if take not in TAKES:
            raise UsageError(f"take: {take!r}; it is {', '.join(TAKES)}{did_you_mean(take, TAKES)}")
        self.network = network
        self.take = take
        backbone = network if isinstance(network, Backbone) else next(network.backbones(), None)
        if backbone is None:
            raise UsageError(f"{type(network).__name__}: it has no backbone; it has no map to take features from")
        if take == "prelogits" and isinstance(network, FewShotRecognizer) and network.pooling is None:
            raise UsageError("take prelogits: the classifier of this network compares maps; take map")
        if take == "cls+mean" and not backbone.has_class_token:
            kind = type(backbone.net).__name__
            raise UsageError(f"take cls+mean: {kind} has no class token; take pooled or prelogits")
        self.pooling: Pooling | None = None
        if take == "prelogits" and isinstance(network, Backbone):
            self.pooling = NativePooling(backbone.channels).attach(backbone)
        elif take in _POOLINGS:
            self.pooling = _POOLINGS[take](backbone.channels).attach(backbone)
        self.scda = SCDA(backbone, "+" in take, "flip" in take) if take.startswith("scda") else None
        self._first = [backbone]  # no submodule: `network` holds it

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, S, S) uint8 or float in 0..255 -> (N, D) or (N, C, h, w)."""
        if self.take == "prelogits" and isinstance(self.network, Recognizer):
            return self.network.embed(images)
        backbone = self._first[0]
        seen = images if isinstance(self.network, Backbone) else downscale(images, self.network.image_size)
        if self.scda is not None:
            return self.scda(seen)  # type: ignore[no-any-return]
        features = backbone(seen)
        return features.map if self.pooling is None else self.pooling.pool(features)
