import pytest
import torch
from fakes.tiny_model import TAXONOMY

from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.linear import LinearHead
from fgvc.methods.pooling import isqrt_cov
from fgvc.methods.pooling.isqrt_cov import (
    IsqrtCovPooling,
    isqrt_covariance,
    newton_schulz,
    newton_schulz_slope,
)

PATHS = {"eigenvectors": True, "products": False}  # what a processor does, and what an accelerator does


@pytest.fixture(params=PATHS.values(), ids=PATHS)
def path(request, monkeypatch):
    """Run a test on a processor's path and on an accelerator's."""
    monkeypatch.setattr(isqrt_cov, "MOST_THREADS", torch.get_num_threads())
    if not request.param:
        monkeypatch.setattr(isqrt_cov, "_on_a_processor", lambda batch: False)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def symmetric(*shape: int, seed: int = 0) -> torch.Tensor:
    matrix = noise(*shape, shape[-1], seed=seed)
    return matrix @ matrix.mT


def recursion(features: torch.Tensor, iterations: int) -> torch.Tensor:
    """Answer image by image with the paper's formulas, which autograd follows."""
    rows = []
    for image in features.flatten(2):
        d, count = image.shape
        centring = (torch.eye(count) - torch.ones(count, count) / count).to(image) / count
        covariance = image @ centring @ image.T
        trace = covariance.trace()
        y, z, eye = covariance / trace, torch.eye(d).to(image), torch.eye(d).to(image)
        for _ in range(iterations):
            t = (3 * eye - z @ y) / 2
            y, z = y @ t, t @ z
        root = y * trace.sqrt()
        rows.append(torch.stack([root[i, j] for i in range(d) for j in range(i, d)]))
    return torch.stack(rows)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("iterations", [1, 2, 3, 5, 8])
def test_answer_and_gradient_are_those_of_the_papers_recursion_in_float64(iterations):
    ours, theirs = (noise(6, 5, 4, 3).relu().requires_grad_() for _ in range(2))
    given = noise(6, 15, seed=1)
    found, expected = isqrt_covariance(ours, iterations), recursion(theirs, iterations)
    torch.testing.assert_close(found, expected)
    (found * given).sum().backward()
    (expected * given).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.usefixtures("path")
def test_float32_at_the_papers_size_is_as_near_to_float64_as_plain_autograd_in_float32():
    features, given = noise(2, 256, 14, 14).relu(), noise(2, 32896, seed=1)
    exact = features.clone().requires_grad_()
    (recursion(exact, 5) * given).sum().backward()
    ours = features.float().requires_grad_()
    answer = isqrt_covariance(ours)
    (answer * given.float()).sum().backward()
    assert answer.shape == (2, 32896) and answer.dtype == torch.float32
    torch.testing.assert_close(answer.double(), recursion(features, 5), rtol=1e-4, atol=1e-5)
    assert (ours.grad - exact.grad).norm() < 1e-5 * exact.grad.norm()


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_gradients_are_those_of_finite_differences(iterations):
    features = noise(2, 4, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: isqrt_covariance(x, iterations), (features,))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("shape", [(1, 6, 2, 2), (2, 3, 1, 1), (5, 1, 3, 3)], ids=str)
def test_fewer_positions_than_channels_equal_eigenvalues_and_one_channel_are_no_trouble(shape):
    features = noise(*shape).requires_grad_()
    answer = isqrt_covariance(features)
    answer.sum().backward()
    assert answer.isfinite().all() and features.grad.isfinite().all()
    if shape[2] > 1:
        torch.testing.assert_close(answer, recursion(features.detach(), 5))
    equal = torch.eye(4, dtype=torch.float64)[None, :, :, None].requires_grad_()  # its covariance has one eigenvalue
    assert torch.autograd.gradcheck(isqrt_covariance, (equal,))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("value", [0.0, 7.0, 1e4])
def test_a_map_of_one_value_among_others_gives_zero_and_finite_gradients(value):
    features = noise(6, 5, 4, 3).relu().float()
    features[2] = value
    alone = features[:2].clone().requires_grad_()
    features.requires_grad_()
    answer = isqrt_covariance(features)
    answer.sum().backward()
    assert answer[2].abs().max() < 1e-2
    assert answer.isfinite().all() and features.grad.isfinite().all()
    isqrt_covariance(alone).sum().backward()
    torch.testing.assert_close(features.grad[:2], alone.grad)
    if value == 0:
        assert torch.equal(answer[2], torch.zeros(15)) and torch.equal(features.grad[2], torch.zeros(5, 4, 3))


@pytest.mark.usefixtures("path")
def test_below_the_floor_of_the_trace_gradients_are_still_those_of_finite_differences():
    small = (noise(2, 3, 2, 2) * 1e-4).requires_grad_()
    assert small.flatten(2).var(dim=2).sum(dim=1).max() < isqrt_cov.LEAST_TRACE
    assert torch.autograd.gradcheck(isqrt_covariance, (small,), eps=1e-8, atol=1e-3)


