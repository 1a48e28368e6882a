"""What a network took from a file of weights."""

from dataclasses import dataclass

from torch import nn

from fgvc.errors import UsageError


@dataclass(frozen=True)
class WeightReport:
    """Which tensors a network took from a file.

    kept: in both. reset: only in the network, so they are random. ignored: only in the file.
    what: network and file, in words.
    """

    kept: tuple[str, ...]
    reset: tuple[str, ...]
    ignored: tuple[str, ...]
    what: str = ""

    def __str__(self) -> str:
        return self.what + self.counts

    @property
    def counts(self) -> str:
        """How many tensors there are of each kind, and the names of the first ones."""
        parts = [f"kept {len(self.kept)} tensors"]
        for word, names in (("reset", self.reset), ("ignored", self.ignored)):
            listed = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
            parts.append(f"{word} {len(names)}" + (f" ({listed})" if names else ""))
        return ", ".join(parts)


def compare(net: nn.Module, tensors: set[str], name: str, weights: str, min_kept: float) -> WeightReport:
    """Compare a network with the names of a file's tensors.

    Args:
        net: the network, which has taken what it shares with the file.
        tensors: the names in the file.
        name, weights: what to call network and file.
        min_kept: least share of the network's numbers that the file must fill.

    Raises:
        UsageError: nothing is shared, or less than that.
    """
    sizes = {key: value.numel() for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    wanted = set(sizes)
    kept, reset, ignored = (tuple(sorted(names)) for names in (wanted & tensors, wanted - tensors, tensors - wanted))
    if not kept:
        raise UsageError(f"backbone weights: {weights} shares no tensor with the network (it has {ignored[:2]} ...)")
    ignored = tuple(key for key in ignored if not key.endswith("num_batches_tracked"))
    report = WeightReport(kept, reset, ignored, f"{name} from {weights}: ")
    share = sum(sizes[key] for key in kept) / sum(sizes.values())
    if share < min_kept:
        raise UsageError(
            f"backbone weights: {weights} fills {share:.1%} of the numbers of {name} ({report.counts}); give a file of "
            f"this network, or min_kept: {int(1000 * share) / 1000:g} to start from it all the same"
        )
    return report


def in_one_line(error: Exception) -> str:
    """Return the first two lines of an error as one, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (" ".join(lines[:2]) if lines else type(error).__name__)[:200]
