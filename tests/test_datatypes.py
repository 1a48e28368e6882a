import os
import pickle
import sys

import numpy as np
import pytest

from fgvc.datatypes import Record, Records

PATHS = ["a/1.jpg", "b/Möwe 鳥.jpg", os.fsdecode(b"c/\xff\xfe.jpg"), "", "/elsewhere/4.jpg"]
LABELS = [3, 0, -1, 2, 7]


def as_list(records: Records) -> list[tuple[str, int]]:
    return [(records.relative_path(i), int(records.labels[i])) for i in range(len(records))]


def test_records_give_back_paths_and_labels_below_the_root():
    records = Records(iter(PATHS), iter(LABELS), root="/data")
    assert list(records)[:2] == [Record("/data/a/1.jpg", 3), Record("/data/b/Möwe 鳥.jpg", 0)]
    assert os.fsencode(records[2].path) == b"/data/c/\xff\xfe.jpg"
    assert records[4] == ("/elsewhere/4.jpg", 7)
    assert records[-1] == records[4]
    assert records[0] in records
    assert type(records[0].label) is int
    for index in (5, -6):
        with pytest.raises(IndexError):
            records[index]


def test_slices_and_subsets_follow_the_rules_of_lists():
    records, plain = Records(PATHS, LABELS, "/data"), list(zip(PATHS, LABELS, strict=True))
    for part in (slice(1, 3), slice(None, None, -1), slice(-2, None), slice(4, 1)):
        assert as_list(records[part]) == plain[part]
    assert as_list(records.subset([4, 0, 0])) == [plain[4], plain[0], plain[0]]
    assert records.subset([1]).root == "/data"
    assert len(Records([], [])) == 0
    assert list(records.subset([])) == []


def test_a_label_too_few_is_refused():
    with pytest.raises(ValueError, match="5 paths but 4 labels"):
        Records(PATHS, LABELS[:4])


def test_pickled_records_are_the_same():
    records = Records(PATHS, LABELS, "/data")
    assert list(pickle.loads(pickle.dumps(records))) == list(records)  # noqa: S301


def test_two_hundred_thousand_records_take_a_third_of_a_list_and_three_objects():
    count = 200_000
    paths = [f"train/{i % 1000:04d}/{i:08d}.jpg" for i in range(count)]
    records = Records(paths, np.arange(count, dtype=np.int32))
    arrays = [value for value in vars(records).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 3
    as_objects = sum(sys.getsizeof(Record(path, i)) + sys.getsizeof(path) + 8 for i, path in enumerate(paths))
    assert len(pickle.dumps(records)) < sum(array.nbytes for array in arrays) + 1000
    assert 3 * sum(array.nbytes for array in arrays) < as_objects
    assert records[123_456] == ("train/0456/00123456.jpg", 123_456)
