import pytest
import torch

from fgvc.methods import in_parts as module
from fgvc.methods.in_parts import in_parts


@pytest.mark.parametrize(("numbers", "sizes"), [(10, [5]), (25, [4, 1]), (40, [2, 2, 1]), (1000, [1] * 5), (0, [5])])
def test_no_part_is_over_the_budget_and_all_are_answered_in_order(monkeypatch, numbers, sizes):
    monkeypatch.setattr(module, "BUDGET", 100)
    seen = []

    def answer(a, b):
        seen.append(len(a))
        return a + b

    a, b = torch.arange(5.0), torch.arange(5.0) * 10
    assert in_parts(answer, numbers, a, b).tolist() == [0, 11, 22, 33, 44]
    assert seen == sizes
