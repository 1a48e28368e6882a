import pytest
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.errors import UsageError
from fgvc.images.resizing import EvalResize
from fgvc.methods.pooling import compact_bilinear
from fgvc.methods.pooling.compact_bilinear import (
    CompactBilinearPooling,
    tensor_sketch,
    tensor_sketch_by_products,
)
from fgvc.model_file.architecture import build
from fgvc.model_file.model import Model, load, save

WAYS = [tensor_sketch, tensor_sketch_by_products]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hashes(channels: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    pooling = CompactBilinearPooling(channels, width, seed)
    return pooling.places, pooling.signs.double()


def slowly(positions: torch.Tensor, places: torch.Tensor, signs: torch.Tensor, width: int) -> torch.Tensor:
    """Count sketches and their circular convolution, number by number."""
    rows = []
    for image in positions.tolist():
        total = [0.0] * width
        for x in zip(*image, strict=True):
            sketches = [[0.0] * width, [0.0] * width]
            for k in range(2):
                for c, value in enumerate(x):
                    sketches[k][int(places[k, c])] += float(signs[k, c]) * value
            for i in range(width):
                for j in range(width):
                    total[(i + j) % width] += sketches[0][i] * sketches[1][j]
        rows.append(total)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("width", [1, 7, 16])  # more channels than places, an odd number, more places
def test_it_is_the_slow_circular_convolution(way, width):
    positions, (places, signs) = noise(2, 9, 5), hashes(9, width)
    torch.testing.assert_close(way(positions, places, signs, width), slowly(positions, places, signs, width))


@pytest.mark.parametrize("way", WAYS)
def test_its_inner_product_is_the_squared_inner_product_on_average_over_seeds(way):
    x, y = noise(1, 6, 1), noise(1, 6, 1) + 0.5 * noise(1, 6, 1, seed=1)
    wanted = float((x * y).sum()) ** 2
    found = []
    for seed in range(4000):
        places, signs = hashes(6, 64, seed)
        found.append(float((way(x, places, signs, 64) * way(y, places, signs, 64)).sum()))
    error = torch.tensor(found).std() / len(found) ** 0.5
    assert error < 0.02 * wanted
    assert abs(sum(found) / len(found) - wanted) < 4 * error


@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_those_of_finite_differences(way):
    places, signs = hashes(5, 8)
    assert torch.autograd.gradcheck(lambda x: way(x, places, signs, 8), (noise(2, 5, 3).requires_grad_(),))


@pytest.mark.parametrize(("channels", "way"), [(6, "tensor_sketch_by_products"), (40, "tensor_sketch")])
def test_the_pooling_takes_the_way_that_needs_less_memory_roots_and_scales(channels, way, monkeypatch):
    taken = []
    for one in WAYS:
        monkeypatch.setattr(
            compact_bilinear, one.__name__, lambda *given, one=one: (taken.append(one.__name__), one(*given))[1]
        )
    pooling = CompactBilinearPooling(channels, width=32)
    features = noise(2, channels, 3, 4)
    sketch = slowly(features.flatten(2), pooling.places, pooling.signs, 32)
    root = sketch.sign() * sketch.abs().sqrt()
    torch.testing.assert_close(pooling(features), root / root.norm(dim=1, keepdim=True), atol=1e-5, rtol=1e-5)
    assert taken == [way] and pooling.out_features == 32


@pytest.mark.parametrize("channels", [6, 40])
def test_maps_of_zeros_stay_finite_and_autocast_does_not_reach_it(channels):
    pooling = CompactBilinearPooling(channels, width=32)
    features = noise(3, channels, 3, 4).relu().bfloat16()
    features[1] = 0
    wide, narrow = features.float().requires_grad_(), features.clone().requires_grad_()
    pooling(wide).sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = pooling(narrow)
        answer.sum().backward()
    assert answer.dtype == torch.float32 and torch.equal(answer[1], torch.zeros(32))
    torch.testing.assert_close(answer, pooling(wide))
    torch.testing.assert_close(narrow.grad, wide.grad.bfloat16(), rtol=1e-2, atol=1e-5)
    assert wide.grad.isfinite().all()


def test_hashes_follow_the_seed_and_survive_saving_and_loading(tmp_path):
    first, again, other = (CompactBilinearPooling(50, 64, seed) for seed in (0, 0, 1))
    assert torch.equal(first.places, again.places) and torch.equal(first.signs, again.signs)
    assert not torch.equal(first.places, other.places) and not torch.equal(first.signs, other.signs)
    assert first.places.min() >= 0 and first.places.max() < 64 and set(first.signs.flatten().tolist()) == {-1.0, 1.0}
    pooling = {"class_path": "CompactBilinearPooling", "init_args": {"width": 64, "seed": 3}}
    backbone = {"class_path": "Backbone", "init_args": {"name": "test_resnet", "weights": "none"}}
    head = {"class_path": "LinearHead", "init_args": {"pooling": pooling}}
    plain = {"class_path": "WholeImage", "init_args": {"backbone": backbone, "head": head}}
    recognizer = build(plain, TAXONOMY, 64).eval()
    draws = torch.Generator().manual_seed(5)
    recognizer.head.pooling.places.random_(64, generator=draws)  # others than the seed would give again
    save(Model(recognizer, plain, EvalResize(64), {}), tmp_path)
    loaded = load(tmp_path).recognizer.eval()
    assert torch.equal(loaded.head.pooling.places, recognizer.head.pooling.places)
    images = torch.randint(256, (2, 3, 64, 64), generator=draws)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images).logits["species"], recognizer(images).logits["species"])


@pytest.mark.parametrize("channels", [6, 40])
def test_compiled_it_answers_the_same(channels):
    pooling = CompactBilinearPooling(channels, width=32)
    compiled = torch.compile(pooling, backend="aot_eager")
    plain, traced = (noise(2, channels, 3, 4).float().requires_grad_() for _ in range(2))
    for run, features in ((pooling, plain), (compiled, traced)):
        (run(features) * noise(2, 32, seed=1).float()).sum().backward()
    torch.testing.assert_close(plain.grad, traced.grad)


def test_no_width_is_refused():
    for options in ({"width": 0}, {"eps": 0.0}):
        with pytest.raises(UsageError, match=r"must be 1 or more \(usual: 8192\)"):
            CompactBilinearPooling(3, **options)
