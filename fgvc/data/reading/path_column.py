"""Which column of a table holds the paths of photographs, and the paths that its cells mean."""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from urllib.request import url2pathname

from fgvc.data.reading.table_file import near, read_head
from fgvc.errors import UsageError
from fgvc.images.formats import SUFFIXES
from fgvc.taxonomy.suspicious import spelling

USUAL = "path"
KNOWN = (
    *("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_file"),
    *("image_filename", "img", "img_path", "img_file"),
)
"""The names that such columns have in the tables of others: COCO's file_name, Label Studio's image ..."""

_LOCAL_FILES = "/data/local-files"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:// is a drive


def find_path_column(table: str | Path, option: str, likely: Sequence[str] = ()) -> str:
    """Return the name of the column of paths: `path`, or else the one that is called as such columns are.

    Case, blanks, underscores and hyphens do not count.

    Args:
        table: the file.
        option: the flag that names another column, for messages.
        likely: other columns that it probably has; they help to tell the delimiter.

    Raises:
        UsageError: none, or several; or no table.
    """
    header, first = read_head(table, [*KNOWN, *likely])
    if USUAL in header:
        return USUAL
    spellings = {spelling(name) for name in KNOWN}
    found = [name for name in header if spelling(name) in spellings]
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(map(repr, found))
        raise UsageError(f"{table}: columns {names} could be the paths; give {option} {found[0]} or another")
    of_pictures = [name for name, cell in zip(header, first, strict=False) if Path(cell).suffix.lower() in SUFFIXES]
    meant = next(iter([*of_pictures, *near(USUAL, header)]), "NAME")
    raise UsageError(f"{table}: no column {USUAL!r}; it has {header}; give {option} {meant}")


def local_path(cell: str) -> str:
    """Return the path that a cell means: itself, or what an address of Label Studio's local files or `file://` names.

    Label Studio's `/data/local-files/?d=a/b.jpg` is relative to its document root.

    Raises:
        UsageError: an address of the web.
    """
    if "://" not in cell and not cell.startswith(_LOCAL_FILES):
        return cell
    try:
        parts = urlsplit(cell)
    except ValueError:  # brackets that are no IPv6
        return cell
    named = parse_qs(parts.query).get("d")
    if parts.path.rstrip("/").endswith(_LOCAL_FILES) and named:
        return named[0]
    if parts.scheme == "file":
        return url2pathname(parts.path)
    if _ADDRESS.match(cell):
        raise UsageError(f"{cell!r} is an address, not a file; download the photographs and give their paths")
    return cell
