import pytest
import torch

from fgvc.errors import UsageError
from fgvc.methods.devices import device_of


def test_a_device_is_found_by_its_name():
    assert device_of("cpu") == torch.device("cpu")
    assert device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["meta", "abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_told(name):
    with pytest.raises(UsageError, match=f"device: '{name}' is not to be had here"):
        device_of(name)
