from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgvc.data.sources.image_folder import ImageFolder
from fgvc.errors import UsageError
from fgvc.images.decoding import ImageError, decode


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def paths(source, split):
    records = source.records(split)
    return [records.relative_path(i) for i in range(len(records))]


def named(source, split):
    return {record.path: source.taxonomy.path(record.label)[-1] for record in source.records(split)}


def one_folder(root: Path, classes=4, each=10) -> Path:
    return put(root, *(f"bird {c}/{i}.jpg" for c in range(classes) for i in range(each)))


def test_train_val_and_test_folders_are_read(tmp_path):
    put(tmp_path, "train/b/2.jpg", "train/a/1.jpg", "val/a/3.jpg", "test/b/4.jpg", "notes/x/5.jpg")
    source = ImageFolder(str(tmp_path))
    assert source.splits == ("train", "val", "test")
    assert source.taxonomy.levels == ("class",)
    assert source.taxonomy.names("class") == ("a", "b")
    assert paths(source, "train") == ["train/a/1.jpg", "train/b/2.jpg"]
    assert source.records("train").labels.tolist() == [0, 1]
    assert named(source, "val") == {str(tmp_path / "val/a/3.jpg"): "a"}
    assert named(source, "test") == {str(tmp_path / "test/b/4.jpg"): "b"}


def test_val_and_test_may_have_new_classes(tmp_path):
    put(tmp_path, "train/b/2.jpg", "train/a/1.jpg", "val/c/3.jpg", "test/d/4.jpg")
    with pytest.raises(UsageError, match="train has no class folder 'c'"):
        ImageFolder(str(tmp_path))
    source = ImageFolder(str(tmp_path), new_classes=True)
    assert source.taxonomy.names("class") == ("a", "b", "c", "d")
    assert [source.records(split).labels.tolist() for split in source.splits] == [[0, 1], [2], [3]]
    put(tmp_path, "test/D/4.jpg")
    with pytest.raises(UsageError, match="'D'"):
        ImageFolder(str(tmp_path), new_classes=True)


def test_pictures_of_a_record_can_be_opened(tmp_path):
    (tmp_path / "train" / "Möwe am See").mkdir(parents=True)
    Image.new("RGB", (5, 4), "red").save(tmp_path / "train" / "Möwe am See" / "ein Bild.png")
    source = ImageFolder(str(tmp_path), test_fraction=0)
    assert decode(source.records("train")[0].path).shape == (4, 5, 3)
    assert source.splits == ("train",)


@pytest.mark.parametrize("word", ["valid", "validation", "Val"])
def test_other_words_for_val_are_understood(tmp_path, word):
    source = ImageFolder(str(put(tmp_path, "Train/a/1.jpg", f"{word}/a/2.jpg")))
    assert source.splits == ("train", "val")
    assert paths(source, "val") == [f"{word}/a/2.jpg"]


def test_one_folder_is_split_by_class(tmp_path):
    source = ImageFolder(str(one_folder(tmp_path)), test_fraction=0.25)
    train, test = source.records("train"), source.records("test")
    assert source.splits == ("train", "test")
    assert len(test) == 10  # 2.5 of each class: 3, 2, 3, 2
    assert sorted(Counter(test.labels.tolist()).values()) == [2, 2, 3, 3]
    everything = sorted(f"bird {c}/{i}.jpg" for c in range(4) for i in range(10))
    assert sorted(paths(source, "train") + paths(source, "test")) == everything
    assert len(train) == 30
    for split in source.splits:
        assert all(Path(file).parent.name == name for file, name in named(source, split).items())


def test_the_cut_hangs_on_names_only(tmp_path):
    here = ImageFolder(str(one_folder(tmp_path / "here")), test_fraction=0.3)
    # other place, other order of creation, below train/, beside an empty spot of hidden files
    there_root = tmp_path / "elsewhere"
    names = [f"train/bird {c}/{i}.jpg" for c in reversed(range(4)) for i in (3, 9, 1, 0, 2, 8, 7, 6, 5, 4)]
    there = ImageFolder(str(put(there_root, *names)), test_fraction=0.3)
    assert [f"train/{path}" for path in paths(here, "test")] == paths(there, "test")
    other = ImageFolder(str(tmp_path / "here"), test_fraction=0.3, seed=1)
    assert paths(other, "test") != paths(here, "test")


