import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from fgvc.methods.sinkhorn import log_transport


def problems(n_problems=4, n=6, m=7, seed=0):
    numbers = torch.Generator().manual_seed(seed)
    cost = torch.rand(n_problems, n, m, generator=numbers, dtype=torch.float64)
    masses = [torch.rand(n_problems, k, generator=numbers, dtype=torch.float64) + 0.1 for k in (n, m)]
    return cost, *(mass / mass.sum(dim=1, keepdim=True) for mass in masses)


def cheapest(cost, sources, targets):
    n, m = cost.shape
    carried = [np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))]
    return linprog(cost.flatten(), A_eq=np.vstack(carried), b_eq=np.concatenate([sources, targets])).fun


def test_the_cost_at_small_regularisation_is_that_of_the_linear_program():
    cost, sources, targets = problems()
    plan = log_transport(cost, sources, targets, 0.002, 5000).exp()
    ours = (plan * cost).sum(dim=(1, 2))
    theirs = [cheapest(*(x[i].numpy() for x in (cost, sources, targets))) for i in range(len(cost))]
    np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-4)
    np.testing.assert_allclose(plan.sum(dim=2).numpy(), sources.numpy(), atol=1e-4)


def test_the_plan_equals_the_scalings_of_a_plain_loop():
    cost, sources, targets = problems()
    plan = log_transport(cost, sources, targets, 0.2, 40).exp()
    for i in range(len(cost)):
        kernel, v = np.exp(-cost[i].numpy() / 0.2), np.ones(cost.shape[2])
        for _ in range(40):
            u = sources[i].numpy() / (kernel @ v)
            v = targets[i].numpy() / (kernel.T @ u)
        np.testing.assert_allclose(plan[i].numpy(), u[:, None] * kernel * v, rtol=1e-9)


def test_costs_whose_exponential_is_0_are_no_trouble():
    cost, sources, targets = problems()
    log_plan = log_transport(1e4 * cost.float(), sources.float(), targets.float(), 0.1, 50)
    assert log_plan.isfinite().all()
    torch.testing.assert_close(log_plan.exp().sum(dim=1), targets.float(), atol=0, rtol=0.05)  # numbers near 1e5
    log_plan = log_transport(1e4 * cost, sources, targets, 0.1, 50)
    torch.testing.assert_close(log_plan.exp().sum(dim=1), targets)


def test_a_tolerance_is_kept_and_no_problem_hangs_on_its_neighbours():
    cost, sources, targets = problems()
    cost[0] *= 10  # is slower than the others
    together = log_transport(cost, sources, targets, 0.1, 1000, 1e-6)
    torch.testing.assert_close(together.exp().sum(dim=2), sources, atol=1e-6, rtol=0)
    alone = [log_transport(*(x[i : i + 1] for x in (cost, sources, targets)), 0.1, 1000, 1e-6) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(together, log_transport(cost, sources, targets, 0.1, 1000), atol=1e-3, rtol=0)


@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_derivatives_equal_finite_differences(tolerance):
    cost, sources, targets = problems(2, 3, 4)
    cost.requires_grad_()
    assert torch.autograd.gradcheck(lambda c: log_transport(c, sources, targets, 0.5, 6, tolerance).exp(), [cost])


def test_autocast_changes_nothing():
    cost, sources, targets = (x.float() for x in problems())
    plain = log_transport(cost, sources, targets, 0.05, 20)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(log_transport(cost, sources, targets, 0.05, 20), plain)
