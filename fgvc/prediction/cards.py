"""Results as HTML, for notebooks: the picture beside its names. Every word of others is escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fgvc.files.lines import counted, printable
from fgvc.images.decoding import ImageError, decode
from fgvc.images.thumbnails import address

Plain = Mapping[str, Any]
"""A result as `Result.to_dict` returns it."""

SIDE = 96
"""Pixels of the longer side of a picture."""
SHOWN = 24
"""How many results of many are shown."""
GUESSES = 3
"""How many guesses of each."""


def card(result: Plain) -> str:
    """Return one result."""
    return f"<table>{_row(result)}</table>"


def cards(results: Sequence[Plain], count: int, failed: int) -> str:
    """Return some results, and how many there are and failed in all."""
    rest = f"; the first {len(results)}" if len(results) < count else ""
    title = f"<p>{counted(count, 'picture')}, {failed} failed{rest}</p>"
    return f"{title}<table>{''.join(map(_row, results))}</table>"


def _row(result: Plain) -> str:
    told = [] if result["path"] is None else [_line(result["path"])]
    for i, guess in enumerate(result["top"][:GUESSES]):
        told.append(_line(f"{guess['label']}  {100 * guess['score']:.1f} %", "b" if i == 0 else "span"))
    if len(result["lineage"]) > 1:
        told.append(_line(" > ".join(result["lineage"].values())))
    if "answer" in result:
        score = result["answer_score"]
        sure = "" if score is None else f"  {100 * score:.1f} % ({result['answer_level']})"
        told.append(_line(f"vouched for: {result['answer']}{sure}"))
    for near in (result.get("neighbours") or ())[:GUESSES]:
        told.append(_line(f"near: {near['cosine']:.3f}  {near['label'] or ''}  {near['path']}"))
    told += [_line(f"{kind}: {result[kind]}") for kind in ("warning", "error") if result[kind]]
    return f"<tr><td>{_picture(result)}</td><td style='text-align:left'>{'<br>'.join(told)}</td></tr>"


def _line(text: str, tag: str = "span") -> str:
    return f"<{tag}>{escape(printable(text))}</{tag}>"


def _picture(result: Plain) -> str:
    """Return the picture with its boxes; nothing where there is no file, or none that can still be read."""
    if result["path"] is None or result["error"] is not None:
        return ""
    try:
        pixels = decode(result["path"], at_least=SIDE)
    except ImageError:
        return ""
    return f"<img alt='' src='{address(pixels, result['boxes'] or (), SIDE)}'>"
