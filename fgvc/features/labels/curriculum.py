"""Three stages of each class, clean, noisy and highly noisy, by how densely its photographs lie.

Source: Sheng Guo, Weilin Huang, Haozhi Zhang, Chenfan Zhuang, Dengke Dong, Matthew R. Scott and Dinglong Huang,
"CurriculumNet: Weakly Supervised Learning from Large-Scale Web Images", ECCV 2018.

Shape letters: N photographs, D width of a feature, U different densities of a class.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.data.stages import STAGES, label_text
from fgvc.errors import FgvcError, UsageError
from fgvc.features.folder import Part
from fgvc.features.labels.density import centred_on, density_of
from fgvc.files.bars import bar
from fgvc.files.whole_files import open_whole
from fgvc.taxonomy.tree import Taxonomy

LEAST = 10
"""A class of fewer photographs is clean as a whole: too few to tell what is dense."""

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Curriculum(NamedTuple):
    """What is found of N photographs.

    density: (N,) comparable inside a class only; nan where the label is not known.
    stage: (N,) int8 place in STAGES; -1 where the label is not known.
    """

    density: Doubles
    stage: npt.NDArray[np.int8]


def curriculum(part: Part, form: str, where: str = "") -> Curriculum:
    """Divide each class of a part; a label that is a genus, say, is a class of its own.

    Args:
        part: features (N, D) and labels.
        form: of density, see `density_of`. The published ones measure the features as they are; `neighbours` measures
            angles to the mean of all of them, see `centred_on`.
        where: the folder, for messages.

    Raises:
        UsageError: maps, no label at all, or a form that there is none of.
        FgvcError: features that are no numbers.
    """
    function = density_of(form)
    if part.features.ndim != 2:
        raise UsageError(f"{where}: holds maps; a curriculum reads vectors: fgvc embed --take prelogits makes some")
    known = np.unique(part.labels[part.labels >= 0])
    if not len(known):
        raise UsageError(f"{where}: no photograph has a label, so there is no class to divide")
    mean = part.features.mean(axis=0, dtype=np.float64)
    if not np.isfinite(mean).all():
        raise FgvcError(f"{where}: the features hold what is no number (NaN or infinite); embed them again")
    density = np.full(len(part.labels), np.nan)
    stage = np.full(len(part.labels), -1, dtype=np.int8)
    for label in bar("classes", known, unit=" classes"):
        rows = np.flatnonzero(part.labels == label)
        vectors = np.asarray(part.features[rows], dtype=np.float32)
        density[rows] = function(centred_on(vectors, mean) if form == "neighbours" else vectors)
        stage[rows] = stages_of(density[rows])
    return Curriculum(density, stage)


def stages_of(density: Doubles, least: int = LEAST) -> npt.NDArray[np.int8]:
    """Return the stage (N,) of each photograph of a class from its density (N,).

    k-means with k = 3 on the densities; the densest cluster is clean. The published script starts k-means at random;
    here the best of all divisions is found, so there is no seed. Where there are only two different densities there is
    no third stage, and where there is one all are clean.

    Args:
        density: of one class.
        least: a class of fewer photographs is all clean.
    """
    if len(density) < least:
        return np.zeros(len(density), dtype=np.int8)
    bounds = clusters(density, len(STAGES))[::-1]  # the least density of each stage, the cleanest first
    return (len(bounds) - np.searchsorted(bounds[::-1], density, side="right")).astype(np.int8)


def clusters(values: Doubles, number: int) -> Doubles:
    """Return the least value of each of the clusters that k-means looks for on a line, rising; exactly, by dynamic
    programming (Haizhou Wang and Mingzhou Song, "Ckmeans.1d.dp", The R Journal 2011).

    The sum of squared distances to the means of the clusters is least. Of equally good divisions it is the one whose
    upper clusters are larger.

    Args:
        values: (N,).
        number: k; fewer clusters are returned where there are fewer different values.
    """
    different, counts = np.unique(values, return_counts=True)
    number = min(number, len(different))
    costs = _Costs(different, counts)
    size = len(different)
    best = costs.of(np.zeros(size, dtype=np.int64), np.arange(1, size + 1))  # of the first j + 1 values in one cluster
    starts: list[Ints] = []
    for used in range(1, number):
        best, start = _with_one_more(best, costs, used)
        starts.append(start)
    bounds, end = [], size
    for start in reversed(starts):
        end = int(start[end - 1])
        bounds.append(different[end])
    return np.array([different[0], *reversed(bounds)])


class _Costs:
    """The squared distances of runs of sorted values to their mean, from running sums: (U,) values and counts."""

    def __init__(self, values: Doubles, counts: Ints) -> None:
        apart = values - np.average(values, weights=counts)  # else the squares cancel
        self._sums = [np.concatenate([[0.0], np.cumsum(counts * apart**power)]) for power in (0, 1, 2)]

    def of(self, start: Ints, end: Ints) -> Doubles:
        """Return the cost of the runs from `start` to before `end`, any shape."""
        count, total, square = (sums[end] - sums[start] for sums in self._sums)
        cost: Doubles = (square - total**2 / count).clip(min=0)
        return cost


def _with_one_more(best: Doubles, costs: _Costs, used: int) -> tuple[Doubles, Ints]:
    """Return for each number of first values the cost with one cluster more, and where this last one starts.

    The start moves up with the end, so that each half of the ends needs one half of the starts.

    Args:
        best: (U,) with `used` clusters.
        costs: of runs.
        used: how many clusters there are.
    """
    size = len(best)
    better, begins = np.full(size, np.inf), np.zeros(size, dtype=np.int64)
    todo = [(used, size - 1, used, size - 1)]
    while todo:
        low, high, first, last = todo.pop()
        if low > high:
            continue
        middle = (low + high) // 2
        tried = np.arange(first, min(middle, last) + 1)
        found = best[tried - 1] + costs.of(tried, np.full(len(tried), middle + 1))
        place = int(found.argmin())
        better[middle], begins[middle] = found[place], tried[place]
        todo += [(low, middle - 1, first, int(tried[place])), (middle + 1, high, int(tried[place]), last)]
    return better, begins


def write_stages(path: Path, part: Part, found: Curriculum, taxonomy: Taxonomy) -> None:
    """Write the table path, label, density, stage: class by class, the densest first.

    Photographs without a label are left out.

    Raises:
        FgvcError: it cannot be written.
    """
    known = np.flatnonzero(found.stage >= 0)
    order = known[np.lexsort((known, -found.density[known], part.labels[known]))]
    with open_whole(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "density", "stage"])
        for row in order.tolist():
            label, stage = label_text(taxonomy, int(part.labels[row])), STAGES[found.stage[row]]
            writer.writerow([part.paths[row], label, f"{found.density[row]:.6g}", stage])
