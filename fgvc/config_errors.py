"""What the config parser says, in one line: the key, what was found, the nearest match."""


def in_one_line(error: Exception) -> str:
    """Return the part of a parser's message that a person can act on."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "config error: " + " ".join(lines)[:1500]
