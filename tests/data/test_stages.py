import numpy as np
import pytest

from fgvc.data.records import Records
from fgvc.data.samplers import Draw, TrainSampler
from fgvc.data.stages import STAGES, Stages, label_text, read_stages, stage_names
from fgvc.errors import UsageError
from fgvc.taxonomy.tree import Taxonomy

TREE = Taxonomy(["genus", "species"], [["Larus", "canus"], ["Larus", "fuscus"], ["Sterna", "hirundo"]])
GENUS = TREE.find("Larus")
TRAIN = Records([f"train/{i}.jpg" for i in range(5)], [0, 1, 2, GENUS, -1], "photos")
SPLITS = {"train": TRAIN, "val": Records(["val/0.jpg"], [0], "photos")}
ROWS = [
    "train/3.jpg,Larus,3.5,noisy",
    "train/0.jpg,Larus > canus,9,clean",
    "train/2.jpg,Sterna > hirundo,1,highly_noisy",
    "train/1.jpg,Larus > fuscus,2,clean",
    "val/0.jpg,Larus > canus,2,clean",
]


def read(tmp_path, rows, header="path,label,density,stage"):
    file = tmp_path / "stages.csv"
    file.write_text("\n".join([header, *rows]), encoding="utf-8")
    return read_stages(str(file), SPLITS, TREE)


def test_rows_are_found_by_path_in_any_order_and_those_of_other_splits_are_passed_over(tmp_path):
    stages = read(tmp_path, ROWS)
    assert stages.numbers.tolist() == [0, 0, 2, 1, -1]
    assert stages.rows(["clean"]).tolist() == [0, 1]
    assert stages.rows(2).tolist() == stages.rows(["noisy", "clean"]).tolist() == [0, 1, 3]
    assert stages.rows(3).tolist() == [0, 1, 2, 3]  # one without a label is in no stage


def test_a_label_is_written_from_the_coarsest_name_down():
    assert [label_text(TREE, node) for node in (1, GENUS, -1)] == ["Larus > fuscus", "Larus", ""]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({0: None}, "no row for 1 of 5 training images, the first of them 'train/3.jpg'"),
        ({0: "train/3.jpg,Larus,3.5,noisi"}, "row 2: stage 'noisi'; it is one of clean, .*did you mean 'noisy'"),
        ({1: "train/9.jpg,Larus > canus,9,clean"}, "row 3: no photograph 'train/9.jpg' in the data; paths .* photos"),
        ({1: "train/0.jpg,Larus > fuscus,9,clean"}, "row 3: 'train/0.jpg' is labelled 'Larus > fuscus', .*'Larus > ca"),
        ({4: "train/0.jpg,Larus > canus,9,noisy"}, "row 6: 'train/0.jpg' comes twice"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_one_line(tmp_path, change, said):
    rows = [change.get(i, row) for i, row in enumerate(ROWS)]
    with pytest.raises(UsageError, match=said) as caught:
        read(tmp_path, [row for row in rows if row])
    assert "\n" not in str(caught.value) and "stages.csv" in str(caught.value)


def test_a_table_without_stages_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no column 'stage'"):
        read(tmp_path, ["train/0.jpg,a"], "path,label")


def test_stages_are_counted_from_the_cleanest_and_sorted_so():
    assert [stage_names(n) for n in (1, 2, 3)] == [STAGES[:1], STAGES[:2], STAGES]
    assert stage_names(["noisy", "clean"]) == ("clean", "noisy")


@pytest.mark.parametrize(
    ("subsets", "said"),
    [(0, "subsets 0; there are the first 1 to 3"), (4, "subsets 4"), ([], "none given"), (["cleen"], "mean 'clean'")],
)
def test_unknown_stages_are_refused(subsets, said):
    with pytest.raises(UsageError, match=said):
        stage_names(subsets)


def test_a_stage_without_images_is_refused():
    stages = Stages(np.zeros(4, dtype=np.int8), "stages.csv")
    with pytest.raises(UsageError, match=r"no training image is noisy in stages\.csv"):
        stages.rows(["noisy"])


def test_what_is_drawn_from_is_told_apart():
    one, other = (Stages(np.array(numbers, dtype=np.int8), "") for numbers in ([0, 0, 1], [0, 1, 0]))
    assert one.told(1) != other.told(1) and one.told(1) == one.told(["clean"])
    assert one.told(2) == other.told(2)
    assert one.told(1).startswith("2 clean (")


def drawn(rows, epoch=0, balance="uniform", world=1, labels=None):
    labels = np.arange(30, dtype=np.int32) % 3 if labels is None else labels
    found = []
    for rank in range(world):
        sampler = TrainSampler(labels, "uniform", 5, rank, world, lambda _: Draw(balance, rows))
        sampler.set_epoch(epoch)
        found.append([index for _, index in sampler])
        assert len(found[-1]) == len(sampler) == len(labels) // world
    return [index for turn in zip(*found, strict=True) for index in turn]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_epoch_drawn_from_some_images_is_as_long_and_shows_each_equally_often(world):
    rows = np.array([3, 4, 8, 11, 20, 21, 29])
    order = drawn(rows, 2, world=world)
    assert len(order) == 30  # 7 images four times, and two of them once more
    times = np.bincount(order, minlength=30)
    assert set(times[rows].tolist()) == {4, 5} and times.sum() == times[rows].sum()
    for start in range(0, 28, 7):
        assert sorted(order[start : start + 7]) == rows.tolist()  # none comes again before all came
    assert order == drawn(rows, 2) != drawn(rows, 3)  # whatever the number of processes


def test_an_epoch_drawn_from_all_is_what_it_was_without_stages():
    plain = TrainSampler(np.arange(30, dtype=np.int32) % 3, seed=5)
    assert [index for _, index in plain] == drawn(None) == drawn(np.arange(30))


def test_a_balance_counts_the_classes_of_what_is_drawn_from():
    labels = np.repeat(np.array([0, 1], dtype=np.int32), [900, 100])
    rows = np.r_[0:10, 900:990]  # class 0 is rare among these
    order = np.array(drawn(rows, balance="class_balanced", labels=labels))
    assert set(order.tolist()) <= set(rows.tolist())
    assert 430 < np.count_nonzero(labels[order] == 0) < 570  # half of 1,000, 4 sigma


def test_each_epoch_asks_for_its_own_draw():
    plan = [Draw("uniform", np.array([0, 1])), Draw("class_balanced"), Draw("uniform", np.array([5]))]
    sampler = TrainSampler(np.arange(6, dtype=np.int32), draw=plan.__getitem__)
    seen = []
    for epoch in (2, 0, 2):
        sampler.set_epoch(epoch)
        seen.append({index for _, index in sampler})
    assert seen == [{5}, {0, 1}, {5}]
