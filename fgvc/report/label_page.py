"""The page of suspicious labels: each photograph beside typical ones of its label and of what it more likely shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fgvc.files.whole_files import write_text
from fgvc.images.decoding import ImageError, decode
from fgvc.images.thumbnails import address
from fgvc.report.rendering import render

ROWS = 100
"""How many suspects a page shows."""
SIDE = 200


class Row(NamedTuple):
    """A suspect as the page shows it. path: of the photograph. title: label and likely label. note: kind and numbers.

    of_label, of_likely: paths of typical photographs.
    """

    path: str
    title: str
    note: str
    label: str
    likely: str
    of_label: Sequence[str]
    of_likely: Sequence[str]


def write_page(path: Path, title: str, facts: Sequence[str], rows: Sequence[Row], folder: Path) -> str:
    """Write the page; a photograph that cannot be read is a grey square.

    Args:
        path: the HTML file.
        title: what was audited.
        facts: lines above the photographs.
        rows: the suspects; the first ROWS are shown.
        folder: where relative paths start.

    Returns:
        Why the first photograph that failed did, or "".

    Raises:
        FgvcError: it cannot be written.
    """
    shown = rows[:ROWS]
    every = dict.fromkeys(one for row in shown for one in (row.path, *row.of_label, *row.of_likely))
    addresses, failed = _thumbnails(list(every), folder)
    write_text(path, render("labels.html.j2", title=title, facts=facts, rows=shown, pictures=addresses))
    return failed


def _thumbnails(paths: Sequence[str], folder: Path) -> tuple[Mapping[str, str], str]:
    found, failed = dict.fromkeys(paths, ""), ""
    for one in paths:
        try:
            found[one] = address(decode(folder / one, at_least=SIDE), side=SIDE)
        except ImageError as error:
            failed = failed or str(error)
    return found, failed
