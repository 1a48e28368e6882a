from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from fakes.cub import class_folders, make_fake_cub

from fgvc.data.sources.cub import CUB, every_fifth
from fgvc.errors import UsageError

REPO = Path(__file__).parents[3]
PHOTOS = REPO.parent / "shared" / "CUB_200_2011"
needs_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared/CUB_200_2011 is missing")


def listed(root: Path) -> list[tuple[int, str, int, str]]:
    """Read image id, path, class and flag by plain splitting, in the order of the files."""
    columns = [
        [line.split() for line in (root / name).read_text().splitlines()]
        for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt")
    ]
    return [(int(a[0]), a[1], int(b[1]), c[1]) for a, b, c in zip(*columns, strict=True)]


def dev_by_hand(root: Path, flags: str) -> tuple[set[str], set[str]]:
    """Take each class's images whose flag is in `flags`, by id, and cut out every fifth with a slice."""
    folders: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for image, path, label, flag in listed(root):
        if flag in flags:
            folders[label].append((image, path))
    everything = {path for images in folders.values() for _, path in images}
    test = {path for images in folders.values() for _, path in sorted(images)[4::5]}
    return everything - test, test


def paths(source: CUB, split: str) -> list[str]:
    records = source.records(split)
    return [records.relative_path(i) for i in range(len(records))]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_fake_cub(tmp_path_factory.mktemp("cub") / "CUB_200_2011")


@pytest.fixture
def small(tmp_path) -> Path:
    """Five classes of 24 images, 12 of them for training."""
    return make_fake_cub(tmp_path / "CUB_200_2011", num_classes=5, images_per_class=24)


def test_clements_names_the_lineage_and_keeps_cubs_class_order(root):
    source = CUB(str(root))
    assert source.taxonomy.levels == ("order", "family", "genus", "species")
    assert source.taxonomy.names("species") == tuple(folder[4:].replace("_", " ") for folder in class_folders())
    assert source.taxonomy.path(83) == ("Charadriiformes", "Laridae", "Rissa", "Red legged Kittiwake")


def test_hse_is_the_published_13_37_122_200_partition(root):
    taxonomy = CUB(str(root), tree="hse").taxonomy
    assert [taxonomy.size(level) for level in taxonomy.levels] == [13, 37, 122, 200]
    assert taxonomy.lineage(83)["family"] == taxonomy.lineage(4)["family"]  # the kittiwake among the auks


def test_flat_has_one_level(root):
    taxonomy = CUB(str(root), tree="flat").taxonomy
    assert (taxonomy.levels, taxonomy.num_classes) == (("species",), 200)


def test_standard_reads_the_file_and_labels_agree_with_the_folder(root):
    source = CUB(str(root))
    assert source.splits == ("train", "test")
    for split, flag in (("train", "1"), ("test", "0")):
        assert paths(source, split) == [path for _, path, _, given in listed(root) if given == flag]
        for record in source.records(split):
            assert Path(record.path).is_file()
            assert source.taxonomy.path(record.label)[-1] == Path(record.path).parent.name[4:].replace("_", " ")


def test_dev_cuts_every_fifth_of_the_official_training_images_and_leaves_the_official_test_alone(small):
    source = CUB(str(small), protocol="dev")
    train, test = dev_by_hand(small, flags="1")
    assert (set(paths(source, "train")), set(paths(source, "test"))) == (train, test)
    assert (len(train), len(test)) == (5 * 10, 5 * 2)
    assert not set(paths(CUB(str(small)), "test")) & (train | test)


def test_dev_goes_by_image_id_and_not_by_the_order_of_the_lines(small):
    before = {split: set(paths(CUB(str(small), protocol="dev"), split)) for split in ("train", "test")}
    for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt"):
        lines = (small / name).read_text().splitlines()
        (small / name).write_text("\n".join(reversed(lines)) + "\n")
    source = CUB(str(small), protocol="dev")
    assert {split: set(paths(source, split)) for split in ("train", "test")} == before


