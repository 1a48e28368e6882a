import pytest

from fgvc.errors import FgvcError, UsageError, did_you_mean
from fgvc.images.decoding import ImageError
from fgvc.model_file.model import ModelFileError


@pytest.mark.parametrize(("error", "code"), [(FgvcError, 1), (UsageError, 2), (ImageError, 1), (ModelFileError, 1)])
def test_failed_work_exits_with_1_and_wrong_usage_with_2(error, code):
    assert issubclass(error, FgvcError)
    assert error("x").exit_code == code


def test_the_nearest_words_are_offered_and_far_ones_are_not():
    assert did_you_mean("speces", ["species", "genus"]) == "; did you mean 'species'?"
    assert did_you_mean("crop", iter(["crop1", "crop2"])) in (
        "; did you mean 'crop1' or 'crop2'?",
        "; did you mean 'crop2' or 'crop1'?",
    )
    assert did_you_mean("zebra", ["species", "genus"]) == ""
    assert did_you_mean("a", ["ab", "ac", "ad", "ae"], limit=2).count("or") == 1