def test_a_new_class_moves_few_pictures_of_the_others(tmp_path):
    before = set(paths(ImageFolder(str(one_folder(tmp_path))), "test"))
    put(tmp_path, *(f"a new bird/{i}.jpg" for i in range(7)))
    after = {path for path in paths(ImageFolder(str(tmp_path)), "test") if not path.startswith("a new")}
    assert len(before ^ after) <= 4  # at most one per class


def test_suffixes_hidden_files_and_deeper_folders(tmp_path):
    put(
        tmp_path, "a/1.JPG", "a/2.jpeg", "a/deep/er/3.PnG", "a/4.txt", "a/.5.jpg", "a/.git/6.jpg", "a/README", "b/7.tif"
    )
    put(tmp_path, "__MACOSX/a/8.jpg", ".cache/9.jpg", "labels.csv")
    source = ImageFolder(str(tmp_path), test_fraction=0)
    assert paths(source, "train") == ["a/1.JPG", "a/2.jpeg", "a/deep/er/3.PnG", "b/7.tif"]
    assert source.records("train").labels.tolist() == [0, 0, 0, 1]


def test_a_loop_of_links_ends_and_a_linked_class_folder_is_read(tmp_path):
    put(tmp_path, "data/a/1.jpg", "far/2.jpg")
    (tmp_path / "data/a/up").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "data/b").symlink_to(tmp_path / "far", target_is_directory=True)
    source = ImageFolder(str(tmp_path / "data"), test_fraction=0)
    assert paths(source, "train") == ["a/1.jpg", "b/2.jpg"]


