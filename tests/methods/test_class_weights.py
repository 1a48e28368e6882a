import pytest
import torch
from fakes.tiny_model import PLAIN, TAXONOMY

from fgvc.errors import UsageError
from fgvc.methods.class_weights import ClassWeights
from fgvc.methods.heads.base import start_rows
from fgvc.methods.heads.cosine import CosineHead
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.heads.per_level import PerLevelHead
from fgvc.methods.losses.ldam import LDAM
from fgvc.model_file.architecture import build
from tests.fakes.plain_trunk import Channels


def with_loss(loss):
    """Return a recognizer whose head has a loss."""
    init = PLAIN["init_args"] | {"head": {"class_path": "LinearHead", "init_args": {"loss": loss}}}
    return build(PLAIN | {"init_args": init}, TAXONOMY, 32)


def test_the_mean_weight_of_the_training_images_is_one_and_weights_are_in_no_checkpoint():
    weights = ClassWeights(4, "Some", 0.9, deferred=False)
    counts = torch.tensor([40, 6, 2, 0])
    weights.set_class_counts(counts)
    labels = torch.repeat_interleave(torch.arange(4), counts)
    found = weights(torch.nn.functional.one_hot(labels, 4).bool())
    assert found.mean().item() == pytest.approx(1, rel=1e-6)
    # 1 - 0.9^n over 0.1, by hand for n = 2: 1.9
    assert (found[-1] / found[0]).item() == pytest.approx((1 - 0.9**40) / 0.1 / 1.9, rel=1e-6)
    assert weights.state_dict() == {}


def test_a_recognizer_lets_the_weights_of_its_losses_act_and_wait():
    recognizer = with_loss({"class_path": "LDAM", "init_args": {}})
    weights = [module for module in recognizer.modules() if isinstance(module, ClassWeights)]
    assert len(weights) == 3 and all(one.waits for one in weights)  # a loss for each level
    recognizer.reweight(True)
    assert not any(one.waits for one in weights)
    recognizer.reweight(False)
    assert all(one.waits for one in weights)


@pytest.mark.parametrize("loss", [{"class_path": "CrossEntropy"}, {"class_path": "WeightedCrossEntropy"}])
def test_without_deferred_weights_there_is_nothing_to_let_act(loss):
    with pytest.raises(UsageError, match="reweight: no loss of this model defers class weights"):
        with_loss(loss).reweight(True)


def test_the_class_counts_of_every_level_reach_its_loss():
    head = PerLevelHead(TAXONOMY, Channels, loss=LDAM)
    head.set_class_counts(torch.tensor([16, 0, 65, 1, 0]))
    # finches 81, owls 1; Carduelis 16, Fringilla 65, Strix 1, Tyto 0
    found = [loss.margins.tolist() for loss in head.losses]
    assert found[0] == pytest.approx([0.5 / 3, 0.5])
    assert found[1] == pytest.approx([0.25, 0.5 / 65**0.25, 0.5, 0])
    assert found[2] == pytest.approx([0.25, 0, 0.5 / 65**0.25, 0.5, 0])


def test_the_rows_of_heads_are_their_classifiers_the_leaves_last():
    features = torch.randn(2, 6)
    head = LinearHead(TAXONOMY, Channels)
    ((weight, bias),) = head.rows()
    assert torch.equal(features @ weight.T + bias, head.classifier(features))
    shapes = [(tuple(weight.shape), len(bias)) for weight, bias in PerLevelHead(TAXONOMY, Channels).rows()]
    assert shapes == [((2, 6), 2), ((4, 6), 4), ((5, 6), 5)]
    ((weight, bias),) = CosineHead(TAXONOMY, Channels).rows()
    assert weight.shape == (5, 6) and bias is None


def test_rows_start_small_and_a_generator_decides_them():
    weight, bias = torch.full((50, 100), 7.0), torch.full((50,), 7.0)
    start_rows(weight, bias, torch.Generator().manual_seed(1))
    assert float(weight.std()) == pytest.approx(0.01, rel=0.05) and abs(float(weight.mean())) < 5e-4
    assert not bias.any()
    again = torch.zeros(50, 100)
    start_rows(again, None, torch.Generator().manual_seed(1))
    assert torch.equal(again, weight)
