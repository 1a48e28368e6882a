"""The health of attention crops: their size, their steadiness, and their agreement with annotations.

Shape letters: N images, K boxes per image.
"""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fgvc.data.sources.base import Annotations
from fgvc.datatypes import Sample
from fgvc.images.regions import box_iou, inside, overlap, within
from fgvc.training.metrics.accuracy import Mean
from fgvc.training.processes import gathered

BORDER = 0.005
"""A side this close to the edge of the image, as a fraction of it, lies at the border."""


def box_shape(boxes: Tensor) -> dict[str, Tensor]:
    """Return for boxes (N, 4): `side` (N,), the mean of both sides, and `at_border` (N,), 1 where one touches the edge.

    A box that touches two opposite edges is as large as the image and touches by necessity; it counts too.
    """
    at_border = (boxes[:, :2] < BORDER).any(dim=1) | (boxes[:, 2:] > 1 - BORDER).any(dim=1)
    return {"side": (boxes[:, 2:] - boxes[:, :2]).mean(dim=1), "at_border": at_border.float()}


def agreement(box: Tensor, known: Annotations, head_parts: tuple[str, ...]) -> dict[str, float]:
    """Return how a box (4,) agrees with the annotations of its photograph, both as fractions of it.

    `iou`: with the box of the object. `head_kept`: 1 where every visible point of the head lies inside, `body_kept`: 1
    where every other one does, if the data says which are of the head. `mark_kept`: 1 where the box of the mark lies
    inside. What is not annotated is left out.
    """
    scores: dict[str, float] = {}
    if "object" in known.boxes:
        scores["iou"] = float(box_iou(box, torch.tensor(known.boxes["object"])))
    for name, is_head in (("head", True), ("body", False)):
        points = [place for part, place in known.points.items() if head_parts and (part in head_parts) == is_head]
        if points:
            scores[f"{name}_kept"] = float(inside(torch.tensor(points), box).all())
    if "mark" in known.boxes:
        mark = torch.tensor(known.boxes["mark"])
        scores["mark_kept"] = float(overlap(box, mark) >= 0.999 * overlap(mark, mark))
    return scores


class CropHealth(pl.Callback):
    """Log `<stage>/box<k>_side`, `_at_border`, `_drift` and the agreement with annotations, per box of the recognizer.

    `drift` is the mean distance of a box's centre from where it was at the validation before, as a fraction of the
    image: it falls as the attention settles. Nothing is logged where the recognizer answers no boxes.
    """

    def __init__(self) -> None:
        self._means = nn.ModuleDict()
        self._centres: dict[int, Tensor] = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Sample, batch_idx: int
    ) -> None:
        """Log side and border of a training batch's boxes."""
        if outputs["boxes"] is not None:
            for name, values in _shapes(outputs["boxes"]).items():
                pl_module.log(f"train/{name}", values.mean(), on_step=False, on_epoch=True, batch_size=len(values))

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count a validation batch: shape, drift and agreement."""
        if outputs["boxes"] is not None:
            if not trainer.sanity_checking:  # it sees some of the images only, before anything is learnt
                self._drift(outputs["boxes"].cpu(), batch.index.tolist())
            self._look(trainer, outputs["boxes"], batch, "val")

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count a test batch: shape and agreement."""
        if outputs["boxes"] is not None:
            self._look(trainer, outputs["boxes"], batch, "test")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log what the validation showed."""
        self._log(pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log what the test showed."""
        self._log(pl_module, "test")

    def _look(self, trainer: Any, boxes: Tensor, batch: Sample, stage: str) -> None:
        for name, values in _shapes(boxes).items():
            self._take(f"{stage}/{name}", values.cpu())
        of_photographs = within(boxes.cpu().float(), batch.view.cpu())
        source = trainer.datamodule.source
        for row, index in enumerate(batch.index.tolist()):
            known = trainer.datamodule.annotations(stage, index)
            for k, box in enumerate(of_photographs[row]):
                for name, value in agreement(box, known, source.head_parts).items():
                    self._take(f"{stage}/box{k + 1}_{name}", torch.tensor([value]))

    def _drift(self, boxes: Tensor, indices: list[int]) -> None:
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        for centre, index in zip(centres, indices, strict=True):
            before = self._centres.get(index)
            if before is not None:
                for k, moved in enumerate((centre - before).norm(dim=-1)):
                    self._take(f"val/box{k + 1}_drift", moved[None])
            self._centres[index] = centre

    def _take(self, name: str, values: Tensor) -> None:
        key = name.replace("/", ":")
        if key not in self._means:
            self._means[key] = Mean()
        mean: Any = self._means[key]
        mean.update(values.mean(), len(values))

    def _log(self, pl_module: Any, stage: str) -> None:
        for name in sorted(
            {name for names in gathered(list(self._means)) for name in names if name.startswith(f"{stage}:")}
        ):
            if name not in self._means:
                self._means[name] = Mean()
            mean: Any = self._means[name].to(pl_module.device)
            value = mean.compute()  # over all processes
            if not value.isnan():
                pl_module.log(name.replace(":", "/"), value, sync_dist=True)
            mean.reset()
            mean.cpu()


def _shapes(boxes: Tensor) -> dict[str, Tensor]:
    """Return `box<k>_side` and `box<k>_at_border`, each (N,), for boxes (N, K, 4)."""
    return {
        f"box{k + 1}_{name}": values for k in range(boxes.shape[1]) for name, values in box_shape(boxes[:, k]).items()
    }
