import pytest
import torch

from fgvc.methods.attention.base import Attention


class Corner(Attention):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.0, 0.0, 0.5, 0.5]).expand(len(features), 4)


def test_an_attention_that_learns_nothing_has_no_start():
    attention, features = Corner(None), torch.zeros(2, 3, 4, 4)
    assert attention.start_loss(attention(features), features) is None


def test_it_must_say_where_to_look():
    with pytest.raises(TypeError, match="abstract"):
        Attention(None)
