"""Every test image's truth and guess at every level, in a table that `fgvc compare` pairs."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from fgvc.datatypes import Sample
from fgvc.files import answer_table
from fgvc.images.regions import within
from fgvc.training.processes import gathered

Row = tuple[int, list[str]]


class PredictionTable(pl.Callback):
    """Write one row for each test image, in their order; `fgvc.files.answer_table` says what the columns are.

    An image that could not be read has no row, see `BadImages`.

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
        lineage = taxonomy.ancestors_on(batch.label.device)[outputs["scores"][taxonomy.leaf_level].argmax(dim=1)]
        for depth, level in enumerate(taxonomy.levels):
            names = taxonomy.unique_names(level)
            truth = taxonomy.targets(batch.label, level).tolist()
            columns.append([names[i] if i >= 0 else "" for i in truth])
            columns.append([names[i] for i in lineage[:, depth].tolist()])
        self._views = list(outputs["views"])
        columns += [[names[i] for i in answers.tolist()] for answers in outputs["views"].values()]
        columns += map(answer_table.scores, outputs["lineage"].T.tolist())
        columns.append(columns[-1])
        columns.append(answer_table.scores(outputs["scores"][taxonomy.leaf_level].amax(dim=1).exp().tolist()))
        self._boxed = outputs["boxes"] is not None
        if self._boxed:
            columns.append(answer_table.boxes(within(outputs["boxes"], batch.view).float().tolist()))
        self._rows += list(zip(batch.index.tolist(), map(list, zip(*columns, strict=True)), strict=True))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Gather the rows of all processes and write them once."""
        rows, self._rows = [row for part in gathered(self._rows) for row in part], []
        if trainer.is_global_zero:
            records = trainer.datamodule.records("test")  # type: ignore[attr-defined]
            table = ([records.relative_path(index), *cells] for index, cells in sorted(rows))
            answer_table.write(self.path, pl_module.taxonomy.levels, self._views, self._boxed, table)
