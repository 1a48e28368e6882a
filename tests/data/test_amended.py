import csv
import re

import numpy as np
import pytest

from fgvc.data.amended import amended
from fgvc.data.noise import Noise
from fgvc.data.records import Records
from fgvc.errors import UsageError
from fgvc.taxonomy.tree import Taxonomy

TREE = Taxonomy(("genus", "species"), [("A", "a1"), ("A", "a2"), ("B", "b1"), ("B", "b2"), ("C", "C")])
"""The last one is a genus without species: its name stands twice."""


def records(split, per_class=10):
    labels = np.repeat(np.arange(5), per_class)
    return Records([f"{split}/{i:02d}.jpg" for i in range(len(labels))], labels, "root")


@pytest.fixture
def three():
    return {"train": records("train"), "val": records("val", 2), "test": records("test", 3)}


def table(path, *rows):
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(path)


def paths(of):
    return [of.relative_path(i) for i in range(len(of))]


def truth(new):
    return {row[0]: row[2] for row in new.tables["noise.csv"][1:]}


def test_noise_changes_train_alone_and_its_table_tells_the_truth(three):
    new = amended(three, TREE, Noise("uniform", 0.4))
    assert paths(new.records["train"]) == paths(three["train"])
    for split in ("val", "test"):
        assert (new.records[split].labels == three[split].labels).all()
    changed = new.records["train"].labels != three["train"].labels
    head, *rows = new.tables["noise.csv"]
    assert head == ["path", "label", "true_label", "kind", "split"]
    assert changed.sum() == len(rows) == 20
    for path, label, true, kind, split in rows:
        place = int(path[-6:-4])
        assert TREE.path(int(new.records["train"].labels[place]))[-1] == label.rpartition(" > ")[2]
        assert TREE.path(int(three["train"].labels[place]))[-1] == true.rpartition(" > ")[2]
        assert (kind, split) == ("uniform", "train")
    assert new.told == [
        "noise: uniform, 20 of 50 labels of train are wrong on purpose (40.0 %), seed 0; the truth is in noise.csv"
    ]


def test_val_is_made_wrong_where_it_is_asked_for(three):
    new = amended(three, TREE, Noise("uniform", 0.4, val=True))
    assert (new.records["val"].labels != three["val"].labels).sum() == 4
    assert (new.records["test"].labels == three["test"].labels).all()


def test_strangers_of_classes_leave_val_and_test(three):
    new = amended(three, TREE, Noise("strangers", 0.2, classes=["B"]))
    assert len(new.records["train"]) == 30 + 8  # 7.5 beside 30 others, to the even number
    assert set(new.records["train"].labels) <= {0, 1, 4}
    wrong = new.places["train"][np.isin(three["train"].labels[new.places["train"]], [2, 3])]
    assert len(wrong) == 8
    assert set(truth(new).values()) <= {"b1", "b2"}
    assert set(new.records["val"].labels) == set(new.records["test"].labels) == {0, 1, 4}
    assert paths(new.records["test"]) == [f"test/{i:02d}.jpg" for i in [0, 1, 2, 3, 4, 5, 12, 13, 14]]