def test_links_to_nowhere_and_to_themselves_are_left_to_the_decoder(tmp_path):
    put(tmp_path, "a/1.jpg")
    (tmp_path / "a/2.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "a/3.jpg").symlink_to(tmp_path / "a/3.jpg")
    (tmp_path / "loop").symlink_to(tmp_path / "loop", target_is_directory=True)
    records = ImageFolder(str(tmp_path), test_fraction=0).records("train")
    assert [Path(record.path).name for record in records] == ["1.jpg", "2.jpg", "3.jpg"]
    reasons = ["No such file or directory", "Too many levels of symbolic links"]
    for record, reason in zip(list(records)[1:], reasons, strict=True):
        with pytest.raises(ImageError, match=rf"{Path(record.path).name}: cannot be read \({reason}\)$"):
            decode(record.path)


def test_composed_and_decomposed_letters_are_one_class(tmp_path):
    put(tmp_path, "train/M\u00f6we/1.jpg", "test/Mo\u0308we/2.jpg")
    source = ImageFolder(str(tmp_path))
    assert source.records("test").labels.tolist() == [0]
    assert Path(source.records("test")[0].path).exists()


def test_nested_folders_are_levels_when_they_are_named(tmp_path):
    gull, tern = "Laridae/Larus/Larus canus", "Laridae/Sterna/Sterna hirundo"
    put(tmp_path, f"{gull}/1.jpg", f"{gull}/more/2.jpg", f"{tern}/3.jpg", "Laridae/Larus/4.jpg", "Laridae/5.jpg")
    source = ImageFolder(str(tmp_path), levels=["family", "genus", "species"], test_fraction=0)
    found = {Path(r.path).name: source.taxonomy.path(r.label) for r in source.records("train")}
    assert found == {
        "1.jpg": ("Laridae", "Larus", "Larus canus"),
        "2.jpg": ("Laridae", "Larus", "Larus canus"),
        "3.jpg": ("Laridae", "Sterna", "Sterna hirundo"),
        "4.jpg": ("Laridae", "Larus"),
        "5.jpg": ("Laridae",),
    }
    assert [source.taxonomy.size(level) for level in source.taxonomy.levels] == [1, 2, 2]


def test_a_taxonomy_file_gives_the_levels_and_folders_may_bear_coarser_names(tmp_path):
    (tmp_path / "tree.csv").write_text("genus,species\nLarus,canus\nLarus,fuscus\nSterna,hirundo\n")
    put(tmp_path / "p", "train/hirundo/1.jpg", "train/canus/2.jpg", "train/Larus/3.jpg", "test/fuscus/4.jpg")
    source = ImageFolder(str(tmp_path / "p"), taxonomy=str(tmp_path / "tree.csv"))
    assert source.taxonomy.num_classes == 3
    found = {Path(r.path).name: source.taxonomy.path(r.label) for r in source.records("train")}
    assert found == {"1.jpg": ("Sterna", "hirundo"), "2.jpg": ("Larus", "canus"), "3.jpg": ("Larus",)}
    assert source.records("test").labels.tolist() == [1]
    put(tmp_path / "p", "train/cannus/5.jpg")
    with pytest.raises(UsageError, match=r"'cannus' against .*tree\.csv: .*did you mean 'canus'"):
        ImageFolder(str(tmp_path / "p"), taxonomy=str(tmp_path / "tree.csv"))


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_train_does_not_have_is_named_with_its_nearest(tmp_path, split):
    put(tmp_path, "train/Laysan_Albatross/1.jpg", f"{split}/Laysan_Albatros/2.jpg")
    with pytest.raises(UsageError) as caught:
        ImageFolder(str(tmp_path))
    assert f"{split}/Laysan_Albatros" in str(caught.value)
    assert "did you mean 'Laysan_Albatross'" in str(caught.value)


def test_mistakes_in_the_layout_are_one_line(tmp_path):
    def said(root, **options):
        with pytest.raises(UsageError) as caught:
            ImageFolder(str(root), **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such folder" in said(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no pictures; looked for .avif" in said(tmp_path / "empty")
    assert "'1.jpg' lies outside the class folders" in said(put(tmp_path / "flat", "1.jpg", "2.jpg"))
    (tmp_path / "hole" / "b").mkdir(parents=True)
    assert "hole/b: class folder without pictures; looked for .avif" in said(put(tmp_path / "hole", "a/1.jpg"))
    assert "no 'train' folder" in said(put(tmp_path / "headless", "test/a/1.jpg"))
    two = put(tmp_path / "two", "train/a/1.jpg", "val/a/1.jpg", "valid/a/1.jpg")
    assert "both 'val' and 'valid' mean the val split" in said(two)
    assert "too few to cut test_fraction=0.2" in said(put(tmp_path / "few", "a/1.jpg", "b/2.jpg"))
    assert "less than 1" in said(put(tmp_path / "few", "a/1.jpg"), test_fraction=20)
    assert "not both" in said(tmp_path / "few", levels=["a"], taxonomy="b.csv")


def test_labels_and_records_agree_over_many_files(tmp_path):
    put(tmp_path, *(f"{c:02}/{i}.jpg" for c in range(12) for i in range(c + 2)))
    source = ImageFolder(str(tmp_path))
    for split in source.splits:
        records = source.records(split)
        assert records.labels.dtype == np.int32
        assert [int(Path(r.path).parent.name) for r in records] == records.labels.tolist()


def test_more_levels_than_folders_are_refused(tmp_path):
    put(tmp_path, *(f"{split}/larus/{c}/{i}.jpg" for split in ("train", "test") for c in "ab" for i in range(3)))
    assert ImageFolder(str(tmp_path), levels=["genus", "species"]).taxonomy.levels == ("genus", "species")
    with pytest.raises(UsageError) as caught:
        ImageFolder(str(tmp_path), levels=["family", "genus", "species"])
    assert str(caught.value) == (
        f"{tmp_path}: `levels` names 3 levels of folders (family, genus, species), but the pictures lie in 2; "
        "name as many levels as there are folders, coarse to fine"
    )


def test_folders_that_look_like_splits_are_refused(tmp_path):
    def said(root, **options):
        with pytest.raises(UsageError) as caught:
            ImageFolder(str(root), **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    words = ("Training", "train2017", "TEST_SET", "dev", "eval", "trainval", "validation_data", "Testing")
    for word in words:
        message = said(put(tmp_path / word, f"{word}/a/1.jpg", "other/a/1.jpg"))
        assert f"[{word!r}] look like splits" in message and "splits_as_classes: true" in message
    inner = put(tmp_path / "inner", "images/train/a/1.jpg", "images/val/a/1.jpg")
    message = said(inner)
    assert f"['train', 'val'] look like splits; give root: {inner / 'images'}," in message
    assert ImageFolder(str(inner / "images")).splits == ("train", "val")
    assert "['Testing'] look like splits" in said(put(tmp_path / "half", "train/a/1.jpg", "Testing/a/1.jpg"))

    both = put(tmp_path / "both", "Training/a/1.jpg", "Testing/a/2.jpg")
    source = ImageFolder(str(both), splits={"train": "Training", "test": "Testing"})
    assert (source.splits, source.taxonomy.names("class")) == (("train", "test"), ("a",))
    assert paths(source, "test") == ["Testing/a/2.jpg"]
    classes = ImageFolder(str(both), splits_as_classes=True, test_fraction=0)
    assert classes.taxonomy.names("class") == ("Testing", "Training")
    vehicles = put(tmp_path / "vehicles", "bus/1.jpg", "train/2.jpg")
    assert ImageFolder(str(vehicles), splits_as_classes=True, test_fraction=0).taxonomy.num_classes == 2
    assert "no folder 'Trainin' for train; did you mean 'Training'?" in said(both, splits={"train": "Trainin"})
    assert "no split 'dev'" in said(both, splits={"dev": "Testing"})
    assert "name a folder for train" in said(both, splits={"test": "Testing"})
    assert "not both" in said(both, splits={"train": "Training"}, splits_as_classes=True)


def test_two_spellings_of_one_class_are_refused(tmp_path):
    put(tmp_path, "Herring Gull/1.jpg", "Herring_Gull/2.jpg", "Herring_Gull/3.jpg")
    with pytest.raises(UsageError, match=r"'Herring Gull' \(1\) and 'Herring_Gull' \(2\) differ only"):
        ImageFolder(str(tmp_path))
    assert ImageFolder(str(tmp_path), similar_labels=True, test_fraction=0).taxonomy.num_classes == 2


def test_files_without_a_known_suffix_are_read_by_content_and_others_counted(tmp_path):
    put(tmp_path, "a/1.jpg", "a/notes.txt")
    Image.new("RGB", (4, 4)).save(tmp_path / "a/2.jfif", "JPEG")
    source = ImageFolder(str(tmp_path), test_fraction=0)
    assert paths(source, "train") == ["a/1.jpg", "a/2.jfif"]
    assert source.passed_over.counts == {".txt": 1}


def test_nested_folders_are_doubted_until_levels_are_named(tmp_path):
    put(tmp_path, *(f"{kind}/{kind} {i}/{n}.jpg" for kind in ("apple", "pear") for i in range(4) for n in range(3)))
    source = ImageFolder(str(tmp_path))
    assert source.taxonomy.num_classes == 2
    assert set(source.doubts) == {"nested_folders"} and "8 folders" in source.doubts["nested_folders"]
    named = ImageFolder(str(tmp_path), levels=["group", "class"])
    assert named.doubts == {} and named.taxonomy.num_classes == 8
    assert ImageFolder(str(tmp_path), levels=["class"]).doubts == {}
    split = put(tmp_path / "split", *(f"train/{k}/{k} {i}/1.jpg" for k in "ab" for i in range(3)), "test/a/a 0/2.jpg")
    assert "6 folders" in ImageFolder(str(split)).doubts["nested_folders"]
