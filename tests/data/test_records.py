import os
import pickle
import sys

import numpy as np
import pytest

from fgvc.data.record_table import open_table, table_of
from fgvc.data.records import Record, Records

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


def test_two_hundred_thousand_records_take_a_third_of_a_list():
    count = 200_000
    paths = [f"train/{i % 1000:04d}/{i:08d}.jpg" for i in range(count)]
    records = Records(paths, np.arange(count, dtype=np.int32))
    size = records._table.columns.nbytes + records.labels.nbytes
    as_objects = sum(sys.getsizeof(Record(path, i)) + sys.getsizeof(path) + 8 for i, path in enumerate(paths))
    assert len(pickle.dumps(records)) < size + 2000
    assert 3 * size < as_objects
    assert records[123_456] == ("train/0456/00123456.jpg", 123_456)


def test_a_large_part_shares_the_paths_and_a_small_one_has_its_own():
    records = Records([f"{i}.jpg" for i in range(1000)], np.arange(1000), "/data")
    large, small = records.subset(np.arange(999, 99, -1)), records.subset(range(0, 1000, 50))
    assert large._table is records._table
    assert len(small._table) == 20
    assert large[0] == ("/data/999.jpg", 999) and len(large) == 900
    assert as_list(small) == [(f"{i}.jpg", i) for i in range(0, 1000, 50)]
    assert as_list(large.subset([-1, 0])) == [("100.jpg", 100), ("999.jpg", 999)]
    assert as_list(large[898:]) == [("101.jpg", 101), ("100.jpg", 100)]
    with pytest.raises(IndexError):
        large[900]
    with pytest.raises(IndexError):
        large.subset([900])
    assert as_list(pickle.loads(pickle.dumps(large))) == as_list(large)  # noqa: S301


def test_another_process_is_sent_labels_and_positions_of_records_that_lie_in_files(tmp_path):
    with (tmp_path / "t.arrow").open("wb") as file:
        table_of(f"{'x' * 120}{i}.jpg" for i in range(10_000)).save(file)
    records = Records(open_table(tmp_path / "t.arrow", {}), np.arange(10_000, dtype=np.int32), "/data")
    for part in (records.subset(range(1, 9_000)), records.subset(range(1, 10))):
        sent = pickle.dumps(part)
        assert len(sent) < 8 * len(part) + 1000
        assert as_list(pickle.loads(sent)) == as_list(part)  # noqa: S301
        assert part[0] == (f"/data/{'x' * 120}1.jpg", 1)


def test_other_labels_are_of_the_same_files():
    records = Records(PATHS, LABELS, "/data").subset([4, 0])
    other = records.with_labels(np.array([1, 2], dtype=np.int32))
    assert as_list(other) == [(PATHS[4], 1), (PATHS[0], 2)]
    assert as_list(records) == [(PATHS[4], LABELS[4]), (PATHS[0], LABELS[0])]
    with pytest.raises(ValueError, match="2 records but 1 labels"):
        records.with_labels(np.array([1], dtype=np.int32))