def test_a_copy_that_already_states_the_dev_split_keeps_it(small):
    train, test = dev_by_hand(small, flags="1")
    for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt"):
        lines = (small / name).read_text().splitlines()
        kept = [(line, row) for line, row in zip(lines, listed(small), strict=True) if row[1] in train | test]
        if name == "train_test_split.txt":
            kept = [(f"{row[0]} {int(row[1] in train)}", row) for _, row in kept]
        (small / f"new_{name}").write_text("".join(f"{line}\n" for line, _ in kept))
    for path in small.glob("new_*"):
        path.rename(small / path.name.removeprefix("new_"))
    for protocol in ("dev", "standard"):
        source = CUB(str(small), protocol=protocol)
        assert (set(paths(source, "train")), set(paths(source, "test"))) == (train, test)


def test_every_fifth_counts_within_each_class():
    classes = [7, 3, 7, 7, 3, 7, 7, 3, 3, 3, 7]
    assert np.flatnonzero(every_fifth(classes)).tolist() == [6, 9]


@pytest.mark.parametrize("protocol", ["few_shot_closer_look", "few_shot_frn"])
def test_few_shot_splits_share_no_class_and_hold_all_images_of_each(root, protocol):
    source = CUB(str(root), protocol=protocol)
    assert source.splits == ("train", "val", "test")
    classes = [set(source.records(split).labels.tolist()) for split in source.splits]
    assert [len(found) for found in classes] == [100, 50, 50]
    assert set.union(*classes) == set(range(200))
    assert [len(source.records(split)) for split in source.splits] == [600, 300, 300]


def test_the_base_classes_of_one_few_shot_protocol_are_the_others_test_and_val(root):
    first, second = (CUB(str(root), protocol=p) for p in ("few_shot_closer_look", "few_shot_frn"))
    rest = {*second.records("val").labels.tolist(), *second.records("test").labels.tolist()}
    assert set(first.records("train").labels.tolist()) == rest
    assert sorted(first.records("test").labels.tolist())[0] == 3  # class 4, Groove-billed Ani
    assert sorted(second.records("test").labels.tolist())[0] == 2  # class 3, Sooty Albatross


def test_a_folder_with_some_classes_has_a_tree_of_these(small):
    source = CUB(str(small))
    assert source.taxonomy.num_classes == 5
    assert set(source.records("train").labels.tolist()) == set(range(5))


# --- errors ---


def test_a_missing_folder_is_one_line_that_says_where_to_get_it(tmp_path):
    with pytest.raises(UsageError) as caught:
        CUB(str(tmp_path / "nowhere"))
    message = str(caught.value)
    assert "nowhere" in message
    assert "images.txt" in message
    assert "fgvc data download cub --to data" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "standart"}, "no protocol 'standart'.*did you mean 'standard'"),
        ({"tree": "clement"}, "no tree 'clement'.*did you mean 'clements'"),
    ],
)
def test_a_misspelt_choice_names_the_nearest(small, options, message):
    with pytest.raises(UsageError, match=message):
        CUB(str(small), **options)


def test_a_split_that_the_protocol_lacks_is_refused(small):
    with pytest.raises(UsageError, match="no split 'val'; it has train, test"):
        CUB(str(small)).records("val")


@pytest.mark.parametrize("line", ["6 006.Dodo", "201 201.Dodo"])
def test_a_class_that_is_not_cubs_is_named(small, line):
    with (small / "classes.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UsageError, match=rf"class {line.split()[0]} '{line.split()[1]}' is not one of"):
        CUB(str(small))


def test_a_label_outside_the_listed_classes_is_named(small):
    lines = (small / "classes.txt").read_text().splitlines()
    (small / "classes.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(UsageError, match=r"class 5 is not in classes\.txt"):
        CUB(str(small))


# --- real photographs ---


@pytest.mark.photos
@needs_photos
def test_the_shared_copy_has_4800_training_and_1194_test_photographs_under_standard_and_dev():
    standard, dev = CUB(str(PHOTOS)), CUB(str(PHOTOS), protocol="dev")
    assert (len(standard.records("train")), len(standard.records("test"))) == (4800, 1194)
    train, test = dev_by_hand(PHOTOS, flags="01")
    for source in (standard, dev):
        assert (set(paths(source, "train")), set(paths(source, "test"))) == (train, test)
