"""A length of time as a person says it."""


def in_words(seconds: float) -> str:
    """Return `0.4 s`, `12 s`, `6 minutes`, `2.5 hours`: two digits at most, for estimates and logs."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 59.5:
        return f"{minutes:.0f} minutes" if minutes >= 1.95 else f"{minutes:.1f} minutes"
    return f"{minutes / 60:.1f} hours"
