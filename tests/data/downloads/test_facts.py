import importlib
import inspect
import re
from pathlib import Path

import pytest
import yaml

from fgvc.data.downloads.facts import Archive, data_set
from fgvc.errors import UsageError
from fgvc.files import shipped
from fgvc.files.shipped import config_stems, download_stems

REPO = Path(__file__).parents[3]
STEMS = sorted(path.stem for path in (REPO / "data" / "downloads").glob("*.yaml"))
INATURALIST = [stem for stem in STEMS if stem.startswith("inaturalist")]


def parts(stem):
    return [*data_set(stem).parts] or [None]


def test_the_shipped_files_are_found():
    assert list(download_stems()) == STEMS
    assert {"cub", "inaturalist2017", "inaturalist2018", "inaturalist2019", "inaturalist2021"} <= set(STEMS)


@pytest.mark.parametrize(("home", "folder"), [("clone", "data"), ("wheel", "fgvc/_facts")])
def test_they_are_looked_for_in_a_wheel_and_in_a_clone(tmp_path, monkeypatch, home, folder):
    (tmp_path / folder / "downloads").mkdir(parents=True)
    (tmp_path / folder / "downloads" / "moths.yaml").write_text("{}")
    monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "fgvc")
    assert download_stems() == {"moths": tmp_path / folder / "downloads" / "moths.yaml"}


@pytest.mark.parametrize("stem", STEMS)
def test_the_shipped_facts_hold_together(stem):
    facts = data_set(stem)
    assert facts.title and facts.terms and facts.source.startswith("https://")
    assert len({archive.url for archive in facts.archives}) == len(facts.archives)
    for archive in facts.archives:
        assert re.fullmatch(r"https://[\w./-]+/[\w.]+\.(tgz|tar\.gz|zip)", archive.url)
        assert archive.md5 is None or re.fullmatch(r"[0-9a-f]{32}", archive.md5)
        assert archive.part is None or archive.part in facts.parts
        assert archive.makes and archive.bytes > 0
    sizes = [archive.bytes for archive in facts.archives]
    assert sizes == sorted(sizes)  # trouble shows early


@pytest.mark.parametrize("stem", STEMS)
def test_the_config_that_reads_it_knows_the_arguments(stem):
    for part in parts(stem):
        facts = data_set(stem).of_part(part)
        source = yaml.safe_load(config_stems()[facts.config].read_text())["data"]["source"]
        file = importlib.import_module(f"fgvc.data.sources.{facts.config}")
        known = inspect.signature(getattr(file, source["class_path"])).parameters
        assert {"root", *facts.arguments} <= set(known)


@pytest.mark.parametrize("stem", INATURALIST)
def test_all_that_the_source_reads_of_inaturalist_is_fetched(stem):
    from fgvc.data.sources.inaturalist import _file_names

    for part in parts(stem):
        facts = data_set(stem).of_part(part)
        assert facts.root == facts.into == f"inaturalist_{stem[-4:]}"
        made = {name for archive in facts.archives for name in archive.makes}
        assert set(_file_names(facts.arguments["year"], facts.arguments["mini"])) < made
        assert stem[-4:] == str(facts.arguments["year"])
        assert all(f"/{stem[-4:]}/" in archive.url for archive in facts.archives)


def test_cub_lands_where_its_config_looks_and_so_does_inaturalist():
    for stem in ("cub", "inaturalist2021"):
        facts = data_set(stem).of_part(None)
        asked = yaml.safe_load(config_stems()[facts.config].read_text())["data"]["source"]["init_args"]
        assert asked["root"] == f"data/{facts.root}"
        assert {key: asked[key] for key in facts.arguments} == facts.arguments


def test_the_default_part_is_the_smallest_and_the_others_leave_it_out():
    whole = data_set("inaturalist2021")
    names = {part: [a.name for a in whole.of_part(part).archives] for part in (None, "train_mini", "train")}
    assert names[None] == names["train_mini"]
    assert names["train_mini"] == ["val.json.tar.gz", "train_mini.json.tar.gz", "val.tar.gz", "train_mini.tar.gz"]
    assert names["train"] == ["val.json.tar.gz", "train.json.tar.gz", "val.tar.gz", "train.tar.gz"]
    assert whole.of_part("train").arguments == {"year": 2021, "mini": False}


@pytest.mark.parametrize(
    ("size", "count", "exact"),
    [(123, 123, True), ("26 MiB", 27_262_976, False), ("156 KiB", 159_744, False), ("8.4 GiB", 9_019_431_321, False)],
)
def test_sizes_are_exact_or_rounded(size, count, exact):
    archive = Archive("https://example.org/a/b.tar.gz", size, ["b"])
    assert (archive.bytes, archive.is_exact, archive.name) == (count, exact, "b.tar.gz")
    assert archive.unpacked == int(count * 1.1)


def test_what_is_not_there_is_refused_with_the_nearest():
    for typed in ("cup", "CUB"):
        with pytest.raises(UsageError, match=f"^{typed}: no data set that can be fetched; .*; did you mean 'cub'"):
            data_set(typed)
    with pytest.raises(UsageError) as caught:
        data_set("inaturalist2021").of_part("mini_train")
    assert str(caught.value) == (
        "--part mini_train: no part of iNaturalist 2021, photographs of 10,000 species; it comes in the parts "
        "train_mini, train; did you mean 'train'?"
    )
    with pytest.raises(UsageError, match=r"--part train: no part of CUB-200-2011, .*; it comes whole"):
        data_set("cub").of_part("train")
