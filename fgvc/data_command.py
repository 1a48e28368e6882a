"""`fgvc data verify | stats | download`: check, count and fetch photographs; each imports only what it needs."""

from fgvc.errors import UsageError, did_you_mean

HELP = """usage: fgvc data verify|stats|download ...

  fgvc data verify DATA [--output problems.csv]    decode every photograph; what is unreadable, copied, unlabelled
  fgvc data stats DATA [--output stats.json]       images per split, level and class; sizes
  fgvc data download [WHAT] [--to FOLDER]          fetch a public data set; without WHAT, which there are

DATA is a folder of photographs, a table (.csv, .parquet), a run folder, or --config and --data.KEY as for fgvc fit.
`fgvc data verify --help` lists the keys.
"""


def main(argv: list[str]) -> int:
    """Run the command and return its exit code.

    Raises:
        FgvcError: wrong words, data that cannot be opened, or an output that cannot be written.
    """
    word, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if word in ("-h", "--help", "help"):
        print(HELP, end="")
    elif word == "verify":
        from fgvc import verify_command

        return verify_command.main(rest)
    elif word == "stats":
        from fgvc import stats_command

        return stats_command.main(rest)
    elif word == "download":
        from fgvc import download_command

        return download_command.main(rest)
    else:
        known = ["verify", "stats", "download"]
        raise UsageError(f"fgvc data: no command {word!r}; there are {', '.join(known)}{did_you_mean(word, known)}")
    return 0
