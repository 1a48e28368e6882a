"""How large a taxonomy may be; torch is not loaded."""

MAX_LEVELS, MAX_LEAVES = 64, 500_000
MAX_CELLS = 32_000_000
"""Of leaves times levels times levels, the most that the table of all ancestors may hold: 256 MB."""


def too_large(levels: int, leaves: int) -> str | None:
    """Say why a tree of so many levels and leaves is too large, or None."""
    if levels > MAX_LEVELS:
        return f"{levels} levels; at most {MAX_LEVELS}"
    if leaves > MAX_LEAVES:
        return f"{leaves} classes; at most {MAX_LEAVES}"
    if leaves * levels**2 > MAX_CELLS:
        return f"{levels} levels over {leaves} classes; with {levels} levels at most {MAX_CELLS // levels**2} classes"
    return None
