"""The columns of a table of predictions, and the rows that a picture has in it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fgvc.errors import UsageError

LAYOUTS = ("wide", "long")
"""wide: one row per picture, the further guesses in columns of their own. long: one row per picture and guess."""
_TAKEN = ("path", "label", "score", "boxes", "error", "warning", "answer", "answer_level", "answer_score")


class Columns(NamedTuple):
    """What a table has columns for.

    levels: coarse to fine.
    top_k: the guesses of the wide layout.
    boxed, vouched: whether there are boxes, and answers to a precision.
    layout: see `LAYOUTS`.
    neighbours: how many photographs of a gallery stand beside an answer.
    """

    levels: Sequence[str]
    top_k: int
    boxed: bool
    vouched: bool
    layout: str = "wide"
    neighbours: int = 0

    def check(self) -> "Columns":
        """Return self, or raise UsageError for a layout that is not known."""
        if self.layout not in LAYOUTS:
            raise UsageError(f"layout: {self.layout!r}; it is {' or '.join(map(repr, LAYOUTS))}")
        return self

    def kinds(self) -> dict[str, str]:
        """Return name -> `text`, `score`, `rank` or `boxes` of every column, in order."""
        taken = (*_TAKEN, "rank") if self.layout == "long" else _TAKEN
        names = [f"level_{level}" if level in taken else level for level in self.levels]
        kinds = {"path": "text"}
        if self.vouched:
            kinds |= {"answer": "text", "answer_level": "text", "answer_score": "score"}
        if self.layout == "long":
            kinds |= {"rank": "rank", "label": "text", "score": "score", **dict.fromkeys(names, "text")}
        else:
            kinds |= {"label": "text", "score": "score"}
            for name in names:
                kinds |= {name: "text", f"{name}_score": "score"}
            for rank in range(2, self.top_k + 1):
                kinds |= {f"top{rank}_label": "text", f"top{rank}_score": "score"}
        for rank in range(1, self.neighbours + 1):
            kinds |= {f"neighbour{rank}_path": "text", f"neighbour{rank}_label": "text"}
            kinds[f"neighbour{rank}_cosine"] = "score"
        if self.boxed:
            kinds["boxes"] = "boxes"
        return {**kinds, "warning": "text", "error": "text"}

    def rows(self, result: Mapping[str, Any]) -> list[list[Any]]:
        """Return the rows of a picture, given as `Result.to_dict` gives it; None where there is nothing to say."""
        before = [result["path"]]
        if self.vouched:
            before += [result.get("answer"), result.get("answer_level"), result.get("answer_score")]
        near = result.get("neighbours") or []
        missing = [None] * (3 * max(self.neighbours - len(near), 0))
        after = [one[key] for one in near[: self.neighbours] for key in ("path", "label", "cosine")] + missing
        after += [result["boxes"]] * self.boxed + [result.get("warning"), result["error"]]
        if self.layout == "long":
            return [[*before, *cells, *after] for cells in self._guesses(result["top"])]
        cells = [result["label"], result["score"]]
        for level in self.levels:
            cells += [result["lineage"].get(level), result["lineage_scores"].get(level)]
        for rank in range(1, self.top_k):
            guess = result["top"][rank] if rank < len(result["top"]) else {"label": None, "score": None}
            cells += [guess["label"], guess["score"]]
        return [[*before, *cells, *after]]

    def _guesses(self, top: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        if not top:  # a picture that could not be read keeps a row
            return [[None] * (3 + len(self.levels))]
        return [
            [rank, guess["label"], guess["score"], *(guess["lineage"].get(level) for level in self.levels)]
            for rank, guess in enumerate(top, 1)
        ]
