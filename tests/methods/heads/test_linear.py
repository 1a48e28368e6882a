import numpy as np
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.methods.features import Features
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.pooling.gem import GeMPooling
from tests.fakes.plain_trunk import Channels


def test_logits_are_the_matrix_product_of_the_pooled_map():
    head = LinearHead(TAXONOMY, Channels)
    features = torch.randn(3, 6, 2, 4, generator=torch.Generator().manual_seed(0))
    answer = head(Features(features))
    embedding = features.double().numpy().mean(axis=(2, 3))
    expected = embedding @ head.classifier.weight.detach().double().numpy().T + head.classifier.bias.detach().numpy()
    assert list(answer.logits) == ["species"]
    np.testing.assert_allclose(answer.logits["species"].detach(), expected, atol=1e-6)
    np.testing.assert_allclose(answer.embedding, embedding, atol=1e-6)
    assert (answer.boxes, answer.views) == (None, {})


def test_the_pooling_is_made_by_the_factory_and_dropout_acts_in_training_only():
    head = LinearHead(TAXONOMY, Channels, pooling=GeMPooling, dropout=0.5)
    assert isinstance(head.pooling, GeMPooling)
    features = Features(torch.rand(1, 6, 2, 2))
    torch.manual_seed(0)
    trained = [head(features) for _ in range(2)]
    assert not torch.equal(*(answer.logits["species"] for answer in trained))
    assert torch.equal(*(answer.embedding for answer in trained))
    head.eval()
    assert torch.equal(*(head(features).logits["species"] for _ in range(2)))
