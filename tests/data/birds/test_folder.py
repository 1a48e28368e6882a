"""Generated birds: the folder they are kept in."""

import json
from pathlib import Path

import numpy as np
import pytest

from fgvc.data.birds import folder
from fgvc.data.birds.folder import Plan, read_annotations, write_once
from fgvc.data.birds.species import design
from fgvc.errors import FgvcError, UsageError
from fgvc.files.cache_folder import cache_folder

PLAN = Plan(design(2, 1, 1, 2), {"train": 12, "test": 8}, 64, 0.05, 0)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_folders_and_any_number_of_processes_give_the_same_bytes(tmp_path, monkeypatch):
    write_once(PLAN, tmp_path / "one", 1)
    monkeypatch.setattr(folder, "POOL_FROM", 1)
    write_once(PLAN, tmp_path / "three", 3)
    files = contents(tmp_path / "one")
    assert len(files) == 22
    assert files == contents(tmp_path / "three")


def test_a_picture_does_not_depend_on_what_was_painted_before():
    forwards = [PLAN.paint("train", i).pixels for i in range(4)]
    backwards = [PLAN.paint("train", i).pixels for i in reversed(range(4))][::-1]
    assert all((a == b).all() for a, b in zip(forwards, backwards, strict=True))


def test_pictures_of_different_splits_and_seeds_differ(tmp_path):
    write_once(PLAN, tmp_path / "zero")
    write_once(Plan(PLAN.species, PLAN.counts, 64, 0.05, 1), tmp_path / "one")
    pictures = [data for name in ("zero", "one") for path, data in contents(tmp_path / name).items() if ".jpg" in path]
    assert len(set(pictures)) == len(pictures) == 40


def test_the_folder_name_follows_from_everything_the_pictures_depend_on(monkeypatch):
    others = [
        Plan(design(2, 1, 1, 3), PLAN.counts, 64, 0.05, 0),
        Plan(PLAN.species, {"train": 12, "test": 12}, 64, 0.05, 0),
        Plan(PLAN.species, PLAN.counts, 65, 0.05, 0),
        Plan(PLAN.species, PLAN.counts, 64, 0.06, 0),
        Plan(PLAN.species, PLAN.counts, 64, 0.05, 1),
    ]
    names = {plan.folder_name for plan in [PLAN, *others]}
    monkeypatch.setattr(folder, "PAINTING_VERSION", -1)
    assert len(names | {PLAN.folder_name}) == 7


def test_the_manifest_says_what_is_in_the_folder(tmp_path):
    write_once(PLAN, tmp_path / "birds")
    manifest = json.loads((tmp_path / "birds" / "manifest.json").read_text())
    assert manifest["pictures"] == {"train": 12, "test": 8} and manifest["image_size"] == 64
    assert [row[:4] for row in manifest["species"]] == [list(one.path) for one in PLAN.species]
    assert {path.parent.name for path in (tmp_path / "birds" / "test").rglob("*.jpg")} == {
        one.path[3].replace(" ", "_") for one in PLAN.species
    }


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_writing_that_is_interrupted_leaves_nothing(tmp_path, monkeypatch, failure):
    paint = Plan.paint

    def stop_at_nine(plan, split, index):
        if index == 9:
            raise failure
        return paint(plan, split, index)

    monkeypatch.setattr(Plan, "paint", stop_at_nine)
    with pytest.raises((KeyboardInterrupt, FgvcError)) as caught:
        write_once(PLAN, tmp_path / "birds")
    assert list(tmp_path.iterdir()) == []
    if isinstance(caught.value, FgvcError):
        assert "(No space left on device); make room" in str(caught.value)


def test_of_two_writers_the_first_to_finish_stays(tmp_path, monkeypatch):
    paint, folder = Plan.paint, tmp_path / "birds"

    def other_finishes_meanwhile(plan, split, index):
        if index == 5 and not folder.exists():
            folder.mkdir()
            (folder / "mine").write_text("first")
        return paint(plan, split, index)

    monkeypatch.setattr(Plan, "paint", other_finishes_meanwhile)
    write_once(PLAN, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["birds"]
    assert contents(folder) == {"mine": b"first"}


def test_a_draft_that_cannot_be_renamed_is_an_error(tmp_path, monkeypatch):
    def refuse(draft, folder):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(FgvcError, match=r"writing failed \(Permission denied\)"):
        write_once(PLAN, tmp_path / "birds")
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written .*; set `root` or FGVC_CACHE"):
        write_once(PLAN, tmp_path / "file" / "birds")


def test_damaged_annotations_are_named_with_the_way_out(tmp_path):
    with pytest.raises(FgvcError, match=r"annotations.npz cannot be read .*; delete the folder"):
        read_annotations(tmp_path)
    (tmp_path / "annotations.npz").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(FgvcError, match=r"annotations.npz cannot be read .*; delete the folder"):
        read_annotations(tmp_path)


def test_annotations_are_fractions_of_the_painting_and_nan_where_hidden(tmp_path):
    write_once(PLAN, tmp_path / "birds")
    known = read_annotations(tmp_path / "birds")
    assert known["train_boxes"].shape == (12, 2, 4) and known["test_points"].shape == (8, len(folder.PARTS), 2)
    for index in range(8):
        painting = PLAN.paint("test", index)
        assert np.allclose(known["test_boxes"][index] * 64, [painting.object_box, painting.mark_box], atol=1e-3)
        for part, row in zip(folder.PARTS, known["test_points"][index], strict=True):
            expected = painting.points.get(part)
            assert np.isnan(row).all() if expected is None else np.allclose(row * 64, expected, atol=1e-3)


def test_the_cache_is_root_then_the_variable_then_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FGVC_CACHE", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "fgvc"
    monkeypatch.setenv("FGVC_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")
    assert cache_folder("here") == Path("here")
