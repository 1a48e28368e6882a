"""What is counted while a stage is evaluated, by its name: `test`, `test/scale1`, `test/crm`, `test/loss` ...

Shape letters: N images, C classes of a level.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.classification import BinaryCalibrationError

from fgvc.taxonomy import Taxonomy
from fgvc.training.metrics import HierarchyMetrics, Mean


class Scoreboard(nn.Module):
    """Metrics that come into being when they are first asked for, and are summed over processes.

    Args:
        taxonomy: the classes.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        super().__init__()
        self.taxonomy = taxonomy
        self.answers, self.means, self.errors = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()

    def count(self, name: str, scores: Mapping[str, Tensor], labels: Tensor) -> None:
        """Count answers: scores level -> (N, C), labels (N,) int64 node ids."""
        self.expect(name, labels.device).update(scores, labels)

    def expect(self, name: str, device: torch.device) -> HierarchyMetrics:
        """Return the metrics of a name; a process without images calls this, so that it takes part in the sum."""
        if name not in self.answers:
            self.answers[name] = HierarchyMetrics(self.taxonomy).to(device)
        metric: Any = self.answers[name]
        return metric  # type: ignore[no-any-return]

    def average(self, name: str, value: Tensor, size: int) -> None:
        """Take the mean () over a batch of `size` images."""
        self.expect_mean(name, value.device).update(value, size)

    def expect_mean(self, name: str, device: torch.device) -> Mean:
        """Return the mean of a name; see `expect`."""
        if name not in self.means:
            self.means[name] = Mean().to(device)
        mean: Any = self.means[name]
        return mean  # type: ignore[no-any-return]

    def calibration(self, name: str, confidence: Tensor, correct: Tensor) -> None:
        """Take probabilities (N,) and whether the answers were right (N,) bool, for the calibration error.

        A network that answers NaN counts as sure and wrong.
        """
        if name not in self.errors:
            self.errors[name] = BinaryCalibrationError(n_bins=15).to(confidence.device)
        error: Any = self.errors[name]
        # torchmetrics has a bin of its own for what is exactly 1, and takes a batch with a NaN for logits.
        below_one = confidence.float().nan_to_num(nan=1.0).clamp(0, 1 - 1e-7)
        error.update(below_one, (correct & ~confidence.isnan()).long())

    def result(self, stage: str) -> Iterator[tuple[str, Tensor]]:
        """Yield name -> value () of everything of a stage, and forget what was counted."""
        for name, metric in _of(self.answers, stage):
            for key, value in metric.compute().items():
                if not (value.isnan() and key == "severity"):  # no mistake has no severity
                    yield f"{name}/{key}", value
            metric.reset()
        for group in (self.means, self.errors):
            for name, metric in _of(group, stage):
                value = metric.compute()
                if name == f"{stage}/loss" or not value.isnan():  # a term of another phase has nothing to say
                    yield name, value.float()
                metric.reset()


def _of(group: nn.ModuleDict, stage: str) -> Iterator[tuple[str, Any]]:
    return ((name, metric) for name, metric in group.items() if name.partition("/")[0] == stage)
