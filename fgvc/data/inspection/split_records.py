"""The records of several splits, numbered as one sequence."""

from collections.abc import Mapping

import numpy as np

from fgvc.data.datamodule import FineGrainedData
from fgvc.data.records import Record, Records


def records_of(data: FineGrainedData) -> dict[str, Records]:
    """Return the records of every split of a datamodule: train, val, test, then others."""
    usual = [split for split in ("train", "val", "test") if split in data.splits]
    return {split: data.records(split) for split in dict.fromkeys([*usual, *data.splits])}


class SplitRecords:
    """A view of all records of a data set; nothing is copied.

    Args:
        splits: split -> its records, in the order in which they are numbered.
    """

    def __init__(self, splits: Mapping[str, Records]) -> None:
        self._splits = list(splits.items())
        self._starts = np.cumsum([0, *map(len, splits.values())])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, position: int) -> tuple[str, Record]:
        """Return the split and the record at a position, counted from 0."""
        if not 0 <= position < len(self):
            raise IndexError(position)
        k = int(np.searchsorted(self._starts, position, side="right")) - 1  # the last start: empty splits have none
        split, records = self._splits[k]
        return split, records[position - int(self._starts[k])]
