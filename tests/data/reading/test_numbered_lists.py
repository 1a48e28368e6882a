import os

import numpy as np
import pytest

from fgvc.data.reading.numbered_lists import read_index, read_numbers, read_table
from fgvc.errors import UsageError

LISTS = {
    "images.txt": "7 b/2.jpg\n3 a/1 one.jpg\n12 b/3.jpg\n",
    "image_class_labels.txt": "3 1\n7 2\n12 2\n",
    "train_test_split.txt": "12 1\n7 0\n3 1\n",
}


@pytest.fixture
def root(tmp_path):
    for name, text in LISTS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_photographs_come_in_the_order_of_their_ids_and_not_of_the_lines(root):
    index = read_index(root)
    assert index.ids.tolist() == [3, 7, 12]
    assert index.paths == ["a/1 one.jpg", "b/2.jpg", "b/3.jpg"]
    assert index.classes == [1, 2, 2]
    assert index.is_train.tolist() == [True, False, True]


def test_rows_of_a_table_are_located_and_those_of_other_photographs_left_out(root):
    rows, table = read_index(root).locate(np.array([[12, 0.5], [4, 0.1], [3, 0.2], [12, 0.7]]))
    assert rows.tolist() == [2, 0, 2]
    assert table.tolist() == [[12, 0.5], [3, 0.2], [12, 0.7]]


def test_names_that_are_not_utf_8_are_kept(tmp_path):
    (tmp_path / "images.txt").write_bytes(b"1 a/\xff.jpg\r\n2 M\xc3\xb6we.jpg\n")
    assert {k: os.fsencode(v) for k, v in read_table(tmp_path / "images.txt").items()} == {
        1: b"a/\xff.jpg",
        2: b"M\xc3\xb6we.jpg",
    }


def test_numbers_are_the_first_columns(tmp_path):
    (tmp_path / "boxes.txt").write_text("1 0.5 2 9\n2 1.5 3 9\n")
    assert read_numbers(tmp_path / "boxes.txt", columns=3).tolist() == [[1, 0.5, 2], [2, 1.5, 3]]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("train_test_split.txt", None, "cannot be read (No such file or directory); unpack the archive again"),
        ("images.txt", LISTS["images.txt"] + "nonsense\n", "line 4 is 'nonsense', not a number and a word; unpack"),
        ("images.txt", "7\n", "line 1 is '7', not a number and a word; unpack the archive again"),
        ("image_class_labels.txt", "3 1\n7 2\n", "no number for image 12 of images.txt; unpack the archive again"),
        ("image_class_labels.txt", "3 1\n7 2\n12 x\n", "no number for image 12 of images.txt; unpack the archive"),
    ],
)
def test_a_list_that_is_missing_or_damaged_is_one_line(root, name, text, said):
    (root / name).unlink() if text is None else (root / name).write_text(text)
    with pytest.raises(UsageError) as caught:
        read_index(root)
    assert str(caught.value).startswith(f"{root / name}: {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "1 x\n", "1\n"])
def test_a_table_of_numbers_that_is_missing_or_damaged_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "boxes.txt").write_text(text)
    with pytest.raises(UsageError, match=r"boxes\.txt: cannot be read \(.*\); unpack the archive again$"):
        read_numbers(tmp_path / "boxes.txt", columns=2)
