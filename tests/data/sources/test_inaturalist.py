import json
from pathlib import Path

import pytest

from fgvc.data.sources.inaturalist import RANKS, INaturalist, tree_of_categories
from fgvc.errors import UsageError

LIVES = [  # kingdom ... genus, species
    ("Animalia", "Chordata", "Aves", "Charadriiformes", "Laridae", "Larus", "Larus canus"),
    ("Animalia", "Chordata", "Aves", "Charadriiformes", "Laridae", "Larus", "Larus fuscus"),
    ("Plantae", "Tracheophyta", "Magnoliopsida", "Rosales", "Rosaceae", "Rosa", "Rosa canina"),
]
BIRDS_AND_ROSES = [("Aves", "Larus canus"), ("Aves", "Larus fuscus"), ("Plantae", "Rosa canina")]


def category(index, year, obfuscated=False):
    supercategory, name = BIRDS_AND_ROSES[index]
    made = {"id": index, "name": name, "supercategory": supercategory}
    if year == 2017:
        return made
    made |= dict(zip(RANKS, LIVES[index], strict=False))
    if obfuscated:
        made |= {rank: f"{rank} {size}" for rank, size in zip(RANKS, map(len, LIVES[index]), strict=False)}
        made["name"] = str(index)
    if year == 2019:
        del made["supercategory"]
    if year == 2021:
        made |= {"common_name": "x", "specific_epithet": "y", "image_dir_name": f"{index:05d}_{'_'.join(LIVES[index])}"}
    return made


def folder(index, year, split):
    supercategory, name = BIRDS_AND_ROSES[index]
    return {
        2017: f"train_val_images/{supercategory}/{name}",
        2018: f"train_val2018/{supercategory}/{index}",
        2019: f"train_val2019/{supercategory}s/{index}",
        2021: f"{split}/{category(index, 2021).get('image_dir_name')}",
    }[year]


def annotate(root, year, split, file, classes, obfuscated=False):
    """Write one annotation file (ids run against the order of the images) and its pictures."""
    names = [f"{folder(c, year, split)}/{split}{i}.jpg" for i, c in enumerate(classes)]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    content = {
        "info": {"year": year, "version": "1.0"},
        "images": [
            {"id": 900 - i, "file_name": name, "width": 8, "height": 6, "license": 0, "latitude": float("nan")}
            for i, name in enumerate(names)
        ],
        "licenses": [{"id": 0, "name": "CC BY", "url": ""}],
        "annotations": [{"id": i, "image_id": 900 - i, "category_id": c} for i, c in enumerate(classes)],
        "categories": [category(c, year, obfuscated) for c in (2, 0, 1)],
    }
    (root / file).write_text(json.dumps(content))
    return names


def make_fake_inaturalist(root: Path, year: int, obfuscated=False):
    root.mkdir(exist_ok=True, parents=True)
    suffix = "" if year == 2021 else str(year)
    files = {
        "train": annotate(root, year, "train", f"train{suffix}.json", [2, 0, 1, 0], obfuscated),
        "val": annotate(root, year, "val", f"val{suffix}.json", [1, 2], obfuscated),
    }
    if year == 2021:
        files["mini"] = annotate(root, year, "train_mini", "train_mini.json", [1, 0, 2])
    return files


@pytest.mark.parametrize("year", [2017, 2018, 2019, 2021])
def test_each_year_is_read_as_it_unpacks(tmp_path, year):
    files = make_fake_inaturalist(tmp_path, year)
    source = INaturalist(str(tmp_path), year)
    assert tuple(source.splits) == ("train", "test")
    train, test = source.records("train"), source.records("test")
    assert [train.relative_path(i) for i in range(4)] == files["train"]
    assert train.labels.tolist() == [2, 0, 1, 0]
    assert [test.relative_path(i) for i in range(2)] == files["val"]
    assert test.labels.tolist() == [1, 2]
    assert all(Path(record.path).is_file() for record in train)
    assert source.taxonomy.names("species") == ("Larus canus", "Larus fuscus", "Rosa canina")
    if year == 2017:
        assert source.taxonomy.to_plain()["leaves"] == [list(path) for path in BIRDS_AND_ROSES]
        assert source.taxonomy.levels == ("supercategory", "species")
    else:
        assert source.taxonomy.to_plain()["leaves"] == [list(path) for path in LIVES]
        assert source.taxonomy.levels == (*RANKS, "species")


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("year", [2018, 2019])
def test_the_names_published_after_the_contest_replace_the_obfuscated_ones(tmp_path, year, wrapped):
    make_fake_inaturalist(tmp_path, year, obfuscated=True)
    assert INaturalist(str(tmp_path), year).taxonomy.names("species") == ("0", "1", "2")
    categories = [category(c, year) for c in (1, 2, 0)]
    (tmp_path / "categories.json").write_text(json.dumps({"categories": categories} if wrapped else categories))
    source = INaturalist(str(tmp_path), year)
    assert source.taxonomy.to_plain()["leaves"] == [list(path) for path in LIVES]
    assert source.records("train").labels.tolist() == [2, 0, 1, 0]


