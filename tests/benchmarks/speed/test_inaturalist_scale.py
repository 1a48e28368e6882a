import json
import sys
from collections import Counter

import pytest

from benchmarks.speed import inaturalist_scale as scale
from fgvc.data.reading import index_cache
from fgvc.data.sources.inaturalist import RANKS, INaturalist


@pytest.fixture
def files(tmp_path):
    scale.inaturalist_files.write(tmp_path / "made", classes=300, images=700, val_images=40, seed=3)
    return tmp_path / "made"


def test_the_made_up_files_have_the_fields_of_the_real_ones_and_are_read_as_such(files, monkeypatch):
    monkeypatch.setattr(scale.inaturalist_files, "BATCH", 64)
    scale.inaturalist_files.write(files.parent / "again", classes=300, images=700, val_images=40, seed=4)
    content = json.loads((files / "train.json").read_text(encoding="utf-8"))
    fields = "id width height file_name license rights_holder date latitude longitude location_uncertainty"
    assert list(content["images"][0]) == fields.split()
    assert len(content["images"]) == len({image["file_name"] for image in content["images"]}) == 700
    assert list(content["annotations"][0]) == ["id", "image_id", "category_id"]
    assert {annotation["category_id"] for annotation in content["annotations"]} == set(range(300))
    assert set(content["categories"][0]) == {
        *("id", "name", "common_name", "supercategory", "specific_epithet", "image_dir_name", *RANKS)
    }
    for folder in (files, files.parent / "again"):
        source = INaturalist(str(folder))
        sizes = [source.taxonomy.size(level) for level in source.taxonomy.levels]
        assert sizes == sorted(sizes) and sizes[-1] == 300
        assert len(source.records("train")) == 700 and len(source.records("test")) == 40
    assert (files / "val.json").read_text() != (files.parent / "again" / "val.json").read_text()


def test_a_start_is_measured_until_the_first_batch_and_the_index_is_used(files, monkeypatch, capsys):
    monkeypatch.setattr(index_cache, "KEPT_FROM", 1)
    monkeypatch.setenv("FGVC_CACHE", str(files / "cache"))
    annotations = json.loads((files / "train.json").read_text(encoding="utf-8"))["annotations"]
    sizes = Counter(annotation["category_id"] for annotation in annotations).values()
    told = []
    for _ in range(2):
        assert scale.main(["--folder", str(files), "--step", "data"]) == 0
        out, err = capsys.readouterr()
        told.append(err)
        found = json.loads(out)
        assert found["images"] == 700 - round(0.1 * sum(size for size in sizes if size > 1)) and found["batch"] == 32
        assert 0 < found["beyond"] <= found["total"] and found["cpu"] > 0
        assert 50 < found["peak"] < 20_000
    assert told[0].count("reading ") == 2 and told[1] == ""


def test_fit_is_stopped_where_it_asks_for_the_first_photograph(files):
    found = scale.run("fit", files)
    assert 0 < found["beyond"] < found["total"]


def test_a_step_that_fails_shows_why(tmp_path, monkeypatch):
    (tmp_path / "python").write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SystemExit, match="data failed:\nout of luck"):
        scale.run("data", tmp_path)


def test_a_walk_reads_the_records_and_compares_its_memory(monkeypatch):
    monkeypatch.setattr(scale.time, "sleep", lambda seconds: None)
    seen = []

    class Records(list):
        def __getitem__(self, place):
            seen.append(place)

    before, after = scale.Walks(Records(range(20)))[0]
    assert seen == [0, 8, 16]
    assert set(before) == set(after) == {"dirty", "pss"} and min(before.values()) > 10e6


def test_impossible_sizes_are_refused(tmp_path):
    for words in (["--classes", "0"], ["--images", "9"], ["--val_images", "0"]):
        with pytest.raises(SystemExit, match="2"):
            scale.main(["--folder", str(tmp_path), *words])
