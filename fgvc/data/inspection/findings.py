"""Report the problems of a data set: their counts, a table with a few of each kind, a CSV of all."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from fgvc.data.inspection.problems import Problem
from fgvc.files.whole_files import open_whole

EXAMPLES = 3
"""How many problems of a kind the table shows."""


class Findings:
    """The counts of problems, and the first ones of each kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[Problem]] = {}

    def watched(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        """Yield the problems unchanged and count them."""
        for problem in problems:
            self.counts[problem.problem] += 1
            if self.counts[problem.problem] <= EXAMPLES:
                self.examples.setdefault(problem.problem, []).append(problem)
            yield problem

    def table(self) -> Iterator[str]:
        """Yield the lines: kind, count, and examples below each other."""
        if not self.counts:
            yield "no problems"
            return
        width = max(map(len, ("problem", *self.counts)))
        yield f"{'problem':<{width}}  {'count':>7}  examples"
        for kind, examples in self.examples.items():
            for i, problem in enumerate(examples):
                head = f"{kind:<{width}}  {self.counts[kind]:>7}" if i == 0 else " " * (width + 9)
                yield f"{head}  {problem.path or problem.label}: {problem.detail}"


def write_csv(problems: Iterable[Problem], path: Path) -> None:
    """Write one row per problem under a temporary name, as they come; bytes of names that are not UTF-8 are kept.

    Raises:
        FgvcError: it cannot be written.
    """
    with open_whole(path) as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)  # or a lone \r would break a row
        writer.writerow(Problem._fields)
        writer.writerows(problems)
