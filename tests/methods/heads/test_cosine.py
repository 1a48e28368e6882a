import math

import pytest
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.methods.features import Features
from fgvc.methods.heads.cosine import CosineHead
from tests.fakes.plain_trunk import Channels


def test_logits_are_the_scaled_cosines_of_embedding_and_class_weight():
    head = CosineHead(TAXONOMY, Channels, scale=10)
    answer = head(Features(torch.randn(3, 6, 2, 2, generator=torch.Generator().manual_seed(0))))
    for e, scores in zip(answer.embedding.tolist(), answer.logits["species"].tolist(), strict=True):
        for w, score in zip(head.weight.tolist(), scores, strict=True):
            cosine = sum(a * b for a, b in zip(e, w, strict=True)) / math.hypot(*e) / math.hypot(*w)
            assert score == pytest.approx(10 * cosine, abs=1e-4)


def test_the_scale_bounds_the_logits_and_is_learnt_or_fixed():
    head = CosineHead(TAXONOMY, Channels, scale=4, learn_scale=False)
    logits = head(Features(1e6 * torch.randn(50, 6, 1, 1))).logits["species"]
    assert logits.abs().max() <= 4 + 1e-4
    assert not head.scale.requires_grad
    assert CosineHead(TAXONOMY, Channels).scale.requires_grad
    assert torch.equal(head(Features(torch.zeros(1, 6, 1, 1))).logits["species"], torch.zeros(1, 5))
