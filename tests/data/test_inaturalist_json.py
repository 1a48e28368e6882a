import json
import tracemalloc

import numpy as np
import pytest

from fgvc.data.inaturalist_json import read_annotations, read_categories
from fgvc.errors import UsageError


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


def test_annotations_are_joined_to_images_by_id_and_not_by_place(tmp_path):
    draw = np.random.default_rng(0)
    images = draw.permutation(10**9 + np.arange(500)).tolist()
    category_of = {i: int(draw.integers(0, 40)) for i in images}
    shuffled = [(i, category_of[i]) for i in draw.permutation(images).tolist()]
    found = read_annotations(write(tmp_path / "a.json", images, shuffled))
    assert found.files == [f"{i}.jpg" for i in images]
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


def test_no_dictionary_per_image_is_kept(tmp_path):
    images = list(range(20_000))
    path = write(tmp_path / "a.json", images, [(i, 0) for i in images])
    tracemalloc.start()
    json.loads(path.read_text())
    plain = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    read_annotations(path)
    ours = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert ours < 0.6 * plain
