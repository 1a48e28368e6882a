"""`metrics.csv` of a resumed run: no row written before is lost."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment  # type: ignore[attr-defined]

from fgvc.files.whole_files import open_whole


class _Continuing(ExperimentWriter):
    """Append to the file, where Lightning's writer would delete it; a new column keeps the rows before."""

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.is_file():
            self.metrics_keys = _read(path)[0]

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        _write(path, fieldnames, _read(path)[1])


class RunCSVLogger(CSVLogger):
    """Lightning's CSVLogger, continuing the file of a resumed run."""

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer; made on first use."""
        if not isinstance(self._experiment, _Continuing):
            self._experiment = _Continuing(self.log_dir)
        return self._experiment


def keep_until(path: Path, step: int) -> None:
    """Drop the rows of a metrics file from a step on: a run that is resumed there writes them again.

    Args:
        path: the file; one that is not there is left so.
        step: the first step that is trained again.
    """
    if path.is_file():
        names, rows = _read(path)
        _write(path, names, [row for row in rows if (row.get("step") or "").isdigit() and int(row["step"]) < step])


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames or []), list(reader)


def _write(path: Path, names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    with open_whole(path) as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