def test_mini_trains_on_the_small_set(tmp_path):
    files = make_fake_inaturalist(tmp_path, 2021)
    source = INaturalist(str(tmp_path), 2021, mini=True)
    assert source.records("train").labels.tolist() == [1, 0, 2]
    assert source.records("train").relative_path(0) == files["mini"][0]
    assert len(source.records("test")) == 2


def test_other_files_can_be_named(tmp_path):
    make_fake_inaturalist(tmp_path, 2018)
    for old, new in (("train2018", "mine"), ("val2018", "yours")):
        (tmp_path / f"{old}.json").rename(tmp_path / f"{new}.json")
    (tmp_path / "names.json").write_text(json.dumps([category(c, 2018) for c in range(3)]))
    source = INaturalist(
        str(tmp_path), 2018, train_file="mine.json", val_file="yours.json", categories_file="names.json"
    )
    assert len(source.records("train")) == 4


def test_levels_can_be_chosen(tmp_path):
    make_fake_inaturalist(tmp_path, 2018)
    source = INaturalist(str(tmp_path), 2018, levels=["family", "species"])
    assert source.taxonomy.to_plain()["leaves"][2] == ["Rosaceae", "Rosa canina"]
    by_group = INaturalist(str(tmp_path), 2018, levels=["supercategory", "species"])
    assert by_group.taxonomy.names("supercategory") == ("Aves", "Plantae")
    with pytest.raises(UsageError, match=r"no level 'famly'; .*did you mean 'family'"):
        INaturalist(str(tmp_path), 2018, levels=["famly", "species"])
    with pytest.raises(UsageError, match="must end with 'species'"):
        INaturalist(str(tmp_path), 2018, levels=["order", "family"])


def test_species_of_one_path_are_told_apart_by_their_id():
    twice = [{"id": 4, "name": "Rosa", "supercategory": "P"}, {"id": 9, "name": "Rosa", "supercategory": "P"}]
    tree = tree_of_categories([*twice, {"id": 11, "name": "Rosa", "supercategory": "Q"}])
    assert tree.names("species") == ("Rosa (4)", "Rosa (9)", "Rosa")


def test_a_blank_rank_repeats_the_coarser_name():
    blank = {**category(0, 2018), "class": "", "order": None}
    tree = tree_of_categories([blank, category(2, 2018)])
    assert tree.to_plain()["leaves"][0][:5] == ["Animalia", "Chordata", "Chordata", "Chordata", "Laridae"]


def test_a_rank_that_one_category_does_not_have_is_no_level():
    part = [category(0, 2018), category(2, 2018)]
    del part[1]["order"]
    assert tree_of_categories(part).levels == ("kingdom", "phylum", "class", "family", "genus", "species")


def test_what_is_missing_is_one_line(tmp_path):
    def said(*args, **options):
        with pytest.raises(UsageError) as caught:
            INaturalist(str(tmp_path / args[0]), *args[1:], **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such folder; unpack iNaturalist 2018 there" in said("gone", 2018)
    make_fake_inaturalist(tmp_path / "x", 2018)
    assert "train2019.json: no such file" in said("x", 2019)
    assert "mini: true is for iNaturalist 2021" in said("x", 2018, mini=True)
    assert "names.json: no such file" in said("x", 2018, categories_file="names.json")
    (tmp_path / "x" / "categories.json").write_text(json.dumps([category(c, 2018) for c in range(2)]))
    assert "categories.json: 2 categories, not the 3 of" in said("x", 2018)
    (tmp_path / "x" / "categories.json").unlink()
    next((tmp_path / "x" / "train_val2018").rglob("train0.jpg")).unlink()
    assert "its first photograph is not there" in said("x", 2018)


def test_a_category_that_the_list_does_not_have_is_one_line(tmp_path):
    make_fake_inaturalist(tmp_path, 2018)
    content = json.loads((tmp_path / "val2018.json").read_text())
    content["annotations"][0]["category_id"] = 77
    (tmp_path / "val2018.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"val2018\.json: category id 77 is not in the list"):
        INaturalist(str(tmp_path), 2018)
