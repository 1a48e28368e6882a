"""The oracle of docs/results/looking_closer.md: an attention that looks at the annotated box of the object.

    fgvc fit ... --model.recognizer.attention benchmarks.experiments.annotated_box.AnnotatedBox \
        --trainer.callbacks+=benchmarks.experiments.annotated_box.TellBoxes

It shows what a perfect detector would be worth. No model file is made of it: it needs annotations to answer.
"""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from fgvc.datatypes import Sample
from fgvc.images.regions import fitted
from fgvc.methods.attention.base import Attention
from fgvc.methods.backbone import Backbone

WHOLE = (0.0, 0.0, 1.0, 1.0)


class AnnotatedBox(Attention):
    """Answers the boxes that it was told, (N, 4) as fractions of the image."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.boxes = torch.zeros(0, 4)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, 4); the whole image where no boxes were told."""
        if len(self.boxes) != len(features):
            return torch.tensor(WHOLE, device=features.device).expand(len(features), 4)
        return self.boxes.to(features.device)


class TellBoxes(pl.Callback):
    """Hand the annotated boxes of each batch to the AnnotatedBox that sees the whole image."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Sample, batch_idx: int) -> None:  # noqa: D102
        self._tell(trainer, pl_module, batch, "train")

    def on_validation_batch_start(  # noqa: D102
        self, trainer: Any, pl_module: Any, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._tell(trainer, pl_module, batch, "val")

    def on_test_batch_start(  # noqa: D102
        self, trainer: Any, pl_module: Any, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._tell(trainer, pl_module, batch, "test")

    def _tell(self, trainer: Any, pl_module: Any, batch: Sample, split: str) -> None:
        known = [trainer.datamodule.annotations(split, index).boxes for index in batch.index.tolist()]
        boxes = torch.tensor([boxes.get("object", WHOLE) for boxes in known])
        # A later attention sees the crop, and all of it is the object.
        pl_module.recognizer.attentions[0].boxes = seen_in(boxes, batch.view.cpu())


def seen_in(boxes: Tensor, views: Tensor) -> Tensor:
    """Map boxes (N, 4) of the photograph into the part that is shown, views (N, 4); what is cut off is left out.

    A box of which next to nothing is shown becomes the whole image.
    """
    origin, extent = views[:, :2], views[:, 2:] - views[:, :2]
    corners = torch.stack(((boxes[:, :2] - origin) / extent, (boxes[:, 2:] - origin) / extent)).clamp(0, 1)
    shown = torch.cat((corners.amin(dim=0), corners.amax(dim=0)), dim=1)
    lost = ((shown[:, 2:] - shown[:, :2]) < 0.02).any(dim=1, keepdim=True)
    return torch.where(lost, torch.tensor(WHOLE), fitted(shown, side_min=0.1))
