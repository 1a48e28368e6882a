"""Where a network computes."""

import torch

from fgvc.errors import UsageError


def device_of(name: str) -> torch.device:
    """Return the device of a name: `auto` (cuda where there is one), `cpu`, `cuda`, `cuda:1` ...

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()  # the device `meta` holds no numbers
    except (RuntimeError, AssertionError):
        raise UsageError(f"device: {name!r} is not to be had here; give 'auto', 'cpu', 'cuda' or 'cuda:N'") from None
    return device
