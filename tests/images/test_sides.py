import pytest

from fgvc.errors import UsageError
from fgvc.images.sides import check_side


@pytest.mark.parametrize("side", [-1, 0, 8193])
def test_a_side_out_of_range_is_refused_with_its_key(side):
    with pytest.raises(UsageError, match=rf"^model\.image_size: {side}; it must be from 1 to 8192 pixels$"):
        check_side("model.image_size", side)


@pytest.mark.parametrize("side", [1, 224, 8192])
def test_a_side_in_range_passes(side):
    check_side("data.source_size", side)
