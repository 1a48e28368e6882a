"""A photograph that is near another one, as it is told."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Neighbour(NamedTuple):
    """A photograph of the gallery that is near.

    path: the file. label: its class, None where it is not known. lineage: level -> name down to it. value: the cosine
    similarity, or the distance.
    """

    path: str
    label: str | None
    lineage: dict[str, str]
    value: float

    def to_dict(self, metric: str = "cosine") -> dict[str, Any]:
        """Return plain data, as JSON knows it; the value bears the name of the metric."""
        return {"path": self.path, "label": self.label, "lineage": self.lineage, metric: self.value}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], metric: str = "cosine") -> "Neighbour":
        """Return what `to_dict` was called on."""
        return cls(plain["path"], plain["label"], dict(plain["lineage"]), plain[metric])
