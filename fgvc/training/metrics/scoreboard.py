"""What is counted while a stage is evaluated, by its name: `test`, `test/scale1`, `test/crm`, `test/loss` ...

Shape letters: N images, C classes of a level.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.metrics.accuracy import CalibrationError, HierarchyMetrics, Mean
from fgvc.training.processes import gathered

DOT = "\u2024"
"""Stands for the dot of a level's name, which a ModuleDict refuses."""


class Scoreboard(nn.Module):
    """Metrics that are made when they are first asked for, and are summed over processes.

    Args:
        taxonomy: the classes.
        class_counts: (K,) training images per leaf, or None; see `HierarchyMetrics`.
    """

    def __init__(self, taxonomy: Taxonomy, class_counts: Tensor | None = None) -> None:
        super().__init__()
        self.taxonomy = taxonomy
        self.class_counts = class_counts
        self.answers, self.means, self.errors = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()

    def count(self, name: str, scores: Mapping[str, Tensor], labels: Tensor) -> None:
        """Count answers: scores level -> (N, C), labels (N,) int64 node ids."""
        self.expect(name, labels.device).update(scores, labels)

    def expect(self, name: str, device: torch.device) -> HierarchyMetrics:
        """Return the metrics of a name; a process without images calls this, so that it takes part in the sum."""
        return _get(self.answers, name, device, self._hierarchy)  # type: ignore[no-any-return]

    def average(self, name: str, value: Tensor, size: int) -> None:
        """Take the mean () over a batch of `size` images."""
        self.expect_mean(name, value.device).update(value, size)

    def expect_mean(self, name: str, device: torch.device) -> Mean:
        """Return the mean of a name; see `expect`."""
        return _get(self.means, name, device, Mean)  # type: ignore[no-any-return]

    def calibration(self, name: str, confidence: Tensor, correct: Tensor) -> None:
        """Take probabilities (N,) and whether the answers were right (N,) bool, for the calibration error."""
        self._expect_error(name, confidence.device).update(confidence, correct)

    def result(self, stage: str, device: torch.device) -> Iterator[tuple[str, Tensor]]:
        """Yield name -> value () of everything of a stage, and forget what was counted.

        A process without images takes part in every sum.
        """
        self._agree(device)
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

    def _agree(self, device: torch.device) -> None:
        """Let every process have what any of them counts, or the others would wait for it."""
        groups = {"answers": self.expect, "means": self.expect_mean, "errors": self._expect_error}
        known = gathered({group: list(getattr(self, group)) for group in groups})
        for group, expect in groups.items():
            for key in sorted({key for one in known for key in one[group]}):
                expect(_name(key), device)

    def _hierarchy(self) -> HierarchyMetrics:
        return HierarchyMetrics(self.taxonomy, class_counts=self.class_counts)

    def _expect_error(self, name: str, device: torch.device) -> CalibrationError:
        return _get(self.errors, name, device, CalibrationError)  # type: ignore[no-any-return]


def _get(group: nn.ModuleDict, name: str, device: torch.device, make: Callable[[], nn.Module]) -> Any:
    key = name.replace(".", DOT)
    if key not in group:
        group[key] = make().to(device)
    return group[key]


def _name(key: str) -> str:
    return key.replace(DOT, ".")


def _of(group: nn.ModuleDict, stage: str) -> Iterator[tuple[str, Any]]:
    keys = sorted(group) if torch.distributed.is_initialized() else list(group)  # the same order on every process
    return ((_name(key), group[key]) for key in keys if key.partition("/")[0] == stage)
