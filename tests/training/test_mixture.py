import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from fgvc.datatypes import Prediction, Sample
from fgvc.errors import UsageError
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.mixture import mixture_weights, said_of_truth


def by_slsqp(log_probs):
    """Return the best weights by a solver that works on the simplex itself."""
    members = log_probs.shape[1]

    def loss(weights):
        return -np.log((np.exp(log_probs) * weights).sum(axis=1)).mean()

    found = minimize(
        loss, np.full(members, 1 / members), method="SLSQP", bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1}, options={"ftol": 1e-13, "maxiter": 500},
    )  # fmt: skip
    return found.x, loss


@pytest.mark.parametrize("seed", range(4))
def test_the_weights_are_those_of_another_solver(seed):
    drawn = np.random.default_rng(seed)
    log_probs = np.log(drawn.beta(2, 1, (150, 4)) * np.array([1, 0.9, 0.95, 0.3]))
    expected, loss = by_slsqp(log_probs)
    found = mixture_weights(log_probs)
    assert found.sum() == pytest.approx(1) and found.min() >= 0
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert loss(found) <= loss(expected) + 1e-6


def test_members_that_say_the_same_share_alike_and_a_worse_one_counts_nothing():
    good = np.log(np.random.default_rng(0).uniform(0.5, 0.9, (40, 1)))
    np.testing.assert_allclose(
        mixture_weights(np.concatenate([good, good, good - 1], axis=1)), [0.5, 0.5, 0], atol=1e-3
    )


def test_members_that_are_right_on_other_images_weigh_what_their_images_are():
    log_probs = np.log(np.where(np.arange(40)[:, None] < 30, [1.0, 1e-6], [1e-6, 1.0]))
    np.testing.assert_allclose(mixture_weights(log_probs), [0.75, 0.25], atol=1e-4)


def test_without_an_image_nothing_is_chosen():
    with pytest.raises(UsageError, match="no image with a known class chooses them; give --weights equal"):
        mixture_weights(np.zeros((0, 3)))


def test_what_members_said_of_the_truth_leaves_out_images_without_a_leaf():
    taxonomy = Taxonomy(["genus", "species"], [("A", "a"), ("A", "b"), ("B", "c")])
    scores = {name: torch.randn(4, 3).log_softmax(dim=1) for name in ("x", "y")}

    class Opinions(torch.nn.Module):
        members = (1, 2)

        def __init__(self):
            super().__init__()
            self.taxonomy = taxonomy

        def forward(self, images):
            rows = images[:, 0, 0, 0].long()
            return Prediction(
                {}, images, views={name: Prediction({"species": s[rows]}, s) for name, s in scores.items()}
            )

    labels = torch.tensor([2, -1, taxonomy.node("genus", 0), 0])
    batches = [
        Sample(torch.full((1, 3, 2, 2), i), labels[i : i + 1], torch.tensor([i]), torch.zeros(1, 4)) for i in range(4)
    ]
    found = said_of_truth(Opinions(), batches, torch.device("cpu"))
    expected = [[float(scores[name][i, labels[i]]) for name in ("x", "y")] for i in (0, 3)]
    np.testing.assert_allclose(found, expected, atol=1e-7)
