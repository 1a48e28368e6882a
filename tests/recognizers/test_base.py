import pytest
import torch
from tiny_model import PLAIN, TAXONOMY

from fgvc.architecture import build
from fgvc.backbone import Backbone
from fgvc.errors import UsageError


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build(PLAIN, TAXONOMY, 32)


def statistics(model) -> list[torch.Tensor]:
    return [buffer.clone() for name, buffer in model.named_buffers() if name.endswith(("running_mean", "running_var"))]


def step(model) -> None:
    images = torch.randint(256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(1)).float()
    loss = model.loss(model(images), torch.arange(8) % 5)
    sum(loss.values()).backward()


def test_all_trains_everything(model):
    before = statistics(model)
    model.train()
    step(model)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not any(torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True))


def test_head_freezes_the_backbone_and_its_batch_statistics_even_after_train_is_called_again(model):
    before = statistics(model)
    assert before
    model.train()
    model.enter("head")
    for _ in range(2):
        step(model)
        model.eval()
        model.train()
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True))
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert all(parameter.grad is not None for parameter in model.head.parameters())
    assert model.head.training
    assert not any(module.training for module in model.backbone.modules())


def test_going_back_to_all_thaws(model):
    model.train()
    model.enter("head")
    model.enter("all")
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.eval()
    model.enter("all")
    assert not any(module.training for module in model.modules())


def test_an_unknown_phase_is_refused_before_anything_changes(model):
    with pytest.raises(UsageError, match=r"phase 'haed': WholeImage knows \['all', 'head'\]; did you mean 'head'"):
        model.enter("haed")
    assert model.phase == "all"
    assert [type(backbone) for backbone in model.backbones()] == [Backbone]
