import itertools
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from fgvc.data.reading import annotation_json, index_cache
from fgvc.data.reading.annotation_json import read_annotations, read_categories
from fgvc.errors import UsageError

CATEGORIES = [{"id": 10, "name": "b"}, {"id": 9, "name": "a"}, {"id": 8, "name": "c"}]


def write(path, images, annotations, **more):
    path.write_text(
        json.dumps(
            {
                "images": [{"id": i, "file_name": f"{i}.jpg", "rights_holder": "x" * 30} for i in images],
                "annotations": [{"id": k, "image_id": i, "category_id": c} for k, (i, c) in enumerate(annotations)],
                **more,
            }
        )
    )
    return path


def paths_of(table):
    return [table.path(row) for row in range(len(table))]


def test_annotations_are_joined_to_images_by_id_and_not_by_place(tmp_path):
    draw = np.random.default_rng(0)
    images = draw.permutation(10**9 + np.arange(500)).tolist()
    category_of = {i: int(draw.integers(0, 40)) for i in images}
    shuffled = [(i, category_of[i]) for i in draw.permutation(images).tolist()]
    found = read_annotations(write(tmp_path / "a.json", images, shuffled))
    assert paths_of(found.files) == [f"{i}.jpg" for i in images]
    assert found.category_ids.tolist() == [category_of[i] for i in images]
    assert found.categories == []


def test_a_boxed_file_repeats_a_category_per_box(tmp_path):
    found = read_annotations(write(tmp_path / "a.json", [5, 3], [(3, 8), (5, 9), (3, 8)]))
    assert found.category_ids.tolist() == [9, 8]


def test_categories_are_sorted_by_id(tmp_path):
    categories = [{"id": 10, "name": "b"}, {"id": 9, "name": "a"}]
    found = read_annotations(write(tmp_path / "a.json", [1], [(1, 9)], categories=categories))
    assert [category["name"] for category in found.categories] == ["a", "b"]
    (tmp_path / "c.json").write_text(json.dumps(categories))
    assert read_categories(tmp_path / "c.json") == found.categories


@pytest.mark.parametrize(
    ("images", "annotations", "said"),
    [
        ([1, 2], [(1, 0)], r"image id 2 \(2\.jpg\) has no annotation"),
        ([1, 2], [(1, 0), (2, 0), (1, 3)], "image id 1 has more than one category"),
        ([1, 2], [], "a competition's test file has no labels"),
        ([], [], "no list of images"),
    ],
)
def test_a_file_that_does_not_add_up_is_refused(tmp_path, images, annotations, said):
    with pytest.raises(UsageError, match=said):
        read_annotations(write(tmp_path / "a.json", images, annotations))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not an iNaturalist annotation file"),
        ('{"images": [{"file_name": "a"}]}', "KeyError: 'id'"),
        ('{"images": [{"file_name": "a", "id": "x"}]}', "TypeError"),
        ('{"images": [{"file_name": "a", "id": 1e400}]}', "TypeError"),
        ('{"images": [{"file_name": "a", "id": 99999999999999999999}]}', "OverflowError"),
        ('{"images": [{"file_name": 5, "id": 1}]}', "AttributeError"),
        ('{"images": [{"file_name": "a", "id": 1},]}', "ValueError: Expecting value at character 40"),
        ('{"images": [7]}', "TypeError"),
        ("[" * 100_000, "RecursionError"),
        ("[1]", "no list of images"),
        (
            '{"images": [{"file_name": "a", "id": 1}], "annotations": [{"image_id": 1, "category_id": 1}],'
            ' "categories": [7]}',
            "no list of categories",
        ),
    ],
)
def test_another_kind_of_file_is_one_line(tmp_path, content, said):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UsageError) as caught:
        read_annotations(tmp_path / "a.json")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Let an index be kept of the smallest file."""
    monkeypatch.setattr(index_cache, "KEPT_FROM", 1)
    monkeypatch.setenv("FGVC_CACHE", str(tmp_path / "cache"))


def test_the_order_of_the_keys_is_free(tmp_path):
    content = json.loads(write(tmp_path / "a.json", [5, 3], [(3, 8), (5, 9)], categories=CATEGORIES).read_text())
    first = read_annotations(tmp_path / "a.json")
    for number, keys in enumerate(itertools.permutations(content)):
        (tmp_path / f"{number}.json").write_text(json.dumps({key: content[key] for key in keys}))
        found = read_annotations(tmp_path / f"{number}.json")
        assert paths_of(found.files) == paths_of(first.files) == ["5.jpg", "3.jpg"]
        assert found.category_ids.tolist() == first.category_ids.tolist() == [9, 8]
        assert found.categories == first.categories


def test_the_second_start_finds_all_in_the_index(tmp_path, kept, monkeypatch):
    names = ["🦉 {a}.jpg", 'b "].jpg', "Möwe/鳥.jpg"]
    path = write(tmp_path / "a.json", [3, 1, 2], [(1, 9), (2, 10), (3, 9)], categories=CATEGORIES)
    content = json.loads(path.read_text())
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    read = read_annotations(path)
    monkeypatch.setattr(annotation_json, "pieces", None)
    again = read_annotations(path)
    for found in (read, again):
        assert found.files.file
        assert paths_of(found.files) == names
        assert found.category_ids.tolist() == [9, 9, 10]
        assert found.categories == sorted(CATEGORIES, key=lambda category: category["id"])


@pytest.mark.parametrize("metadata", [None, {b"extra": b"[{"}, {b"extra": b"\xff"}])
def test_an_index_that_does_not_add_up_is_made_anew(tmp_path, kept, capsys, metadata):
    path = write(tmp_path / "a.json", [1, 2], [(1, 9), (2, 10)], categories=CATEGORIES)
    table = read_annotations(path).files.columns.replace_schema_metadata(metadata)
    (folder,) = (tmp_path / "cache" / "indexes").iterdir()
    (folder / "records.arrow").unlink()  # the table above is mapped from it
    with pa.OSFile(str(folder / "records.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    capsys.readouterr()
    assert paths_of(read_annotations(path).files) == ["1.jpg", "2.jpg"]
    assert "is damaged and is made anew" in capsys.readouterr().err
    assert read_annotations(path).category_ids.tolist() == [9, 10]
    assert capsys.readouterr().err == ""


def test_a_faulty_file_leaves_no_index(tmp_path, kept):
    with pytest.raises(UsageError, match="has no annotation"):
        read_annotations(write(tmp_path / "a.json", [1, 2], [(1, 0)]))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("backwards", [False, True])
def test_no_dictionary_per_image_is_kept(tmp_path, backwards):
    images = list(range(20_000))
    path = write(tmp_path / "a.json", images, [(i, 0) for i in (reversed(images) if backwards else images)])
    tracemalloc.start()
    json.loads(path.read_text())
    plain = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    read_annotations(path)
    ours = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert ours < 0.3 * plain
