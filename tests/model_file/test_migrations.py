import math

import pytest

from fgvc.errors import UsageError
from fgvc.model_file.migrations import FORMAT, OLDEST, STEPS, migrate, without_nan


def test_every_format_from_the_oldest_on_has_a_step():
    assert sorted(STEPS) == list(range(OLDEST, FORMAT))


def test_a_description_of_format_1_gains_what_came_later_and_keeps_the_rest():
    old = {"format": 1, "architecture": {"class_path": "X"}, "provenance": {"metrics": {"loss": math.nan, "top1": 0.5}}}
    assert migrate(old) == {
        "format": FORMAT,
        "architecture": {"class_path": "X"},
        "provenance": {"metrics": {"loss": None, "top1": 0.5}},
        "vouching": None,
        "weights_sha256": None,
        "readout": "own",
        "views": {},
    }
    assert old["format"] == 1 and math.isnan(old["provenance"]["metrics"]["loss"])


def test_counts_of_format_2_stay():
    assert migrate({"format": 2, "vouching": {"answered": [3]}})["vouching"] == {"answered": [3]}


def test_what_was_written_before_readouts_answers_as_it_did():
    assert [migrate({"format": number})["readout"] for number in (1, 2, 3)] == ["own"] * 3
    assert migrate({"format": 4, "readout": "marginal"})["readout"] == "marginal"


def test_what_was_written_before_native_pooling_pools_and_resizes_as_it_did():
    average = {"class_path": "AveragePooling"}
    trunk = {"class_path": "Backbone", "init_args": {"name": "mobilenetv3_small_050"}}
    head = {"class_path": "HSEHead", "init_args": {"guide_width": 8}}
    gem = {"class_path": "FGNHead", "init_args": {"pooling": {"class_path": "GeMPooling", "init_args": {"power": 2.0}}}}
    linear = {"class_path": "LinearHead", "init_args": {"pooling": average}}

    def migrated(name, **arguments):
        described = {"format": 4, "architecture": {"class_path": name, "init_args": arguments}, "input": {"size": 32}}
        new = migrate(described)
        assert new["input"] == {"size": 32, "interpolation": "area"}
        return new["architecture"]["init_args"]

    assert migrated("WholeImage", backbone=trunk) == {"backbone": trunk, "head": linear}
    pooled = {"class_path": "HSEHead", "init_args": {"pooling": average, "guide_width": 8}}
    assert migrated("RACNN", head=head, crop_size=3) == {"head": pooled, "crop_size": 3}
    assert migrated("FCAN", head=gem) == {"head": gem, "true_places": False}
    assert migrated("FCAN", head={"class_path": "LinearHead"})["head"] == linear
    assert migrated("SpatialTransformer", num_crops=1) == {"pooling": average, "num_crops": 1}
    assert migrated("WSDAN", num_attentions=4) == {"num_attentions": 4, "true_places": False}


def test_what_was_written_before_cells_had_a_place_takes_its_boxes_from_where_it_did():
    def migrated(attention):
        plain = {"class_path": "RACNN", "init_args": {"head": {"class_path": "LinearHead"}, "attention": attention}}
        return migrate({"format": 5, "architecture": plain})["architecture"]["init_args"]["attention"]

    box = {"class_path": "SCDABox", "init_args": {"margin": 0.1}}
    assert migrated(box) == {"class_path": "SCDABox", "init_args": {"true_places": False, "margin": 0.1}}
    assert migrated({"class_path": "SCDABox"}) == {"class_path": "SCDABox", "init_args": {"true_places": False}}
    assert migrated({"class_path": "APN"}) == {"class_path": "APN"}  # it learnt where its boxes lie
    todays = {"format": FORMAT, "architecture": {"class_path": "FCAN", "init_args": {}}, "views": {"a": 1}}
    assert migrate(todays) == todays


def test_todays_description_is_left_alone():
    new = {"format": FORMAT, "vouching": 1, "anything": 2}
    assert migrate(new) == new


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"format": FORMAT + 1}, "format 7 is newer than this fgvc reads (1 to 6); update fgvc"),
        ({"format": 0}, "format 0 is older than this fgvc reads (1 to 6); use an older fgvc"),
        ({"format": -7}, "format -7 is older than this fgvc reads (1 to 6); use an older fgvc"),
        ({"format": "2"}, "format: '2'; an integer of 1 to 6: is it an fgvc model description?"),
        ({"format": 2.0}, "format: 2.0; an integer of 1 to 6: is it an fgvc model description?"),
        ({"format": True}, "format: True; an integer of 1 to 6: is it an fgvc model description?"),
        ({"format": None}, "format: None; an integer of 1 to 6: is it an fgvc model description?"),
        ({}, "format: missing; an integer of 1 to 6: is it an fgvc model description?"),
    ],
)
def test_a_format_that_is_not_read_is_told(described, said):
    with pytest.raises(UsageError) as caught:
        migrate(described)
    assert str(caught.value) == said


def test_what_json_does_not_know_becomes_null():
    assert without_nan({"a": [math.inf, -math.inf, 1.5, "NaN"], "b": math.nan}) == {
        "a": [None, None, 1.5, "NaN"],
        "b": None,
    }
