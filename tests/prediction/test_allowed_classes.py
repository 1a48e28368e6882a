import pytest
from fakes.tiny_model import tiny_model

from fgvc.errors import UsageError
from fgvc.prediction.allowed_classes import AllowedClasses
from fgvc.prediction.predictor import Predictor


def listed(folder, text):
    (folder / "list.csv").write_text(text, encoding="utf-8")
    return AllowedClasses.read(folder / "list.csv")


def test_rows_are_counted_and_empty_ones_left_out(tmp_path):
    assert listed(tmp_path, "name\n\n Siskin ,x\n,y\nOwls\n").rows == [(1, "name"), (3, "Siskin"), (5, "Owls")]


def test_a_predictor_answers_the_listed_classes_only(tmp_path):
    predictor = Predictor(tiny_model())
    said = listed(tmp_path, "Genus\nStrix\nTyto\n").restrict(predictor)
    assert said == f"{tmp_path / 'list.csv'}: 2 names allow 2 of 5 classes"
    with pytest.raises(UsageError, match=r"list\.csv, row 2: unknown class 'Strx'; did you mean 'Strix'\?"):
        listed(tmp_path, "name\nStrx\n").restrict(predictor)


def test_the_fingerprint_is_that_of_the_names_in_any_order(tmp_path):
    one, same, other = (listed(tmp_path, text).fingerprint for text in ("a\nb\n", "b,x\na\na\n", "a\nc\n"))
    assert one == same != other and one.startswith("2 names (")
