import math

import pytest
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.pooling.bilinear import LARGEST, BilinearPooling, bilinear


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(first: torch.Tensor, second: torch.Tensor, eps: float) -> torch.Tensor:
    answer = []
    for f, g in zip(first.flatten(2).tolist(), second.flatten(2).tolist(), strict=True):
        means = [sum(x * y for x, y in zip(p, q, strict=True)) / len(p) for p in f for q in g]
        row = [math.copysign(math.sqrt(abs(mean) + eps), mean) for mean in means]
        answer.append([x / math.hypot(*row) for x in row])
    return torch.tensor(answer, dtype=torch.float64)


def test_it_agrees_with_a_slow_loop():
    first, second = noise(2, 3, 4, 5), noise(2, 6, 4, 5, seed=1)
    torch.testing.assert_close(bilinear(first, second), by_hand(first, second, 1e-5))
    torch.testing.assert_close(bilinear(first), by_hand(first, first, 1e-5))
    torch.testing.assert_close(bilinear(first, eps=0.1), by_hand(first, first, 0.1))


def test_gradients_are_those_of_finite_differences_and_one_stream_is_the_same_map_twice():
    first, second = noise(2, 3, 2, 3).requires_grad_(), noise(2, 2, 2, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(bilinear, (first, second))
    assert torch.autograd.gradcheck(bilinear, (first,))
    once, twice = (noise(2, 3, 2, 3).requires_grad_() for _ in range(2))
    (bilinear(once) * noise(2, 9, seed=1)).sum().backward()
    (bilinear(twice, twice) * noise(2, 9, seed=1)).sum().backward()
    torch.testing.assert_close(once.grad, twice.grad)


def test_maps_of_zeros_and_huge_features_stay_finite_with_their_gradients():
    features = torch.stack([torch.full((3, 2, 2), value) for value in (0.0, 1.0, 1e15)]).requires_grad_()
    answer = bilinear(features)
    answer.sum().backward()
    torch.testing.assert_close(answer[1:], torch.full((2, 9), 1 / 3))
    assert torch.equal(answer[0], torch.zeros(9)) and features.grad.isfinite().all()


def test_autocast_reaches_neither_the_answer_nor_the_gradient():
    features = noise(2, 3, 4, 5).relu().bfloat16()
    wide, narrow = features.float().requires_grad_(), features.clone().requires_grad_()
    bilinear(wide).sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = bilinear(narrow)
        answer.sum().backward()
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, bilinear(wide))
    torch.testing.assert_close(narrow.grad, wide.grad.bfloat16(), rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(("streams", "reduced", "width"), [(1, None, 49), (1, 4, 16), (2, 4, 16)])
def test_streams_are_reductions_that_learn(streams, reduced, width):
    pooling = BilinearPooling(7, streams, reduced)
    features = noise(3, 7, 4, 5).float().requires_grad_()
    made = [reduction(features) for reduction in pooling.reductions]
    assert len(made) == (0 if reduced is None else streams) and pooling.out_features == width
    answer = pooling(features)
    ends = (made or [features])[0], (made or [features])[-1]
    torch.testing.assert_close(answer, by_hand(*(end.detach().double() for end in ends), 1e-5).float())
    (answer * noise(3, width, seed=1)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in pooling.parameters())
    if streams == 2:
        assert not torch.allclose(made[0], made[1])


def test_the_map_of_a_transformer_is_pooled_as_well_also_compiled():
    backbone = Backbone(160, "test_vit", "none").eval()
    head = LinearHead(TAXONOMY, backbone, pooling=lambda channels: BilinearPooling(channels, reduced_channels=8))
    images = torch.randint(256, (2, 3, 160, 160), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = backbone(images)
    plain, compiled = head(features), torch.compile(head, backend="aot_eager")(features)
    torch.testing.assert_close(compiled.logits["species"], plain.logits["species"])
    compiled.logits["species"].sum().backward()
    assert plain.embedding.shape == (2, 64) and all(parameter.grad is not None for parameter in head.parameters())


def test_unfit_arguments_are_refused_in_one_line_with_the_remedy():
    assert BilinearPooling(512).out_features == LARGEST == 262144
    with pytest.raises(
        UsageError, match="2048 channels make 4,194,304 numbers per image, at most 262,144 go; give red"
    ):
        BilinearPooling(2048)
    with pytest.raises(UsageError, match="or take CompactBilinearPooling"):
        BilinearPooling(64, reduced_channels=513)
    with pytest.raises(UsageError, match="two streams of one map would be equal; give reduced_channels"):
        BilinearPooling(64, streams=2)
    for options in ({"streams": 3}, {"reduced_channels": 0}, {"eps": 0.0}):
        with pytest.raises(UsageError, match="BilinearPooling: streams"):
            BilinearPooling(64, **options)
