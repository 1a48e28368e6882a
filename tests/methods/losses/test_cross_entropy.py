import pytest
import torch
from fakes.tiny_model import TAXONOMY
from torch.nn.functional import cross_entropy

from fgvc.methods.losses.cross_entropy import CrossEntropy
from fgvc.taxonomy.tree import Taxonomy

LOGITS = 3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_of_one_level_it_is_torchs_own_to_the_last_bit(smoothing):
    targets = torch.tensor([0, 4, -1, 2, 1, 3])
    wanted = cross_entropy(LOGITS, targets, ignore_index=-1, label_smoothing=smoothing, reduction="sum") / 5
    loss = CrossEntropy(5)
    assert torch.equal(loss.of_targets(LOGITS, targets, smoothing), wanted)
    flat = Taxonomy.flat(list("abcde"), "class")
    assert torch.equal(loss.of_nodes(LOGITS, targets, flat, smoothing), wanted)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_of_a_tree_it_is_the_log_of_the_sum_below_the_label(smoothing):
    owls = TAXONOMY.find("Owls")
    labels = torch.tensor([0, owls, -1, 2, 1, 3])
    log_p = LOGITS.double().log_softmax(dim=1)
    wanted = 0.0
    for row, label in enumerate(labels.tolist()):
        if label < 0:
            continue
        own = [label] if label < 5 else [n for n in range(5) if TAXONOMY.path(n)[0] == "Owls"]
        wanted -= (1 - smoothing) * log_p[row].exp()[own].sum().log().item() + smoothing * log_p[row].mean().item()
    found = CrossEntropy(5).of_nodes(LOGITS, labels, TAXONOMY, smoothing)
    assert found.item() == pytest.approx(wanted / 5, rel=1e-6)
