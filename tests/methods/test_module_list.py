import copy

import torch
from torch import nn

from fgvc.methods.module_list import ModuleListOf


def test_it_has_the_keys_and_the_order_of_a_module_list():
    torch.manual_seed(0)
    layers = [nn.Linear(2, 3), nn.Linear(3, 1)]
    typed: ModuleListOf[nn.Linear] = ModuleListOf(layers)
    plain = nn.ModuleList(layers)
    assert list(typed.state_dict()) == list(plain.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert list(typed) == layers and typed[-1] is layers[1]
    assert [name for name, _ in copy.deepcopy(typed).named_parameters()] == [n for n, _ in plain.named_parameters()]
