import pytest

from fgvc.taxonomy.suspicious import looks_like_split, means_not_known, similar, spelling


@pytest.mark.parametrize(
    "name", ["Training", "TEST", "validation", "valid", "dev", "train2017", "train_val", "test-set"]
)
def test_names_of_splits(name):
    assert looks_like_split(name)


@pytest.mark.parametrize("name", ["Trainer", "vale", "testudo", "devil", "value", "Evaluna", "black train"])
def test_names_that_are_none_of_splits(name):
    assert not looks_like_split(name)


def test_spelling_is_free_of_case_blanks_and_unicode_form():
    assert spelling("Herring_Gull") == spelling("herring  gull") == spelling("Herring-gull")
    assert spelling("Mo\u0308we") == spelling("M\u00f6we") != spelling("Mowe")
    assert spelling("-") != spelling("_")


def test_words_for_not_known():
    assert all(map(means_not_known, ["NaN", " none ", "N/A", "-"])) and not means_not_known("Nana")


def test_children_of_a_pair_are_left_out():
    assert list(similar([("A", "x"), ("a", "x")])) == [(("A",), ("a",))]
