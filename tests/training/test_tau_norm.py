import math

import pytest
import torch
from fakes.tiny_model import TAXONOMY, tiny_model

from fgvc.errors import UsageError
from fgvc.methods.heads.cosine import CosineHead
from fgvc.methods.recognizers.base import Recognizer
from fgvc.training.tau_norm import TriedTau, best_tau, leaf_rows, rescale, row_scales, told, try_taus
from tests.fakes.plain_trunk import Channels


def long_tailed(seed=0, images=200, classes=6, width=8):
    """Return features, labels and a classifier whose first rows are the longest."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=generator)
    labels = torch.randint(classes, (images,), generator=generator)
    features = centres[labels] + 0.8 * torch.randn(images, width, generator=generator)
    weight = centres * torch.linspace(3, 0.3, classes)[:, None]
    return features, labels, weight, 0.1 * torch.randn(classes, generator=generator)


def slow_accuracies(features, labels, weight, bias, tau):
    """Rescale row by row in Python floats, answer image by image."""
    lengths = [math.sqrt(sum(x * x for x in row)) for row in weight.tolist()]
    mean = math.exp(sum(map(math.log, lengths)) / len(lengths))
    rows = [[x * (mean / length) ** tau for x in row] for row, length in zip(weight.tolist(), lengths, strict=True)]
    hits = {}
    for vector, label in zip(features.tolist(), labels.tolist(), strict=True):
        scores = [
            sum(a * b for a, b in zip(row, vector, strict=True)) + offset
            for row, offset in zip(rows, bias.tolist(), strict=True)
        ]
        hits.setdefault(label, []).append(max(range(len(scores)), key=scores.__getitem__) == label)
    every = [hit for part in hits.values() for hit in part]
    return sum(sum(part) / len(part) for part in hits.values()) / len(hits), sum(every) / len(every)


def test_what_each_tau_reaches_is_what_a_rescaled_classifier_reaches():
    features, labels, weight, bias = long_tailed()
    tried = try_taus(features @ weight.T + bias, labels, weight, bias, (0.0, 0.35, 1.0))
    for one in tried:
        wanted = slow_accuracies(features, labels, weight, bias, one.tau)
        assert (one.mean_per_class, one.top1) == pytest.approx(wanted, abs=1e-6)
    assert tried[-1].mean_per_class > tried[0].mean_per_class  # the rows were long for no reason


def test_rows_become_equally_long_with_tau_one_and_none_changes_with_tau_zero():
    _, _, weight, _ = long_tailed()
    lengths = weight.double().norm(dim=1)
    assert (row_scales(weight, 1.0) * lengths).tolist() == pytest.approx([float(lengths.log().mean().exp())] * 6)
    assert row_scales(weight, 0.0).tolist() == [1] * 6
    half = row_scales(weight, 0.5) * lengths
    assert (half**2).tolist() == pytest.approx((lengths * float(lengths.log().mean().exp())).tolist())
    weight[2] = 0
    assert row_scales(weight, 1.0)[2] == 1 and row_scales(weight, 1.0).isfinite().all()
    assert row_scales(torch.zeros(2, 3), 1.0).tolist() == [1, 1]


def test_images_without_a_leaf_choose_nothing():
    features, labels, weight, bias = long_tailed()
    logits = features @ weight.T + bias
    some = torch.cat([labels, torch.tensor([-1, 6])])
    assert try_taus(torch.cat([logits, logits[:2]]), some, weight, bias) == try_taus(logits, labels, weight, bias)
    with pytest.raises(UsageError, match="tau_norm: no image of a known class"):
        try_taus(logits[:2], torch.tensor([-1, 7]), weight, bias)


def test_the_smallest_of_equally_good_taus_is_taken():
    tried = [TriedTau(0.0, 0.5, 0.6), TriedTau(0.5, 0.75, 0.5), TriedTau(1.0, 0.75, 0.7)]
    assert best_tau(tried).tau == 0.5
    assert told(tried, 1200, "val") == (
        "tau-normalisation: tau 0.5 of 0 to 1, chosen on 1,200 val images: "
        "mean accuracy of the classes 50.0 -> 75.0 %, of the images 60.0 -> 50.0 %"
    )


def test_a_model_is_rescaled_in_its_weights():
    recognizer = tiny_model().recognizer
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = recognizer(images)
    weight, bias = recognizer.head.classifier.weight.detach().clone(), recognizer.head.classifier.bias.detach().clone()
    rescale(recognizer, 0.7)
    with torch.inference_mode():
        after = recognizer(images).logits["species"]
    rows = weight * row_scales(weight, 0.7).float()[:, None]
    assert torch.allclose(after, before.embedding @ rows.T + bias, atol=1e-4)
    assert torch.equal(recognizer.head.classifier.bias, bias)


def test_a_model_without_one_linear_classifier_is_refused():
    model = tiny_model().recognizer
    model.head = CosineHead(TAXONOMY, Channels)
    with pytest.raises(UsageError, match="tau_norm: CosineHead has no linear classifier"):
        leaf_rows(model)

    class Other(Recognizer):
        def forward(self, images):
            raise NotImplementedError

        def loss(self, prediction, labels):
            raise NotImplementedError

    with pytest.raises(UsageError, match="tau_norm: Other has no linear"):
        leaf_rows(Other(TAXONOMY, 32))
