"""Every test image's truth and guess at every level, as a CSV that `fgvc compare` pairs."""

import csv
import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from fgvc.datatypes import Sample
from fgvc.files.whole_files import open_whole
from fgvc.images.regions import within
from fgvc.training.processes import gathered

Row = tuple[int, list[str]]


class PredictionTable(pl.Callback):
    """Write `path, <level>_true, <level>_pred, ..., <level>_score, ..., score` for each test image, in their order.

    `<level>_score` is the calibrated probability, at that level, of the ancestor of the leaf that was predicted;
    `score` is the leaf's probability before calibration. A recognizer with views (scale1, crop ...) adds
    `<leaf level>_of_<view>` for each of them, and one that looks closer adds `boxes`: a JSON list of [x1, y1, x2, y2]
    as fractions of the upright photograph. An image that could not be read has no row, see `BadImages`.

    Args:
        path: the CSV to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[Row] = []
        self._views: list[str] = []
        self._boxed = False

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Sample, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the rows of a test batch."""
        taxonomy = pl_module.taxonomy
        columns: list[list[str]] = []
        for level in taxonomy.levels:
            names = taxonomy.unique_names(level)
            truth = taxonomy.targets(batch.label, level).tolist()
            columns.append([names[i] if i >= 0 else "" for i in truth])
            columns.append([names[i] for i in outputs["scores"][level].argmax(dim=1).tolist()])
        self._views = list(outputs["views"])
        columns += [[names[i] for i in answers.tolist()] for answers in outputs["views"].values()]
        columns += [[f"{score:.6f}" for score in level] for level in outputs["lineage"].T.tolist()]
        columns.append([f"{score:.6f}" for score in outputs["scores"][taxonomy.leaf_level].amax(dim=1).exp().tolist()])
        self._boxed = outputs["boxes"] is not None
        if self._boxed:
            columns.append([json.dumps(boxes) for boxes in _rounded(within(outputs["boxes"], batch.view))])
        self._rows += list(zip(batch.index.tolist(), map(list, zip(*columns, strict=True)), strict=True))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Gather the rows of all processes and write them once."""
        rows, self._rows = [row for part in gathered(self._rows) for row in part], []
        if trainer.is_global_zero:
            records = trainer.datamodule.records("test")  # type: ignore[attr-defined]
            header = [f"{level}_{kind}" for level in pl_module.taxonomy.levels for kind in ("true", "pred")]
            header += [f"{pl_module.taxonomy.leaf_level}_of_{view}" for view in self._views]
            header += [f"{level}_score" for level in pl_module.taxonomy.levels] + ["score"] + ["boxes"] * self._boxed
            with open_whole(self.path) as file:
                writer = csv.writer(file)
                writer.writerow(["path", *header])
                writer.writerows([records.relative_path(index), *cells] for index, cells in sorted(rows))


def _rounded(boxes: Tensor) -> list[list[list[float]]]:
    """Return (N, K, 4) boxes as lists with four digits."""
    return [[[round(x, 4) for x in box] for box in image] for image in boxes.float().tolist()]
