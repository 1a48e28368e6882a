import pytest

from fgvc.data.records import Records
from fgvc.data.sources.base import Annotations, DataSource
from fgvc.taxonomy.tree import Taxonomy


class Plain(DataSource):
    @property
    def taxonomy(self):
        return Taxonomy.flat(["a"])

    def records(self, split):
        return Records(["1.jpg"], [0])


def test_a_source_without_extras_has_no_groups_and_no_annotations():
    source = Plain()
    assert source.splits == ("train", "test")
    assert source.groups("train") is None
    assert source.annotations("train", 0) == Annotations({}, {})


def test_annotations_of_two_photographs_share_nothing():
    first, second = Plain().annotations("train", 0), Plain().annotations("train", 1)
    first.boxes["object"] = (0, 0, 1, 1)
    assert second.boxes == {}


def test_taxonomy_and_records_have_to_be_given():
    with pytest.raises(TypeError, match="records"):
        type("Half", (DataSource,), {"taxonomy": None})()
