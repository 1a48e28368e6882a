import numpy as np
import pytest

from fgvc.data.inspection.split_records import SplitRecords
from fgvc.data.records import Record, Records


def records(*names):
    return Records(names, np.arange(len(names), dtype=np.int32), "photos")


def test_the_records_are_numbered_through_and_empty_splits_have_no_numbers():
    splits = {"a": records(), "train": records("x", "y"), "b": records(), "test": records("z"), "c": records()}
    every = SplitRecords(splits)
    wanted = [("train", Record("photos/x", 0)), ("train", Record("photos/y", 1)), ("test", Record("photos/z", 0))]
    assert [every[i] for i in range(len(every))] == wanted
    for position in (-1, 3):
        with pytest.raises(IndexError):
            every[position]
    assert len(SplitRecords({})) == 0
