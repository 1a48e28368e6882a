"""What a run of predictions keeps in mind while answers pass: counts, and the pictures of the contact sheet."""

import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field

from fgvc.files.bars import bar
from fgvc.files.lines import counted
from fgvc.prediction.results import Result

SHEET_PICTURES = 48
"""How many pictures a contact sheet shows."""


@dataclass
class Tally:
    """What the summary and the sheet need to know of the results that pass by.

    total: how many there will be, where that is known. seen, failed, warned: so far. taken: how many of them an earlier
    run had answered. shown: those for the sheet.
    """

    total: int | None
    seen: int = 0
    failed: int = 0
    taken: int = 0
    first_error: str = ""
    warned: int = 0
    first_warning: str = ""
    seconds: float = 0.0
    shown: list[Result] = field(default_factory=list)

    def watched(self, results: Iterable[Result], doing: str = "predicting") -> Generator[Result, None, None]:
        """Pass the results on under a progress bar, counting them and keeping a few for the sheet."""
        start = time.perf_counter()
        for result in bar(doing, results, total=self.total, unit=" images"):
            if result.error:
                self.failed += 1
                self.first_error = self.first_error or result.error
            elif self._is_chosen(self.seen):
                self.shown.append(result)
            if result.warning:
                self.warned += 1
                self.first_warning = self.first_warning or f"{result.path}: {result.warning}"
            self.seen += 1
            yield result
        self.seconds = time.perf_counter() - start

    def _is_chosen(self, index: int) -> bool:
        """Spread the sheet over all pictures: the first ones of sorted folders are all of one class."""
        if self.total is None or self.total <= SHEET_PICTURES:
            return len(self.shown) < SHEET_PICTURES
        return index * SHEET_PICTURES % self.total < SHEET_PICTURES

    def counts(self) -> dict[str, int]:
        """Return the numbers by name."""
        return {"pictures": self.seen, "failed": self.failed, "taken_over": self.taken}

    def summary(self, written: list[str]) -> str:
        """Return one line: how many, how many failed or are damaged, why the first is, how fast, and where they are."""
        speed = (self.seen - self.taken) / max(self.seconds, 1e-9)
        failed = f"{self.failed} failed" + (f" (first: {self.first_error})" if self.failed else "")
        failed += f", {self.warned} with a warning (first: {self.first_warning})" if self.warned else ""
        return f"{counted(self.seen, 'picture')}, {failed}, {speed:.1f} images/s -> {', '.join(written)}"