def test_strangers_of_a_folder_are_added_with_labels_of_the_data(three, tmp_path):
    for i in range(6):
        (tmp_path / "cars" / "deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / "cars" / "deep" / f"{i}.jpg").write_bytes(b"")
    new = amended(three, TREE, Noise("strangers", folder=str(tmp_path / "cars")))
    train = new.records["train"]
    assert len(train) == 56
    assert (train.labels[:50] == three["train"].labels).all()
    assert train[55].path == str((tmp_path / "cars" / "deep" / "5.jpg").resolve())
    assert train[3].path == three["train"][3].path
    assert new.places["train"][50:].tolist() == [-1] * 6
    assert set(truth(new).values()) == {""}


def test_the_table_of_noise_leaves_out_or_mends_what_it_made_wrong(three, tmp_path):
    noise = Noise("uniform", 0.4)
    made = amended(three, TREE, noise)
    file = tmp_path / "noise.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows(made.tables["noise.csv"])
    clean = amended(three, TREE, noise, exclude=str(file))
    assert len(clean.records["train"]) == 30
    assert (clean.records["train"].labels == three["train"].labels[clean.places["train"]]).all()
    mended = amended(three, TREE, noise, relabel=str(file))
    assert (mended.records["train"].labels == three["train"].labels).all()
    assert len(mended.tables["relabelled.csv"]) == 21
    assert mended.told[1] == f"relabelled by {file}: 20 photographs (20 of train)"


def test_excluded_photographs_leave_train_and_val_and_stay_in_test(three, tmp_path):
    file = table(tmp_path / "out.csv", "path", "train/03.jpg", "val/01.jpg", "test/00.jpg")
    new = amended(three, TREE, exclude=file)
    assert paths(new.records["train"]) == [path for path in paths(three["train"]) if path != "train/03.jpg"]
    assert len(new.records["val"]) == 9
    assert len(new.records["test"]) == 15
    assert new.places["train"].tolist() == [i for i in range(50) if i != 3]
    assert new.told == [
        f"left out by {file}: 2 photographs (1 of train, 1 of val); 1 more are of test, which stays as it is"
    ]
    assert new.tables["excluded.csv"] == [
        ["path", "label", "split"],
        ["train/03.jpg", "a1", "train"],
        ["val/01.jpg", "a1", "val"],
    ]


def test_relabelled_photographs_get_a_class_of_any_level_or_are_left_out(three, tmp_path):
    rows = ["path,label,likely_label", "train/03.jpg,a1,b2", "val/09.jpg,C,A", "train/04.jpg,a1,", "train/05.jpg,,a1"]
    file = table(tmp_path / "audit.csv", *rows)
    new = amended(three, TREE, relabel=file)
    assert new.records["train"].labels[3] == 3
    assert len(new.records["train"]) == 49
    assert new.records["val"].labels[9] == TREE.find("A")
    assert [row[0] for row in new.tables["relabelled.csv"][1:]] == ["train/03.jpg", "val/09.jpg"]
    assert [row[0] for row in new.tables["excluded.csv"][1:]] == ["train/04.jpg"]
    assert new.told == [
        f"relabelled by {file}: 2 photographs (1 of train, 1 of val); left out, for they have no likely_label: "
        "1 photograph (1 of train)"
    ]


def test_what_is_left_out_is_not_relabelled(three, tmp_path):
    out = table(tmp_path / "out.csv", "path", "train/03.jpg")
    other = table(tmp_path / "other.csv", "path,likely_label", "train/03.jpg,b2", "train/04.jpg,b2")
    new = amended(three, TREE, exclude=out, relabel=other)
    assert len(new.records["train"]) == 49
    assert [row[0] for row in new.tables["relabelled.csv"][1:]] == ["train/04.jpg"]


@pytest.mark.parametrize(
    ("key", "rows", "told"),
    [
        ("exclude", ["file", "train/03.jpg"], "no column 'path'"),
        ("exclude", ["path", "train/99.jpg"], "row 2: no photograph 'train/99.jpg' in the data; one of theirs is"),
        ("exclude", ["path", "train/03.jpg", "train/03.jpg"], "row 3: train/03.jpg stands in"),
        ("exclude", ["path,label", "train/03.jpg,b1"], "label 'b1', but the data says 'a1' there"),
        ("relabel", ["path,label", "train/03.jpg,a1"], "no column 'likely_label' with the right class"),
        ("relabel", ["path,likely_label", "train/03.jpg,a9"], "row 2: likely_label: unknown class 'a9'"),
        ("relabel", ["path,true_label", "train/99.jpg,a1"], "data.relabel: "),
        ("exclude", ["path", *(f"train/{i:02d}.jpg" for i in range(50))], "no training photograph is left"),
    ],
)
def test_tables_that_do_not_fit_are_refused_in_one_line(three, tmp_path, key, rows, told):
    file = table(tmp_path / "audit.csv", *rows)
    with pytest.raises(UsageError, match=re.escape(told)) as error:
        amended(three, TREE, **{key: file})
    assert "\n" not in str(error.value)


def test_a_table_or_folder_that_is_not_there_is_refused(three, tmp_path):
    with pytest.raises(UsageError, match="no such table"):
        amended(three, TREE, exclude=str(tmp_path / "none.csv"))
    with pytest.raises(UsageError, match=r"data\.noise\.folder: .*no such folder"):
        amended(three, TREE, Noise("strangers", folder=str(tmp_path / "none")))