@pytest.mark.usefixtures("path")
def test_a_number_that_is_no_number_stays_in_its_own_image_and_nothing_is_raised():
    features = noise(6, 5, 4, 3)
    features[1, 0, 0, 0] = torch.nan
    features.requires_grad_()
    answer = isqrt_covariance(features)
    answer[[0, 2, 3, 4, 5]].sum().backward()
    assert answer[1].isnan().any() and answer[[0, 2, 3, 4, 5]].isfinite().all()
    assert features.grad[[0, 2, 3, 4, 5]].isfinite().all()


@pytest.mark.usefixtures("path")
def test_autocast_reaches_neither_the_answer_nor_the_gradient_and_large_half_precision_stays_finite():
    features = (noise(2, 6, 4, 5).relu() * 500).half()  # of whose covariance the trace overflows in half precision
    wide, narrow = features.float().requires_grad_(), features.clone().requires_grad_()
    isqrt_covariance(wide).sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = isqrt_covariance(narrow)
        answer.sum().backward()
    assert answer.dtype == torch.float32 and narrow.grad.dtype == torch.float16
    torch.testing.assert_close(answer, isqrt_covariance(wide))
    torch.testing.assert_close(narrow.grad, wide.grad.half(), rtol=2e-3, atol=1e-4)


@pytest.mark.usefixtures("path")
def test_channels_last_makes_no_difference():
    plain, last = (noise(5, 6, 4, 5).requires_grad_() for _ in range(2))
    for features, kind in ((plain, torch.contiguous_format), (last, torch.channels_last)):
        (isqrt_covariance(features.to(memory_format=kind)) * noise(5, 21, seed=1)).sum().backward()
    torch.testing.assert_close(plain.grad, last.grad)


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_the_slope_is_that_of_autograd_through_the_steps(iterations):
    matrix, direction = symmetric(3, 5) / 30, symmetric(3, 5, seed=1)
    _, expected = torch.autograd.functional.jvp(lambda a: newton_schulz(a, iterations), matrix, direction)
    torch.testing.assert_close(newton_schulz_slope(matrix, direction, iterations), expected)


def test_many_steps_reach_the_square_root():
    matrix = symmetric(3, 5)
    matrix = matrix / matrix.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    root = newton_schulz(matrix, 30)
    torch.testing.assert_close(root @ root, matrix)


def test_of_the_forward_pass_little_more_than_the_map_is_kept():
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    features = noise(6, 32, 7, 7).float().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        answer = isqrt_covariance(features)
    del kept[features.untyped_storage().data_ptr()]  # ReLU keeps it anyway
    del kept[answer.untyped_storage().data_ptr()]  # the classifier does
    assert sum(kept.values()) == 4 * 6 * (32 * 32 + 32 + 1)


@pytest.mark.usefixtures("path")
def test_the_pooling_reduces_with_batch_norm_and_learns():
    pooling = IsqrtCovPooling(7, reduced_channels=4, iterations=3)
    assert pooling.out_features == 10
    features = noise(5, 7, 6, 6).float()
    reduced = pooling.reduce(features)
    assert reduced.shape == (5, 4, 6, 6) and reduced.min() == 0
    torch.testing.assert_close(pooling(features), recursion(reduced.double(), 3).float(), rtol=1e-4, atol=1e-5)
    (pooling(features) * noise(5, 10, seed=1)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in pooling.parameters())


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_the_map_of_a_transformer_is_pooled_as_well(name):
    backbone = Backbone(160, name, "none")
    head = LinearHead(TAXONOMY, backbone, pooling=lambda channels: IsqrtCovPooling(channels, reduced_channels=8))
    images = torch.randint(256, (2, 3, 160, 160), generator=torch.Generator().manual_seed(0))
    prediction = head(backbone(images))
    assert prediction.embedding.shape == (2, 36)
    prediction.logits["species"].sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_head_gives_the_answer_and_the_gradient_of_the_plain_one(backend):
    pooling = IsqrtCovPooling(6, reduced_channels=4).eval()
    compiled = torch.compile(pooling, backend=backend)
    plain, traced = (noise(3, 6, 5, 5).float().requires_grad_() for _ in range(2))
    for run, features in ((pooling, plain), (compiled, traced)):
        run(features).square().sum().backward()
    torch.testing.assert_close(compiled(plain), pooling(plain))
    torch.testing.assert_close(plain.grad, traced.grad)


def test_it_is_exported_for_any_number_of_images():
    pooling = IsqrtCovPooling(6, reduced_channels=4).eval()
    exported = torch.export.export(
        pooling, (noise(3, 6, 5, 5).float(),), dynamic_shapes=({0: torch.export.Dim("number")},)
    )
    features = noise(7, 6, 5, 5, seed=1).float()
    torch.testing.assert_close(exported.module()(features), pooling(features))


@pytest.mark.parametrize("options", [{"reduced_channels": 0}, {"iterations": 0}])
def test_no_channel_and_no_step_are_refused(options):
    with pytest.raises(UsageError, match=r"must be 1 or more \(usual: 256 and 5\)"):
        IsqrtCovPooling(3, **options)
