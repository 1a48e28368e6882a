"""iSQRT-COV: the covariance of a map's channels under a matrix square root in Newton-Schulz steps.

Peihua Li, Jiangtao Xie, Qilong Wang, Zilin Gao, "Towards Faster Training of Global Covariance Pooling Networks by
Iterative Matrix Square Root Normalization", CVPR 2018.

Shape letters: N images, C channels, d channels after the reduction, h, w grid, M = h w positions, D = d (d + 1) / 2.

All matrices of the recursion are polynomials of one symmetric matrix, and the derivative of such a polynomial is its
own adjoint: the gradient is the derivative in the direction of the incoming gradient. It runs beside the recursion, so
none of the steps is kept. On few processor cores, where products cost more than eigenvectors, the steps are taken on
the eigenvalues: the same polynomial, not the exact root.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fgvc.errors import UsageError
from fgvc.methods.pooling.base import Pooling

LEAST_TRACE = 1e-5
"""Floor of the trace that a covariance is divided by: a map of one value has none."""

MOST_THREADS = 4
"""Eigenvectors take one thread, products all of them: with more threads than these, products are faster."""

IMAGES = 4  # whose matrices are at work at once on a processor; an accelerator takes the whole batch in one piece


def isqrt_covariance(features: Tensor, iterations: int = 5) -> Tensor:
    """Return the upper triangle of about the square root of the covariance of channels over positions.

    Of the covariance S = X (I - 11'/M) X' / M, divided by its trace: Y_0 = S / tr S, Z_0 = I,
    T_k = (3 I - Z_(k-1) Y_(k-1)) / 2, Y_k = Y_(k-1) T_k, Z_k = T_k Z_(k-1), and back, sqrt(tr S) Y. Few steps are not
    the exact root: for 256 channels, 5 steps are far from it, and they are what the paper trains.

    Computed in float32 or better, also under autocast. A map of one value gives 0 and gets the gradient 0.

    Args:
        features: (N, d, h, w).
        iterations: number of steps, at least 1.

    Returns:
        (N, D), row by row, the diagonal included.
    """
    return _IsqrtCovariance.apply(features.flatten(2), iterations)  # type: ignore[no-any-return]


class IsqrtCovPooling(Pooling):
    """Reduce the channels with a 1 x 1 convolution, batch norm and ReLU; pool by `isqrt_covariance`.

    Args:
        in_channels: C, handed down by the head.
        reduced_channels: d.
        iterations: Newton-Schulz steps.

    Attributes:
        out_features: D = d (d + 1) / 2.

    Raises:
        UsageError: no channel or no step.
    """

    def __init__(self, in_channels: int, reduced_channels: int = 256, iterations: int = 5) -> None:
        super().__init__(in_channels)
        if reduced_channels < 1 or iterations < 1:
            raise UsageError(
                f"IsqrtCovPooling: reduced_channels {reduced_channels} and iterations {iterations} must be 1 or more "
                "(usual: 256 and 5)"
            )
        self.iterations = iterations
        self.out_features = reduced_channels * (reduced_channels + 1) // 2
        self.reduce = nn.Sequential(
            nn.Conv2d(in_channels, reduced_channels, 1, bias=False),
            nn.BatchNorm2d(reduced_channels),
            nn.ReLU(inplace=True),
        )
        nn.init.kaiming_normal_(self.reduce[0].weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) -> (N, D)."""
        return isqrt_covariance(self.reduce(features), self.iterations)


class _IsqrtCovariance(torch.autograd.Function):
    """See `isqrt_covariance`. Kept for the gradient: the map, the answer, and S / tr S or its eigenvectors."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, iterations: int) -> Tensor:
        """Positions (N, d, M) -> (N, D)."""
        index = _triangle(positions.shape[1], positions.device)
        with torch.autocast(positions.device.type, enabled=False):
            matrices, traces = _normalised_covariances(positions)
            roots = traces.clamp_min(LEAST_TRACE).sqrt()
            few = _on_a_processor(matrices) and torch.get_num_threads() <= MOST_THREADS
            values = _to_eigenvectors(matrices) if few and ctx.needs_input_grad[0] else None
            answer = matrices.new_empty(matrices.shape[0], index.shape[0])
            for part in _parts(matrices):
                if values is None:
                    root = newton_schulz(matrices[part], iterations)
                else:
                    scaled = matrices[part] * _steps(values[part], iterations)[:, None]
                    root = scaled @ matrices[part].mT
                answer[part] = root.mul_(roots[part, None, None]).flatten(1).index_select(1, index)
        ctx.iterations = iterations
        ctx.save_for_backward(positions, matrices, traces, answer, values)
        return answer

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None]:
        """Gradient (N, D) of the answer -> gradient (N, d, M) of the positions."""
        positions, matrices, traces, answer, values = ctx.saved_tensors
        index = _triangle(positions.shape[1], positions.device)
        found = torch.empty_like(positions)
        with torch.autocast(given.device.type, enabled=False):
            # the answer is sqrt(t) Y(S / t): what reaches t directly is Y / (2 sqrt(t)), less S / t^2 times the slope
            floored = traces.clamp_min(LEAST_TRACE)
            direct = (given * answer).sum(dim=1) / (2 * floored)
            for part in _parts(matrices):
                a = matrices[part]
                upper = torch.zeros_like(a).flatten(1).index_copy_(1, index, given[part]).view_as(a)
                towards = (upper + upper.mT).mul_(0.5 * floored[part].rsqrt()[:, None, None])
                if values is None:
                    slope = newton_schulz_slope(a, towards, ctx.iterations)
                    division = (slope * a).sum(dim=(1, 2))
                else:
                    inside = (a.mT @ towards @ a).mul_(_slopes(values[part], ctx.iterations))
                    division = (inside.diagonal(dim1=1, dim2=2) * values[part]).sum(dim=1)
                    slope = a @ inside @ a.mT
                of_trace = (direct[part] - division).where(traces[part] > LEAST_TRACE, 0)
                slope.diagonal(dim1=1, dim2=2).add_(of_trace[:, None])
                centred = _centred(positions[part].to(a.dtype))
                found[part] = (slope @ centred).mul_(2 / centred.shape[2])
        return found, None


def newton_schulz(matrix: Tensor, iterations: int) -> Tensor:
    """Return Y after some coupled Newton-Schulz steps towards the square root of symmetric matrices (N, d, d)."""
    y, z = matrix, None
    for step in range(iterations):
        t = _three_halves_less_half(y if z is None else z @ y)
        y = y @ t
        if step < iterations - 1:
            z = t if z is None else t @ z
    return y


def newton_schulz_slope(matrix: Tensor, direction: Tensor, iterations: int) -> Tensor:
    """Return the derivative of `newton_schulz` at symmetric matrices in symmetric directions, all (N, d, d).

    If `direction` is the gradient of Y, this is the gradient of the matrix. With M = Z Y, the next M is M T T, so that
    one matrix does for M and Z.
    """
    m, y, dm, dy = matrix, matrix, direction, direction
    if iterations == 1:
        return 1.5 * direction - 0.5 * _with_mirror(direction @ matrix)
    for step in range(iterations - 1):
        t, dt = _three_halves_less_half(m), -0.5 * dm
        s, p = dt @ t, m @ t
        if step == 0:  # Y = P = 3 T - 2 T T, with M = 3 I - 2 T
            y, dy = p, (-1.5 * direction).sub_(_with_mirror(s).mul_(2))
        else:
            y, dy = y @ t, torch.baddbmm(dy @ t, y, dt)
        # the next M is 3 T T - 2 T T T: the three places of dT in the last term are one product and its mirror image
        m, dm = p @ t, _with_mirror((3 * s).sub_(((s + 0.5 * s.mT) @ t).mul_(2)))
    return torch.baddbmm(dy @ _three_halves_less_half(m), y, dm, alpha=-0.5)


def _steps(values: Tensor, iterations: int) -> Tensor:
    """Return what `newton_schulz` makes of eigenvalues (N, d): (N, d)."""
    return list(_eigenvalues(values, iterations))[-1][2]


def _eigenvalues(values: Tensor, iterations: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield each step's T, the Y before it and the Y after it, of eigenvalues (N, d)."""
    m = y = values
    for _ in range(iterations):
        t = 1.5 - 0.5 * m
        yield t, y, y * t
        m, y = m * t * t, y * t


def _slopes(values: Tensor, iterations: int) -> Tensor:
    """Return (N, d, d): the slope of `newton_schulz` between two eigenvalues, at one where they are equal.

    The slope [i, j] of f g is (f_i + f_j) / 2 times that of g, and the other way round: nothing is divided by the
    distance of eigenvalues.
    """
    dm = torch.ones_like(values)[:, :, None].expand(-1, -1, values.shape[1]).clone()
    dy = dm.clone()
    for t, y, _ in _eigenvalues(values, iterations):
        dy.mul_(_sums(0.5 * t)).addcmul_(_sums(y), dm, value=-0.25)
        # of the next M, 3 T T - 2 T T T
        dm.mul_(_sums(t * t - 1.5 * t).baddbmm_(t[:, :, None], t[:, None]))
    return dy


def _sums(values: Tensor) -> Tensor:
    return values[:, :, None] + values[:, None]


def _normalised_covariances(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (N, d, M) -> covariances over their traces (N, d, d), traces (N,), in float32 or better."""
    number, d, count = positions.shape
    kind = torch.promote_types(positions.dtype, torch.float32)
    matrices = torch.empty(number, d, d, dtype=kind, device=positions.device)
    for part in _parts(matrices):
        centred = _centred(positions[part].to(kind))
        matrices[part] = centred @ centred.mT
    traces = matrices.diagonal(dim1=1, dim2=2).sum(dim=1) / count
    matrices /= (count * traces.clamp_min(LEAST_TRACE))[:, None, None]
    return matrices, traces


def _to_eigenvectors(matrices: Tensor) -> Tensor | None:
    """Put eigenvectors in the place of symmetric matrices (N, d, d) and return eigenvalues (N, d); None: unchanged."""
    if not bool(matrices.isfinite().all()):
        return None
    values, vectors = matrices.new_empty(matrices.shape[:2]), matrices
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several gain nothing here, and where other work has the cores they wait for each other
    try:
        found = [torch.linalg.eigh(matrices[part]) for part in _parts(matrices)]
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return None
    finally:
        torch.set_num_threads(threads)
    for part, (own, columns) in zip(_parts(matrices), found, strict=True):
        values[part], vectors[part] = own, columns
    return values


def _with_mirror(matrix: Tensor) -> Tensor:
    return matrix + matrix.mT


def _three_halves_less_half(m: Tensor) -> Tensor:
    t = m * -0.5
    t.diagonal(dim1=1, dim2=2).add_(1.5)
    return t


def _centred(positions: Tensor) -> Tensor:
    return positions - positions.mean(dim=2, keepdim=True)


def _parts(batch: Tensor) -> list[slice]:
    if not _on_a_processor(batch):
        return [slice(None)]
    return [slice(low, low + IMAGES) for low in range(0, len(batch), IMAGES)]


def _on_a_processor(batch: Tensor) -> bool:
    """Whether plain Python runs on a processor: a compiled or exported graph has no branches and no loops."""
    return batch.device.type == "cpu" and not torch.compiler.is_compiling()


def _triangle(side: int, device: torch.device) -> Tensor:
    """Return the places (D,) of the upper triangle in a flattened matrix, row by row."""
    places: Tensor = torch.triu_indices(side, side, device=device)
    return places[0] * side + places[1]
