import numpy as np
import pytest
import torch
from fakes.tiny_model import TAXONOMY
from torch.nn.functional import cross_entropy

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.features import Features
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.heads.per_level import PerLevelHead
from fgvc.taxonomy.tree import Taxonomy
from tests.fakes.plain_trunk import Channels


def random_prediction(count):
    generator = torch.Generator().manual_seed(0)
    logits = {level: 3 * torch.randn(count, TAXONOMY.size(level), generator=generator) for level in TAXONOMY.levels}
    for scores in logits.values():
        scores.requires_grad_()
    return Prediction(logits, torch.zeros(count, 6))


def test_every_level_is_a_matrix_product_of_the_one_embedding():
    head = PerLevelHead(TAXONOMY, Channels)
    features = torch.randn(3, 6, 2, 4, generator=torch.Generator().manual_seed(0))
    answer = head(Features(features))
    embedding = features.double().numpy().mean(axis=(2, 3))
    np.testing.assert_allclose(answer.embedding.numpy(), embedding, rtol=1e-5, atol=1e-6)
    sizes = {level: scores.shape[1] for level, scores in answer.logits.items()}
    assert sizes == {"family": 2, "genus": 4, "species": 5}
    for scores, layer in zip(answer.logits.values(), head.classifiers, strict=True):
        expected = embedding @ layer.weight.detach().double().numpy().T
        np.testing.assert_allclose(scores.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_each_level_learns_from_the_images_known_there():
    head = PerLevelHead(TAXONOMY, Channels, level_weights=[2, 0.5, 3])
    prediction = random_prediction(5)
    labels = torch.tensor([3, TAXONOMY.find("Carduelis"), TAXONOMY.find("Owls"), -1, 2])
    owl, brambling = ("Owls", "Strix", "Tawny Owl"), ("Finches", "Fringilla", "Brambling")
    paths = [owl, ("Finches", "Carduelis"), ("Owls",), (), brambling]
    loss = head.loss(prediction, labels)
    assert list(loss) == ["family", "genus", "species"]
    for depth, (level, weight) in enumerate(zip(TAXONOMY.levels, [2, 0.5, 3], strict=True)):
        terms = [
            -row.double().softmax(dim=0)[TAXONOMY.names(level).index(path[depth])].log().item()
            for row, path in zip(prediction.logits[level], paths, strict=True)
            if len(path) > depth
        ]
        assert loss[level].item() == pytest.approx(weight * sum(terms) / len(terms), rel=1e-5)


def test_a_level_that_no_image_knows_costs_nothing_and_moves_nothing():
    prediction = random_prediction(2)
    loss = PerLevelHead(TAXONOMY, Channels).loss(prediction, torch.tensor([TAXONOMY.find("Owls"), -1]))
    sum(loss.values()).backward()
    assert loss["genus"] == loss["species"] == 0
    assert not prediction.logits["species"].grad.any() and not prediction.logits["genus"].grad.any()
    assert prediction.logits["family"].grad[0].all() and not prediction.logits["family"].grad[1].any()


def test_smoothing_acts_on_every_level_and_the_prior_on_the_leaves():
    head = PerLevelHead(TAXONOMY, Channels, label_smoothing=0.2, prior_strength=1.0)
    counts = torch.tensor([100, 10, 1, 50, 3])
    head.set_class_counts(counts)
    prediction, labels = random_prediction(5), torch.arange(5)
    loss = head.loss(prediction, labels)
    family = cross_entropy(prediction.logits["family"], torch.tensor([0, 0, 0, 1, 1]), label_smoothing=0.2)
    genus = cross_entropy(prediction.logits["genus"], torch.tensor([0, 0, 1, 2, 3]), label_smoothing=0.2)
    species = cross_entropy(prediction.logits["species"] + (counts / 164).log(), labels, label_smoothing=0.2)
    for level, expected in (("family", family), ("genus", genus), ("species", species)):
        assert loss[level].item() == pytest.approx(expected.item(), rel=1e-5)


def test_on_flat_data_it_is_the_linear_head():
    flat = Taxonomy.flat(["a", "b", "c"])
    head, plain = PerLevelHead(flat, Channels, label_smoothing=0.1), LinearHead(flat, Channels, label_smoothing=0.1)
    head.classifiers[0].load_state_dict(plain.classifier.state_dict())
    features = Features(torch.randn(4, 6, 2, 2, generator=torch.Generator().manual_seed(0)))
    labels = torch.tensor([2, 0, -1, 1])
    found, expected = head(features), plain(features)
    assert torch.equal(found.logits["class"], expected.logits["class"])
    assert torch.equal(head.loss(found, labels)["class"], plain.loss(expected, labels)["classes"])


def test_dropout_leaves_the_embedding_whole_and_rests_in_evaluation():
    torch.manual_seed(0)
    head = PerLevelHead(TAXONOMY, Channels, dropout=0.5)
    features = Features(torch.ones(64, 6, 1, 1))
    answer = head(features)
    assert torch.equal(answer.embedding, torch.ones(64, 6))
    assert all(scores.std(dim=0).min() > 1e-4 for scores in answer.logits.values())
    assert all(scores.std(dim=0).max() < 1e-6 for scores in head.eval()(features).logits.values())


def test_any_word_may_name_a_level():
    head = PerLevelHead(Taxonomy(["type", "sub.species"], [("a", "b"), ("a", "c")]), Channels)
    assert list(head(Features(torch.zeros(1, 6, 1, 1))).logits) == ["type", "sub.species"]


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1.0] * 4, [], [1.0, -0.5, 1.0]])
def test_weights_that_do_not_fit_the_levels_are_refused(weights):
    with pytest.raises(UsageError, match=r"level_weights \[.*for each of \['family', 'genus', 'species'\]"):
        PerLevelHead(TAXONOMY, Channels, level_weights=weights)
